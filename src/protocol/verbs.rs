//! The Redis commands that are spoken here, as one table: dispatch goes by it, COMMAND prints it, and INFO counts by
//! its rows. A row has all that a command on keys means: which [`Action`] its arguments ask for, and in which form it
//! is answered. Of other commands it has what COMMAND prints. Pure functions: even the time is handed in.

use std::borrow::Cow;
use std::cmp::Ordering;

use self::Form::*;
use super::resp::Arguments;
use crate::command::{Action, Clock, Expiry, Measure, NEVER, Refusal};
use crate::number;

/// The version of Redis that clients are told: the first that has all that is spoken here.
pub const REDIS_VERSION: &str = "7.2.0";

/// How the reply to a command on a key is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As it is: a value, a number, OK, or null.
    #[default]
    Plain,
    Number,  // 0 for a missing key
    Seconds, // -2 for a missing key
    Millis,  // likewise
    Type,    // "string" or "none"
    Count,   // for how many of the command's keys it succeeded, after the last of them
    All,     // OK, after the last of the command's keys
    Each,    // an array with one reply for each of the command's keys
}

/// Turns a command's arguments, whose number has been checked, into what it, or one part of it, asks to be done.
pub type Plan = for<'a> fn(&Arguments<'a>, Clock) -> Result<Action<'a>, Complaint>;

/// What is wrong with a command, in Redis's words. The connection stays open.
pub type Complaint = Cow<'static, str>;

/// A row of the table: a command or a subcommand.
#[derive(Debug)]
pub struct Verb {
    /// In lower case; a subcommand's name begins with its command's.
    pub name: &'static str,
    /// The number of arguments with the name; negative if that is the least number.
    pub arity: i32,
    /// What kind of command it is, in Redis's words, separated by spaces.
    pub flags: &'static str,
    /// Which of its arguments is the key, or which of those of one part: 1 is the first, and 0 stands for none.
    pub key_at: u8,
    /// If it is on many keys, it is executed in parts, of so many arguments: a key of MGET is 1, a pair of MSET is 2.
    pub part: u8,
    pub form: Form,
    /// What it, or one part of it, asks the store; `None` if it is not about keys.
    pub plan: Option<Plan>,
    pub index: u8,
}

impl Verb {
    /// Whether it may have `count` arguments, the name included.
    pub fn takes(&self, count: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        count == least || self.arity < 0 && count > least && (count - least).is_multiple_of(self.part.max(1).into())
    }

    /// The key among its arguments, or among those of one part.
    pub fn key<'a>(&self, arguments: &Arguments<'a>) -> &'a [u8] {
        arguments.all()[usize::from(self.key_at) - 1]
    }
}

/// The row of a command, in whatever case `name` is.
pub fn find(name: &[u8]) -> Option<&'static Verb> {
    // This bit turns upper case into lower case, and nothing but a letter into a lower-case letter.
    let is_name = |own: &str| own.len() == name.len() && own.bytes().eq(name.iter().map(|byte| byte | 0x20));
    VERBS[..COMMANDS].iter().find(|verb| is_name(verb.name))
}

/// The row of the subcommand in `arguments`, or that of `verb` if it has no subcommands.
pub fn resolve(verb: &'static Verb, arguments: &Arguments<'_>) -> Result<&'static Verb, Complaint> {
    let has_subcommands = verb.plan.is_none() && matches!(verb.name, "client" | "command" | "config" | "memory");
    let Some(name) = arguments.all().first().filter(|_| has_subcommands) else { return Ok(verb) };
    let full_name = [verb.name.as_bytes(), b"|", name].concat();
    let found = VERBS[COMMANDS..].iter().find(|row| full_name.eq_ignore_ascii_case(row.name.as_bytes()));
    found.ok_or_else(|| format!("ERR unknown subcommand '{}'", shown(name)).into())
}

const fn unkeyed(name: &'static str, arity: i32, flags: &'static str) -> Verb {
    Verb { name, arity, flags, key_at: 0, part: 0, form: Plain, plan: None, index: 0 }
}

const fn keyed(name: &'static str, arity: i32, flags: &'static str, form: Form, plan: Plan) -> Verb {
    Verb { key_at: 1, form, plan: Some(plan), ..unkeyed(name, arity, flags) }
}

const fn numbered<const COUNT: usize>(mut verbs: [Verb; COUNT]) -> [Verb; COUNT] {
    let mut at = 0;
    while at < COUNT {
        verbs[at].index = at as u8;
        at += 1;
    }
    verbs
}

