//! The binary from outside: options, start-up errors, listening sockets, limits and signals. No protocol.

use crate::server::{Server, command, run};

#[test]
fn a_free_port_is_picked_and_said() {
    let mut server = Server::start(&[]);
    assert!(server.addr().ip().is_loopback());
    assert_ne!(server.addr().port(), 0);
    assert_eq!(server.addresses(), server.addr().to_string());
    server.connect();
}
