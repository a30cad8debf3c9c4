//! A server that speaks enough of the GoStash frames to be measured, with a fault that a test chooses; and a correct
//! server that speaks enough of memcached's protocol.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What the server does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Waits so long before each reply.
    Delay(Duration),
    /// Answers nobody for `length`, once, when it has received so many requests.
    Stall { after: usize, length: Duration },
    /// Changes the last byte of each value.
    LastByte,
    /// Changes the byte in the middle of each value.
    MiddleByte,
    /// Has no key.
    Forgets,
    /// Omits the last byte of each value.
    Short,
    /// Answers each GET twice.
    Twice,
    /// Adds two for each INC.
    AddsTwo,
    /// Writes a plus before the number that answers an INC.
    Plus,
    /// Never ends the line that answers a SET.
    Endless,
    /// Closes a connection after some replies.
    Hangs,
}

/// Starts the server; its threads end with the test's process.
pub(crate) fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    let store = Arc::new(Mutex::new(HashMap::new()));
    let received = Arc::default();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let client = Client { fault, store: Arc::clone(&store), received: Arc::clone(&received) };
            thread::spawn(move || client.serve(stream.expect("a client")));
        }
    });
    address
}

struct Client {
    fault: Fault,
    store: Arc<Mutex<HashMap<Vec<u8>, Vec<u8>>>>,
    /// How many requests all clients have sent.
    received: Arc<Mutex<usize>>,
}

impl Client {
    fn serve(&self, mut stream: TcpStream) {
        let mut input = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        let mut replies = 0;
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            input.extend_from_slice(&buffer[..count]);
            let (mut output, before) = (Vec::new(), replies);
            while let Some(frame) = Frame::first(&input) {
                input.drain(..frame.length);
                self.answer(frame, &mut output);
                replies += 1;
            }
            if self.fault == Fault::Hangs && replies > 10 {
                return;
            }
            self.wait(replies - before);
            if stream.write_all(&output).is_err() {
                return;
            }
        }
    }

    fn wait(&self, requests: usize) {
        match self.fault {
            Fault::Delay(length) => thread::sleep(length),
            Fault::Stall { after, length } => {
                // While one client sleeps with this lock, all others wait for it.
                let mut received = self.received.lock().expect("no client panics");
                let before = *received;
                *received += requests;
                if (before..*received).contains(&after) {
                    thread::sleep(length);
                }
            }
            _ => {}
        }
    }

    fn answer(&self, frame: Frame, output: &mut Vec<u8>) {
        let Frame { name, key, value, .. } = frame;
        let mut store = self.store.lock().expect("no client panics");
        let mut reply = match &name[..] {
            b"GET" if self.fault == Fault::Forgets => b"ERR".to_vec(),
            b"GET" => store.get(&key).cloned().unwrap_or(b"ERR".to_vec()),
            b"INC" => {
                let stored = store.entry(key).or_default();
                let number: i64 = std::str::from_utf8(stored).expect("digits").parse().expect("a number");
                let step = if self.fault == Fault::AddsTwo { 2 } else { 1 };
                *stored = (number + step).to_string().into_bytes();
                let plus = if self.fault == Fault::Plus { "+" } else { "" };
                [plus.as_bytes(), stored].concat()
            }
            b"SET" if self.fault == Fault::Endless => return output.extend_from_slice(&[b'x'; 1000]),
            b"SET" => {
                store.insert(key, value);
                b"OK".to_vec()
            }
            other => panic!("unexpected {}", other.escape_ascii()),
        };
        let length = reply.len();
        if name == b"GET" {
            match self.fault {
                Fault::LastByte => reply[length - 1] ^= 1,
                Fault::MiddleByte => reply[length / 2] ^= 1,
                Fault::Short => reply.truncate(length - 1),
                Fault::Twice => output.extend_from_slice(&[&reply[..], b"\r\n"].concat()),
                _ => {}
            }
        }
        output.extend_from_slice(&reply);
        output.extend_from_slice(b"\r\n");
    }
}

/// A complete frame.
struct Frame {
    name: Vec<u8>,
    key: Vec<u8>,
    value: Vec<u8>,
    length: usize,
}

impl Frame {
    /// The first frame in `input`, if it is complete.
    fn first(input: &[u8]) -> Option<Frame> {
        let name = input.get(..3)?;
        let (key, mut end) = counted(input, 4)?;
        let mut value = Vec::new();
        if name == b"SET" {
            (value, end) = counted(input, end + 1)?;
        }
        let length = end + 2;
        (input.len() >= length).then(|| Frame { name: name.to_vec(), key, value, length })
    }
}

/// The bytes after a length and a NUL, and where they end.
fn counted(input: &[u8], at: usize) -> Option<(Vec<u8>, usize)> {
    let rest = input.get(at..)?;
    let digits = rest.iter().position(|&byte| byte == 0)?;
    let length: usize = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    let bytes = rest.get(digits + 1..digits + 1 + length)?;
    Some((bytes.to_vec(), at + digits + 1 + length))
}

/// Starts the memcached server; its threads end with the test's process.
pub(crate) fn memcached() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    let store = Arc::new(Mutex::new(HashMap::new()));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let store = Arc::clone(&store);
            thread::spawn(move || serve_memcached(stream.expect("a client"), &store));
        }
    });
    address
}

fn serve_memcached(mut stream: TcpStream, store: &Mutex<HashMap<String, Vec<u8>>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
    let mut line = String::new();
    let mut output = Vec::new();
    while let Ok(1..) = reader.read_line(&mut line) {
        let words: Vec<&str> = line.strip_suffix("\r\n").expect("a line's end").split(' ').collect();
        let mut store = store.lock().expect("no client panics");
        match words[..] {
            ["get", key] => {
                if let Some(value) = store.get(key) {
                    output.extend_from_slice(format!("VALUE {key} 0 {}\r\n", value.len()).as_bytes());
                    output.extend_from_slice(&[value, &b"\r\n"[..]].concat());
                }
                output.extend_from_slice(b"END\r\n");
            }
            ["set", key, "0", "0", length] => {
                let mut value = vec![0; length.parse::<usize>().expect("a length") + 2];
                reader.read_exact(&mut value).expect("a value");
                assert_eq!(value.split_off(value.len() - 2), b"\r\n");
                store.insert(key.to_owned(), value);
                output.extend_from_slice(b"STORED\r\n");
            }
            ["incr", key, "1"] => match store.get_mut(key) {
                Some(value) => {
                    let number: u64 = std::str::from_utf8(value).expect("digits").parse().expect("a number");
                    *value = (number + 1).to_string().into_bytes();
                    output.extend_from_slice(&[value, &b"\r\n"[..]].concat());
                }
                None => output.extend_from_slice(b"NOT_FOUND\r\n"),
            },
            ["delete", key] => {
                let there = store.remove(key).is_some();
                output.extend_from_slice(if there { b"DELETED\r\n" } else { b"NOT_FOUND\r\n" });
            }
            _ => panic!("unexpected {line:?}"),
        }
        line.clear();
        if reader.buffer().is_empty() {
            if stream.write_all(&output).is_err() {
                return;
            }
            output.clear();
        }
    }
}