pub const COMMANDS: usize = 50; // rows of the table, before those of subcommands

/// The indices of the first rows.
pub(super) const GET: u8 = 0;
pub(super) const SET: u8 = 1;
pub(super) const ADD_ONE: u8 = 2;
pub(super) const TAKE_ONE: u8 = 3;

/// The most frequent commands first, as a look-up searches from the top; by name those on keys; the rest; subcommands.
pub static VERBS: [Verb; COMMANDS + 12] = numbered([
    keyed("get", 2, "readonly fast", Plain, |_, _| Ok(Action::Get)),
    keyed("set", -3, "write denyoom", Plain, set),
    keyed("incr", 2, "write denyoom fast", Plain, |a, _| add(a, 1)),
    keyed("decr", 2, "write denyoom fast", Plain, |a, _| add(a, -1)),
    Verb { part: 1, ..keyed("del", -2, "write", Count, |_, _| Ok(Action::Delete)) },
    Verb { part: 1, ..keyed("mget", -2, "readonly fast", Each, |_, _| Ok(Action::Get)) },
    Verb { part: 2, ..keyed("mset", -3, "write denyoom", All, |a, _| Ok(Action::Set(a.value(1)))) },
    Verb { part: 1, ..keyed("exists", -2, "readonly fast", Count, |_, _| Ok(Action::Measure(Measure::Length))) },
    keyed("expire", -3, "write fast", Count, |a, clock| expire(a, b"ex", clock)),
    keyed("ttl", 2, "readonly fast", Seconds, |_, _| Ok(Action::Measure(Measure::TimeLeft))),
    keyed("setex", 4, "write denyoom", Plain, |a, clock| setex(a, b"ex", clock)),
    unkeyed("multi", 1, "noscript loading stale fast allow_busy"),
    unkeyed("exec", 1, "noscript loading stale skip_slowlog"),
    unkeyed("ping", -1, "fast"),
    keyed("setnx", 3, "write denyoom fast", Count, |a, _| write(a, Some(false), false)),
    keyed("incrby", 3, "write denyoom fast", Plain, |a, _| add(a, 1)),
    keyed("decrby", 3, "write denyoom fast", Plain, |a, _| add(a, -1)),
    keyed("append", 3, "write denyoom fast", Plain, |a, _| Ok(Action::Append(a.value(1)))),
    keyed("expireat", -3, "write fast", Count, |a, clock| expire(a, b"exat", clock)),
    keyed("expiretime", 2, "readonly fast", Seconds, |_, _| Ok(Action::Measure(Measure::ExpiryTime))),
    keyed("getdel", 2, "write fast", Plain, |_, _| Ok(re_expire(0))),
    keyed("getex", -2, "write fast", Plain, getex),
    keyed("getset", 3, "write denyoom fast", Plain, |a, _| write(a, None, true)),
    keyed("persist", 2, "write fast", Count, persist),
    keyed("pexpire", -3, "write fast", Count, |a, clock| expire(a, b"px", clock)),
    keyed("pexpireat", -3, "write fast", Count, |a, clock| expire(a, b"pxat", clock)),
    keyed("pexpiretime", 2, "readonly fast", Millis, |_, _| Ok(Action::Measure(Measure::ExpiryTime))),
    keyed("psetex", 4, "write denyoom", Plain, |a, clock| setex(a, b"px", clock)),
    keyed("pttl", 2, "readonly fast", Millis, |_, _| Ok(Action::Measure(Measure::TimeLeft))),
    keyed("strlen", 2, "readonly fast", Number, |_, _| Ok(Action::Measure(Measure::Length))),
    Verb { part: 1, ..keyed("touch", -2, "readonly fast", Count, |_, _| Ok(Action::Get)) },
    keyed("type", 2, "readonly fast", Type, |_, _| Ok(Action::Measure(Measure::Length))),
    Verb { part: 1, ..keyed("unlink", -2, "write fast", Count, |_, _| Ok(Action::Delete)) },
    unkeyed("auth", -2, "noscript loading stale fast no_auth allow_busy"),
    unkeyed("client", -2, ""),
    unkeyed("command", -1, "loading stale"),
    unkeyed("config", -2, ""),
    unkeyed("dbsize", 1, "readonly fast"),
    unkeyed("discard", 1, "noscript loading stale fast allow_busy"),
    unkeyed("echo", 2, "loading stale fast"),
    unkeyed("flushall", -1, "write"),
    unkeyed("flushdb", -1, "write"),
    unkeyed("hello", -1, "noscript loading stale fast no_auth allow_busy"),
    unkeyed("info", -1, "loading stale"),
    unkeyed("keys", 2, "readonly"),
    unkeyed("memory", -2, ""),
    unkeyed("quit", -1, "noscript loading stale fast no_auth allow_busy"),
    unkeyed("scan", -2, "readonly"),
    unkeyed("select", 2, "loading stale fast"),
    unkeyed("time", 1, "loading stale fast"),
    unkeyed("client|getname", 2, "noscript loading stale"),
    unkeyed("client|id", 2, "noscript loading stale"),
    unkeyed("client|kill", -3, "admin noscript loading stale"),
    unkeyed("client|list", 2, "admin noscript loading stale"),
    unkeyed("client|setinfo", 4, "noscript loading stale"),
    unkeyed("client|setname", 3, "noscript loading stale"),
    unkeyed("command|count", 2, "loading stale"),
    unkeyed("command|docs", -2, "loading stale"),
    unkeyed("command|info", -2, "loading stale"),
    unkeyed("config|get", -3, "admin noscript loading stale"),
    unkeyed("config|set", -4, "admin noscript loading stale"),
    Verb { key_at: 2, ..keyed("memory|usage", -3, "readonly", Plain, memory_usage) },
]);

