//! A socket and its session, and what the one asks of the other: whether to read, write, wait or close. The decisions
//! are here and the loop carries them out, so that they can be read without thinking of system calls.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::mem;

use mio::Token;
use slab::Slab;
use socket2::{SockAddr, Socket};

use crate::execute::Executor;
use crate::session::Session;

/// A client.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Socket,
    pub(super) session: Session,
    /// The kernel may have input for us. Set by events, and cleared when a read finds none.
    pub(super) readable: bool,
    /// The kernel may take output. Set by events, and cleared when a write finds no room.
    pub(super) writable: bool,
    /// Events tell when it is writable again.
    pub(super) watches_output: bool,
    /// The client has closed its side, so that a short read does not mean that the next would find nothing: it would
    /// find the end, and no further event tells of it.
    pub(super) read_closed: bool,
    /// It is in the ready queue.
    pub(super) queued: bool,
    pub(super) accepted_millis: u64,
    /// Since when it waits for its client to take output, or to end after an ERR, in milliseconds.
    pub(super) waits_since_millis: u64,
    /// It has been told ERR, and for so many bytes more its input is thrown away.
    pub(super) draining: Option<usize>,
    /// What it was last counted with, in bytes.
    pub(super) held_bytes: usize,
}

impl Connection {
    pub(super) fn new(socket: Socket, id: u64, now_millis: u64) -> Self {
        Connection {
            socket,
            session: Session::new(id, now_millis),
            // Clients that speak at once are the rule, and a socket that is new takes output.
            readable: true,
            writable: true,
            watches_output: false,
            read_closed: false,
            queued: false,
            accepted_millis: now_millis,
            waits_since_millis: now_millis,
            draining: None,
            held_bytes: 0,
        }
    }

    /// Whether to read from it now, where who holds more than `fair_bytes` is not read from, unless it has an end.
    pub(super) fn wants_read(&self, fair_bytes: usize) -> bool {
        let wants = self.readable && (self.draining.is_some() || self.session.wants_input());
        wants && (self.read_closed || fair_bytes == usize::MAX || self.session.burden_bytes() <= fair_bytes)
    }

    /// Goes on the ready queue, unless it is there.
    pub(super) fn enqueue(&mut self, key: usize, ready: &mut VecDeque<Token>) {
        if !mem::replace(&mut self.queued, true) {
            ready.push_back(self.token(key));
        }
    }

    /// What finds it, and nobody else that had or will have its place.
    pub(super) fn token(&self, key: usize) -> Token {
        Token((self.session.id as usize) << 32 | key)
    }

    /// Reads once: of a large value that is coming in up to `large_max` bytes to where they will stay, and what follows it,
    /// or anything else, into `buffer`. Returns how many bytes each brought.
    pub(super) fn read(&mut self, large_max: usize, buffer: &mut [u8], executor: &Executor) -> (usize, usize) {
        let incoming = self.session.incoming();
        let read = incoming.and_then(|incoming| incoming.read(&mut self.socket, large_max, buffer, executor));
        let (asked, result, large) = read.unwrap_or_else(|| (buffer.len(), self.socket.read(buffer), 0));
        match &result {
            Ok(0) => {
                self.readable = false;
                self.session.input_ended = true;
            }
            Ok(count) => self.readable = *count == asked || self.read_closed,
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.session.abandon(),
        }
        (large, result.unwrap_or(0) - large)
    }

    /// Writes what comes first in its output, about `bytes_max` bytes at most, and returns how many bytes that were.
    pub(super) fn write(&mut self, bytes_max: usize, now_millis: u64) -> usize {
        let (tried, result) = self.session.output.write_to(&mut self.socket, bytes_max);
        if result.as_ref().is_err_and(|error| error.kind() != ErrorKind::WouldBlock) {
            self.session.abandon();
        }
        let count = result.unwrap_or(0);
        self.writable = count == tried;
        self.waits_since_millis = now_millis;
        count
    }

    /// The client's address and ours, as text; a Unix socket's clients have none.
    pub(super) fn addresses(&self) -> [String; 2] {
        let text = |address: io::Result<SockAddr>| match address {
            Ok(address) => address.as_socket().map_or("unix:0".to_owned(), |address| address.to_string()),
            Err(_) => "?:0".to_owned(),
        };
        [text(self.socket.peer_addr()), text(self.socket.local_addr())]
    }
}

impl AsMut<Session> for Connection {
    fn as_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

/// The connection that a token was made for, and its place, if it is still there.
pub(super) fn find(connections: &mut Slab<Connection>, token: Token) -> Option<(usize, &mut Connection)> {
    let key = token.0 as u32 as usize;
    let connection = connections.get_mut(key)?;
    (connection.token(key) == token).then_some((key, connection))
}
