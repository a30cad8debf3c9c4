//! What the server's process and our own have used, as Linux tells. Elsewhere, and for a process that we may not look
//! into, there is no answer, and the report leaves it out.

use std::fs;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
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

/// The process that was named, or else the one that listens where we have connected.
pub fn find(options: &Options) -> Option<u32> {
    let inode = || match &options.unix_socket {
        Some(path) => unix_inode(path),
        None => (options.host.as_str(), options.port).to_socket_addrs().ok()?.find_map(tcp_inode),
    };
    options.pid.or_else(|| owner(&inode()?))
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

/// The socket that listens on this address, or on its port at any address.
fn tcp_inode(address: SocketAddr) -> Option<String> {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    // The kernel prints each word of an address as the number that its bytes make on this machine.
    let words = octets.as_chunks().0.iter().map(|word| format!("{:08X}", u32::from_ne_bytes(*word)));
    let places = [words.collect(), "0".repeat(8), "0".repeat(32)].map(|ip| format!("{ip}:{:04X}", address.port()));
    let is_it = |fields: &[&str]| fields[3] == "0A" && places.iter().any(|place| place == fields[1]);
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| field(table, 9, is_it))
}

fn unix_inode(path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    // The flag says that it accepts connections; those that it has accepted bear the same path.
    field("/proc/net/unix", 6, |fields| {
        fields[3] == "00010000" && fields.get(7).is_some_and(|it| fs::canonicalize(it).is_ok_and(|it| it == path))
    })
}

/// One field of the first line of a table that has what is looked for.
fn field(table: &str, place: usize, is_it: impl Fn(&[&str]) -> bool) -> Option<String> {
    let text = fs::read_to_string(table).ok()?;
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    Some(lines.find(|fields| fields.len() > place && is_it(fields))?[place].to_owned())
}

/// The process that has a socket open. Process 1 may hold one that it hands on; it is not the server if there is
/// another.
fn owner(inode: &str) -> Option<u32> {
    let link = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let owners = numbers.filter(|pid| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        descriptors
            .map(|entry| fs::read_link(entry.path()))
            .any(|target| target.is_ok_and(|it| it.as_os_str() == &*link))
    });
    owners.min_by_key(|pid| (*pid == 1, *pid))
}
