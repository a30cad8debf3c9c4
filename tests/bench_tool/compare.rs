//! The comparison from end to end: a short run has figures for every server, and leaves no process behind however it
//! ends.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::server::wait_until;

const ALWAYS: [&str; 2] = ["--quick", "--no-peers"];

fn compare(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gostash-compare"));
    // All that it starts has this folder or one below as its working directory, which is how `processes_in` finds it.
    command.args(ALWAYS).args(args).current_dir(folder).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A server with too little memory for the 20,000 items of `--quick`, if their values have 400 bytes.
fn small() -> String {
    format!("small='{}' --host 127.0.0.1 --port {{port}} --max-memory 8mb", env!("CARGO_BIN_EXE_gostash"))
}

/// A server that a shell starts and waits for, so that ending the shell alone would not end it. Its command begins with
/// a variable, as a command for the shell may.
fn wrapped() -> String {
    format!("wrapped=VARIABLE=1 sh -c '\"{}\" --host 127.0.0.1 --port {{port}} & wait'", env!("CARGO_BIN_EXE_gostash"))
}

#[test]
fn a_short_run_measures_everyone_and_leaves_a_page_and_figures() {
    let folder = tempfile::tempdir().expect("a folder");
    let args = ["--value-size", "400", "--server", &wrapped(), "--server", &small()];
    let output = compare(folder.path(), &args).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    left_behind_nothing(folder.path());

    let results = fs::read_dir(folder.path().join("results")).expect("a folder of results");
    let results: Vec<_> = results.map(|entry| entry.expect("an entry").path()).collect();
    let [results] = results.as_slice() else { panic!("one run, one folder: {results:?}") };
    let raw = fs::read_to_string(results.join("results.json")).expect("raw figures");
    let raw: Value = serde_json::from_str(&raw).expect("JSON");
    let runs = raw["runs"].as_array().expect("runs");
    let figure = |name: &str, measurement: &str, figure: &str| {
        let run = runs.iter().find(|run| run["name"] == name && run["measurement"] == measurement);
        let number = run.and_then(|run| run["figures"][figure].as_f64());
        assert!(number.is_some_and(|number| number > 0.0), "{name}: {measurement}: {figure}: {run:?}");
    };
    let echoes = ["bare echo", "the same again", "bare echo, gathered"];
    let stores = ["GoStash", "GoStash, RESP", "locks, event loops", "locks, thread per client", "wrapped"];
    for name in echoes.iter().chain(&stores) {
        figure(name, "depth", "requests_per_second");
        figure(name, "depth", "server_cpu_ns_per_request");
        figure(name, "latency", "latency_p99_ns");
    }
    stores.iter().for_each(|name| figure(name, "memory", "bytes_beyond_key_and_value_per_item"));
    // What was evicted takes no memory.
    assert!(!runs.iter().any(|run| run["name"] == "small" && run["measurement"] == "memory"));
    figure("a store for each thread, 1 thread", "in process", "requests_per_second");
    figure("shared stores, locked, 1 thread", "in process", "requests_per_second");

    let table = String::from_utf8(output.stdout).expect("text");
    let page = fs::read_to_string(results.join("page.html")).expect("a page");
    for name in echoes.iter().chain(&stores) {
        assert!(table.lines().any(|line| line.trim_start().starts_with(name)), "{name}: {table}");
        assert!(page.contains(&format!("<td>{name}</td>")), "{name}");
    }
    assert!(page.contains("<svg"));
    for elsewhere in ["src=", "href=", "url(", "@import", "<script", "<link"] {
        assert!(!page.contains(elsewhere), "the page must be whole without a network, and has {elsewhere}");
    }
}

#[test]
fn a_server_that_does_not_start_ends_it_with_what_that_server_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let wrong = "mine=sh -c 'echo no such luck on {port}; exit 3'";
    let output = compare(folder.path(), &["--items", "0", "--server", wrong]).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("mine did not start") && said.contains("no such luck"), "{said}");
    left_behind_nothing(folder.path());
}

#[test]
fn two_servers_of_one_name_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = compare(folder.path(), &["--server", "GoStash=run {port}"]).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = "gostash-compare: --server GoStash: expected a name that no other server here has\n";
    assert_eq!((output.status.code(), &*said), (Some(1), expected));
}

#[test]
fn a_wrong_number_is_refused_by_the_name_of_its_option() {
    let folder = tempfile::tempdir().expect("a folder");
    for (option, value, least) in [("rounds", "0", "1"), ("pipeline", "1,x", "1"), ("duration", "nan", "0.1")] {
        let output = compare(folder.path(), &[&format!("--{option}"), value]).output().expect("it starts");
        let found = value.split(',').next_back().expect("a part");
        let expected = format!("gostash-compare: --{option}: expected a number of at least {least}, got '{found}'\n");
        assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stderr)), (Some(2), &*expected));
    }
}

/// Ctrl-C while memory is measured, under load, and in process.
#[test]
fn an_interrupted_run_leaves_no_process_behind() {
    for moment in ["memory: wrapped", "round 1 of 1: wrapped", "round 1 of 1: in process"] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut run = Running(compare(folder.path(), &["--server", &wrapped()]).spawn().expect("it starts"));
        let mut said = BufReader::new(run.0.stderr.take().expect("a pipe"));
        let mut line = String::new();
        while line.trim_end() != moment {
            line.clear();
            assert!(said.read_line(&mut line).expect("text") > 0, "it never came to '{moment}'");
        }
        if !moment.ends_with("in process") {
            wait_until("a server to run", || !processes_in(folder.path(), run.0.id()).is_empty());
        }
        kill_process(Pid::from_child(&run.0), Signal::INT).expect("it runs");
        let mut rest = String::new();
        said.read_to_string(&mut rest).expect("text");
        assert_eq!(run.0.wait().expect("it ends").code(), Some(1), "{moment}: {rest}");
        assert!(rest.ends_with("gostash-compare: interrupted\n"), "{moment}: {rest}");
        left_behind_nothing(folder.path());
    }
}

/// Is ended when the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Asked to end, it also ends what it has started.
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn left_behind_nothing(folder: &Path) {
    // A killed process takes a moment to vanish.
    wait_until("all processes to be gone", || processes_in(folder, 0).is_empty());
}

/// The processes whose working directory is this folder or one below, except one process.
fn processes_in(folder: &Path, but: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").expect("Linux").flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    // Its working directory is told without symbolic links, and the directory of temporary files may be one.
    let folder = fs::canonicalize(folder).expect("it is there");
    let is_in = |pid: &u32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&folder));
    numbers.filter(|pid| *pid != but).filter(is_in).collect()
}
