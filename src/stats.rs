//! Counters: what the server has done since it started. Plain numbers, counted by whoever does the work.

/// All counters. They only grow, and wrap around after 2^64.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Connections that were served.
    pub connections: u64,
    /// Connections refused because there were `max-clients`.
    pub refused: u64,
    /// Connections closed by us for a reason of their own: see the log.
    pub closed: u64,
    /// Turns of connections: times that they were read from, or written to.
    pub visited: u64,
    /// GET commands.
    pub gets: u64,
    /// GET commands that found their key.
    pub hits: u64,
    /// SET commands.
    pub sets: u64,
    /// INC and DEC commands.
    pub adds: u64,
    /// DEL commands.
    pub deletes: u64,
    /// Commands of any other kind.
    pub others: u64,
    /// Well-formed commands that were answered with an error, a missing key aside.
    pub errors: u64,
    /// Broken frames.
    pub broken: u64,
    /// Bytes read from clients.
    pub bytes_in: u64,
    /// Bytes written to clients.
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
