//! The bare echo: what the operating system charges for an exchange, and nothing else. It is the floor that every
//! figure of the server is compared with. One thread, one poll loop, one read and one write per ready socket. It does
//! not know what the bytes mean. With two options it answers a fixed number of bytes with another, since a server's
//! replies differ in length from its requests.
//!
//! It cuts no corner that a server could not cut: sockets are non-blocking, readiness is edge-triggered, and while the
//! peer does not take output, that is kept and no input is read. It leaves out all limits and error messages.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{ExitCode, exit};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;
use socket2::Socket;

/// How many bytes one read takes at most.
const READ_BYTES: usize = 64 * 1024;

/// How many bytes are read before anything is written, with `--gather`.
const GATHER_BYTES: usize = 4 * 1024 * 1024;

const EVENTS_PER_POLL: usize = 1024;

/// The first token of a listener.
const LISTENERS: usize = usize::MAX - 8;

const USAGE: &str = "\
gostash-echo: a bare echo server, the floor that servers are compared with

usage: gostash-echo [options]
  --port N             TCP port on 127.0.0.1; 0 picks a free one (0)
  --unix-socket PATH   listen on a Unix socket, too
  --gather             read all ready sockets before writing to any
  --request-bytes R    answer every R bytes ...
  --reply-bytes P      ... with P bytes, instead of echoing
";

fn main() -> ExitCode {
    let options = Options::from_command_line().map_err(|problem| (2, problem.to_string()));
    let served = |options| Echo::new(&options).and_then(Echo::run).map_err(|problem| (1, problem.to_string()));
    match options.and_then(served) {
        Ok(()) => ExitCode::SUCCESS,
        Err((status, problem)) => {
            eprintln!("gostash-echo: {problem}");
            ExitCode::from(status)
        }
    }
}

#[derive(Default)]
struct Options {
    port: u16,
    unix_socket: Option<PathBuf>,
    gather: bool,
    request_bytes: Option<usize>,
    reply_bytes: Option<usize>,
}

impl Options {
    /// Parses the command line. `--help` prints the usage and ends the program.
    fn from_command_line() -> Result<Self, lexopt::Error> {
        use lexopt::prelude::*;
        let mut options = Options::default();
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("port") => options.port = arguments.value()?.parse()?,
                Long("unix-socket") => options.unix_socket = Some(arguments.value()?.into()),
                Long("gather") => options.gather = true,
                Long("request-bytes") => options.request_bytes = Some(arguments.value()?.parse()?),
                Long("reply-bytes") => options.reply_bytes = Some(arguments.value()?.parse()?),
                Short('h') | Long("help") => {
                    print!("{USAGE}");
                    exit(0);
                }
                _ => return Err(argument.unexpected()),
            }
        }
        if options.request_bytes.is_some() != options.reply_bytes.is_some() || options.request_bytes == Some(0) {
            return Err("expected --request-bytes, at least 1, together with --reply-bytes".into());
        }
        Ok(options)
    }
}

/// What a connection answers with.
enum Answer {
    /// The bytes that were read.
    Same,
    /// The whole of `reply`, for every `request_bytes` bytes.
    Shaped { request_bytes: usize, reply: Vec<u8> },
}

struct Echo {
    poll: Poll,
    /// TCP, and perhaps a Unix socket.
    listeners: Vec<Socket>,
    connections: Slab<Connection>,
    /// Connections with an event, and whether it said that they are writable.
    ready: VecDeque<(usize, bool)>,
    answer: Answer,
    /// The bytes that are read before anything is written.
    input: Vec<u8>,
}

