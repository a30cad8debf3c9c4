//! A GoStash client to start one's own from: it connects, sends one frame after another, and prints each reply. The
//! standard library is all it needs.
//!
//! `cargo run --example client` talks to a server on localhost:19201, `cargo run --example client -- HOST:PORT` to
//! another.
//!
//! Mind two things when you write your own:
//! - A reply carries no length. A GET of a value that holds CRLF looks like several replies, and a value that reads
//!   `ERR` like a failure. Here a reply ends at its first CRLF, which is right for as long as your values hold none;
//!   if they may, store their length in front of them, or speak the Redis protocol.
//! - `ERR` means that a key is missing, that a value is no number, or that there is no room. It also means that a
//!   frame was broken, and then the server closes the connection.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "localhost:19201".to_owned());
    let mut client = Client::connect(&address)?;
    println!("SET key value: {}", client.set("key", "value")?);
    println!("GET key: {}", client.get("key")?);
    println!("SET key 1: {}", client.set("key", "1")?);
    println!("INC key: {}", client.inc("key")?);
    println!("DEC key: {}", client.dec("key")?);
    println!("DEL key: {}", client.del("key")?);
    Ok(())
}

/// A connection to a server.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects to `address`, which is `HOST:PORT`.
    fn connect(address: &str) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        // A frame should leave at once, not wait for the acknowledgement of the one before.
        stream.set_nodelay(true)?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    fn get(&mut self, key: &str) -> io::Result<String> {
        self.call(&frame("GET", key))
    }

    fn set(&mut self, key: &str, value: &str) -> io::Result<String> {
        // Lengths count bytes, and so does `len`.
        let frame = format!("SET\0{}\0{key}\0{}\0{value}\r\n", key.len(), value.len());
        self.call(&frame)
    }

    fn inc(&mut self, key: &str) -> io::Result<String> {
        self.call(&frame("INC", key))
    }

    fn dec(&mut self, key: &str) -> io::Result<String> {
        self.call(&frame("DEC", key))
    }

    fn del(&mut self, key: &str) -> io::Result<String> {
        self.call(&frame("DEL", key))
    }

    /// Sends one frame and reads its reply. To pipeline, send many frames first, then read as many replies: they come
    /// in order.
    fn call(&mut self, frame: &str) -> io::Result<String> {
        self.stream.get_mut().write_all(frame.as_bytes())?;
        self.read_reply()
    }

    /// Reads up to the next CRLF, and returns what stands before it.
    fn read_reply(&mut self) -> io::Result<String> {
        let mut reply = Vec::new();
        while !reply.ends_with(b"\r\n") {
            // A value may hold a bare LF, so one alone does not end a reply.
            if self.stream.read_until(b'\n', &mut reply)? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
            }
        }
        reply.truncate(reply.len() - 2);
        String::from_utf8(reply).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// A frame of a command that takes a key and nothing else.
fn frame(command: &str, key: &str) -> String {
    format!("{command}\0{}\0{key}\r\n", key.len())
}
