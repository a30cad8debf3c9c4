//! The Redis commands that are spoken here, as data: dispatch goes by this table, COMMAND prints it, and INFO counts by
//! its rows. What a command on keys asks the store stands in its row; of the others it knows the name.

use super::request::{self, Complaint, Form, Form::*, Plan};
use super::resp::Arguments;
use crate::command::{Action, Condition, Measure};

/// The Redis whose behaviour is claimed to clients: the first that has all that is spoken here, down to CLIENT SETINFO.
/// Clients choose by it what to send.
pub const REDIS_VERSION: &str = "7.2.0";

pub type Keys = (i32, i32, i32);

#[derive(Debug)]
pub struct Verb {
    /// In lower case; a subcommand's name begins with its command's.
    pub name: &'static str,
    /// The number of arguments, the name included; negative if more may follow.
    pub arity: i32,
    /// What kind of command it is, in Redis's words, separated by spaces.
    pub flags: &'static str,
    /// The first and the last argument that is a key, and the step between; 0 if there is none, a last of -1 if
    /// they go on to the end.
    pub keys: Keys,
    /// How it is answered, if it is about keys.
    pub form: Form,
    /// What it asks the store, or one of its parts does; nothing if it is not about keys.
    pub plan: Option<Plan>,
    /// Its number in the table.
    pub index: u8,
}

impl Verb {
    /// Whether `count` arguments, the name included, may be right.
    pub fn takes(&self, count: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        count == least || self.arity < 0 && count > least && (count - least).is_multiple_of(self.part())
    }

    /// How many arguments make one part, of which there may be any number: the keys of MGET, the pairs of MSET.
    /// 1 for commands that do not come in parts.
    pub fn part(&self) -> usize {
        self.keys.2.max(1) as usize
    }

    /// Whether it comes in parts that are executed one by one.
    pub fn comes_in_parts(&self) -> bool {
        self.keys.1 < 0
    }

    /// Which of its arguments, or those of one part, is the key.
    pub fn key<'a>(&self, arguments: &Arguments<'a>) -> &'a [u8] {
        arguments.all()[self.keys.0 as usize - 1]
    }
}

/// The row of a command, whatever the case of `name`.
pub fn find(name: &[u8]) -> Option<&'static Verb> {
    // This bit makes capitals small, and nothing else a small letter.
    let is_it = |verb: &str| name.iter().map(|byte| byte | 0x20).eq(verb.bytes());
    VERBS[..COMMANDS].iter().find(|verb| verb.name.len() == name.len() && is_it(verb.name))
}

/// The row of a subcommand, if `verb` has any, or its own.
pub fn resolve(verb: &'static Verb, arguments: &Arguments<'_>) -> Result<&'static Verb, Complaint> {
    let has_subcommands = matches!(verb.name, "client" | "command" | "config" | "memory");
    let Some(name) = arguments.all().first().filter(|_| has_subcommands) else { return Ok(verb) };
    let is_it = |(family, member): (&str, &str)| family == verb.name && name.eq_ignore_ascii_case(member.as_bytes());
    let mut subcommands = VERBS[COMMANDS..].iter();
    let found = subcommands.find(|row| row.name.split_once('|').is_some_and(is_it));
    found.ok_or_else(|| request::unknown_subcommand(name, verb.name))
}

const fn plain(name: &'static str, arity: i32, flags: &'static str) -> Verb {
    Verb { name, arity, flags, keys: (0, 0, 0), form: Plain, plan: None, index: 0 }
}

