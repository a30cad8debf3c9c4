//! The languages the generator speaks, as a table: what is sent for each command, what comes back if all is well, and
//! the line that comes instead if there is no such key. It knows no socket, no workload and no clock.

/// One request's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Get,
    Set,
    Inc,
    Dec,
    Del,
}

/// What a finished reply said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A hit, or done.
    Done,
    /// There is no such key.
    Miss,
    /// The number is now this.
    Number(i64),
    /// The server would not.
    Refused,
}

#[derive(Clone, Copy, Default)]
pub struct Protocol {
    pub name: &'static str,
    /// Request, reply, and the line for a key that is not there, in the order of the operations. `{k}` stands for the
    /// key, `{v}` for the value, `{K}` and `{V}` for their lengths, `{n}` for a number. Nothing but text follows either.
    pub phrases: [(&'static str, &'static str, &'static str); 5],
    /// How a line begins that refuses a request.
    pub refusals: &'static [&'static str],
}

/// A reply to GET carries no length: only its first byte can tell a miss, so no value may begin with `E`.
const GOSTASH: Protocol = Protocol {
    name: "gostash",
    phrases: [
        ("GET\0{K}\0{k}\r\n", "{v}\r\n", "ERR\r\n"),
        ("SET\0{K}\0{k}\0{V}\0{v}\r\n", "OK\r\n", ""),
        ("INC\0{K}\0{k}\r\n", "{n}\r\n", ""),
        ("DEC\0{K}\0{k}\r\n", "{n}\r\n", ""),
        ("DEL\0{K}\0{k}\r\n", "OK\r\n", "ERR\r\n"),
    ],
    refusals: &["ERR\r\n"],
};

pub const PROTOCOLS: [Protocol; 4] = [
    GOSTASH,
    Protocol {
        name: "resp",
        phrases: [
            ("*2\r\n$3\r\nGET\r\n${K}\r\n{k}\r\n", "${V}\r\n{v}\r\n", "$-1\r\n"),
            ("*3\r\n$3\r\nSET\r\n${K}\r\n{k}\r\n${V}\r\n{v}\r\n", "+OK\r\n", ""),
            ("*2\r\n$4\r\nINCR\r\n${K}\r\n{k}\r\n", ":{n}\r\n", ""),
            ("*2\r\n$4\r\nDECR\r\n${K}\r\n{k}\r\n", ":{n}\r\n", ""),
            ("*2\r\n$3\r\nDEL\r\n${K}\r\n{k}\r\n", ":1\r\n", ":0\r\n"),
        ],
        refusals: &["-"],
    },
    Protocol {
        name: "memcached",
        phrases: [
            ("get {k}\r\n", "VALUE {k} 0 {V}\r\n{v}\r\nEND\r\n", "END\r\n"),
            ("set {k} 0 0 {V}\r\n{v}\r\n", "STORED\r\n", ""),
            ("incr {k} 1\r\n", "{n}\r\n", "NOT_FOUND\r\n"),
            ("decr {k} 1\r\n", "{n}\r\n", "NOT_FOUND\r\n"),
            ("delete {k}\r\n", "DELETED\r\n", "NOT_FOUND\r\n"),
        ],
        refusals: &["ERROR", "NOT_STORED", "SERVER_ERROR", "CLIENT_ERROR"],
    },
    // GoStash frames to a server that sends back what it gets.
    Protocol { name: "echo", refusals: &[], ..GOSTASH },
];

impl Operation {
    pub const ALL: [Operation; 5] = [Operation::Get, Operation::Set, Operation::Inc, Operation::Dec, Operation::Del];

    pub fn name(self) -> &'static str {
        ["GET", "SET", "INC", "DEC", "DEL"][self as usize]
    }
}
