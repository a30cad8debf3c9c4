//! What the server's process and our own thread have used, as Linux tells. Elsewhere, and for a process that we may not
//! look into, there is no answer, and the report leaves it out.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::options::Options;

/// A process that we read about.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
}

/// What a process has used so far and holds now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time of all its threads, in nanoseconds.
    pub cpu_nanos: u64,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// The most it ever was, in bytes.
    pub peak_bytes: u64,
}

impl Process {
    /// The one that was named, or else the one that listens where we are about to connect.
    pub fn find(options: &Options) -> Option<Process> {
        let pid = match (options.pid, &options.unix_socket) {
            (Some(pid), _) => Some(pid),
            (None, Some(path)) => unix_inode(path).and_then(owner),
            (None, None) => tcp_inode(&options.addresses().ok()?).and_then(owner),
        };
        pid.map(|pid| Process { pid })
    }

    /// This program itself, which has one thread.
    pub fn own() -> Process {
        Process { pid: std::process::id() }
    }

    /// What it has used so far.
    pub fn usage(self) -> Option<Usage> {
        let mut usage = Usage::default();
        for task in fs::read_dir(format!("/proc/{}/task", self.pid)).ok()?.flatten() {
            // A thread may end between the two calls; then its time is lost, as it is to the kernel's own sum.
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            usage.cpu_nanos += text.split(' ').next()?.parse().unwrap_or(0);
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        usage.resident_bytes = status_bytes(&status, "VmRSS:")?;
        usage.peak_bytes = status_bytes(&status, "VmHWM:")?;
        Some(usage)
    }
}

fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The socket that listens on one of these addresses, or on its port at any address.
fn tcp_inode(addresses: &[SocketAddr]) -> Option<u64> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    addresses.iter().find_map(|address| {
        let lines = tables.iter().flat_map(|table| table.lines());
        lines.filter_map(listening).find(|(local, _)| answers(local, address)).map(|(_, inode)| inode)
    })
}

/// The address and the socket of a line that is a listening socket.
fn listening(line: &str) -> Option<(&str, u64)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    (*fields.get(3)? == "0A").then_some((fields[1], fields.get(9)?.parse().ok()?))
}

fn answers(local: &str, address: &SocketAddr) -> bool {
    let Some((ip, port)) = local.split_once(':') else {
        return false;
    };
    let words: Vec<u8> = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    // The kernel prints each word of an address as the number that its bytes make on this machine.
    let expected: String = words
        .chunks_exact(4)
        .map(|word| format!("{:08X}", u32::from_ne_bytes([word[0], word[1], word[2], word[3]])))
        .collect();
    u16::from_str_radix(port, 16) == Ok(address.port()) && (ip == expected || ip.bytes().all(|digit| digit == b'0'))
}

fn unix_inode(path: &Path) -> Option<u64> {
    let path = fs::canonicalize(path).ok()?;
    let table = fs::read_to_string("/proc/net/unix").ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // The flag says that it accepts connections; those that it has accepted bear the same path.
        let listens = *fields.get(3)? == "00010000";
        let is_it = listens && fs::canonicalize(fields.get(7)?).is_ok_and(|bound| bound == path);
        is_it.then(|| fields[6].parse().ok()).flatten()
    })
}

/// The process that has a socket open. Process 1 may hold one that it hands on; it is not the server if there is another.
fn owner(inode: u64) -> Option<u32> {
    let link = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut owners =
        processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).filter(|pid| {
            let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
            descriptors.into_iter().flatten().flatten().any(|descriptor| {
                fs::read_link(descriptor.path()).is_ok_and(|target| target.as_os_str() == link.as_str())
            })
        });
    let first = owners.next()?;
    if first == 1 { owners.next().or(Some(1)) } else { Some(first) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_ours_is_found() {
        for host in ["127.0.0.1:0", "0.0.0.0:0"] {
            let listener = std::net::TcpListener::bind(host).expect("a free port");
            let port = listener.local_addr().expect("an address").port();
            let options = Options { host: "127.0.0.1".into(), port, ..Options::default() };
            let process = Process::find(&options).expect("ourselves");
            assert_eq!(process.pid, std::process::id());
            let usage = process.usage().expect("our own figures");
            assert!(usage.cpu_nanos > 0 && usage.peak_bytes >= usage.resident_bytes && usage.resident_bytes > 0);
        }
    }

    #[test]
    fn a_unix_listener_of_ours_is_found() {
        let path = std::env::temp_dir().join(format!("gostash-bench-{}", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        let options = Options { unix_socket: Some(path.clone()), ..Options::default() };
        let found = Process::find(&options).map(|process| process.pid);
        drop(listener);
        let _ = fs::remove_file(path);
        assert_eq!(found, Some(std::process::id()));
    }
}
