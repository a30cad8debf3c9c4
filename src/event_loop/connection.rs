//! A socket and its session, and what the one asks of the other: whether to read, write, wait or close. The decisions
//! are here and the loop carries them out, so that they can be read without thinking of system calls.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

use crate::session::Session;

/// A client's socket.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A client.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) session: Session,
    /// Tells it from others that had or will have its place.
    pub(super) serial: u32,
    /// The kernel may have input for us. Set by events, and cleared when a read finds none.
    pub(super) readable: bool,
    /// The kernel may take output. Set by events, and cleared when a write finds no room.
    pub(super) writable: bool,
    /// The client has closed its side, so that a short read does not mean that the next would find nothing: it would
    /// find the end, and no further event tells of it.
    pub(super) read_closed: bool,
    /// It is in the ready queue.
    pub(super) queued: bool,
    /// It was one too many, and is only here to be told so.
    pub(super) refused: bool,
    /// It waits for its client, and time may run out for it.
    pub(super) timed: bool,
    /// Since when it is there, in milliseconds.
    pub(super) accepted_millis: u64,
    /// When its output last moved, or began to wait, in milliseconds.
    pub(super) output_moved_millis: u64,
    /// It has been told ERR, and its input is thrown away until then.
    pub(super) draining: Option<Drain>,
    /// What it was last counted with, in bytes.
    pub(super) held_bytes: usize,
}

/// How long, and for how much, a client that was told ERR is listened to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    pub(super) until_millis: u64,
    pub(super) bytes_left: usize,
}

impl Connection {
    pub(super) fn new(stream: Stream, serial: u32, now_millis: u64) -> Self {
        Connection {
            stream,
            session: Session::new(now_millis).with_id(u64::from(serial) + 1),
            serial,
            // Clients that speak at once are the rule, and a socket that is new takes output.
            readable: true,
            writable: true,
            read_closed: false,
            queued: false,
            refused: false,
            timed: false,
            accepted_millis: now_millis,
            output_moved_millis: now_millis,
            draining: None,
            held_bytes: 0,
        }
    }

    /// The number by which clients know each other.
    pub(super) fn id(&self) -> u64 {
        u64::from(self.serial) + 1
    }

    /// Whether to read from it now.
    pub(super) fn wants_read(&self) -> bool {
        self.readable && (self.draining.is_some() || self.session.wants_input())
    }

    /// Whether there is anything to do for it before its next event.
    pub(super) fn wants_turn(&self) -> bool {
        self.wants_read() || self.session.can_run() || self.writable && self.session.output_bytes() > 0
    }

    /// Whether its client keeps it waiting, so that its time may run out.
    pub(super) fn waits_for_client(&self) -> bool {
        self.draining.is_some() || self.session.output_bytes() > 0
    }

    /// Notes how a read of up to `asked` bytes went, and whether to go on with the connection.
    pub(super) fn after_read(&mut self, asked: usize, result: &io::Result<usize>) -> bool {
        match result {
            Ok(0) => {
                self.readable = false;
                self.session.end_input();
                true
            }
            Ok(count) => {
                self.readable = *count == asked || self.read_closed;
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                true
            }
            Err(error) => error.kind() == io::ErrorKind::Interrupted,
        }
    }

    /// Notes how a write of `asked` bytes went, and whether to go on with the connection.
    pub(super) fn after_write(&mut self, asked: usize, result: &io::Result<usize>, now_millis: u64) -> bool {
        match result {
            Ok(count) => {
                self.session.output().consume(*count);
                self.output_moved_millis = now_millis;
                self.writable = *count == asked;
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                true
            }
            Err(error) => error.kind() == io::ErrorKind::Interrupted,
        }
    }
}

impl Stream {
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    pub(super) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write_vectored(slices),
            Stream::Unix(stream) => stream.write_vectored(slices),
        }
    }

    /// The client's address and ours, as text; a Unix socket's clients have none.
    pub(super) fn addresses(&self) -> [String; 2] {
        let text =
            |address: io::Result<SocketAddr>| address.map_or_else(|_| "?:0".into(), |address| address.to_string());
        match self {
            Stream::Tcp(stream) => [text(stream.peer_addr()), text(stream.local_addr())],
            Stream::Unix(_) => ["unix:0".into(), "unix:0".into()],
        }
    }

    /// Says that nothing more will be written. A client that is gone already needs no telling.
    pub(super) fn shut_down_writing(&self) {
        let _ = match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Stream::Tcp(stream) => stream.register(registry, token, interest),
            Stream::Unix(stream) => stream.register(registry, token, interest),
        }
    }
}
