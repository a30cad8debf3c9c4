//! Read-through replay of a trace: GET, and on a miss SET, as an application in front of a database does. It gives the
//! hit ratio that a server reaches with the memory it was given.
//!
//! A trace is a file of records, each two little-endian `u32`: a key's number, and the bytes of key and value together.
//! Keys are 16 bytes; the value gets the rest, and at least 1 byte.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::load::Failure;
use crate::options::Options;
use crate::output::Output;
use crate::process::{Process, Usage};
use crate::progress::Progress;
use crate::protocol::{Operation, Outcome};
use crate::replies::Replies;
use crate::socket::Socket;
use crate::workload::{Expected, Request, Sizes, Workload};

/// A key's length in a trace, in bytes.
pub const KEY_BYTES: usize = 16;

const RECORD_BYTES: usize = 8;

/// A longer value than this, in bytes, means that the file is no trace.
const VALUE_BYTES_MAX: u32 = 1 << 30;

const READ_BYTES: usize = 256 * 1024;

/// A server that says nothing for so long is taken for dead.
const SILENCE: Duration = Duration::from_secs(60);

/// What became of the trace's requests.
#[derive(Default)]
pub struct Summary {
    /// GETs sent.
    pub requests: u64,
    /// GETs that found their key.
    pub hits: u64,
    /// Keys seen for the first time: no cache can have them.
    pub first_sights: u64,
    /// Bytes of key and value that were asked for.
    pub asked_bytes: u64,
    /// Those of the hits.
    pub hit_bytes: u64,
    /// SETs that the server would not do.
    pub refused: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What the server holds at the end.
    pub server: Option<(Process, Usage)>,
    /// Whether Ctrl-C ended it.
    pub interrupted: bool,
}

/// Replays the whole trace over one connection.
///
/// # Errors
/// When the file is no trace, the server cannot be reached or breaks off, or a reply is not what it must be.
pub fn replay(trace: &Path, options: &Options, interrupted: &AtomicBool) -> Result<Summary, Failure> {
    let bytes = fs::read(trace).map_err(|error| Failure::Io(format!("{}: {error}", trace.display())))?;
    let records: Vec<Record> = bytes.chunks_exact(RECORD_BYTES).map(Record::new).collect();
    let longest = records.iter().map(|record| record.value_bytes).max().unwrap_or(0);
    if bytes.is_empty() || bytes.len() % RECORD_BYTES != 0 || longest > VALUE_BYTES_MAX {
        return Err(Failure::Io(format!(
            "{}: expected records of {RECORD_BYTES} bytes with values of at most {VALUE_BYTES_MAX}, \
             got {} bytes, longest value {longest}",
            trace.display(),
            bytes.len()
        )));
    }
    let options = Options {
        key_size: Sizes::exactly(KEY_BYTES),
        value_size: Sizes { low: 1, high: longest as usize },
        ..options.clone()
    };
    let mut replay = Replay::new(&options)?;
    replay.run(&records, options.depths[0], interrupted)
}

/// One line of the trace.
struct Record {
    id: u32,
    value_bytes: u32,
}

impl Record {
    fn new(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Record { id: word(0), value_bytes: word(4).saturating_sub(KEY_BYTES as u32).max(1) }
    }

    fn bytes(&self) -> u64 {
        KEY_BYTES as u64 + u64::from(self.value_bytes)
    }
}

struct Replay<'a> {
    options: &'a Options,
    workload: Workload,
    poll: Poll,
    events: Events,
    socket: Socket,
    output: Output,
    replies: Replies,
    buffer: Vec<u8>,
}

/// What is known of a key that was seen.
struct Seen {
    /// The length that was set last: a GET's reply does not tell where it ends.
    value_bytes: u32,
    /// The number of the window that asked for it last.
    window: u64,
}

