//! Which addresses are listened on, and what those have that are accepted there.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use gostash::config::Config;
use gostash::event_loop::listener::{Listeners, bind_all};
use gostash::limits::LISTEN_BACKLOG;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::server::{allow_descriptors, socket_dir};

fn address(socket: &Socket) -> SocketAddr {
    socket.local_addr().expect("bound").as_socket().expect("a TCP address")
}

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

#[test]
fn port_0_is_one_port_on_all_addresses() {
    let bound = bind_all(&addresses(&["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"])).expect("a free port");
    let ports: Vec<_> = bound.iter().map(|socket| address(socket).port()).collect();
    assert_eq!(ports.len(), 3);
    assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
}

#[test]
fn accepted_connections_inherit_what_they_need() {
    let bound = bind_all(&addresses(&["127.0.0.1:0"])).expect("a free port");
    let _client = TcpStream::connect(address(&bound[0])).expect("it listens");
    let (accepted, _) = bound[0].accept().expect("the client is there");
    assert!(accepted.tcp_nodelay().expect("a TCP socket"));
    assert!(accepted.keepalive().expect("a TCP socket"));
    // Who has vanished in mid-value holds what was sent until then.
    let [time, interval] = [accepted.tcp_keepalive_time(), accepted.tcp_keepalive_interval()];
    let probes = accepted.tcp_keepalive_retries().expect("a TCP socket");
    let silence = time.expect("a TCP socket") + interval.expect("a TCP socket") * probes;
    assert!(silence < Duration::from_secs(180), "{silence:?}");
}

/// The kernel holds as many connections ready on a Unix socket as on any other, so that a stop can accept them all.
#[test]
fn a_unix_socket_s_backlog_is_bounded() {
    allow_descriptors();
    let dir = socket_dir();
    let path = dir.path().join("socket");
    let mut config = Config::default();
    (config.port, config.unix_socket) = (0, Some(path.clone()));
    let _listeners = Listeners::bind(&config).expect("nobody is there");
    let connect = || {
        let client = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        client.set_nonblocking(true)?;
        client.connect(&SockAddr::unix(&path)?).map(|()| client)
    };
    let waiting: Vec<_> = (0..2 * LISTEN_BACKLOG).map_while(|_| connect().ok()).collect();
    assert_eq!(waiting.len(), LISTEN_BACKLOG as usize + 1);
}

#[test]
fn an_address_that_is_not_here_is_left_out() {
    let bound = bind_all(&addresses(&["192.0.2.1:0", "127.0.0.1:0"])).expect("one address is here");
    assert_eq!(bound.len(), 1);
    assert!(bind_all(&addresses(&["192.0.2.1:0"])).expect("no other error").is_empty());
}

#[test]
fn a_port_in_use_on_any_address_is_an_error() {
    // Nobody else has these two addresses, so nobody takes the first one's port when it is free again.
    let mut held = bind_all(&addresses(&["127.0.0.4:0", "127.0.0.5:0"])).expect("a free port");
    let wanted: Vec<_> = held.iter().map(address).collect();
    held.remove(0);
    let (taken, problem) = bind_all(&wanted).expect_err("the second is taken");
    assert_eq!((taken, problem.kind()), (wanted[1], ErrorKind::AddrInUse));
}

/// The second address has taken one port after another, as far as the system's choice can be foreseen.
#[test]
fn a_port_that_is_taken_on_another_address_is_not_the_one() {
    allow_descriptors();
    let held: Vec<_> = (0..1_000).map(|_| bind_all(&addresses(&["127.0.0.2:0"])).expect("a free port")).collect();
    for _ in 0..100 {
        let bound = bind_all(&addresses(&["127.0.0.1:0", "127.0.0.2:0"])).expect("a port free on both");
        assert_eq!(address(&bound[0]).port(), address(&bound[1]).port());
    }
    drop(held);
}

/// All addresses of this machine take the port of each: there is none that is free for both.
#[test]
fn the_search_for_a_free_port_ends() {
    let (_, problem) = bind_all(&addresses(&["0.0.0.0:0", "127.0.0.1:0"])).expect_err("the second is always taken");
    assert_eq!(problem.kind(), ErrorKind::AddrInUse);
}

/// The kernel remembers a connection that the server closed first for a minute.
#[test]
fn a_restart_need_not_wait() {
    let mut bound = bind_all(&addresses(&["127.0.0.6:0"])).expect("a free port");
    let wanted = [address(&bound[0])];
    let client = TcpStream::connect(wanted[0]).expect("it listens");
    drop((bound[0].accept().expect("the client is there"), bound.pop(), client));
    bind_all(&wanted).expect("its own port is free again");
}

#[test]
fn an_address_named_twice_is_one() {
    let bound = bind_all(&addresses(&["127.0.0.1:0", "127.0.0.2:0", "127.0.0.1:0"])).expect("a free port");
    assert_eq!(bound.len(), 2);
}

/// Where there is IPv6, all addresses of one kind do not take the port of all addresses of the other.
#[test]
fn every_address_of_both_kinds_is_two() {
    let wanted = addresses(&["0.0.0.0:0", "[::]:0"]);
    let bound = bind_all(&wanted).expect("a free port");
    let here = wanted.iter().filter(|address| TcpListener::bind(address).is_ok()).count();
    assert_eq!(bound.len(), here);
    assert!(bound.iter().all(|socket| address(socket).port() == address(&bound[0]).port()));
}