const fn keyed(name: &'static str, arity: i32, flags: &'static str, keys: Keys, form: Form, plan: Plan) -> Verb {
    Verb { name, arity, flags, keys, form, plan: Some(plan), index: 0 }
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

/// The numbers of the first rows.
pub(super) const GET: u8 = 0;
pub(super) const SET: u8 = 1;
pub(super) const ADD_ONE: u8 = 2;
pub(super) const TAKE_ONE: u8 = 3;

/// Every command, those that caches are asked most first, since a look-up goes down the table; then the subcommands.
pub static VERBS: [Verb; COMMANDS + 12] = numbered([
    keyed("get", 2, "readonly fast", (1, 1, 1), Plain, |_, _| Ok(Action::Get)),
    keyed("set", -3, "write denyoom", (1, 1, 1), Plain, request::set),
    keyed("incr", 2, "write denyoom fast", (1, 1, 1), Plain, |a, _| request::add(a, 1)),
    keyed("decr", 2, "write denyoom fast", (1, 1, 1), Plain, |a, _| request::add(a, -1)),
    keyed("del", -2, "write", (1, -1, 1), Count, |_, _| Ok(Action::Delete)),
    keyed("mget", -2, "readonly fast", (1, -1, 1), Each, |_, _| Ok(Action::Get)),
    keyed("mset", -3, "write denyoom", (1, -1, 2), All, |a, _| Ok(Action::Set(a.value(1)))),
    keyed("exists", -2, "readonly fast", (1, -1, 1), Count, |_, _| Ok(Action::Measure(Measure::Length))),
    keyed("expire", -3, "write fast", (1, 1, 1), Count, |a, clock| request::expire(a, b"ex", clock)),
    keyed("ttl", 2, "readonly fast", (1, 1, 1), Seconds, |_, _| Ok(Action::Measure(Measure::TimeLeft))),
    keyed("setex", 4, "write denyoom", (1, 1, 1), Plain, |a, clock| request::setex(a, b"ex", clock)),
    keyed("setnx", 3, "write denyoom fast", (1, 1, 1), Count, |a, _| request::write(a, Condition::Missing, false)),
    keyed("incrby", 3, "write denyoom fast", (1, 1, 1), Plain, |a, _| request::add(a, 1)),
    keyed("decrby", 3, "write denyoom fast", (1, 1, 1), Plain, |a, _| request::add(a, -1)),
    keyed("append", 3, "write denyoom fast", (1, 1, 1), Plain, |a, _| Ok(Action::Append(a.value(1)))),
    keyed("expireat", -3, "write fast", (1, 1, 1), Count, |a, clock| request::expire(a, b"exat", clock)),
    keyed("expiretime", 2, "readonly fast", (1, 1, 1), Seconds, |_, _| Ok(Action::Measure(Measure::ExpiryTime))),
    keyed("getdel", 2, "write fast", (1, 1, 1), Plain, |_, _| Ok(Action::Take)),
    keyed("getex", -2, "write fast", (1, 1, 1), Plain, request::getex),
    keyed("getset", 3, "write denyoom fast", (1, 1, 1), Plain, |a, _| request::write(a, Condition::Always, true)),
    keyed("persist", 2, "write fast", (1, 1, 1), Count, request::persist),
    keyed("pexpire", -3, "write fast", (1, 1, 1), Count, |a, clock| request::expire(a, b"px", clock)),
    keyed("pexpireat", -3, "write fast", (1, 1, 1), Count, |a, clock| request::expire(a, b"pxat", clock)),
    keyed("pexpiretime", 2, "readonly fast", (1, 1, 1), Millis, |_, _| Ok(Action::Measure(Measure::ExpiryTime))),
    keyed("psetex", 4, "write denyoom", (1, 1, 1), Plain, |a, clock| request::setex(a, b"px", clock)),
    keyed("pttl", 2, "readonly fast", (1, 1, 1), Millis, |_, _| Ok(Action::Measure(Measure::TimeLeft))),
    keyed("strlen", 2, "readonly fast", (1, 1, 1), Number, |_, _| Ok(Action::Measure(Measure::Length))),
    keyed("touch", -2, "readonly fast", (1, -1, 1), Count, |_, _| Ok(Action::Get)),
    keyed("type", 2, "readonly fast", (1, 1, 1), Type, |_, _| Ok(Action::Measure(Measure::Length))),
    keyed("unlink", -2, "write fast", (1, -1, 1), Count, |_, _| Ok(Action::Delete)),
    plain("auth", -2, "noscript loading stale fast no_auth allow_busy"),
    plain("client", -2, ""),
    plain("command", -1, "loading stale"),
    plain("config", -2, ""),
    plain("dbsize", 1, "readonly fast"),
    plain("discard", 1, "noscript loading stale fast allow_busy"),
    plain("echo", 2, "loading stale fast"),
    plain("exec", 1, "noscript loading stale skip_slowlog"),
    plain("flushall", -1, "write"),
    plain("flushdb", -1, "write"),
    plain("hello", -1, "noscript loading stale fast no_auth allow_busy"),
    plain("info", -1, "loading stale"),
    plain("keys", 2, "readonly"),
    plain("memory", -2, ""),
    plain("multi", 1, "noscript loading stale fast allow_busy"),
    plain("ping", -1, "fast"),
    plain("quit", -1, "noscript loading stale fast no_auth allow_busy"),
    plain("scan", -2, "readonly"),
    plain("select", 2, "loading stale fast"),
    plain("time", 1, "loading stale fast"),
    plain("client|getname", 2, "loading stale fast"),
    plain("client|id", 2, "loading stale fast"),
    plain("client|kill", -3, "admin noscript loading stale"),
    plain("client|list", -2, "admin noscript loading stale"),
    plain("client|setinfo", 4, "loading stale fast"),
    plain("client|setname", 3, "loading stale fast"),
    plain("command|count", 2, "loading stale"),
    plain("command|docs", -2, "loading stale"),
    plain("command|info", -2, "loading stale"),
    plain("config|get", -3, "admin noscript loading stale"),
    plain("config|set", -4, "admin noscript loading stale"),
    keyed("memory|usage", -3, "readonly", (2, 2, 1), Plain, request::memory_usage),
]);
