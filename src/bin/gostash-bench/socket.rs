//! A client's end of a TCP or Unix connection, which never waits. It knows no protocol.

use std::io::{self, ErrorKind, IoSlice, Read, Write};

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};

use crate::options::Options;

/// Either kind of socket.
pub enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Socket {
    /// Connects, waiting until that is done; from then on the socket never waits.
    pub fn connect(options: &Options) -> io::Result<Socket> {
        if let Some(path) = &options.unix_socket {
            let stream = std::os::unix::net::UnixStream::connect(path)?;
            stream.set_nonblocking(true)?;
            return Ok(Socket::Unix(UnixStream::from_std(stream)));
        }
        let stream = std::net::TcpStream::connect(options.addresses()?.as_slice())?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Socket::Tcp(TcpStream::from_std(stream)))
    }

    /// What the poll is given.
    pub fn source(&mut self) -> &mut dyn Source {
        match self {
            Socket::Tcp(stream) => stream,
            Socket::Unix(stream) => stream,
        }
    }

    /// `None` if there is nothing to read now, `Some(0)` at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        unless_blocked(match self {
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Unix(stream) => stream.read(buffer),
        })
    }

    /// `None` if there is no room now.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        unless_blocked(match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
        })
    }

    /// The same from several places.
    pub fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        unless_blocked(match self {
            Socket::Tcp(stream) => stream.write_vectored(slices),
            Socket::Unix(stream) => stream.write_vectored(slices),
        })
    }
}

fn unless_blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
