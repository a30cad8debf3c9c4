//! Counters: what the server has done since it started. Plain numbers, counted by whoever does the work.

/// All counters. They only grow, and wrap around after 2^64.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)] // a table with a line for each
pub struct Stats {
    pub accepted: u64,  // connections; the next one's number is one more
    pub refused: u64,   // those of them that were not served, because there were `max-clients`
    pub closed: u64,    // connections that the server closed for a reason of its own: see the log
    pub visited: u64,   // how often a turn served a connection
    pub gets: u64,      // keys of GET, MGET, GETDEL, GETEX and TOUCH
    pub hits: u64,      // those of them that were found
    pub sets: u64,      // keys of SET, MSET, APPEND and other commands that write a value
    pub adds: u64,      // commands that add to a number or subtract from it
    pub deletes: u64,   // keys of DEL and UNLINK
    pub others: u64,    // commands of any other kind, those with wrong options, and keys of EXISTS
    pub errors: u64,    // well-formed commands, and keys of MSET, that were refused; a missing key is no error
    pub broken: u64,    // broken frames
    pub bytes_in: u64,  // read from clients
    pub bytes_out: u64, // written to clients
}

impl Stats {
    /// Commands of all kinds. One on ten keys counts as ten.
    pub fn commands(&self) -> u64 {
        self.gets + self.sets + self.adds + self.deletes + self.others
    }
}
