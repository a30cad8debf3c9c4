//! The Redis commands that are spoken here, as data: dispatch goes by this table, COMMAND prints it, and INFO counts by
//! its rows. What a command on keys asks the store stands in its row; of the others it knows the name.

use super::request::{self, EX, EXAT, Form, PX, PXAT, Plan};
use crate::command::{Action, Measure};

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
    /// What it asks the store, or one of its parts does; nothing if it is not about keys.
    pub plan: Option<Plan>,
    /// Its number in the table.
    pub index: u8,
}

impl Verb {
    /// Whether `count` arguments, the name included, may be right.
    #[inline]
    pub fn takes(&self, count: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        count == least || self.arity < 0 && count > least && (count - least).is_multiple_of(self.part())
    }

    /// How many arguments make one part, of which there may be any number: the keys of MGET, the pairs of MSET.
    /// 1 for commands that do not come in parts.
    #[inline]
    pub fn part(&self) -> usize {
        self.keys.2.max(1) as usize
    }

    /// Whether it comes in parts that are executed one by one.
    #[inline]
    pub fn comes_in_parts(&self) -> bool {
        self.keys.1 < 0
    }
}

/// The row of a command, whatever the case of `name`.
#[inline]
pub fn find(name: &[u8]) -> Option<&'static Verb> {
    let at = PACKED.binary_search(&pack(name)?).ok()?;
    // A name that ends in NULs packs like the one without.
    Some(&VERBS[at]).filter(|verb| verb.name.len() == name.len())
}

/// The row of a subcommand, if `verb` has any.
pub fn find_subcommand(verb: &Verb, name: &[u8]) -> Option<&'static Verb> {
    let is_it = |(family, member): (&str, &str)| family == verb.name && name.eq_ignore_ascii_case(member.as_bytes());
    VERBS[COMMANDS..].iter().find(|row| row.name.split_once('|').is_some_and(is_it))
}

/// Whether a command means nothing without a subcommand.
pub fn has_subcommands(verb: &Verb) -> bool {
    matches!(verb.name, "client" | "command" | "config" | "memory")
}

/// The rows of the commands that are looked for before the table is.
pub(super) const GET: u8 = index_of("get");
pub(super) const SET: u8 = index_of("set");
pub(super) const ADD_ONE: u8 = index_of("incr");
pub(super) const TAKE_ONE: u8 = index_of("decr");

