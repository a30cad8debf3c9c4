//! The Redis commands that are spoken here, as data: dispatch goes by this table, COMMAND prints it, and INFO counts by
//! its rows. It knows what a command looks like, and not what it does.

use std::cmp::Ordering;

/// The Redis whose behaviour is claimed to clients: the first that has all that is spoken here, down to CLIENT SETINFO.
/// Clients choose by it what to send.
pub const REDIS_VERSION: &str = "7.2.0";

/// One row of [`VERBS`].
#[derive(Debug)]
pub struct Verb {
    /// Its name, in lower case.
    pub name: &'static str,
    /// The number of arguments, the name included; negative if more may follow.
    pub arity: i32,
    /// What kind of command it is, in Redis's words, separated by spaces.
    pub flags: &'static str,
    /// The first and the last argument that is a key, and the step between; 0 if there is none, a last of -1 if
    /// they go on to the end.
    pub keys: (i32, i32, i32),
    /// What to do.
    pub kind: Kind,
    /// Its number in the table.
    pub index: usize,
}

/// What tells one command from another once its name has been read.
#[expect(missing_docs, reason = "each is the command of its name")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Append,
    Auth,
    Client,
    Command,
    Config,
    DbSize,
    Decr,
    DecrBy,
    Del,
    Discard,
    Echo,
    Exec,
    Exists,
    Expire { absolute: bool, millis: bool },
    Flush,
    Get,
    GetDel,
    GetEx,
    GetSet,
    Hello,
    Incr,
    IncrBy,
    Info,
    Keys,
    Memory,
    MGet,
    MSet,
    Multi,
    Persist,
    Ping,
    Quit,
    Scan,
    Select,
    Set,
    SetEx { millis: bool },
    SetNx,
    StrLen,
    Time,
    TimeLeft { absolute: bool, millis: bool },
    Touch,
    Type,
}

impl Verb {
    /// Whether `count` arguments, the name included, may be right.
    pub fn takes(&self, count: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        match self.arity.cmp(&0) {
            Ordering::Greater => count == least,
            _ => count >= least && (count - least).is_multiple_of(self.part()),
        }
    }

    /// How many arguments make one part, of which there may be any number: the keys of MGET, the pairs of MSET.
    /// 1 for commands that do not come in parts.
    pub fn part(&self) -> usize {
        self.keys.2.max(1) as usize
    }

    /// Whether it comes in parts that are executed one by one.
    #[inline]
    pub fn comes_in_parts(&self) -> bool {
        self.keys.1 < 0
    }

    /// Which argument may be long, counted from the first after the name, or within a part.
    pub fn value_at(&self) -> Option<usize> {
        match self.kind {
            Kind::Set | Kind::SetNx | Kind::GetSet | Kind::Append | Kind::MSet => Some(1),
            Kind::SetEx { .. } => Some(2),
            Kind::Echo | Kind::Ping => Some(0),
            _ => None,
        }
    }
}

/// The row of a command, whatever the case of `name`.
#[inline]
pub fn find(name: &[u8]) -> Option<&'static Verb> {
    let at = PACKED.binary_search(&pack(name)?).ok()?;
    // A name that ends in NULs packs like the one without.
    Some(&VERBS[at]).filter(|verb| verb.name.len() == name.len())
}

/// The rows of the commands that are looked for before the table is.
pub(super) const GET: usize = index_of("get");
pub(super) const SET: usize = index_of("set");
pub(super) const ADD_ONE: usize = index_of("incr");
pub(super) const TAKE_ONE: usize = index_of("decr");

const fn index_of(name: &str) -> usize {
    let name = pack(name.as_bytes());
    let mut at = 0;
    loop {
        match (pack(VERBS[at].name.as_bytes()), name) {
            (Some(there), Some(name)) if there == name => return at,
            _ => at += 1,
        }
    }
}

/// A name as a number that sorts as names do, so that a look-up compares numbers.
#[inline]
const fn pack(name: &[u8]) -> Option<u128> {
    if name.len() > 16 {
        return None;
    }
    let mut packed = 0;
    let mut at = 0;
    while at < name.len() {
        packed = packed << 8 | name[at].to_ascii_lowercase() as u128;
        at += 1;
    }
    if at > 0 {
        packed <<= 8 * (16 - at);
    }
    Some(packed)
}

static PACKED: [u128; VERBS.len()] = {
    let mut packed = [0; VERBS.len()];
    let mut at = 0;
    while at < packed.len() {
        packed[at] = match pack(VERBS[at].name.as_bytes()) {
            Some(name) => name,
            None => panic!("a name is too long"),
        };
        assert!(at == 0 || packed[at - 1] < packed[at], "names must be sorted");
        at += 1;
    }
    packed
};

const NO_KEY: (i32, i32, i32) = (0, 0, 0);
const ONE_KEY: (i32, i32, i32) = (1, 1, 1);
const ALL_KEYS: (i32, i32, i32) = (1, -1, 1);

const READ: &str = "readonly fast";
const WRITE: &str = "write fast";
const GROW: &str = "write denyoom fast";
const CONNECTION: &str = "loading stale fast";
const TRANSACTION: &str = "noscript loading stale fast allow_busy";
const UNAUTHENTICATED: &str = "noscript loading stale fast no_auth allow_busy";

const fn verb(name: &'static str, arity: i32, flags: &'static str, keys: (i32, i32, i32), kind: Kind) -> Verb {
    Verb { name, arity, flags, keys, kind, index: 0 }
}

