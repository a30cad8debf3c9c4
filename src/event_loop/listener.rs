//! Listening sockets: which addresses, how they are bound, and whose a Unix socket's path is.
//!
//! It accepts nothing and knows no client; it hands non-blocking listeners to the event loop.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mio::net::{TcpListener, UnixListener};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::umask;
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use crate::config::{Config, OptionError};
use crate::limits::{FREE_PORT_ATTEMPTS, KEEPALIVE, LISTEN_BACKLOG};

/// Everything that the server listens on.
#[derive(Debug)]
pub struct Listeners {
    /// One for each TCP address, at least one.
    pub tcp: Vec<TcpListener>,
    /// The Unix socket, if one was asked for.
    pub unix: Option<UnixSocket>,
    addresses: Vec<SocketAddr>,
}

/// A listening Unix socket. Dropping it removes its path.
#[derive(Debug)]
pub struct UnixSocket {
    /// What to accept from.
    pub listener: UnixListener,
    path: OwnPath,
}

/// A path that is removed in the end, unless it leads to something that is not ours by then.
#[derive(Debug)]
struct OwnPath {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Listeners {
    /// Listens on every address of this machine that the host option stands for, and on the Unix socket.
    ///
    /// An address that the machine does not have is left out unless that leaves none. A port in use on any
    /// of them is an error. TCP comes first, so that a second server by mistake ends before it touches the path.
    pub fn bind(config: &Config) -> Result<Listeners, OptionError> {
        let found = (config.host.as_str(), config.port).to_socket_addrs();
        let found = found.map_err(|problem| config.error("host", format!("{:?}: {problem}", config.host)))?;
        let tcp = bind_all(&once(found))
            .map_err(|(address, problem)| config.error("port", format!("{address}: {problem}")))?;
        if tcp.is_empty() {
            return Err(config.error("host", format!("{:?}, none of whose addresses it has", config.host)));
        }
        let addresses = tcp.iter().map(TcpListener::local_addr).collect::<io::Result<_>>();
        let addresses = addresses.map_err(|problem| config.error("host", problem.to_string()))?;
        let unix = config.unix_socket.as_deref().map(|path| {
            UnixSocket::bind(path)
                .map_err(|problem| config.error("unix-socket", format!("{}: {problem}", path.display())))
        });
        Ok(Listeners { tcp, unix: unix.transpose()?, addresses })
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.addresses.first().map_or(0, SocketAddr::port)
    }

    /// Whether any of them can be reached from other machines.
    pub fn are_exposed(&self) -> bool {
        self.addresses.iter().any(|address| !address.ip().is_loopback())
    }

