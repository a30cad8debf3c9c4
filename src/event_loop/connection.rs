//! A connection: a socket and its session. It knows how to read and write once; the loop decides when to.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::mem;

use mio::Token;
use slab::Slab;
use socket2::{SockAddr, Socket};

use crate::execute::Executor;
use crate::session::Session;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Socket,
    pub(super) session: Session,
    /// The kernel may have input for us. Set by events, and cleared by a read that leaves none.
    pub(super) readable: bool,
    /// The kernel may take output. Set by events and sweeps, and cleared by a write that is not taken in full.
    pub(super) writable: bool,
    pub(super) watches_output: bool, // the poll reports when it is writable again
    /// The client has closed its side. After a short read the end is still to be read, and no more event announces it.
    pub(super) read_closed: bool,
    pub(super) queued: bool,
    pub(super) is_long: bool, // its last visit was, of those that found anything
    pub(super) in_line: bool, // it is in `Pressure::line`
    pub(super) accepted_millis: u64,
    /// When the client last took output, in milliseconds. If it is draining, that was its last reply.
    pub(super) waits_since_millis: u64,
    /// While draining, once its last reply (an ERR, or that to QUIT) is sent: how many more bytes will be thrown away.
    pub(super) drain_bytes_left: Option<usize>,
    pub(super) held_bytes: usize, // its part of `Pressure::held_bytes`
}

impl Connection {
    pub(super) fn new(socket: Socket, id: u64, now_millis: u64) -> Self {
        Connection {
            socket,
            session: Session::new(id, now_millis),
            // As a rule, a client speaks at once, and a new socket has room for output.
            readable: true,
            writable: true,
            watches_output: false,
            read_closed: false,
            queued: false,
            is_long: false,
            in_line: false,
            accepted_millis: now_millis,
            waits_since_millis: now_millis,
            drain_bytes_left: None,
            held_bytes: 0,
        }
    }

    /// Puts it on its ready queue, unless it is there already.
    pub(super) fn enqueue(&mut self, slot: usize, ready: &mut [VecDeque<Token>; 2]) {
        if !mem::replace(&mut self.queued, true) {
            ready[usize::from(self.is_long)].push_back(self.token(slot));
        }
    }

    /// The token that finds it, but none of those that had or will have its slot in the slab.
    pub(super) fn token(&self, slot: usize) -> Token {
        Token((self.session.id as usize) << 32 | slot)
    }

    /// Reads once. Of a large value that is coming in, up to `large_max` bytes go to where they will stay; what follows
    /// it, and any other input, goes into `buffer`. Returns how many bytes went to each.
    pub(super) fn read(&mut self, large_max: usize, buffer: &mut [u8], executor: &mut Executor) -> (usize, usize) {
        let read = self.session.incoming().and_then(|it| it.read(&mut self.socket, large_max, buffer, executor));
        let (asked, result, large) = read.unwrap_or_else(|| (buffer.len(), self.socket.read(buffer), 0));
        match &result {
            Ok(0) => (self.readable, self.session.input_ended) = (false, true),
            Ok(count) => self.readable = *count == asked || self.read_closed,
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.session.abandon(),
        }
        (large, result.unwrap_or(0) - large)
    }

    /// Writes the start of its output, about `bytes_max` bytes at most, and returns how many bytes were taken.
    pub(super) fn write(&mut self, bytes_max: usize, now_millis: u64) -> usize {
        let (tried, result) = self.session.output.write_to(&mut self.socket, bytes_max);
        match &result {
            Ok(count) => (self.writable, self.waits_since_millis) = (*count == tried, now_millis),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // What EXEC has begun is executed to its end, though nobody reads the replies.
            Err(_) if self.session.is_busy() => {
                (self.session.output, self.session.input_ended) = (Default::default(), true);
            }
            Err(_) => self.session.abandon(),
        }
        result.unwrap_or(0)
    }

    /// The client's address and ours, as text; a Unix socket's clients have none.
    pub(super) fn addresses(&self) -> [String; 2] {
        let text = |address: SockAddr| address.as_socket().map_or("unix:0".to_owned(), |address| address.to_string());
        [self.socket.peer_addr(), self.socket.local_addr()].map(|address| address.map_or("?:0".to_owned(), text))
    }
}

impl AsMut<Session> for Connection {
    fn as_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

/// The connection that a token was made for, and its slot in the slab, unless it is gone.
pub(super) fn find(connections: &mut Slab<Connection>, token: Token) -> Option<(usize, &mut Connection)> {
    let slot = token.0 as u32 as usize;
    let connection = connections.get_mut(slot)?;
    (connection.token(slot) == token).then_some((slot, connection))
}
