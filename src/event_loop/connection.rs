//! A socket and its session, and what the one asks of the other: whether to read, write, wait or close. The decisions
//! are here and the loop carries them out, so that they can be read without thinking of system calls.

use std::io::{self, ErrorKind, Read};
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{SockAddr, Socket};

use crate::session::Session;

/// A client.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Socket,
    pub(super) session: Session,
    /// Tells it from others that had or will have its place.
    pub(super) serial: u32,
    /// The kernel may have input for us. Set by events, and cleared when a read finds none.
    pub(super) readable: bool,
    /// The kernel may take output. Set by events, and cleared when a write finds no room.
    pub(super) writable: bool,
    /// Events tell when it is writable again.
    watches_output: bool,
    /// The client has closed its side, so that a short read does not mean that the next would find nothing: it would
    /// find the end, and no further event tells of it.
    pub(super) read_closed: bool,
    /// It is in the ready queue.
    pub(super) queued: bool,
    /// It waits for its client, and time may run out for it.
    pub(super) timed: bool,
    /// Since when it is there, in milliseconds.
    pub(super) accepted_millis: u64,
    /// When its output last moved, or began to wait, in milliseconds.
    pub(super) output_moved_millis: u64,
    /// It has been told ERR, and until when, and for how many bytes more, its input is thrown away.
    pub(super) draining: Option<(u64, usize)>,
    /// What it was last counted with, in bytes.
    pub(super) held_bytes: usize,
}

impl Connection {
    pub(super) fn new(socket: Socket, serial: u32, now_millis: u64) -> Self {
        Connection {
            socket,
            session: Session::new(u64::from(serial) + 1, now_millis),
            serial,
            // Clients that speak at once are the rule, and a socket that is new takes output.
            readable: true,
            writable: true,
            watches_output: false,
            read_closed: false,
            queued: false,
            timed: false,
            accepted_millis: now_millis,
            output_moved_millis: now_millis,
            draining: None,
            held_bytes: 0,
        }
    }

    pub(super) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.socket.as_raw_fd()), token, Interest::READABLE)
    }

    /// Whether to read from it now.
    pub(super) fn wants_read(&self) -> bool {
        self.readable && (self.draining.is_some() || self.session.wants_input())
    }

    /// Whether there is anything to do for it before its next event.
    pub(super) fn wants_turn(&self) -> bool {
        self.wants_read() || self.session.can_run() || self.writable && !self.session.output.is_empty()
    }

    /// Reads once into `buffer`. Returns how many bytes it brought, or nothing if the connection is over.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let result = loop {
            match self.socket.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        let count = settled(result)?;
        if count == Some(0) {
            self.session.end_input();
        }
        self.readable = count.is_some_and(|count| count > 0 && (count == buffer.len() || self.read_closed));
        Some(count.unwrap_or(0))
    }

    /// Writes what comes first in its output, about `bytes_max` bytes at most. Returns how many bytes that were, or
    /// nothing if the connection is over.
    pub(super) fn write(&mut self, bytes_max: usize, now_millis: u64) -> Option<usize> {
        let (tried, result) = self.session.output.write_to(&mut self.socket, bytes_max);
        let count = settled(result)?;
        if count.is_some() {
            self.output_moved_millis = now_millis;
        }
        self.writable = count == Some(tried);
        Some(count.unwrap_or(0))
    }

    /// Asks for events about room for output while output waits, and only then: a Unix socket tells of room whenever
    /// its client has read anything.
    pub(super) fn watch_output(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        if self.watches_output == self.writable {
            self.watches_output = !self.writable;
            let both = Interest::READABLE | Interest::WRITABLE;
            let interest = if self.watches_output { both } else { Interest::READABLE };
            registry.reregister(&mut SourceFd(&self.socket.as_raw_fd()), token, interest)?;
        }
        Ok(())
    }

    /// The client's address and ours, as text; a Unix socket's clients have none.
    pub(super) fn addresses(&self) -> [String; 2] {
        let text = |address: io::Result<SockAddr>| match address.map(|address| address.as_socket()) {
            Ok(Some(address)) => address.to_string(),
            Ok(None) => "unix:0".to_owned(),
            Err(_) => "?:0".to_owned(),
        };
        [text(self.socket.peer_addr()), text(self.socket.local_addr())]
    }
}

/// What a system call came to: a number of bytes, or that it has to be tried later, or that the connection is over.
fn settled(result: io::Result<usize>) -> Option<Option<usize>> {
    match result {
        Ok(count) => Some(Some(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Some(None),
        Err(_) => None,
    }
}
