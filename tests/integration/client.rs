//! One connection to a server under test: exact bytes out, exact bytes in, and how it ends. It knows how the five
//! frames and Redis's commands are written; what they mean is the tests' business.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use socket2::Socket;

use crate::server::{PATIENCE, Server};

/// A frame that asks for `key`.
pub(crate) fn get(key: &[u8]) -> Vec<u8> {
    frame(b"GET", &[key])
}

/// A frame that stores `value` under `key`.
pub(crate) fn set(key: &[u8], value: &[u8]) -> Vec<u8> {
    frame(b"SET", &[key, value])
}

/// A frame that adds one to `key`.
pub(crate) fn inc(key: &[u8]) -> Vec<u8> {
    frame(b"INC", &[key])
}

/// A frame that takes one from `key`.
pub(crate) fn dec(key: &[u8]) -> Vec<u8> {
    frame(b"DEC", &[key])
}

/// A frame that removes `key`.
pub(crate) fn del(key: &[u8]) -> Vec<u8> {
    frame(b"DEL", &[key])
}

fn frame(command: &[u8], arguments: &[&[u8]]) -> Vec<u8> {
    let mut frame = command.to_vec();
    for argument in arguments {
        frame.extend_from_slice(format!("\0{}\0", argument.len()).as_bytes());
        frame.extend_from_slice(argument);
    }
    frame.extend_from_slice(b"\r\n");
    frame
}

/// Frames in words, one a line.
pub(crate) fn frames(lines: &str) -> Vec<u8> {
    let words = lines.lines().map(|line| line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
    words.flat_map(|words| frame(words[0], &words[1..])).collect()
}

/// A value's reply.
pub(crate) fn line(value: &[u8]) -> Vec<u8> {
    [value, b"\r\n"].concat()
}

/// A Redis command, in words of any bytes.
pub(crate) fn ask<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let head = format!("*{}\r\n", words.len()).into_bytes();
    head.into_iter().chain(words.iter().flat_map(|word| bulk(word.as_ref()))).collect()
}

/// A Redis reply that is a value, which is how a word of a command is written, too.
pub(crate) fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Redis commands, one a line.
pub(crate) fn words(lines: &str) -> Vec<u8> {
    lines.lines().flat_map(|line| ask(&line.split(' ').collect::<Vec<_>>())).collect()
}

/// The replies to MULTI and so many commands behind it.
pub(crate) fn queued(count: usize) -> Vec<u8> {
    [b"+OK\r\n", &b"+QUEUED\r\n".repeat(count)[..]].concat()
}

/// The number behind `field` in a text of Redis's.
#[track_caller]
pub(crate) fn number(text: &str, field: &str) -> usize {
    let number = text.split_ascii_whitespace().find_map(|word| word.strip_prefix(field)?.parse().ok());
    number.unwrap_or_else(|| panic!("no {field} and number in {text}"))
}

/// A connection whose every wait is bounded, and which panics with what it expected.
pub(crate) struct Client {
    socket: Socket,
}

/// A new server on a free port, with these arguments, and its first client.
pub(crate) fn start(args: &[&str]) -> (Server, Client) {
    let server = Server::start(args);
    let client = Client::tcp(&server);
    (server, client)
}

impl Client {
    /// Connects to the server's first TCP address. What is sent leaves at once, piece by piece.
    pub(crate) fn tcp(server: &Server) -> Client {
        let stream = server.connect();
        stream.set_nodelay(true).expect("no delay");
        Client { socket: stream.into() }
    }

    /// As many connections of that kind.
    pub(crate) fn many(server: &Server, count: usize) -> Vec<Client> {
        (0..count).map(|_| Client::tcp(server)).collect()
    }

    /// Connects to a server's Unix socket.
    pub(crate) fn unix(path: &Path) -> Client {
        let stream = UnixStream::connect(path).expect("the server accepts on its Unix socket");
        let patience = Some(PATIENCE);
        stream.set_read_timeout(patience).expect("a read timeout");
        stream.set_write_timeout(patience).expect("a write timeout");
        Client { socket: stream.into() }
    }

    /// A second handle on the same connection, to read from one thread and write from another.
    pub(crate) fn again(&self) -> Client {
        Client { socket: self.socket.try_clone().expect("a second handle") }
    }

