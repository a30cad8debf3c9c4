//! The protocols, as a table of templates: the request of each command, the reply if it succeeds, and the reply if
//! there is no such key. It knows no socket, no workload and no clock.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Get,
    Set,
    Inc,
    Dec,
    Del,
}

/// What a complete reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A hit, or success.
    Done,
    /// There is no such key.
    Miss,
    /// An error.
    Refused,
}

#[derive(Clone, Copy, Default)]
pub struct Protocol {
    pub name: &'static str,
    /// Request, reply, and the reply for a missing key, in the order of the operations. `{k}` is the key, `{v}` the
    /// value, `{K}` and `{V}` are their lengths, and `{n}` is a number, on a reply's first line. Only text may follow
    /// `{v}` or `{n}`, and in a request nothing but `\r\n`.
    pub exchanges: [(&'static str, &'static str, &'static str); Operation::ALL.len()],
    /// The beginnings of lines that refuse a request.
    pub refusals: &'static [&'static str],
}

/// A reply to GET carries no length. Only its first byte can tell a miss, so no value begins with `E`.
const GOSTASH: Protocol = Protocol {
    name: "gostash",
    exchanges: [
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
        exchanges: [
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
        exchanges: [
            ("get {k}\r\n", "VALUE {k} 0 {V}\r\n{v}\r\nEND\r\n", "END\r\n"),
            ("set {k} 0 0 {V}\r\n{v}\r\n", "STORED\r\n", ""),
            ("incr {k} 1\r\n", "{n}\r\n", "NOT_FOUND\r\n"),
            ("decr {k} 1\r\n", "{n}\r\n", "NOT_FOUND\r\n"),
            ("delete {k}\r\n", "DELETED\r\n", "NOT_FOUND\r\n"),
        ],
        refusals: &["ERROR", "NOT_STORED", "SERVER_ERROR", "CLIENT_ERROR"],
    },
    // GoStash frames, for a server that sends back what it gets.
    Protocol { name: "echo", refusals: &[], ..GOSTASH },
];

impl Operation {
    /// In the order of the variants.
    pub const ALL: [Operation; 5] = [Operation::Get, Operation::Set, Operation::Inc, Operation::Dec, Operation::Del];

    pub fn name(self) -> String {
        format!("{self:?}").to_uppercase()
    }
}