impl<'a> Replay<'a> {
    fn new(options: &'a Options) -> Result<Self, Failure> {
        let connected = Poll::new().and_then(|poll| {
            let mut socket = Socket::connect(options)?;
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(socket.source(), Token(0), both)?;
            Ok((poll, socket))
        });
        let (poll, socket) =
            connected.map_err(|error| Failure::Io(format!("{}: expected a server, got: {error}", options.target())))?;
        Ok(Replay {
            options,
            workload: Workload::new(options),
            poll,
            events: Events::with_capacity(8),
            socket,
            output: Output::default(),
            replies: Replies::default(),
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Sends windows of up to `depth` GETs. A window ends before a key that it has asked for already, and the SETs for
    /// its misses go ahead of the next window, so that each GET finds what was set for the ones before it.
    fn run(&mut self, records: &[Record], depth: usize, interrupted: &AtomicBool) -> Result<Summary, Failure> {
        let mut summary = Summary::default();
        let mut seen: HashMap<u32, Seen> = HashMap::new();
        let mut misses: Vec<&Record> = Vec::new();
        let mut progress = Progress::new();
        let mut rest = records;
        let start = Instant::now();
        for number in 1.. {
            for record in misses.drain(..) {
                self.send(Operation::Set, record.id, record.value_bytes);
            }
            let mut length = 0;
            while let Some(record) = rest.get(length).filter(|_| length < depth) {
                let key = seen.entry(record.id).or_insert_with(|| {
                    summary.first_sights += 1;
                    Seen { value_bytes: record.value_bytes, window: 0 }
                });
                if key.window == number {
                    break;
                }
                key.window = number;
                self.send(Operation::Get, record.id, key.value_bytes);
                length += 1;
            }
            let (window, left) = rest.split_at(length);
            self.exchange(window, &mut misses, &mut summary)?;
            for record in &misses {
                if let Some(key) = seen.get_mut(&record.id) {
                    key.value_bytes = record.value_bytes;
                }
            }
            rest = left;
            summary.interrupted = interrupted.load(Ordering::Relaxed);
            if (rest.is_empty() && misses.is_empty()) || summary.interrupted {
                break;
            }
            progress.show("replay", start.elapsed().as_nanos() as u64, summary.requests);
        }
        progress.clear();
        summary.seconds = start.elapsed().as_secs_f64();
        let process = Process::find(self.options);
        summary.server = process.and_then(|process| Some((process, process.usage()?)));
        Ok(summary)
    }

    fn send(&mut self, operation: Operation, id: u32, value_bytes: u32) {
        let value_bytes = value_bytes as usize;
        let Expected { body_bytes, reply_bytes } =
            self.workload.write_sized(operation, id, value_bytes, &mut self.output);
        self.replies.expect(Request { operation, id, body_bytes, known: 0, due_nanos: 0 }, reply_bytes);
    }

    /// Writes what is to be sent while it reads what comes, until every reply is there.
    fn exchange<'r>(
        &mut self,
        window: &'r [Record],
        misses: &mut Vec<&'r Record>,
        summary: &mut Summary,
    ) -> Result<(), Failure> {
        let target = self.options.target();
        let broken = |reason: &str| Failure::Io(format!("{target}: the connection broke: {reason}"));
        let mut window = window.iter();
        while self.replies.under_way() > 0 {
            self.output.flush(&mut self.socket, self.workload.shared()).map_err(|error| broken(&error.to_string()))?;
            let count = match self.socket.read(&mut self.buffer) {
                Ok(Some(0)) => return Err(broken("the server closed it")),
                Ok(Some(count)) => count,
                Ok(None) => {
                    let waited = self.poll.poll(&mut self.events, Some(SILENCE));
                    match waited {
                        Ok(()) if self.events.is_empty() => return Err(broken("the server says nothing")),
                        // Ctrl-C; it is looked at when the window is complete.
                        Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                            return Err(broken(&error.to_string()));
                        }
                        _ => continue,
                    }
                }
                Err(error) => return Err(broken(&error.to_string())),
            };
            self.replies.feed(&self.buffer[..count], &self.workload, self.options.verify, |request, outcome| {
                if request.operation == Operation::Set {
                    summary.refused += u64::from(outcome != Outcome::Done);
                } else if let Some(record) = window.next() {
                    summary.requests += 1;
                    summary.asked_bytes += record.bytes();
                    if outcome == Outcome::Done {
                        summary.hits += 1;
                        summary.hit_bytes += record.bytes();
                    } else {
                        misses.push(record);
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
