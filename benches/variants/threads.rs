//! The design of the original GoStash, as well as it can be done: a thread for each connection, blocking reads and
//! writes, and sixteen shards behind locks. It serves GoStash frames only, and leaves out the server's limits on
//! clients and time; parsing, execution and the store are the server's own code.
//!
//! A pipeline is read at once, executed in batches, and answered with one write.

mod arguments;
mod client;
mod shards;

use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use gostash::limits::{DRAIN_MILLIS, READ_LARGE_BYTES};

use arguments::Arguments;
use client::{Client, Scratch};
use shards::Shards;

fn main() -> ExitCode {
    arguments::run("gostash-threads", "a thread for each connection, over locked shards", &[], serve)
}

fn serve(arguments: &Arguments) -> io::Result<()> {
    let shards = Arc::new(Shards::new(arguments.max_memory));
    let listener = TcpListener::bind(("127.0.0.1", arguments.port))?;
    arguments::announce(listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept()?;
        let shards = Arc::clone(&shards);
        // A client that disconnects ends its thread and nothing else.
        thread::Builder::new().spawn(move || answer(socket, &shards))?;
    }
}

/// Serves one client to its end.
fn answer(mut socket: TcpStream, shards: &Shards) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let (mut client, mut scratch) = (Client::default(), Scratch::default());
    let mut buffer = vec![0; READ_LARGE_BYTES];
    loop {
        let count = match socket.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        client.process(&buffer[..count], shards, &mut scratch);
        client.write_to(&mut socket, &mut scratch)?;
        while client.has_backlog() {
            client.process(&[], shards, &mut scratch);
            client.write_to(&mut socket, &mut scratch)?;
        }
        if client.broken {
            // Closing with unread input would send a reset, which can overtake the ERR.
            socket.shutdown(Shutdown::Write)?;
            socket.set_read_timeout(Some(Duration::from_millis(DRAIN_MILLIS)))?;
            while socket.read(&mut buffer)? > 0 {}
            return Ok(());
        }
    }
}
