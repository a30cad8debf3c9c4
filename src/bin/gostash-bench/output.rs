//! Requests on their way out: small ones as bytes of their own, the body of a large one borrowed from where it lies,
//! so that sending it copies nothing but what the kernel copies. It knows no protocol.

use std::io::{self, ErrorKind, IoSlice, Write};
use std::ops::Range;

/// Pieces given to the kernel at once.
const PIECES_PER_WRITE: usize = 64;

/// Bytes waiting to be written to one socket.
#[derive(Default)]
pub struct Output {
    /// What was written here, in order.
    pub bytes: Vec<u8>,
    /// Stretches of the shared bytes, each with the place in `bytes` that it comes before.
    pub borrowed: Vec<(usize, Range<usize>)>,
    /// How much of it all is sent.
    sent: usize,
}

impl Output {
    /// Writes what the socket takes, and says how many bytes that was.
    pub fn flush(&mut self, socket: &mut impl Write, shared: &[u8]) -> io::Result<usize> {
        let before = self.sent;
        let total = self.bytes.len() + self.borrowed.iter().map(|(_, stretch)| stretch.len()).sum::<usize>();
        while self.sent < total {
            let taken = if self.borrowed.is_empty() {
                socket.write(&self.bytes[self.sent..])
            } else {
                self.write_pieces(socket, shared)
            };
            match taken {
                Ok(taken) => self.sent += taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(self.sent - before),
                Err(error) => return Err(error),
            }
        }
        self.bytes.clear();
        self.borrowed.clear();
        self.sent = 0;
        Ok(total - before)
    }

    fn write_pieces(&self, socket: &mut impl Write, shared: &[u8]) -> io::Result<usize> {
        let (mut slices, mut at) = (Vec::new(), 0);
        for (place, stretch) in &self.borrowed {
            slices.push(IoSlice::new(&self.bytes[at..*place]));
            slices.push(IoSlice::new(&shared[stretch.clone()]));
            at = *place;
        }
        slices.push(IoSlice::new(&self.bytes[at..]));
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, self.sent);
        socket.write_vectored(&left[..left.len().min(PIECES_PER_WRITE)])
    }
}
