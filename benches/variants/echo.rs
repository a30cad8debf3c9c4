//! The bare echo: what the operating system charges for an exchange, and nothing else. Every figure of the server is
//! set beside it. One thread, one poll loop, one read and one write per ready socket. It refuses to know what the
//! bytes mean; told to, it answers so many bytes with so many others, since a server's replies differ in length from
//! its requests.
//!
//! It takes no liberty that a server could not take: non-blocking sockets, edge-triggered readiness, output that the
//! peer does not take is kept and input waits for it. What it leaves out is every limit and every error message.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;

/// What one read takes at most.
const READ_BYTES: usize = 64 * 1024;

/// What gathering holds at most before it writes: one read for each of the events of a poll.
const GATHER_BYTES: usize = 4 * 1024 * 1024;

const EVENTS_PER_POLL: usize = 1024;

const TCP: Token = Token(usize::MAX);
const UNIX: Token = Token(usize::MAX - 1);

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
    let options = match Options::from_command_line() {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("gostash-echo: {problem}");
            return ExitCode::from(2);
        }
    };
    match Echo::new(&options).and_then(Echo::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gostash-echo: {error}");
            ExitCode::FAILURE
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
    /// `None` asks for the usage text.
    fn from_command_line() -> Result<Option<Self>, lexopt::Error> {
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
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(argument.unexpected()),
            }
        }
        if options.request_bytes.is_some() != options.reply_bytes.is_some() || options.request_bytes == Some(0) {
            return Err("expected --request-bytes, at least 1, together with --reply-bytes".into());
        }
        Ok(Some(options))
    }
}

/// What a connection answers with.
enum Answer {
    /// The bytes that came.
    Same,
    /// Every `request_bytes` bytes with the whole of `reply`.
    Shaped { request_bytes: usize, reply: Vec<u8> },
}

struct Echo {
    poll: Poll,
    tcp: TcpListener,
    unix: Option<UnixListener>,
    connections: Slab<Connection>,
    answer: Answer,
    gather: bool,
}

impl Echo {
    fn new(options: &Options) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut tcp = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], options.port)))?;
        poll.registry().register(&mut tcp, TCP, Interest::READABLE)?;
        let mut addresses = tcp.local_addr()?.to_string();
        let mut unix = None;
        if let Some(path) = &options.unix_socket {
            let _ = std::fs::remove_file(path);
            let mut listener = UnixListener::bind(path)?;
            poll.registry().register(&mut listener, UNIX, Interest::READABLE)?;
            addresses = format!("{addresses} unix:{}", path.display());
            unix = Some(listener);
        }
        let answer = match (options.request_bytes, options.reply_bytes) {
            (Some(request_bytes), Some(reply_bytes)) => {
                Answer::Shaped { request_bytes, reply: vec![b'x'; reply_bytes] }
            }
            _ => Answer::Same,
        };
        let _ = writeln!(io::stdout(), "listening on {addresses}");
        Ok(Echo { poll, tcp, unix, connections: Slab::new(), answer, gather: options.gather })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        let mut input = vec![0; if self.gather { GATHER_BYTES } else { READ_BYTES }];
        let mut ready = Vec::with_capacity(EVENTS_PER_POLL);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            ready.clear();
            for event in &events {
                match event.token() {
                    TCP => self.accept_tcp()?,
                    UNIX => self.accept_unix()?,
                    token => ready.push((token.0, event.is_writable())),
                }
            }
            if self.gather {
                self.turn_gathered(&mut ready, &mut input);
            } else {
                self.turn(&ready, &mut input);
            }
        }
    }

    /// One socket at a time.
    fn turn(&mut self, ready: &[(usize, bool)], input: &mut [u8]) {
        for &(slot, writable) in ready {
            let Some(connection) = self.connections.get_mut(slot) else {
                continue;
            };
            let served = connection.flush_waiting(writable, &self.answer).and_then(|()| {
                while let Some(count) = connection.read(input)? {
                    connection.answer(&input[..count], &self.answer)?;
                    if count < input.len() {
                        break;
                    }
                }
                Ok(())
            });
            self.settle(slot, served);
        }
    }

    /// All that is ready is read before anything is written. A socket that filled its share of the buffer goes
    /// round again, behind the others.
    fn turn_gathered(&mut self, ready: &mut Vec<(usize, bool)>, input: &mut [u8]) {
        let mut queue: VecDeque<_> = ready.drain(..).collect();
        let mut read = Vec::with_capacity(queue.len());
        while !queue.is_empty() {
            let mut used = 0;
            while used + READ_BYTES <= input.len() {
                let Some((slot, writable)) = queue.pop_front() else {
                    break;
                };
                let Some(connection) = self.connections.get_mut(slot) else {
                    continue;
                };
                let room = &mut input[used..used + READ_BYTES];
                match connection.flush_waiting(writable, &self.answer).and_then(|()| connection.read(room)) {
                    Ok(Some(count)) => {
                        read.push((slot, used, count));
                        used += count;
                    }
                    Ok(None) => {}
                    Err(error) => self.settle(slot, Err(error)),
                }
            }
            for (slot, start, count) in read.drain(..) {
                let connection = &mut self.connections[slot];
                let served = connection.answer(&input[start..start + count], &self.answer);
                if served.is_ok() && count == READ_BYTES {
                    queue.push_back((slot, false));
                }
                self.settle(slot, served);
            }
        }
    }

    /// Keeps the interest in step with what waits, or drops the connection.
    fn settle(&mut self, slot: usize, served: io::Result<()>) {
        let connection = &mut self.connections[slot];
        if served.and_then(|()| connection.watch(self.poll.registry(), slot)).is_err() {
            self.connections.remove(slot);
        }
    }

    fn accept_tcp(&mut self) -> io::Result<()> {
        while let Some((socket, _)) = unless_blocked(self.tcp.accept())? {
            socket.set_nodelay(true)?;
            self.admit(Socket::Tcp(socket))?;
        }
        Ok(())
    }

    fn accept_unix(&mut self) -> io::Result<()> {
        while let Some(listener) = &self.unix
            && let Some((socket, _)) = unless_blocked(listener.accept())?
        {
            self.admit(Socket::Unix(socket))?;
        }
        Ok(())
    }

    fn admit(&mut self, mut socket: Socket) -> io::Result<()> {
        let entry = self.connections.vacant_entry();
        self.poll.registry().register(socket.source(), Token(entry.key()), Interest::READABLE)?;
        entry.insert(Connection { socket, waiting: Vec::new(), owed_bytes: 0, spare_bytes: 0, watches_output: false });
        Ok(())
    }
}