    /// Every address, separated by spaces; a Unix socket's is `unix:` and its path, and comes last.
    pub fn addresses(&self) -> String {
        let unix = self.unix.iter().map(|unix| format!("unix:{}", unix.path.path.display()));
        self.addresses.iter().map(ToString::to_string).chain(unix).collect::<Vec<_>>().join(" ")
    }
}

impl UnixSocket {
    /// Listens on `path`, which must lead to nothing or to a socket that nobody listens on any more.
    fn bind(path: &Path) -> io::Result<UnixSocket> {
        make_way(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let address = SockAddr::unix(path)?;
        // The mask applies as the path is made: a chmod afterwards would leave a moment for others to connect.
        let mask = umask(Mode::RWXG | Mode::RWXO);
        let bound = socket.bind(&address);
        umask(mask);
        bound?;
        // From here on the path is removed, whatever goes wrong.
        let path = OwnPath { path: path.to_owned(), identity: identity(path).ok() };
        socket.listen(LISTEN_BACKLOG)?;
        Ok(UnixSocket { listener: UnixListener::from_std(OwnedFd::from(socket).into()), path })
    }
}

impl Drop for OwnPath {
    fn drop(&mut self) {
        // Somebody may have removed it and started another server there, whose path is not ours to remove.
        if self.identity.is_some() && identity(&self.path).ok() == self.identity {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Each address once: some systems name one twice for `localhost`.
fn once(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// Listens on one port of all of these addresses that the machine has, perhaps none; an error comes with its address.
///
/// For port 0 the system picks a port that is free on the first address only. Where it is taken on another, all
/// are tried again with another port.
fn bind_all(wanted: &[SocketAddr]) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let any_port = wanted.iter().all(|address| address.port() == 0);
    let mut attempts_left = if any_port { FREE_PORT_ATTEMPTS } else { 1 };
    // What a failed attempt bound is held until the end, since the system likes to offer the same port again.
    let mut held = Vec::new();
    loop {
        attempts_left -= 1;
        let mut listeners = Vec::new();
        match bind_on_one_port(wanted, &mut listeners) {
            Ok(()) => return Ok(listeners),
            Err((_, problem)) if problem.kind() == ErrorKind::AddrInUse && attempts_left > 0 => {
                held.append(&mut listeners);
            }
            Err(error) => return Err(error),
        }
    }
}

fn bind_on_one_port(wanted: &[SocketAddr], listeners: &mut Vec<TcpListener>) -> Result<(), (SocketAddr, io::Error)> {
    let mut port = None;
    for &(mut address) in wanted {
        address.set_port(port.unwrap_or(address.port()));
        match bind_one(address) {
            Ok((listener, bound)) => {
                port = Some(bound.port());
                listeners.push(listener);
            }
            Err(problem) if is_absent(&problem) => {}
            Err(problem) => return Err((address, problem)),
        }
    }
    Ok(())
}

/// Whether this machine has no such address, or not even such a kind of address.
fn is_absent(problem: &io::Error) -> bool {
    let no_such_kind = Errno::from_io_error(problem) == Some(Errno::AFNOSUPPORT);
    problem.kind() == ErrorKind::AddrNotAvailable || no_such_kind
}

fn bind_one(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
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
    let listener = TcpListener::from_std(socket.into());
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Clears the path for a new socket: what a dead server left is removed, anything else refused.
fn make_way(path: &Path) -> io::Result<()> {
    let kind = match path.symlink_metadata() {
        Ok(metadata) => metadata.file_type(),
        Err(problem) if problem.kind() == ErrorKind::NotFound => return Ok(()),
        Err(problem) => return Err(problem),
    };
    if !kind.is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "exists and is not a socket"));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Non-blocking, since a server that hangs has a full queue, and to connect to it would wait.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(problem) if problem.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Ok(()) => Err(io::Error::new(ErrorKind::AddrInUse, "a server is listening there")),
        Err(problem) if problem.kind() == ErrorKind::WouldBlock => {
            Err(io::Error::new(ErrorKind::AddrInUse, "a server is listening there, and busy"))
        }
        Err(problem) => Err(problem),
    }
}

/// What tells this path's file from another that may take its place.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = path.symlink_metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use socket2::SockRef;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn port_0_is_one_port_on_all_addresses() {
        let wanted = addresses(&["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"]);
        let bound = bind_all(&wanted).expect("a free port");
        let ports: Vec<_> = bound.iter().map(|tcp| tcp.local_addr().expect("bound").port()).collect();
        assert_eq!(ports.len(), 3);
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    }

    #[test]
    fn accepted_connections_inherit_what_they_need() {
        let bound = bind_all(&addresses(&["127.0.0.1:0"])).expect("a free port");
        let _client = TcpStream::connect(bound[0].local_addr().expect("bound")).expect("it listens");
        let (accepted, _) = bound[0].accept().expect("the client is there");
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().expect("a TCP socket"));
        assert!(accepted.keepalive().expect("a TCP socket"));
    }

    #[test]
    fn an_address_that_is_not_here_is_left_out() {
        let bound = bind_all(&addresses(&["192.0.2.1:0", "127.0.0.1:0"])).expect("one address is here");
        assert_eq!(bound.len(), 1);
        assert!(bind_all(&addresses(&["192.0.2.1:0"])).expect("no other error").is_empty());
    }

    #[test]
    fn a_port_in_use_on_any_address_is_an_error() {
        let mut held = bind_all(&addresses(&["127.0.0.1:0", "127.0.0.2:0"])).expect("a free port");
        let wanted: Vec<_> = held.iter().map(|tcp| tcp.local_addr().expect("bound")).collect();
        held.remove(0);
        let (address, problem) = bind_all(&wanted).expect_err("the second is taken");
        assert_eq!((address, problem.kind()), (wanted[1], ErrorKind::AddrInUse));
    }

    #[test]
    fn an_address_named_twice_is_one() {
        let twice = addresses(&["127.0.0.1:1", "[::1]:1", "127.0.0.1:1"]);
        assert_eq!(once(twice.into_iter()), addresses(&["127.0.0.1:1", "[::1]:1"]));
    }
}
