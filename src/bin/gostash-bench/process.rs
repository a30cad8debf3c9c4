//! What the server's process and our own have used, as Linux tells. Elsewhere, and for a process that we may not look
//! into, there is no answer, and the report leaves it out.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::options::Options;

/// What a process has used so far and holds now.
#[derive(Clone, Copy)]
pub struct Usage {
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

/// The process that was named, or else the one that listens where we are about to connect.
pub fn find(options: &Options) -> Option<u32> {
    match (options.pid, &options.unix_socket) {
        (Some(pid), _) => Some(pid),
        (None, Some(path)) => owner(unix_inode(path)?),
        (None, None) => owner(options.addresses().ok()?.iter().find_map(tcp_inode)?),
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
    Some(Usage { cpu_nanos, resident_bytes: bytes("VmRSS:")?, peak_bytes: bytes("VmHWM:")? })
}

/// The socket that listens on this address, or on its port at any address.
fn tcp_inode(address: &SocketAddr) -> Option<u64> {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    // The kernel prints each word of an address as the number that its bytes make on this machine.
    let words = octets.as_chunks().0.iter().map(|word| format!("{:08X}", u32::from_ne_bytes(*word)));
    let (expected, port) = (words.collect::<String>(), format!("{:04X}", address.port()));
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        listening(table, "0A", 9, |fields| {
            let Some((ip, bound)) = fields[1].split_once(':') else { return false };
            bound == port && (ip == expected || ip.bytes().all(|digit| digit == b'0'))
        })
    })
}

fn unix_inode(path: &Path) -> Option<u64> {
    let path = fs::canonicalize(path).ok()?;
    // The flag says that it accepts connections; those that it has accepted bear the same path.
    listening("/proc/net/unix", "00010000", 6, |fields| {
        fields.get(7).is_some_and(|bound| fs::canonicalize(bound).is_ok_and(|bound| bound == path))
    })
}

/// The socket, by the number in one field, of the first line of a table that says it listens.
fn listening(table: &str, state: &str, inode_at: usize, is_it: impl Fn(&[&str]) -> bool) -> Option<u64> {
    let text = fs::read_to_string(table).ok()?;
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|fields| fields.get(3) == Some(&state) && is_it(fields))?;
    line.get(inode_at)?.parse().ok()
}

/// The process that has a socket open. Process 1 may hold one that it hands on; it is not the server if there is
/// another.
fn owner(inode: u64) -> Option<u32> {
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
