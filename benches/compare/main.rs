//! gostash-compare: measures this server, its multithreaded variants, a bare echo and every other server at hand under
//! the same load, in turn and in several rounds. It prints tables, and writes a page with charts and the raw figures.
//! `scripts/compare.sh` builds and starts it.
//!
//! [`contenders`] lists the servers; [`servers`] starts and ends them; [`load`] measures them with gostash-bench, and
//! [`in_process`] measures session and store without sockets; [`results`] computes medians; [`table`] and [`page`] show
//! them, with [`charts`].

mod charts;
// The variants use all of it, this program only a part.
#[allow(dead_code)]
#[path = "../variants/client.rs"]
mod client;
mod contenders;
mod in_process;
mod load;
mod machine;
mod options;
mod page;
mod results;
mod servers;
#[path = "../variants/shards.rs"]
mod shards;
mod table;

use std::error::Error;
use std::fs;
use std::process::ExitCode;

use contenders::Contender;
use load::Load;
use machine::Machine;
use options::Options;
use results::Results;
use servers::Stop;

fn main() -> ExitCode {
    let options = Options::from_command_line().map_err(|problem| (2, problem.into()));
    match options.and_then(|options| compare(&options).map_err(|problem| (1, problem))) {
        Ok(()) => ExitCode::SUCCESS,
        Err((status, problem)) => {
            eprintln!("gostash-compare: {problem}");
            ExitCode::from(status)
        }
    }
}

fn compare(options: &Options) -> Result<(), Box<dyn Error>> {
    let stop = Stop::on_signals()?;
    let mut machine = Machine::look();
    let budgets = contenders::budgets(&machine.cores);
    let contenders = contenders::all(options, &budgets)?;
    let folder = options.folder.join(&machine.stamp);
    fs::create_dir_all(&folder)?;

    let mut results = Results::default();
    let client_cores = machine.client_cores().to_vec();
    let load = Load { options, client_cores: &client_cores, folder: &folder, stop: &stop };
    for contender in &contenders {
        eprintln!("memory: {}", contender.name);
        machine.versions.push(load.memory(contender, &mut results)?);
    }
    for round in 1..=options.rounds {
        // Each round begins with another contender, and every second round is reversed, so that no place in the order
        // favours anybody.
        let mut order: Vec<&Contender> = contenders.iter().collect();
        order.rotate_left(round % contenders.len());
        if round % 2 == 0 {
            order.reverse();
        }
        for contender in order {
            eprintln!("round {round} of {}: {}", options.rounds, contender.name);
            load.round(contender, round, &mut results)?;
        }
        eprintln!("round {round} of {}: in process", options.rounds);
        in_process::round(options, &machine.cores, round, &mut results, &stop)?;
    }

    fs::write(folder.join("results.json"), results.to_json(options, &machine, &contenders))?;
    let page = folder.join("page.html");
    fs::write(&page, page::render(options, &machine, &contenders, &results)?)?;
    let tables = table::render(options, &machine, &contenders, &results);
    print!("{}", if options.markdown { tables.markdown() } else { tables.text() });
    eprintln!("\npage: {}\nraw:  {}", page.display(), folder.join("results.json").display());
    Ok(())
}