    /// Sends all of `bytes`.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.try_send(bytes) {
            panic!("cannot send {}: {error}", shown(bytes));
        }
    }

    /// Sends `bytes` to a server that may have hung up.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// The next bytes must be exactly `expected`.
    #[track_caller]
    pub(crate) fn expect(&mut self, expected: &[u8]) {
        let mut got = vec![0; expected.len()];
        let mut filled = 0;
        while filled < got.len() {
            match self.read(&mut got[filled..]) {
                Ok(0) => panic!("expected {}, got {} and then the end", shown(expected), shown(&got[..filled])),
                Ok(count) => filled += count,
                Err(error) => panic!("expected {}, got {} and then: {error}", shown(expected), shown(&got[..filled])),
            }
        }
        if got != expected {
            let at = got.iter().zip(expected).take_while(|(a, b)| a == b).count();
            panic!(
                "expected {}, got {}; they part at byte {at}",
                shown(&expected[at.saturating_sub(20)..]),
                shown(&got[at.saturating_sub(20)..])
            );
        }
    }

    /// The server must close now, in order and with nothing more to say.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let mut more = [0; 64];
        match self.read(&mut more) {
            Ok(0) => (),
            Ok(count) => panic!("expected the end, got {}", shown(&more[..count])),
            Err(error) => panic!("expected an orderly end, got: {error}"),
        }
    }

    /// One frame and its reply.
    #[track_caller]
    pub(crate) fn check(&mut self, send: &[u8], expect: &[u8]) {
        self.send(send);
        self.expect(expect);
    }

    /// Redis commands in words, one a line, and their replies, in which LF stands for CRLF.
    #[track_caller]
    pub(crate) fn check_words(&mut self, commands: &str, replies: &str) {
        self.check(&words(commands), replies.replace('\n', "\r\n").as_bytes());
    }

    /// Any number of frames and their replies, which are read while frames are still being sent: together they may not
    /// fit into the buffers in between. If `ends`, nothing more will be sent.
    #[track_caller]
    pub(crate) fn check_beside(&mut self, send: &[u8], ends: bool, expect: &[u8]) {
        let mut sender = self.again();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                sender.send(send);
                if ends {
                    sender.half_close();
                }
            });
            self.expect(expect);
        });
    }

    /// Stores a value under each of these numbers.
    #[track_caller]
    pub(crate) fn fill(&mut self, keys: Range<u32>, value: &[u8]) {
        let sets: Vec<u8> = keys.clone().flat_map(|key| set(&key.to_le_bytes(), value)).collect();
        self.check_beside(&sets, false, &b"OK\r\n".repeat(keys.len()));
    }

    /// Whatever comes next, at most `buffer` of it; 0 is the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.socket.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                read => return read,
            }
        }
    }

    /// What comes next, to the end of a line or of the connection, however that ends.
    pub(crate) fn read_line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\n") && matches!(self.read(&mut byte), Ok(1)) {
            line.push(byte[0]);
        }
        line
    }

    /// The text of a Redis reply: what is on its line, or the value that the line announces.
    #[track_caller]
    pub(crate) fn read_text(&mut self) -> String {
        let mut text = self.read_line();
        assert!(text.ends_with(b"\r\n"), "{}", shown(&text));
        if let Some(length) = text.strip_prefix(b"$") {
            let length: usize = String::from_utf8_lossy(length).trim().parse().expect("a length");
            text = vec![0; length + 2];
            let mut read = 0;
            while read < text.len() {
                read += self.read(&mut text[read..]).ok().filter(|count| *count > 0).expect("what was announced");
            }
        }
        text.truncate(text.len() - 2);
        String::from_utf8(text).expect("text")
    }

    /// The text that answers a Redis command.
    #[track_caller]
    pub(crate) fn text(&mut self, command: &str) -> String {
        self.send(&words(command));
        self.read_text()
    }

    /// The number behind a field of INFO.
    #[track_caller]
    pub(crate) fn info(&mut self, field: &str) -> usize {
        number(&self.text("INFO"), field)
    }

    /// Its own address, as CLIENT LIST tells it.
    pub(crate) fn address(&self) -> String {
        let address = self.socket.local_addr().expect("bound").as_socket().expect("a TCP address");
        format!(" addr={address} ")
    }

    /// Says that nothing more will be sent; replies still come.
    pub(crate) fn half_close(&mut self) {
        self.socket.shutdown(Shutdown::Write).expect("the sending side closes");
    }

    /// Ends the connection with a reset, as a crashed client's machine does.
    pub(crate) fn reset(self) {
        self.socket.set_linger(Some(Duration::ZERO)).expect("linger can be set");
    }
}

/// Bytes for a person: escaped, and cut where they get long.
fn shown(bytes: &[u8]) -> String {
    const SHOWN_BYTES: usize = 120;
    if bytes.len() <= SHOWN_BYTES {
        return format!("\"{}\"", bytes.escape_ascii());
    }
    let head = bytes[..SHOWN_BYTES].escape_ascii();
    format!("\"{head}\"... ({} bytes)", bytes.len())
}
