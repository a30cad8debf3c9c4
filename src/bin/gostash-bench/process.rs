//! CPU time and memory of the server's process and of this one, from Linux's /proc. On other systems, and for a process
//! that may not be read, there are none, and the report leaves them out.

use std::fs;
use std::net::TcpListener;

use crate::options::Options;

/// The CPU time of all of a process's threads so far, in nanoseconds; its resident memory, and the most that ever was
/// resident, in bytes.
pub fn usage(pid: u32) -> Option<[u64; 3]> {
    let mut cpu_nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        // A thread that has ended, perhaps since its name was read, is missing from the sum.
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        cpu_nanos += text.split(' ').next()?.parse().unwrap_or(0);
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let bytes = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    };
    Some([cpu_nanos, bytes("VmRSS:")?, bytes("VmHWM:")?])
}

/// The process that has the server's listening socket open. If several have, nobody can tell which of them serves.
pub fn find(options: &Options) -> Option<u32> {
    let sockets = match &options.unix_socket {
        // The flag marks a listening socket; the connections that it has accepted have the same path, which may have
        // spaces.
        Some(path) => sockets("unix", 6, |row| row[3] == "00010000" && path.as_os_str() == &*row[7..].join(" ")),
        None => {
            // An address that cannot be bound is another machine's, and whoever listens on that port here is not the
            // server.
            TcpListener::bind((&*options.host, 0)).ok()?;
            let port = format!(":{:04X}", options.port);
            let of_port = |table| sockets(table, 9, |row| row[3] == "0A" && row[1].ends_with(&port));
            ["tcp", "tcp6"].map(of_port).concat()
        }
    };
    let is_server = |pid: &u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = descriptors.flat_map(|entry| fs::read_link(entry.path()));
        targets.any(|target| sockets.iter().any(|socket| target.as_os_str() == &**socket))
    };
    let pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut servers = pids.filter(is_server);
    servers.next().filter(|_| servers.next().is_none())
}

/// The sockets in one of the kernel's tables that `is_it` accepts, as links to them are written. Their inode is at
/// this place of a row.
fn sockets(table: &str, place: usize, is_it: impl Fn(&[&str]) -> bool) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.len() > place && is_it(row)).map(|row| format!("socket:[{}]", row[place])).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_of_this_machine_is_found() {
        let listener = TcpListener::bind("0.0.0.0:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        // The second address is reserved for documentation, so no machine has it.
        let at = |host: &str| find(&Options { host: host.into(), port, ..Options::default() });
        assert_eq!(["127.0.0.1", "192.0.2.1"].map(at), [Some(std::process::id()), None]);
    }
}
