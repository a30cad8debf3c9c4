//! Counters: what the server has done since it started. Plain numbers, counted by whoever does the work.

/// All counters. They only grow.
#[allow(missing_docs)] // a table with a line for each
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub connections: u64, // that were served
    pub refused: u64,     // connections, because there were `max-clients`
    pub closed: u64,      // connections, by us and for a reason of their own: see the log
    pub visited: u64,     // turns of connections: times that they were read from, or written to
    pub gets: u64,
    pub hits: u64, // GETs that found their key
    pub sets: u64,
    pub adds: u64, // of 1 or any other number, negative ones included
    pub deletes: u64,
    pub others: u64, // commands of any other kind
    pub errors: u64, // well-formed commands that were answered with an error, a missing key aside
    pub broken: u64, // frames
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Stats {
    /// Connections there have been, which numbers them.
    pub fn accepted(&self) -> u64 {
        self.connections + self.refused
    }

    /// Commands of all kinds.
    pub fn commands(&self) -> u64 {
        self.gets + self.sets + self.adds + self.deletes + self.others
    }
}
