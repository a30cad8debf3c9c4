//! One client: its socket, requests on their way out, and replies, however they are cut, each paired with its request.
//! It knows no clock.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::Socket;

use crate::options::Options;
use crate::phase::Phase;
use crate::protocol::Outcome;
use crate::workload::{Request, Workload, quote};

/// Pieces given to the kernel at once.
const PIECES_PER_WRITE: usize = 64;

/// One client.
pub struct Connection {
    pub socket: Socket,
    pub output: Output,
    /// Whether there are to be events of room to write.
    watches_room: bool,
    /// Requests without a reply, oldest first.
    pub waiting: VecDeque<Request>,
    /// A reply's beginning, if that does not tell yet what it is.
    start: Vec<u8>,
    /// How much is to come yet of a right reply whose head has come, in bytes.
    left: usize,
    /// Room in which to write what is expected.
    scratch: Vec<u8>,
}

/// Requests on their way out: small ones as bytes of their own, the body of a large one borrowed from where it lies,
/// so that sending it copies nothing but what the kernel copies.
#[derive(Default)]
pub struct Output {
    /// What was written here, in order.
    pub bytes: Vec<u8>,
    /// Stretches of the shared bytes, each with the place in `bytes` that it comes before.
    pub borrowed: Vec<(usize, Range<usize>)>,
    /// How much of it all is sent.
    sent: usize,
}

impl Connection {
    /// Connects, waiting until that is done; from then on the socket never waits.
    pub fn new(options: &Options, registry: &Registry, token: Token) -> io::Result<Self> {
        let socket = match &options.unix_socket {
            Some(path) => Socket::from(OwnedFd::from(UnixStream::connect(path)?)),
            None => {
                let stream = TcpStream::connect((options.host.as_str(), options.port))?;
                stream.set_nodelay(true)?;
                stream.into()
            }
        };
        socket.set_nonblocking(true)?;
        registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Connection {
            socket,
            output: Output::default(),
            watches_room: false,
            waiting: VecDeque::new(),
            start: Vec::new(),
            left: 0,
            scratch: Vec::new(),
        })
    }

    /// Writes what the socket takes, and returns how many bytes that was. Events of room are asked for only while some is
    /// left: a Unix socket reports room after each read of its peer.
    pub fn flush(&mut self, shared: &[u8], registry: &Registry, token: Token) -> io::Result<usize> {
        let (bytes, is_all) = self.output.flush(&mut self.socket, shared)?;
        if self.watches_room == is_all {
            self.watches_room = !is_all;
            let interest = if is_all { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            registry.reregister(&mut SourceFd(&self.socket.as_raw_fd()), token, interest)?;
        }
        Ok(bytes)
    }

    /// Takes what was read, and notes each request that it completes.
    ///
    /// # Errors
    /// The first reply that is none; with `--verify` also the first wrong byte, or what cannot be.
    pub fn feed(&mut self, data: &[u8], workload: &Workload, phase: &mut Phase, now: u64) -> Result<(), String> {
        let joined = (!self.start.is_empty()).then(|| [&std::mem::take(&mut self.start), data].concat());
        let mut data = joined.as_deref().unwrap_or(data);
        // Replies that have exactly the length of all the right ones are taken for them if the first one is: at depth
        // 64 looking at each would cost as much as all the rest of a request.
        let rest = |bytes: usize, request| bytes.checked_sub(workload.reply_bytes(request)?);
        let mut at_a_glance = !workload.options.verify
            && self.left == 0
            && self.waiting.len() > 1
            && self.waiting.iter().try_fold(data.len(), rest) == Some(0);
        while let Some(&request) = self.waiting.front()
            && !data.is_empty()
        {
            let wrong = |problem: String| workload.wrong(&request, &problem);
            let Some(outcome) = self.take(&request, &mut data, workload).map_err(wrong)? else { break };
            at_a_glance &= matches!(outcome, Outcome::Done | Outcome::Number(_));
            self.waiting.pop_front();
            phase.note(&request, outcome, now).map_err(wrong)?;
            if at_a_glance {
                self.waiting.iter().try_for_each(|request| phase.note(request, Outcome::Done, now))?;
                self.waiting.clear();
                return Ok(());
            }
        }
        match data {
            [] => Ok(()),
            _ => Err(format!("expected nothing, since every request has its reply, got {}", quote(data))),
        }
    }

    /// Takes one reply, or what has come of it, from what was read. What it says, if it is whole.
    fn take(&mut self, request: &Request, data: &mut &[u8], workload: &Workload) -> Result<Option<Outcome>, String> {
        let mut outcome = Outcome::Done;
        if self.left == 0 {
            let Some((said, bytes, body_bytes)) = workload.start(request, data, &mut self.scratch)? else {
                self.start = std::mem::take(data).to_vec();
                return Ok(None);
            };
            (outcome, self.left, *data) = (said, body_bytes, &data[bytes..]);
        }
        let (piece, rest) = data.split_at(self.left.min(data.len()));
        workload.check(request, self.left, piece)?;
        (self.left, *data) = (self.left - piece.len(), rest);
        Ok((self.left == 0).then_some(outcome))
    }
}

impl Output {
    /// Writes what the socket takes, and says how many bytes that was and whether it was all.
    fn flush(&mut self, socket: &mut impl Write, shared: &[u8]) -> io::Result<(usize, bool)> {
        let before = self.sent;
        let total = self.bytes.len() + self.borrowed.iter().map(|(_, stretch)| stretch.len()).sum::<usize>();
        while self.sent < total {
            let taken = match self.borrowed[..] {
                [] => socket.write(&self.bytes[self.sent..]),
                _ => self.write_pieces(socket, shared),
            };
            match taken {
                Ok(taken) => self.sent += taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok((self.sent - before, false)),
                Err(error) => return Err(error),
            }
        }
        self.bytes.clear();
        self.borrowed.clear();
        self.sent = 0;
        Ok((total - before, true))
    }

    fn write_pieces(&self, socket: &mut impl Write, shared: &[u8]) -> io::Result<usize> {
        let (mut pieces, mut at) = (Vec::new(), 0);
        for (place, stretch) in &self.borrowed {
            pieces.push(IoSlice::new(&self.bytes[at..*place]));
            pieces.push(IoSlice::new(&shared[stretch.clone()]));
            at = *place;
        }
        pieces.push(IoSlice::new(&self.bytes[at..]));
        let mut left = &mut pieces[..];
        IoSlice::advance_slices(&mut left, self.sent);
        socket.write_vectored(&left[..left.len().min(PIECES_PER_WRITE)])
    }
}