pub const SYNTAX: Complaint = Cow::Borrowed("ERR syntax error");
pub const OUT_OF_MEMORY: Complaint = Cow::Borrowed(refusal(Refusal::OutOfMemory));

const ECHO_BYTES_MAX: usize = 128; // of a client's word that an error repeats

/// Redis's words for why a command was not executed.
pub const fn refusal(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotANumber => "ERR value is not an integer or out of range",
        Refusal::Overflow => "ERR increment or decrement would overflow",
        Refusal::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
        Refusal::TooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
    }
}

pub fn wrong_arity(command: &str) -> Complaint {
    format!("ERR wrong number of arguments for '{command}' command").into()
}

pub fn unknown_command(arguments: &Arguments<'_>) -> Complaint {
    let words: String = arguments.all().iter().map(|word| format!("'{}' ", shown(word))).collect();
    format!("ERR unknown command '{}', with args beginning with: {words}", shown(arguments.name)).into()
}

pub fn shown(bytes: &[u8]) -> impl std::fmt::Display {
    bytes[..bytes.len().min(ECHO_BYTES_MAX)].escape_ascii()
}

/// `word` in lower case, or nothing if it has more than eight letters: no option is that long.
pub fn lower<'b>(word: &[u8], letters: &'b mut [u8; 8]) -> &'b [u8] {
    let letters = letters.get_mut(..word.len()).unwrap_or_default();
    letters.iter_mut().zip(word).for_each(|(letter, byte)| *letter = byte.to_ascii_lowercase());
    letters
}

/// Parses an argument as a number without leading zeros: `-01` may be a slip, and as a time to live would remove a key.
pub fn integer(text: &[u8]) -> Result<i64, Complaint> {
    let is_plain = matches!(text, b"0" | [b'1'..=b'9', ..] | [b'-', b'1'..=b'9', ..]);
    number::parse(text).filter(|_| is_plain).ok_or(Cow::Borrowed(refusal(Refusal::NotANumber)))
}

/// INCR and INCRBY with sign 1, DECR and DECRBY with -1.
fn add<'a>(a: &Arguments<'a>, sign: i64) -> Result<Action<'a>, Complaint> {
    let number = a.all().get(1).map_or(Ok(1), |number| integer(number))?;
    Ok(Action::Add(number.checked_mul(sign).ok_or("ERR decrement would overflow")?))
}

/// MEMORY USAGE. SAMPLES, how many nested values to look at, makes no difference: there are none here.
fn memory_usage<'a>(a: &Arguments<'a>, _: Clock) -> Result<Action<'a>, Complaint> {
    match a.all()[2..] {
        [] => {}
        [option, samples] if option.eq_ignore_ascii_case(b"samples") => drop(integer(samples)?),
        _ => return Err(SYNTAX),
    }
    Ok(Action::Measure(Measure::Memory))
}

fn setex<'a>(a: &Arguments<'a>, unit: &[u8], clock: Clock) -> Result<Action<'a>, Complaint> {
    let expiry = Expiry::At(deadline(a.name, unit, a.all()[1], 1, clock)?);
    Ok(Action::Write { value: a.value(2), if_present: None, expiry, returns_old: false })
}