const fn index_of(name: &str) -> u8 {
    let name = pack(name.as_bytes());
    let mut at = 0;
    loop {
        match (pack(VERBS[at].name.as_bytes()), name) {
            (Some(there), Some(name)) if there == name => return at as u8,
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

static PACKED: [u128; COMMANDS] = {
    let mut packed = [0; COMMANDS];
    let mut at = 0;
    while at < packed.len() {
        packed[at] = pack(VERBS[at].name.as_bytes()).expect("a name of at most 16 bytes");
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
const GROW_SLOWLY: &str = "write denyoom";
const CONNECTION: &str = "loading stale fast";
const OTHERS: &str = "admin noscript loading stale";
const TRANSACTION: &str = "noscript loading stale fast allow_busy";
const UNAUTHENTICATED: &str = "noscript loading stale fast no_auth allow_busy";

/// A command that is not about keys.
const fn plain(name: &'static str, arity: i32, flags: &'static str) -> Verb {
    Verb { name, arity, flags, keys: NO_KEY, plan: None, index: 0 }
}

/// A command on keys.
const fn keyed(name: &'static str, arity: i32, flags: &'static str, keys: (i32, i32, i32), plan: Plan) -> Verb {
    Verb { name, arity, flags, keys, plan: Some(plan), index: 0 }
}

const fn numbered<const COUNT: usize>(mut verbs: [Verb; COUNT]) -> [Verb; COUNT] {
    let mut at = 0;
    while at < COUNT {
        verbs[at].index = at as u8;
        at += 1;
    }
    verbs
}

/// How many rows of the table are commands of their own.
pub const COMMANDS: usize = 50;

/// Every command, in the order of their names, and then the subcommands.
pub static VERBS: [Verb; COMMANDS + 12] = numbered([
    keyed("append", 3, GROW, ONE_KEY, |a, _| Ok((a.command(Action::Append(a.value(1))), Form::Plain))),
    plain("auth", -2, UNAUTHENTICATED),
    plain("client", -2, ""),
    plain("command", -1, "loading stale"),
    plain("config", -2, ""),
    plain("dbsize", 1, READ),
    keyed("decr", 2, GROW, ONE_KEY, |a, _| request::add(a, Ok(-1))),
    keyed("decrby", 3, GROW, ONE_KEY, |a, _| request::add(a, request::negated(a.all()[1]))),
    keyed("del", -2, "write", ALL_KEYS, |a, _| Ok((a.command(Action::Delete), Form::Count))),
    plain("discard", 1, TRANSACTION),
    plain("echo", 2, CONNECTION),
    plain("exec", 1, "noscript loading stale skip_slowlog"),
    keyed("exists", -2, READ, ALL_KEYS, |a, _| request::measure(a, Measure::Length, Form::Count)),
    keyed("expire", -3, WRITE, ONE_KEY, |a, clock| request::expire(a, EX, clock)),
    keyed("expireat", -3, WRITE, ONE_KEY, |a, clock| request::expire(a, EXAT, clock)),
    keyed("expiretime", 2, READ, ONE_KEY, |a, _| request::measure(a, Measure::ExpiryTime, Form::Seconds)),
    plain("flushall", -1, "write"),
    plain("flushdb", -1, "write"),
    keyed("get", 2, READ, ONE_KEY, |a, _| Ok((a.command(Action::Get), Form::Plain))),
    keyed("getdel", 2, WRITE, ONE_KEY, |a, _| Ok((a.command(Action::Take), Form::Plain))),
    keyed("getex", -2, WRITE, ONE_KEY, request::getex),
    keyed("getset", 3, GROW, ONE_KEY, request::getset),
    plain("hello", -1, UNAUTHENTICATED),
    keyed("incr", 2, GROW, ONE_KEY, |a, _| request::add(a, Ok(1))),
    keyed("incrby", 3, GROW, ONE_KEY, |a, _| request::add(a, request::integer(a.all()[1]))),
    plain("info", -1, "loading stale"),
    plain("keys", 2, "readonly"),
    plain("memory", -2, ""),
    keyed("mget", -2, READ, ALL_KEYS, |a, _| Ok((a.command(Action::Get), Form::Each))),
    keyed("mset", -3, GROW_SLOWLY, (1, -1, 2), |a, _| Ok((a.command(Action::Set(a.value(1))), Form::All))),
    plain("multi", 1, TRANSACTION),
    keyed("persist", 2, WRITE, ONE_KEY, request::persist),
    keyed("pexpire", -3, WRITE, ONE_KEY, |a, clock| request::expire(a, PX, clock)),
    keyed("pexpireat", -3, WRITE, ONE_KEY, |a, clock| request::expire(a, PXAT, clock)),
    keyed("pexpiretime", 2, READ, ONE_KEY, |a, _| request::measure(a, Measure::ExpiryTime, Form::Millis)),
    plain("ping", -1, "fast"),
    keyed("psetex", 4, GROW_SLOWLY, ONE_KEY, |a, clock| request::setex(a, PX, clock)),
    keyed("pttl", 2, READ, ONE_KEY, |a, _| request::measure(a, Measure::TimeLeft, Form::Millis)),
    plain("quit", -1, UNAUTHENTICATED),
    plain("scan", -2, "readonly"),
    plain("select", 2, CONNECTION),
    keyed("set", -3, GROW_SLOWLY, ONE_KEY, request::set),
    keyed("setex", 4, GROW_SLOWLY, ONE_KEY, |a, clock| request::setex(a, EX, clock)),
    keyed("setnx", 3, GROW, ONE_KEY, request::setnx),
    keyed("strlen", 2, READ, ONE_KEY, |a, _| request::measure(a, Measure::Length, Form::Number)),
    plain("time", 1, CONNECTION),
    keyed("touch", -2, READ, ALL_KEYS, |a, _| Ok((a.command(Action::Get), Form::Count))),
    keyed("ttl", 2, READ, ONE_KEY, |a, _| request::measure(a, Measure::TimeLeft, Form::Seconds)),
    keyed("type", 2, READ, ONE_KEY, |a, _| request::measure(a, Measure::Length, Form::Type)),
    keyed("unlink", -2, WRITE, ALL_KEYS, |a, _| Ok((a.command(Action::Delete), Form::Count))),
    plain("client|getname", 2, CONNECTION),
    plain("client|id", 2, CONNECTION),
    plain("client|kill", -3, OTHERS),
    plain("client|list", -2, OTHERS),
    plain("client|setinfo", 4, CONNECTION),
    plain("client|setname", 3, CONNECTION),
    plain("command|count", 2, "loading stale"),
    plain("command|docs", -2, "loading stale"),
    plain("command|info", -2, "loading stale"),
    plain("config|get", -3, OTHERS),
    plain("config|set", -4, OTHERS),
    keyed("memory|usage", -3, "readonly", (2, 2, 1), request::memory_usage),
]);
