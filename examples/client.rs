//! A GoStash client to start your own from. The standard library is all it needs.
//!
//! `cargo run --example client` talks to a server on localhost:19201, `cargo run --example client -- HOST:PORT` to
//! another. It sends one command after another and prints each reply:
//!
//! ```text
//! SET key value: OK
//! GET key: value
//! SET key 1: OK
//! INC key: 2
//! DEC key: 1
//! DEL key: OK
//! ```
//!
//! Mind two things in a client of your own:
//! - A reply carries no length. Here it ends at its first CRLF, which is right for as long as your values hold none, and
//!   a value that reads `ERR` looks like a failure. If your values may be such, store their length in front of them, or
//!   speak the Redis protocol.
//! - `ERR` means that a key is missing, that a value is no number, or that there is no room. It also means that a
//!   frame was broken or too long, that there are too many clients, or that there is a password, and then the server
//!   closes the connection.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "localhost:19201".to_owned());
    let stream = TcpStream::connect(address)?;
    // A frame should leave at once, not wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    let mut server = BufReader::new(stream);

    for line in ["SET key value", "GET key", "SET key 1", "INC key", "DEC key", "DEL key"] {
        let command: Vec<&str> = line.split(' ').collect();
        // To pipeline, write many frames first, then read as many replies: they come in order.
        server.get_mut().write_all(&frame(&command))?;
        let reply = read_reply(&mut server)?;
        println!("{line}: {}", String::from_utf8_lossy(&reply));
    }
    Ok(())
}

/// A command as it goes over the wire: its name, then its key, and for SET its value, each with a NUL, its length in
/// bytes and another NUL in front, and CRLF at the end.
fn frame(command: &[&str]) -> Vec<u8> {
    let mut frame = command[0].to_owned();
    for argument in &command[1..] {
        frame += &format!("\0{}\0{argument}", argument.len());
    }
    (frame + "\r\n").into_bytes()
}

/// The next reply, without the CRLF at its end.
fn read_reply(server: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut reply = Vec::new();
    // A value may hold a bare LF, so one alone does not end a reply.
    while !reply.ends_with(b"\r\n") {
        if server.read_until(b'\n', &mut reply)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
    }
    reply.truncate(reply.len() - 2);
    Ok(reply)
}
