//! What most multithreaded caches do: several event loops, each with its share of the connections, over sixteen shards
//! behind locks. The main thread accepts connections and deals them out in turn. It serves GoStash frames only, and
//! leaves out the server's limits on clients and time; parsing, execution and the store are the server's own code.
//!
//! A turn of a loop has phases, as in the server: it reads from all ready connections, executes, then writes to all.

mod arguments;
mod client;
mod shards;

use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use gostash::limits::{READ_LARGE_BYTES, TURN_CONNECTIONS};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;

use arguments::Arguments;
use client::{Client, Scratch};
use shards::Shards;

/// The token of the waker that announces a new connection.
const ARRIVAL: Token = Token(usize::MAX);

const EVENTS_MAX: usize = 1024;

fn main() -> ExitCode {
    let more = [("threads N", "how many event loops (one for each core)")];
    arguments::run("gostash-loops", "event loops over locked shards", &more, serve)
}

fn serve(arguments: &Arguments) -> io::Result<()> {
    let shards = Arc::new(Shards::new(arguments.max_memory));
    let mut loops = Vec::new();
    for _ in 0..arguments.threads {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), ARRIVAL)?;
        let (sender, arrivals) = channel();
        let shards = Arc::clone(&shards);
        thread::Builder::new().spawn(move || EventLoop::new(poll, arrivals, shards).run())?;
        loops.push((sender, waker));
    }
    let listener = std::net::TcpListener::bind(("127.0.0.1", arguments.port))?;
    arguments::announce(listener.local_addr()?);
    for number in (0..loops.len()).cycle() {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let (sender, waker) = &loops[number];
        // A loop never ends, so its receiver is there.
        let _ = sender.send(TcpStream::from_std(socket));
        waker.wake()?;
    }
    Ok(())
}

struct EventLoop {
    poll: Poll,
    arrivals: Receiver<TcpStream>,
    shards: Arc<Shards>,
    connections: Slab<Connection>,
    /// Connections that have something to do, each once.
    ready: Vec<usize>,
    /// The bytes that a turn has read, for all its connections.
    input: Vec<u8>,
    scratch: Scratch,
}

struct Connection {
    socket: TcpStream,
    client: Client,
    /// The socket may have input.
    readable: bool,
    /// The client has closed its side. Then a short read does not mean that the socket is empty: its end is still to be
    /// read.
    read_closed: bool,
    /// The end of the input has been read.
    ended: bool,
    /// The client was told ERR, and its further input is discarded.
    draining: bool,
    queued: bool,
}

impl EventLoop {
    fn new(poll: Poll, arrivals: Receiver<TcpStream>, shards: Arc<Shards>) -> Self {
        let input = vec![0; TURN_CONNECTIONS * READ_LARGE_BYTES];
        EventLoop {
            poll,
            arrivals,
            shards,
            connections: Slab::new(),
            ready: Vec::new(),
            input,
            scratch: Scratch::default(),
        }
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut visits = Vec::with_capacity(TURN_CONNECTIONS);
        loop {
            let timeout = (!self.ready.is_empty()).then_some(Duration::ZERO);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                if event.token() == ARRIVAL {
                    self.admit()?;
                } else if let Some(connection) = self.connections.get_mut(event.token().0) {
                    connection.read_closed |= event.is_read_closed() || event.is_error();
                    connection.readable |= event.is_readable() || connection.read_closed;
                    self.enqueue(event.token().0);
                }
            }
            self.turn(&mut visits);
        }
    }

    /// Registers the connections that were dealt to this loop.
    fn admit(&mut self) -> io::Result<()> {
        while let Ok(mut socket) = self.arrivals.try_recv() {
            let place = self.connections.vacant_entry();
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut socket, Token(place.key()), both)?;
            place.insert(Connection {
                socket,
                client: Client::default(),
                readable: false,
                read_closed: false,
                ended: false,
                draining: false,
                queued: false,
            });
        }
        Ok(())
    }

    fn enqueue(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if !std::mem::replace(&mut connection.queued, true) {
            self.ready.push(key);
        }
    }

    /// Serves as many ready connections as `input` has room for: reads all, executes all, writes all.
    fn turn(&mut self, visits: &mut Vec<(usize, Range<usize>)>) {
        let mut end = 0;
        for key in self.ready.drain(..self.ready.len().min(TURN_CONNECTIONS)) {
            let connection = &mut self.connections[key];
            connection.queued = false;
            let count = connection.read(&mut self.input[end..end + READ_LARGE_BYTES]);
            visits.push((key, end..end + count));
            end += count;
        }
        for (key, input) in visits.iter() {
            self.connections[*key].client.process(&self.input[input.clone()], &self.shards, &mut self.scratch);
        }
        for (key, _) in visits.drain(..) {
            match self.connections[key].write(&mut self.scratch) {
                Next::Wait => {}
                Next::Again => self.enqueue(key),
                Next::Close => drop(self.connections.remove(key)),
            }
        }
    }
}

/// What a connection does next.
enum Next {
    Wait,
    Again,
    Close,
}

impl Connection {
    /// Reads once, unless too much output or a backlog is pending, and returns how many bytes are to be processed.
    fn read(&mut self, room: &mut [u8]) -> usize {
        if !self.readable || self.client.is_choked() || self.client.has_backlog() {
            return 0;
        }
        match self.socket.read(room) {
            Ok(count) => {
                self.ended = count == 0;
                self.readable = !self.ended && (count == room.len() || self.read_closed);
                if self.draining { 0 } else { count }
            }
            Err(error) => {
                self.readable = error.kind() == ErrorKind::Interrupted;
                self.ended |= !matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock);
                0
            }
        }
    }

    /// Writes what the socket takes. An event tells when it is writable again.
    fn write(&mut self, scratch: &mut Scratch) -> Next {
        match self.client.write_to(&mut self.socket, scratch) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Wait,
            Err(_) => return Next::Close,
            Ok(()) => {}
        }
        if self.client.has_backlog() {
            return Next::Again;
        }
        if self.ended {
            return Next::Close;
        }
        if self.client.broken && !self.draining {
            // Closing with unread input would send a reset, which can overtake the ERR.
            self.draining = true;
            let _ = self.socket.shutdown(Shutdown::Write);
        }
        if self.readable { Next::Again } else { Next::Wait }
    }
}
