//! Listening sockets: on which addresses, how they are bound, and who owns a Unix socket's path. It serves no client.

use std::fs::Metadata;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use crate::config::Config;
use crate::limits::*;
use crate::memory::{self, MemoryLimit};

/// Everything that the server listens on.
#[derive(Debug, Default)]
pub struct Listeners {
    /// One for each TCP address, and one for the Unix socket if that was asked for. None of them blocks.
    pub(super) sockets: Vec<Socket>,
    /// The path of the Unix socket, and what tells its file from another that may have replaced it.
    path: Option<(PathBuf, Metadata)>,
}

impl Listeners {
    /// Listens on every address of this machine that the host option stands for, and on the Unix socket. Fails if the
    /// machine has none of the addresses, the port is in use on one of them, or the path cannot be used. TCP comes
    /// first, so that a server that was started twice by mistake ends before it touches the path.
    pub fn bind(config: &Config) -> Result<Listeners, String> {
        let host = config.host.as_str();
        let found = (host, config.port).to_socket_addrs();
        let found = found.map_err(|problem| config.error("host", format!("cannot resolve {host:?}: {problem}")))?;
        let sockets = bind_all(&found.collect::<Vec<_>>())
            .map_err(|(address, problem)| config.error("port", format!("cannot listen on {address}: {problem}")))?;
        if sockets.is_empty() {
            return Err(config.error("host", format!("{host:?} has no address of this machine")));
        }
        let safe_bytes = MemoryLimit::auto(memory::read).safe_bytes;
        sockets.iter().for_each(|socket| bound_kernel(socket, config.max_memory.bytes, safe_bytes));
        let mut listeners = Listeners { sockets, path: None };
        if let Some(path) = &config.unix_socket {
            let cannot = |error| config.error("unix-socket", format!("cannot listen on {}: {error}", path.display()));
            listeners.bind_unix(path).map_err(cannot)?;
        }
        Ok(listeners)
    }

    /// Listens on `path`, where there must be nothing, or a socket that nobody listens on any more.
    fn bind_unix(&mut self, path: &Path) -> io::Result<()> {
        make_way(path)?;
        let address = SockAddr::unix(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // The mask applies as the path is made: a chmod afterwards would follow a link that somebody put there since.
        let mask = umask(Mode::RWXG | Mode::RWXO);
        let bound = socket.bind(&address);
        umask(mask);
        bound?;
        self.path = Some((path.to_owned(), path.symlink_metadata()?));
        socket.set_nonblocking(true)?;
        socket.listen(LISTEN_BACKLOG)?;
        self.sockets.push(socket);
        Ok(())
    }

    /// Accepts a client from the first socket that has one waiting, as one that does not block. That socket is asked
    /// last the next time, so that a crowd at one address does not keep out those who connect at another.
    pub(super) fn accept(&mut self) -> Option<io::Result<Socket>> {
        let mut tried = self.sockets.iter().map(Socket::accept).enumerate();
        let is_answer = |result: &io::Result<_>| !matches!(result, Err(error) if error.kind() == ErrorKind::WouldBlock);
        let (at, accepted) = tried.find(|(_, result)| is_answer(result))?;
        self.sockets.rotate_left(at + 1);
        Some(accepted.and_then(|(client, _)| client.set_nonblocking(true).map(|()| client)))
    }

    /// Whether other machines can reach any of them.
    pub fn are_exposed(&self) -> bool {
        tcp_addresses(&self.sockets).any(|address| !address.ip().is_loopback())
    }

    /// Every address, separated by spaces; a Unix socket's is `unix:` and its path, and comes last.
    pub fn addresses(&self) -> String {
        let unix = self.path.iter().map(|(path, _)| format!("unix:{}", path.display()));
        tcp_addresses(&self.sockets).map(|address| address.to_string()).chain(unix).collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        // Somebody may have removed it and started another server there, whose path must stay.
        if let Some((path, own)) = &self.path
            && path.symlink_metadata().is_ok_and(|found| (found.dev(), found.ino()) == (own.dev(), own.ino()))
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Listens on one port of all of these addresses that the machine has, perhaps none. An error comes with its address.
/// For port 0, the system picks one that is free on the first address; if it is taken on another, all are tried again.
pub fn bind_all(wanted: &[SocketAddr]) -> Result<Vec<Socket>, (SocketAddr, io::Error)> {
    // Sockets of failed attempts are held until the end, since the system likes to offer the same port again.
    let mut held = Vec::new();
    let mut bound = Vec::new();
    let mut left = wanted.iter();
    while let Some(mut address) = left.next().copied() {
        if let Some(first) = tcp_addresses(&bound).next() {
            address.set_port(first.port());
        }
        // Some systems list an address of `localhost` twice.
        if tcp_addresses(&bound).any(|other| other == address) {
            continue;
        }
        match bind_one(address).map_err(|problem| (Errno::from_io_error(&problem), problem)) {
            Ok(socket) => bound.push(socket),
            // This machine has no such address, or not even such a kind of address.
            Err((Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT), _)) => {}
            Err((Some(Errno::ADDRINUSE), _)) if wanted[0].port() == 0 && held.len() < FREE_PORT_ATTEMPTS => {
                held.push(mem::take(&mut bound));
                left = wanted.iter();
            }
            Err((_, problem)) => return Err((address, problem)),
        }
    }
    Ok(bound)
}

fn bind_one(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // Otherwise `::` would take the port of `0.0.0.0` as well, which may be on the list itself.
        socket.set_only_v6(true)?;
    }
    // A restart need not wait until the kernel has forgotten the connections of the last run.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit these two: no reply waits for the acknowledgement of the one before it, and the kernel
    // finds out when a client has vanished without a word.
    socket.set_tcp_nodelay(true)?;
    let silence = Duration::from_secs(KEEPALIVE_SECONDS);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(silence).with_interval(silence / 6))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket)
}