const fn numbered<const COUNT: usize>(mut verbs: [Verb; COUNT]) -> [Verb; COUNT] {
    let mut at = 0;
    while at < COUNT {
        verbs[at].index = at;
        at += 1;
    }
    verbs
}

const fn expire(absolute: bool, millis: bool) -> Kind {
    Kind::Expire { absolute, millis }
}

const fn time_left(absolute: bool, millis: bool) -> Kind {
    Kind::TimeLeft { absolute, millis }
}

/// Every command, in the order of their names.
pub static VERBS: [Verb; 50] = numbered([
    verb("append", 3, GROW, ONE_KEY, Kind::Append),
    verb("auth", -2, UNAUTHENTICATED, NO_KEY, Kind::Auth),
    verb("client", -2, "", NO_KEY, Kind::Client),
    verb("command", -1, "loading stale", NO_KEY, Kind::Command),
    verb("config", -2, "", NO_KEY, Kind::Config),
    verb("dbsize", 1, READ, NO_KEY, Kind::DbSize),
    verb("decr", 2, GROW, ONE_KEY, Kind::Decr),
    verb("decrby", 3, GROW, ONE_KEY, Kind::DecrBy),
    verb("del", -2, "write", ALL_KEYS, Kind::Del),
    verb("discard", 1, TRANSACTION, NO_KEY, Kind::Discard),
    verb("echo", 2, CONNECTION, NO_KEY, Kind::Echo),
    verb("exec", 1, "noscript loading stale skip_slowlog", NO_KEY, Kind::Exec),
    verb("exists", -2, READ, ALL_KEYS, Kind::Exists),
    verb("expire", -3, WRITE, ONE_KEY, expire(false, false)),
    verb("expireat", -3, WRITE, ONE_KEY, expire(true, false)),
    verb("expiretime", 2, READ, ONE_KEY, time_left(true, false)),
    verb("flushall", -1, "write", NO_KEY, Kind::Flush),
    verb("flushdb", -1, "write", NO_KEY, Kind::Flush),
    verb("get", 2, READ, ONE_KEY, Kind::Get),
    verb("getdel", 2, WRITE, ONE_KEY, Kind::GetDel),
    verb("getex", -2, WRITE, ONE_KEY, Kind::GetEx),
    verb("getset", 3, GROW, ONE_KEY, Kind::GetSet),
    verb("hello", -1, UNAUTHENTICATED, NO_KEY, Kind::Hello),
    verb("incr", 2, GROW, ONE_KEY, Kind::Incr),
    verb("incrby", 3, GROW, ONE_KEY, Kind::IncrBy),
    verb("info", -1, "loading stale", NO_KEY, Kind::Info),
    verb("keys", 2, "readonly", NO_KEY, Kind::Keys),
    verb("memory", -2, "", NO_KEY, Kind::Memory),
    verb("mget", -2, READ, ALL_KEYS, Kind::MGet),
    verb("mset", -3, "write denyoom", (1, -1, 2), Kind::MSet),
    verb("multi", 1, TRANSACTION, NO_KEY, Kind::Multi),
    verb("persist", 2, WRITE, ONE_KEY, Kind::Persist),
    verb("pexpire", -3, WRITE, ONE_KEY, expire(false, true)),
    verb("pexpireat", -3, WRITE, ONE_KEY, expire(true, true)),
    verb("pexpiretime", 2, READ, ONE_KEY, time_left(true, true)),
    verb("ping", -1, "fast", NO_KEY, Kind::Ping),
    verb("psetex", 4, "write denyoom", ONE_KEY, Kind::SetEx { millis: true }),
    verb("pttl", 2, READ, ONE_KEY, time_left(false, true)),
    verb("quit", -1, UNAUTHENTICATED, NO_KEY, Kind::Quit),
    verb("scan", -2, "readonly", NO_KEY, Kind::Scan),
    verb("select", 2, CONNECTION, NO_KEY, Kind::Select),
    verb("set", -3, "write denyoom", ONE_KEY, Kind::Set),
    verb("setex", 4, "write denyoom", ONE_KEY, Kind::SetEx { millis: false }),
    verb("setnx", 3, GROW, ONE_KEY, Kind::SetNx),
    verb("strlen", 2, READ, ONE_KEY, Kind::StrLen),
    verb("time", 1, CONNECTION, NO_KEY, Kind::Time),
    verb("touch", -2, READ, ALL_KEYS, Kind::Touch),
    verb("ttl", 2, READ, ONE_KEY, time_left(false, false)),
    verb("type", 2, READ, ONE_KEY, Kind::Type),
    verb("unlink", -2, WRITE, ALL_KEYS, Kind::Del),
]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_and_nothing_else() {
        for (index, verb) in VERBS.iter().enumerate() {
            assert_eq!(verb.index, index);
            let upper = verb.name.to_ascii_uppercase();
            assert_eq!(find(upper.as_bytes()).map(|verb| verb.index), Some(index));
        }
        for name in ["", "ge", "gett", "get\u{0}", "get ", "\u{0}get", "a-name-beyond-16-bytes"] {
            assert!(find(name.as_bytes()).is_none(), "{name:?}");
        }
    }

    #[test]
    fn arity_is_redis_s() {
        let takes = |name: &str, count| find(name.as_bytes()).is_some_and(|verb| verb.takes(count));
        assert!(takes("get", 2) && !takes("get", 1) && !takes("get", 3));
        assert!(takes("set", 3) && takes("set", 7) && !takes("set", 2));
        assert!(takes("mset", 3) && takes("mset", 5) && !takes("mset", 4));
        assert!(takes("mget", 2) && takes("mget", 1000) && !takes("mget", 1));
    }
}