/// SETNX and GETSET.
fn write<'a>(a: &Arguments<'a>, if_present: Option<bool>, returns_old: bool) -> Result<Action<'a>, Complaint> {
    Ok(Action::Write { value: a.value(1), if_present, expiry: Expiry::Default, returns_old })
}

fn set<'a>(a: &Arguments<'a>, clock: Clock) -> Result<Action<'a>, Complaint> {
    let (mut if_present, mut expiry, mut time, mut returns_old) = (None, Expiry::Default, None, false);
    let mut words = a.all()[2..].iter();
    while let Some(word) = words.next() {
        match lower(word, &mut [0; 8]) {
            b"nx" if if_present != Some(true) => if_present = Some(false),
            b"xx" if if_present != Some(false) => if_present = Some(true),
            b"get" => returns_old = true,
            b"keepttl" if time.is_none() => expiry = Expiry::Keep,
            // Perhaps EX or its like: `deadline` refuses a word that is no unit.
            _ if time.is_none() && expiry == Expiry::Default => time = Some((word, words.next().ok_or(SYNTAX)?)),
            _ => return Err(SYNTAX),
        }
    }
    if let Some((unit, number)) = time {
        expiry = Expiry::At(deadline(a.name, unit, number, 1, clock)?);
    }
    Ok(Action::Write { value: a.value(1), if_present, expiry, returns_old })
}

fn getex<'a>(a: &Arguments<'a>, clock: Clock) -> Result<Action<'a>, Complaint> {
    match a.all()[1..] {
        [] => Ok(Action::Get),
        [word] if word.eq_ignore_ascii_case(b"persist") => Ok(re_expire(NEVER)),
        [unit, number] => deadline(a.name, unit, number, 1, clock).map(re_expire),
        _ => Err(SYNTAX),
    }
}

/// GETEX with a deadline, or GETDEL with one that has passed.
fn re_expire<'a>(deadline: u64) -> Action<'a> {
    Action::Expire { deadline, if_expiring: None, moves: None, returns_value: true }
}

fn persist<'a>(_: &Arguments<'a>, _: Clock) -> Result<Action<'a>, Complaint> {
    Ok(Action::Expire { deadline: NEVER, if_expiring: Some(true), moves: None, returns_value: false })
}

fn expire<'a>(a: &Arguments<'a>, unit: &[u8], clock: Clock) -> Result<Action<'a>, Complaint> {
    let options = &a.all()[2..];
    let known: [&[u8]; 4] = [b"nx", b"xx", b"gt", b"lt"];
    if let Some(other) = options.iter().find(|word| !known.iter().any(|name| word.eq_ignore_ascii_case(name))) {
        return Err(format!("ERR Unsupported option {}", shown(other)).into());
    }
    let [nx, xx, gt, lt] = known.map(|name| options.iter().any(|word| word.eq_ignore_ascii_case(name)));
    if nx && (xx || gt || lt) || gt && lt {
        let options = if nx { "NX and XX, GT or LT" } else { "GT and LT" };
        return Err(format!("ERR {options} options at the same time are not compatible").into());
    }
    let moves = if gt { Some(Ordering::Greater) } else { lt.then_some(Ordering::Less) };
    let deadline = deadline(a.name, unit, a.all()[1], i64::MIN, clock)?;
    Ok(Action::Expire { deadline, if_expiring: (nx || xx).then_some(xx), moves, returns_value: false })
}

/// The deadline on the server's clock that `number`, at least `least`, stands for in this `unit`: EX and PX are seconds
/// and milliseconds from now, EXAT and PXAT from 1970. A time before that clock's start becomes 0.
pub fn deadline(verb: &[u8], unit: &[u8], number: &[u8], least: i64, clock: Clock) -> Result<u64, Complaint> {
    let (unit_millis, start_millis) = match lower(unit, &mut [0; 8]) {
        b"ex" => (1000, clock.unix_millis()),
        b"px" => (1, clock.unix_millis()),
        b"exat" => (1000, 0),
        b"pxat" => (1, 0),
        _ => return Err(SYNTAX),
    };
    let number = Some(integer(number)?).filter(|number| *number >= least);
    let Some(unix) = number.and_then(|number| number.checked_mul(unit_millis)?.checked_add(start_millis)) else {
        return Err(format!("ERR invalid expire time in '{}' command", shown(&verb.to_ascii_lowercase())).into());
    };
    Ok(unix.saturating_sub(clock.unix_offset_millis).max(0) as u64)
}
