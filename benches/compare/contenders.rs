//! What is compared: this server, the bare echo, the multithreaded variants, and the other servers at hand. Each is a
//! command line with a placeholder for its port, and a protocol. It starts nothing.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::options::Options;

/// One server to be measured.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    pub(crate) name: String,
    /// As gostash-bench calls it.
    pub(crate) protocol: String,
    /// Run by the shell, with `{port}` and perhaps `{threads}` in it.
    pub(crate) command: String,
    pub(crate) role: Role,
    /// The cores that it may use; all if this is empty.
    pub(crate) cores: Vec<usize>,
}

impl Contender {
    fn new(name: &str, protocol: &str, role: Role, command: String) -> Contender {
        Contender { name: name.into(), protocol: protocol.into(), command, role, cores: Vec::new() }
    }
}

/// Why it is in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The bare echo, which reads and writes and does nothing else.
    Floor,
    /// The server of this repository.
    Own,
    /// The server's own parts under threads and locks.
    Variant,
    /// Another project's server.
    Peer,
}

/// The sets of cores that servers are measured on: one core, and, with more than two cores, all but the client's.
pub(crate) fn budgets(cores: &[usize]) -> Vec<&[usize]> {
    match cores {
        [] | [_] => vec![cores],
        [first, _] => vec![std::slice::from_ref(first)],
        [all @ .., _] => vec![&all[..1], all],
    }
}

/// All contenders, in the order in which they are shown.
pub(crate) fn all(options: &Options, budgets: &[&[usize]]) -> Result<Vec<Contender>, Box<dyn Error>> {
    let folder = std::env::current_exe()?;
    let folder = folder.parent().unwrap_or(Path::new("."));
    let own = |binary: &str, arguments: &str| -> Result<String, Box<dyn Error>> {
        let path = folder.join(binary);
        if !path.exists() {
            return Err(format!("{}: not built; scripts/compare.sh builds it", path.display()).into());
        }
        Ok(format!("'{}' --port {{port}} {arguments}", path.display()).trim_end().to_owned())
    };
    let row = Contender::new;
    let mut found = vec![
        row("bare echo", "echo", Role::Floor, own("gostash-echo", "")?),
        row("the same again", "echo", Role::Floor, own("gostash-echo", "")?),
        row("bare echo, gathered", "echo", Role::Floor, own("gostash-echo", "--gather")?),
        row("GoStash", "gostash", Role::Own, own("gostash", "--host 127.0.0.1")?),
        row("GoStash, RESP", "resp", Role::Own, own("gostash", "--host 127.0.0.1")?),
        row("locks, event loops", "gostash", Role::Variant, own("gostash-loops", "--threads {threads}")?),
        row("locks, thread per client", "gostash", Role::Variant, own("gostash-threads", "")?),
    ];
    if options.peers {
        let redis = "--port {port} --bind 127.0.0.1 --save '' --appendonly no --io-threads {threads}";
        for binary in ["redis-server", "valkey-server"] {
            if on_path(binary) {
                found.push(row(binary, "resp", Role::Peer, format!("{binary} {redis}")));
            }
        }
        if on_path("memcached") {
            // memcached refuses to run as root.
            let user = if rustix::process::geteuid().is_root() { "-u nobody " } else { "" };
            let command = format!("memcached {user}-l 127.0.0.1 -p {{port}} -t {{threads}} -R 1000 -m 1024");
            found.push(row("memcached", "memcached", Role::Peer, command));
        }
    }
    for server in &options.servers {
        // Figures are stored by name, so two servers of one name would be shown as one.
        if found.iter().any(|other| other.name == server.name) {
            return Err(format!("--server {}: expected a name that no other server here has", server.name).into());
        }
        found.push(server.clone());
    }

    let mut all = Vec::new();
    for (place, cores) in budgets.iter().enumerate() {
        for contender in &found {
            let uses_threads = contender.command.contains("{threads}") || contender.name.contains("thread per client");
            if place == 0 || uses_threads {
                let threads = cores.len().max(1);
                let name = match place {
                    0 => contender.name.clone(),
                    _ => format!("{}, {threads} cores", contender.name),
                };
                let command = contender.command.replace("{threads}", &threads.to_string());
                all.push(Contender { name, command, cores: cores.to_vec(), ..contender.clone() });
            }
        }
    }
    Ok(all)
}

/// `NAME[:PROTOCOL]=COMMAND`
impl FromStr for Contender {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected NAME[:PROTOCOL]=COMMAND with {{port}} in it, got '{text}'");
        let (name, command) = text.split_once('=').ok_or_else(wrong)?;
        let (name, protocol) = name.split_once(':').unwrap_or((name, "gostash"));
        if name.is_empty() || !command.contains("{port}") || !["gostash", "resp", "memcached"].contains(&protocol) {
            return Err(wrong());
        }
        Ok(Contender::new(name, protocol, Role::Peer, command.into()))
    }
}

fn on_path(binary: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).collect::<Vec<PathBuf>>();
    folders.iter_mut().any(|folder| folder.join(binary).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_leave_the_client_a_core() {
        assert_eq!(budgets(&[3]), [[3]]);
        assert_eq!(budgets(&[0, 1]), [[0]]);
        assert_eq!(budgets(&[0, 1, 2, 7]), [&[0][..], &[0, 1, 2]]);
    }

    #[test]
    fn a_server_of_ones_own_is_a_name_a_protocol_and_a_command() {
        let contender: Contender = "a b:resp=run --x=1 {port}".parse().expect("as the usage says");
        assert_eq!((&*contender.name, &*contender.protocol), ("a b", "resp"));
        assert_eq!(contender.command, "run --x=1 {port}");
        assert_eq!("go=./go {port}".parse::<Contender>().expect("no protocol").protocol, "gostash");
        for wrong in ["go", "go=./go", "=run {port}", "go:http=run {port}"] {
            assert!(wrong.parse::<Contender>().is_err(), "{wrong}");
        }
    }
}