struct Connection {
    socket: Socket,
    /// Echoed bytes that the peer has not taken yet.
    waiting: Vec<u8>,
    /// The same for shaped answers, which need no bytes of their own.
    owed_bytes: usize,
    /// Bytes of a shaped request that is not complete.
    spare_bytes: usize,
    watches_output: bool,
}

impl Connection {
    /// `None` when there is nothing to read, or nobody would take the answer.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if self.is_blocked() {
            return Ok(None);
        }
        match self.socket.read(buffer)? {
            Some(0) => Err(ErrorKind::UnexpectedEof.into()),
            other => Ok(other),
        }
    }

    fn answer(&mut self, request: &[u8], answer: &Answer) -> io::Result<()> {
        match answer {
            Answer::Same => {
                let written = self.socket.write(request)?;
                self.waiting.extend_from_slice(&request[written..]);
                Ok(())
            }
            Answer::Shaped { request_bytes, reply } => {
                let bytes = self.spare_bytes + request.len();
                self.owed_bytes += bytes / request_bytes * reply.len();
                self.spare_bytes = bytes % request_bytes;
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
                // Where in a reply we stand does not matter: all its bytes are alike.
                let written = self.socket.write(&reply[..reply.len().min(self.owed_bytes)])?;
                if written == 0 {
                    break;
                }
                self.owed_bytes -= written;
            }
        } else if !self.waiting.is_empty() {
            let written = self.socket.write(&self.waiting)?;
            self.waiting.drain(..written);
        }
        Ok(())
    }

    /// Asks for writability while output waits, and only then: a Unix socket reports it after each read of its peer.
    fn watch(&mut self, registry: &Registry, slot: usize) -> io::Result<()> {
        if self.is_blocked() != self.watches_output {
            self.watches_output = self.is_blocked();
            let both = Interest::READABLE | Interest::WRITABLE;
            let interest = if self.watches_output { both } else { Interest::READABLE };
            registry.reregister(self.socket.source(), Token(slot), interest)?;
        }
        Ok(())
    }

    fn is_blocked(&self) -> bool {
        self.owed_bytes > 0 || !self.waiting.is_empty()
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Socket::Tcp(stream) => stream,
            Socket::Unix(stream) => stream,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        unless_blocked(match self {
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Unix(stream) => stream.read(buffer),
        })
    }

    /// How many bytes the peer took, 0 if it has no room.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = unless_blocked(match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
        })?;
        Ok(written.unwrap_or(0))
    }
}

/// `None` where the call would have waited.
fn unless_blocked<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