impl Echo {
    fn new(options: &Options) -> io::Result<Self> {
        let tcp = TcpListener::bind(("127.0.0.1", options.port))?;
        let mut addresses = tcp.local_addr()?.to_string();
        let mut listeners = vec![Socket::from(tcp)];
        if let Some(path) = &options.unix_socket {
            let _ = std::fs::remove_file(path);
            listeners.push(OwnedFd::from(UnixListener::bind(path)?).into());
            addresses = format!("{addresses} unix:{}", path.display());
        }
        let poll = Poll::new()?;
        for (place, listener) in listeners.iter().enumerate() {
            listener.set_nonblocking(true)?;
            let token = Token(LISTENERS + place);
            poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), token, Interest::READABLE)?;
        }
        let shape = options.request_bytes.zip(options.reply_bytes);
        let answer = shape.map_or(Answer::Same, |(request_bytes, reply_bytes)| Answer::Shaped {
            request_bytes,
            reply: vec![b'x'; reply_bytes],
        });
        let _ = writeln!(io::stdout(), "listening on {addresses}");
        let input = vec![0; if options.gather { GATHER_BYTES } else { READ_BYTES }];
        Ok(Echo { poll, listeners, connections: Slab::new(), ready: VecDeque::new(), answer, input })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        let mut read = Vec::with_capacity(EVENTS_PER_POLL);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                match event.token().0.checked_sub(LISTENERS) {
                    Some(place) => self.accept(place)?,
                    None => self.ready.push_back((event.token().0, event.is_writable())),
                }
            }
            while !self.ready.is_empty() {
                self.turn(&mut read);
            }
        }
    }

    /// Reads from as many ready connections as `input` has room for, which is one without `--gather`, and then answers
    /// them. A connection that filled its share of `input` is queued again, behind the others.
    fn turn(&mut self, read: &mut Vec<(usize, usize, usize)>) {
        let mut used = 0;
        while used + READ_BYTES <= self.input.len()
            && let Some((slot, writable)) = self.ready.pop_front()
        {
            let Some(connection) = self.connections.get_mut(slot) else {
                continue;
            };
            let room = &mut self.input[used..used + READ_BYTES];
            match connection.flush_waiting(writable, &self.answer).and_then(|()| connection.read(room)) {
                Ok(Some(count)) => {
                    read.push((slot, used, count));
                    used += count;
                }
                other => self.settle(slot, other.map(|_| ())),
            }
        }
        for (slot, start, count) in read.drain(..) {
            let served = self.connections[slot].answer(&self.input[start..start + count], &self.answer);
            if served.is_ok() && count == READ_BYTES {
                self.ready.push_back((slot, false));
            }
            self.settle(slot, served);
        }
    }

    /// Updates what the poll watches, or drops the connection after an error.
    fn settle(&mut self, slot: usize, served: io::Result<()>) {
        let connection = &mut self.connections[slot];
        if served.and_then(|()| connection.watch(self.poll.registry(), slot)).is_err() {
            self.connections.remove(slot);
        }
    }

    fn accept(&mut self, place: usize) -> io::Result<()> {
        while let Some((socket, _)) = unless_blocked(self.listeners[place].accept())? {
            socket.set_nonblocking(true)?;
            // This fails on a Unix socket, which has no such option.
            let _ = socket.set_tcp_nodelay(true);
            let entry = self.connections.vacant_entry();
            let source = &mut SourceFd(&socket.as_raw_fd());
            self.poll.registry().register(source, Token(entry.key()), Interest::READABLE)?;
            entry.insert(Connection {
                socket,
                waiting: Vec::new(),
                owed_bytes: 0,
                partial_bytes: 0,
                watches_output: false,
            });
        }
        Ok(())
    }
}

struct Connection {
    socket: Socket,
    /// Echoed bytes that the peer has not taken yet.
    waiting: Vec<u8>,
    /// How many bytes of shaped answers the peer has not taken yet.
    owed_bytes: usize,
    /// How many bytes of an incomplete shaped request have been read.
    partial_bytes: usize,
    watches_output: bool,
}

impl Connection {
    /// `None` if there is nothing to read, or if output is pending.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if self.is_blocked() {
            return Ok(None);
        }
        match unless_blocked(self.socket.read(buffer))? {
            Some(0) => Err(ErrorKind::UnexpectedEof.into()),
            other => Ok(other),
        }
    }

    fn answer(&mut self, request: &[u8], answer: &Answer) -> io::Result<()> {
        match answer {
            Answer::Same => {
                let written = self.write(request)?;
                self.waiting.extend_from_slice(&request[written..]);
                Ok(())
            }
            Answer::Shaped { request_bytes, reply } => {
                let bytes = self.partial_bytes + request.len();
                self.owed_bytes += bytes / request_bytes * reply.len();
                self.partial_bytes = bytes % request_bytes;
                self.flush_waiting(true, answer)
            }
        }
    }

    fn flush_waiting(&mut self, writable: bool, answer: &Answer) -> io::Result<()> {
        if !writable {
            return Ok(());
        }
        if let Answer::Shaped { reply, .. } = answer {
            while self.owed_bytes > 0 {
                // The position inside a reply does not matter, since all its bytes are alike.
                let written = self.write(&reply[..reply.len().min(self.owed_bytes)])?;
                if written == 0 {
                    break;
                }
                self.owed_bytes -= written;
            }
        } else if !self.waiting.is_empty() {
            let written = unless_blocked(self.socket.write(&self.waiting))?.unwrap_or(0);
            self.waiting.drain(..written);
        }
        Ok(())
    }

    /// Watches for writability only while output is pending: a Unix socket reports it after each read of its peer.
    fn watch(&mut self, registry: &Registry, slot: usize) -> io::Result<()> {
        if self.is_blocked() != self.watches_output {
            self.watches_output = self.is_blocked();
            let both = Interest::READABLE | Interest::WRITABLE;
            let interest = if self.watches_output { both } else { Interest::READABLE };
            registry.reregister(&mut SourceFd(&self.socket.as_raw_fd()), Token(slot), interest)?;
        }
        Ok(())
    }

    /// How many bytes the peer took, 0 if it has no room.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(unless_blocked(self.socket.write(bytes))?.unwrap_or(0))
    }

    fn is_blocked(&self) -> bool {
        self.owed_bytes > 0 || !self.waiting.is_empty()
    }
}

/// `None` if the call would have blocked.
fn unless_blocked<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