/// Bounds what the kernel holds for each client that is accepted from `socket`, on systems that can: the replies that
/// were not sent yet, and what has come in if there is little memory. Unix sockets have such bounds anyway.
fn bound_kernel(socket: &Socket, memory_bytes: usize, safe_bytes: usize) {
    let bytes = (memory_bytes / KERNEL_SHARE).max(KERNEL_BYTES_MIN);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(bytes as u32);
    if memory_bytes.max(safe_bytes.saturating_sub(memory_bytes)) < KERNEL_LEFT_BYTES_MIN {
        let _ = socket.set_recv_buffer_size(bytes);
    }
}

/// Raises the soft limit on descriptors as far as `wanted` clients need it. If the system does not allow that, the error
/// is for how many clients there are enough then, and that limit. If there are very few, clients get half of them.
pub fn raise_clients_max(wanted: usize) -> Result<(), (usize, usize)> {
    let needed = (wanted + DESCRIPTORS_RESERVED) as u64;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = current.map(|current| maximum.unwrap_or(needed).min(needed).max(current));
    // The system may refuse even this. What counts is the limit in force afterwards.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: raised, maximum });
    let granted = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |granted| granted as usize);
    let clients = granted - DESCRIPTORS_RESERVED.min(granted / 2);
    if clients < wanted { Err((clients, granted)) } else { Ok(()) }
}

pub(super) fn tcp_addresses(sockets: &[Socket]) -> impl Iterator<Item = SocketAddr> {
    sockets.iter().filter_map(|socket| socket.local_addr().ok()?.as_socket())
}

/// Clears the path for a new socket: removes what a dead server has left, and refuses anything else.
fn make_way(path: &Path) -> io::Result<()> {
    let Ok(metadata) = path.symlink_metadata() else { return Ok(()) }; // or binding tells what is wrong
    if !metadata.file_type().is_socket() {
        return Err(io::Error::other("it exists and is not a socket"));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Without blocking, since the backlog of a server that hangs is full, and connecting would wait.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(problem) if problem.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(problem) if problem.kind() != ErrorKind::WouldBlock => Err(problem),
        _ => Err(io::Error::other("another server is listening there")),
    }
}
