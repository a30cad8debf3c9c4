//! Requests on their way out: small ones as bytes of their own, the body of a large one borrowed from where it lies,
//! so that sending it copies nothing but what the kernel copies. It knows no protocol.

use std::io::{self, IoSlice};

use crate::socket::Socket;

/// Pieces given to the kernel at once.
const PIECES_PER_WRITE: usize = 64;

/// Bytes waiting to be written to one socket.
#[derive(Default)]
pub struct Output {
    /// What was written here, in order.
    pub bytes: Vec<u8>,
    borrowed: Vec<Borrowed>,
    written: usize,
}

/// A stretch of the shared bytes, to be sent before `bytes[at]`.
struct Borrowed {
    at: usize,
    from: usize,
    length: usize,
}

impl Output {
    /// Continues with `length` of the shared bytes, beginning `from` bytes into them.
    pub fn borrow(&mut self, from: usize, length: usize) {
        self.borrowed.push(Borrowed { at: self.bytes.len(), from, length });
    }

    /// Its length in bytes, with what was written of it.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.borrowed.iter().map(|piece| piece.length).sum::<usize>()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes what the socket takes, and says how many bytes that was.
    pub fn flush(&mut self, socket: &mut Socket, shared: &[u8]) -> io::Result<usize> {
        let before = self.written;
        let total = self.len();
        while self.written < total {
            let taken = if self.borrowed.is_empty() {
                socket.write(&self.bytes[self.written..])?
            } else {
                let slices: Vec<_> = self.slices(shared).take(PIECES_PER_WRITE).map(IoSlice::new).collect();
                socket.write_vectored(&slices)?
            };
            let Some(taken) = taken else {
                return Ok(self.written - before);
            };
            self.written += taken;
        }
        let count = self.written - before;
        self.clear();
        Ok(count)
    }

    /// All of it in order, less what was written.
    pub fn slices<'a>(&'a self, shared: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut at = 0;
        let mut skip = self.written;
        let ends = self.borrowed.iter().map(|piece| (piece.at, &shared[piece.from..piece.from + piece.length]));
        ends.chain([(self.bytes.len(), &shared[..0])])
            .flat_map(move |(end, piece)| {
                let own = &self.bytes[at..end];
                at = end;
                [own, piece]
            })
            .filter_map(move |piece| {
                let skipped = skip.min(piece.len());
                skip -= skipped;
                (skipped < piece.len()).then(|| &piece[skipped..])
            })
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.borrowed.clear();
        self.written = 0;
    }
}
