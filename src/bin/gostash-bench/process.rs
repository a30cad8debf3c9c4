//! What the server's process and our own have used, as Linux tells. Elsewhere, and for a process that we may not look
//! into, there is no answer, and the report leaves it out.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;

use crate::options::Options;

/// What a process has used so far and holds now.
#[derive(Clone, Copy)]
pub struct Usage {
    pub pid: u32,
    /// CPU time of all its threads.
    pub cpu_nanos: u64,
    pub resident_bytes: u64,
    /// The most it ever was.
    pub peak_bytes: u64,
}

impl Usage {
    /// The same but for CPU time, which is what was used in between.
    pub fn since(self, before: Usage) -> Usage {
        Usage { cpu_nanos: self.cpu_nanos.saturating_sub(before.cpu_nanos), ..self }
    }
}

/// What a process has used so far.
pub fn usage(pid: u32) -> Option<Usage> {
    let mut cpu_nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        // A thread may end between the two calls; then its time is lost, as it is to the kernel's own sum.
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

/// The process that was named, or else the one that has the socket open which listens where we have connected. Process
/// 1 may hold one that it hands on; it is not the server if there is another.
pub fn find(options: &Options) -> Option<u32> {
    if options.pid.is_some() {
        return options.pid;
    }
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

/// The socket that listens on this address, or on its port at any address of this machine.
fn tcp_inode(address: SocketAddr) -> Option<String> {
    // If the address is another machine's, whoever listens on that port here is not the server.
    let mut any_port = address;
    any_port.set_port(0);
    TcpListener::bind(any_port).ok()?;
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    // The kernel prints each word of an address as the number that its bytes make on this machine.
    let words = octets.as_chunks().0.iter().map(|word| format!("{:08X}", u32::from_ne_bytes(*word)));
    let places = [words.collect(), "0".repeat(8), "0".repeat(32)].map(|ip| format!("{ip}:{:04X}", address.port()));
    let is_it = |row: &[&str]| row[3] == "0A" && places.iter().any(|place| place == row[1]);
    ["tcp", "tcp6"].iter().find_map(|table| field(table, 9, is_it))
}

fn unix_inode(path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    let is_it = |it: &&str| fs::canonicalize(it).is_ok_and(|it| it == path);
    // The flag says that it accepts connections; those that it has accepted bear the same path.
    field("unix", 6, |row| row[3] == "00010000" && row.get(7).is_some_and(is_it))
}

/// One field of the first row that has what is looked for, in one of the kernel's tables of sockets.
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
        // The second is nobody's address.
        let found =
            ["127.0.0.1", "192.0.2.1"].map(|host| find(&Options { host: host.into(), port, ..Options::default() }));
        assert_eq!(found, [Some(std::process::id()), None]);
    }
}
