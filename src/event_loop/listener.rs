//! Listening sockets: which addresses, how they are bound, and whose a Unix socket's path is. It knows no client beyond
//! accepting it.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::umask;
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use crate::config::Config;
use crate::limits::{FREE_PORT_ATTEMPTS, KEEPALIVE, LISTEN_BACKLOG};

/// Everything that the server listens on.
#[derive(Debug)]
pub struct Listeners {
    /// One for each TCP address, at least one, and then the Unix socket if one was asked for. None of them blocks.
    pub sockets: Vec<Socket>,
    addresses: Vec<SocketAddr>,
    path: Option<OwnPath>,
}

/// A path that is removed in the end, unless it leads to something that is not ours by then.
#[derive(Debug)]
struct OwnPath {
    path: PathBuf,
    identity: (u64, u64),
}

impl Listeners {
    /// Listens on every address of this machine that the host option stands for, and on the Unix socket.
    ///
    /// # Errors
    /// No address that the machine has, a port in use on any of them, or a path that cannot be had. TCP comes first, so
    /// that a second server by mistake ends before it touches the path.
    pub fn bind(config: &Config) -> Result<Listeners, String> {
        let found = (config.host.as_str(), config.port).to_socket_addrs();
        let found = found.map_err(|problem| config.error("host", format!("{:?}: {problem}", config.host)))?;
        let (mut sockets, addresses): (Vec<_>, Vec<_>) = bind_all(&found.collect::<Vec<_>>())
            .map_err(|(address, problem)| config.error("port", format!("{address}: {problem}")))?
            .into_iter()
            .unzip();
        if sockets.is_empty() {
            return Err(config.error("host", format!("{:?}, none of whose addresses it has", config.host)));
        }
        let mut path = None;
        if let Some(wanted) = &config.unix_socket {
            let (socket, own) = bind_unix(wanted)
                .map_err(|problem| config.error("unix-socket", format!("{}: {problem}", wanted.display())))?;
            sockets.push(socket);
            path = Some(own);
        }
        Ok(Listeners { sockets, addresses, path })
    }

    /// Accepts from whichever socket has a client waiting, as one that does not block.
    ///
    /// # Errors
    /// `WouldBlock` if none has, or what the system says.
    pub fn accept(&self) -> io::Result<Socket> {
        for socket in &self.sockets {
            match socket.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                accepted => {
                    let (client, _) = accepted?;
                    client.set_nonblocking(true)?;
                    return Ok(client);
                }
            }
        }
        Err(ErrorKind::WouldBlock.into())
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.addresses[0].port()
    }

    /// Whether any of them can be reached from other machines.
    pub fn are_exposed(&self) -> bool {
        self.addresses.iter().any(|address| !address.ip().is_loopback())
    }

    /// Every address, separated by spaces; a Unix socket's is `unix:` and its path, and comes last.
    pub fn addresses(&self) -> String {
        let unix = self.path.iter().map(|own| format!("unix:{}", own.path.display()));
        self.addresses.iter().map(ToString::to_string).chain(unix).collect::<Vec<_>>().join(" ")
    }
}

/// Listens on one port of all of these addresses that the machine has, perhaps none; an error comes with its address.
///
/// For port 0 the system picks a port that is free on the first address only. Where it is taken on another, all
/// are tried again with another port.
pub fn bind_all(wanted: &[SocketAddr]) -> Result<Vec<(Socket, SocketAddr)>, (SocketAddr, io::Error)> {
    // What a failed attempt bound is held until the end, since the system likes to offer the same port again.
    let mut held = Vec::new();
    'attempt: loop {
        let mut bound: Vec<(Socket, SocketAddr)> = Vec::new();
        for &(mut address) in wanted {
            let is_any_port = address.port() == 0;
            if is_any_port {
                address.set_port(bound.first().map_or(0, |(_, first)| first.port()));
            }
            // Some systems name one twice for `localhost`.
            if bound.iter().any(|(_, other)| *other == address) {
                continue;
            }
            match bind_one(address) {
                Ok(one) => bound.push(one),
                Err(problem) if is_absent(&problem) => {}
                Err(problem)
                    if is_any_port && problem.kind() == ErrorKind::AddrInUse && held.len() < FREE_PORT_ATTEMPTS =>
                {
                    held.push(bound);
                    continue 'attempt;
                }
                Err(problem) => return Err((address, problem)),
            }
        }
        return Ok(bound);
    }
}

/// Whether this machine has no such address, or not even such a kind of address.
fn is_absent(problem: &io::Error) -> bool {
    let no_such_kind = Errno::from_io_error(problem) == Some(Errno::AFNOSUPPORT);
    problem.kind() == ErrorKind::AddrNotAvailable || no_such_kind
}

fn bind_one(address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // `::` would take the port of `0.0.0.0` as well, which may be on the list itself.
        socket.set_only_v6(true)?;
    }
    // A restart need not wait until the connections of the last run are forgotten.
    socket.set_reuse_address(true)?;
    // What is accepted inherits these two: a reply does not wait for the acknowledgement of the one before it, and a
    // client that vanished without a word is found out.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    let bound = socket.local_addr()?.as_socket();
    Ok((socket, bound.unwrap_or(address)))
}

/// Listens on `path`, which must lead to nothing or to a socket that nobody listens on any more.
fn bind_unix(path: &Path) -> io::Result<(Socket, OwnPath)> {
    make_way(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let address = SockAddr::unix(path)?;
    // The mask applies as the path is made: a chmod afterwards would leave a moment for others to connect.
    let mask = umask(Mode::RWXG | Mode::RWXO);
    let bound = socket.bind(&address);
    umask(mask);
    bound?;
    let own = OwnPath { path: path.to_owned(), identity: identity(path)? };
    socket.listen(LISTEN_BACKLOG)?;
    Ok((socket, own))
}

/// Clears the path for a new socket: what a dead server left is removed, anything else refused.
fn make_way(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Err(problem) if problem.kind() == ErrorKind::NotFound => return Ok(()),
        Err(problem) => return Err(problem),
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(io::Error::new(ErrorKind::AlreadyExists, "exists and is not a socket")),
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Non-blocking, since a server that hangs has a full queue, and to connect to it would wait.
    probe.set_nonblocking(true)?;
    let in_use = |text| Err(io::Error::new(ErrorKind::AddrInUse, text));
    match probe.connect(&SockAddr::unix(path)?) {
        Err(problem) if problem.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(problem) if problem.kind() == ErrorKind::WouldBlock => in_use("a server is listening there, and busy"),
        Err(problem) => Err(problem),
        Ok(()) => in_use("a server is listening there"),
    }
}

impl Drop for OwnPath {
    fn drop(&mut self) {
        // Somebody may have removed it and started another server there, whose path is not ours to remove.
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What tells this path's file from another that may take its place.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = path.symlink_metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}
