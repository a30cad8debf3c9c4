//! CPU time and memory of the server's process and of this one, from Linux's /proc. On other systems, and for a process
//! that may not be read, there are none, and the report leaves them out.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;

use crate::options::Options;

/// A process's CPU time so far, and its memory.
#[derive(Clone, Copy)]
pub struct Usage {
    pub pid: u32,
    /// CPU time of all its threads.
    pub cpu_nanos: u64,
    pub resident_bytes: u64,
    /// The most that was ever resident.
    pub peak_bytes: u64,
}

impl Usage {
    /// The same, with only the CPU time that was used since `before`.
    pub fn since(self, before: Usage) -> Usage {
        Usage { cpu_nanos: self.cpu_nanos.saturating_sub(before.cpu_nanos), ..self }
    }
}

pub fn usage(pid: u32) -> Option<Usage> {
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
    Some(Usage { pid, cpu_nanos, resident_bytes: bytes("VmRSS:")?, peak_bytes: bytes("VmHWM:")? })
}

/// The id of the process that has the server's listening socket open. Process 1 may hold a socket that it hands on, so
/// it is taken only if there is no other.
pub fn find(options: &Options) -> Option<u32> {
    let inode = match &options.unix_socket {
        Some(path) => unix_inode(path),
        None => (options.host.as_str(), options.port).to_socket_addrs().ok()?.find_map(tcp_inode),
    };
    let socket = format!("socket:[{}]", inode?);
    let is_server = |pid: &u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = descriptors.map(|entry| fs::read_link(entry.path()));
        targets.any(|target| target.is_ok_and(|it| it.as_os_str() == &*socket))
    };
    let pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_server).min_by_key(|&pid| (pid == 1, pid))
}

/// The inode of the socket that listens on this address, or on its port at all addresses of this machine.
fn tcp_inode(address: SocketAddr) -> Option<String> {
    // An address that cannot be bound is another machine's, and whoever listens on that port here is not the server.
    let mut any_port = address;
    any_port.set_port(0);
    TcpListener::bind(any_port).ok()?;
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    // The kernel prints each 32-bit word of an address in the byte order of this machine.
    let words = octets.as_chunks().0.iter().map(|word| format!("{:08X}", u32::from_ne_bytes(*word)));
    let places = [words.collect(), "0".repeat(8), "0".repeat(32)].map(|ip| format!("{ip}:{:04X}", address.port()));
    let is_it = |row: &[&str]| row[3] == "0A" && places.iter().any(|place| place == row[1]);
    ["tcp", "tcp6"].iter().find_map(|table| field(table, 9, is_it))
}

fn unix_inode(path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    let is_it = |words: &[&str]| fs::canonicalize(words.join(" ")).is_ok_and(|it| it == path);
    // The flag marks a listening socket; the connections that it has accepted have the same path, which may have spaces.
    field("unix", 6, |row| row[3] == "00010000" && is_it(&row[7..]))
}

/// One field of the first row that `is_it` accepts, in one of the kernel's tables of sockets.
fn field(table: &str, place: usize, is_it: impl Fn(&[&str]) -> bool) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc/net").join(table)).ok()?;
    let mut rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    Some(rows.find(|row| row.len() > place && is_it(row))?[place].to_owned())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_of_this_machine_is_found() {
        let listener = TcpListener::bind("0.0.0.0:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        // The second address is reserved for documentation, so no machine has it.
        let found =
            ["127.0.0.1", "192.0.2.1"].map(|host| find(&Options { host: host.into(), port, ..Options::default() }));
        assert_eq!(found, [Some(std::process::id()), None]);
    }
}
