//! One client: its socket, its output, and the pairing of replies, however they are fragmented, with their requests. It
//! knows no clock.

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use gostash::output::Output;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::Socket;

use crate::options::Options;
use crate::phase::Phase;
use crate::protocol::{Operation, Outcome};
use crate::workload::{Request, Workload, quote};

pub struct Connection {
    pub socket: Socket,
    /// Whether the poll reports that the socket is writable.
    watches_writable: bool,
    /// Requests that are not sent yet.
    output: Output,
    /// Requests without a reply, oldest first.
    pub waiting: VecDeque<Request>,
    /// What follows from earlier requests, and comes before any other: the DEL of a key that was set for it, and in a
    /// replay the SET of a key that was missing.
    pub follow_ups: VecDeque<(Operation, u32)>,
    /// The incomplete head of a reply.
    partial_head: Vec<u8>,
    /// How many bytes of the current reply's body have not been read yet.
    body_left: usize,
}

impl Connection {
    /// Connects, which blocks; from then on the socket is non-blocking.
    pub fn new(options: &Options, registry: &Registry, token: Token) -> io::Result<Self> {
        let socket: Socket = match &options.unix_socket {
            Some(path) => OwnedFd::from(UnixStream::connect(path)?).into(),
            None => TcpStream::connect((options.host.as_str(), options.port))?.into(),
        };
        // A Unix socket refuses this, and has no need of it.
        let _ = socket.set_tcp_nodelay(true);
        socket.set_nonblocking(true)?;
        registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Connection {
            socket,
            watches_writable: false,
            output: Output::default(),
            waiting: VecDeque::new(),
            follow_ups: VecDeque::new(),
            partial_head: Vec::new(),
            body_left: 0,
        })
    }

    pub fn push(&mut self, request: Request, workload: &mut Workload) {
        workload.write(&request, &mut self.output);
        self.waiting.push_back(request);
    }

    /// Writes what the socket takes. The poll reports a writable socket only while output is left: a Unix socket would
    /// report it after each read of its peer.
    pub fn flush(&mut self, registry: &Registry, token: Token, phase: &mut Phase) {
        // An error means that it is full; or the connection broke, which is told where what the server said last is read.
        while !self.output.is_empty()
            && let (_, Ok(taken)) = self.output.write_to(&mut &self.socket, usize::MAX)
        {
            phase.sent_bytes += taken as u64;
        }
        let is_full = !self.output.is_empty();
        if self.watches_writable != is_full {
            self.watches_writable = is_full;
            let interest = if is_full { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            registry.reregister(&mut SourceFd(&self.socket.as_raw_fd()), token, interest).expect("a registered socket");
        }
    }

    /// Parses what was read, and notes each reply that is complete. Fails for the first invalid one; with `--verify`
    /// also for the first wrong byte or number.
    pub fn feed(&mut self, data: &[u8], workload: &mut Workload, phase: &mut Phase, now: u64) -> Result<(), String> {
        let joined = (!self.partial_head.is_empty()).then(|| [&std::mem::take(&mut self.partial_head), data].concat());
        let mut data = joined.as_deref().unwrap_or(data);
        let mut at_a_glance = !workload.options.verify;
        while let Some(&request) = self.waiting.front()
            && !data.is_empty()
        {
            let mut outcome = Outcome::Done;
            if self.body_left == 0 {
                let Some(head) = workload.parse_head(&request, data, phase.is_preload)? else {
                    self.partial_head = data.to_vec();
                    return Ok(());
                };
                outcome = head.outcome;
                self.body_left = head.body_bytes;
                data = &data[head.bytes..];
            }
            let (piece, rest) = data.split_at(self.body_left.min(data.len()));
            workload.check(&request, self.body_left, piece)?;
            (self.body_left, data) = (self.body_left - piece.len(), rest);
            if self.body_left > 0 {
                return Ok(());
            }
            self.waiting.pop_front();
            if phase.note(&request, outcome, now) {
                self.follow_ups.push_back((Operation::Set, request.id));
            }
            // If the first reply is right, and what follows has exactly the length of the other expected replies, these
            // are taken to be right, too: at depth 64 parsing each would cost as much as all the rest of a request.
            if std::mem::take(&mut at_a_glance)
                && outcome == Outcome::Done
                && self.waiting.iter().map(|it| workload.reply_bytes(it)).sum::<Option<usize>>() == Some(data.len())
            {
                self.waiting.iter().for_each(|request| _ = phase.note(request, outcome, now));
                self.waiting.clear();
                return Ok(());
            }
        }
        match data {
            [] => Ok(()),
            _ => Err(format!("expected nothing, since every request has its reply, got {}", quote(data))),
        }
    }
}
