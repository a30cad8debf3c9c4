//! What a Redis command on one key asks for, options and all, and in which form it is answered. Pure: the time comes
//! in, a [`Command`] goes out, and Redis's words for what is wrong.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::resp::Arguments;
use crate::command::{Action, Clock, Command, Condition, ExpireCondition, Expiry, Measure, Refusal};

/// How the reply to a command on a key is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As it is: a value, a number, OK, or null.
    #[default]
    Plain,
    /// As a number, 0 for a missing key.
    Number,
    /// As a number of seconds, -2 for a missing key.
    Seconds,
    /// As a number of milliseconds, likewise.
    Millis,
    /// As the type of what is there.
    Type,
    /// As how many of the command's keys there were; nothing before the last of them.
    Count,
    /// As OK once all of the command's keys are done.
    All,
    /// As an array with one for each of the command's keys.
    Each,
}

/// What a command, or one part of it, asks the store, and how that is answered.
pub type Planned<'a> = Result<(Command<'a>, Form), Complaint>;

/// Makes that of arguments whose number is right.
pub type Plan = for<'a> fn(&Arguments<'a>, Clock) -> Planned<'a>;

/// What is wrong with a command that is not, or not so, spoken here, in Redis's words. The connection is none the
/// worse for it.
pub type Complaint = Cow<'static, str>;

/// Not what the command's options are.
pub const SYNTAX: Complaint = Cow::Borrowed("ERR syntax error");
/// No room, and none can be made.
pub const OUT_OF_MEMORY: Complaint = Cow::Borrowed(refusal(Refusal::OutOfMemory));

/// How much of an unknown command is given back, in bytes.
const ECHO_BYTES_MAX: usize = 128;

/// Redis's words for why a command was not carried out.
pub const fn refusal(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotANumber => "ERR value is not an integer or out of range",
        Refusal::Overflow => "ERR increment or decrement would overflow",
        Refusal::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
        Refusal::TooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
    }
}

/// Too few or too many arguments for `command`.
pub fn wrong_arity(command: &str) -> Complaint {
    format!("ERR wrong number of arguments for '{command}' command").into()
}

/// About a command that is not known.
pub fn unknown_command(arguments: &Arguments<'_>) -> Complaint {
    let mut text =
        format!("ERR unknown command '{}', with args beginning with: ", shown(arguments.name, ECHO_BYTES_MAX));
    let mut left = ECHO_BYTES_MAX;
    for argument in arguments.all() {
        if left > 0 {
            text += &format!("'{}' ", shown(argument, left));
            left = left.saturating_sub(argument.len());
        }
    }
    text.into()
}

/// About a subcommand of `command` that is not known.
pub fn unknown_subcommand(name: &[u8], command: &str) -> Complaint {
    let name = shown(name, ECHO_BYTES_MAX);
    format!("ERR unknown subcommand '{name}'. Try {} HELP.", command.to_ascii_uppercase()).into()
}

fn shown(bytes: &[u8], bytes_max: usize) -> impl std::fmt::Display {
    bytes[..bytes.len().min(bytes_max)].escape_ascii()
}

/// A word of up to eight letters in lower case; of a longer one, which no option is, nothing.
pub fn lower<'b>(word: &[u8], letters: &'b mut [u8; 8]) -> &'b [u8] {
    let letters = letters.get_mut(..word.len()).unwrap_or_default();
    letters.iter_mut().zip(word).for_each(|(letter, byte)| *letter = byte.to_ascii_lowercase());
    letters
}

/// A number as Redis reads it.
pub fn integer(text: &[u8]) -> Result<i64, Complaint> {
    let text = std::str::from_utf8(text).ok().filter(|text| !text.starts_with('+'));
    text.and_then(|text| text.parse().ok()).ok_or(Cow::Borrowed(refusal(Refusal::NotANumber)))
}

/// The same with its sign turned.
pub fn negated(text: &[u8]) -> Result<i64, Complaint> {
    integer(text)?.checked_neg().ok_or(Cow::Borrowed("ERR decrement would overflow"))
}

/// INCR and its like.
pub fn add<'a>(a: &Arguments<'a>, delta: Result<i64, Complaint>) -> Planned<'a> {
    Ok((a.command(Action::Add(delta?)), Form::Plain))
}

/// What only looks.
pub fn measure<'a>(a: &Arguments<'a>, measure: Measure, form: Form) -> Planned<'a> {
    Ok((a.command(Action::Measure(measure)), form))
}

/// MEMORY USAGE. How many nested values to look at makes no difference: there are none here.
pub fn memory_usage<'a>(a: &Arguments<'a>, _: Clock) -> Planned<'a> {
    match *a.all() {
        [_, key] => Ok((Command { key, action: Action::Measure(Measure::Memory) }, Form::Plain)),
        [_, key, option, samples] if option.eq_ignore_ascii_case(b"samples") => {
            integer(samples).map(|_| (Command { key, action: Action::Measure(Measure::Memory) }, Form::Plain))
        }
        _ => Err(SYNTAX),
    }
}

/// SETNX.
pub fn setnx<'a>(a: &Arguments<'a>, _: Clock) -> Planned<'a> {
    Ok((write(a, 1, Condition::Missing, Expiry::Default, false), Form::Count))
}

/// GETSET.
pub fn getset<'a>(a: &Arguments<'a>, _: Clock) -> Planned<'a> {
    Ok((write(a, 1, Condition::Always, Expiry::Default, true), Form::Plain))
}

/// SETEX and PSETEX.
pub fn setex<'a>(a: &Arguments<'a>, unit: Unit, clock: Clock) -> Planned<'a> {
    let expiry = Expiry::At(unit.future(a, a.all()[1], clock)?);
    Ok((write(a, 2, Condition::Always, expiry, false), Form::Plain))
}

/// SET.
pub fn set<'a>(a: &Arguments<'a>, clock: Clock) -> Planned<'a> {
    let (mut condition, mut keeps, mut time, mut returns_old) = (Condition::Always, false, None, false);
    let mut words = a.all()[2..].iter();
    while let Some(word) = words.next() {
        match lower(word, &mut [0; 8]) {
            b"nx" if condition != Condition::Present => condition = Condition::Missing,
            b"xx" if condition != Condition::Missing => condition = Condition::Present,
            b"get" => returns_old = true,
            b"keepttl" if time.is_none() => keeps = true,
            unit if time.is_none() && !keeps => {
                time = Some((Unit::named(unit).ok_or(SYNTAX)?, words.next().ok_or(SYNTAX)?));
            }
            _ => return Err(SYNTAX),
        }
    }
    let expiry = match time {
        Some((unit, number)) => Expiry::At(unit.future(a, number, clock)?),
        None if keeps => Expiry::Keep,
        None => Expiry::Default,
    };
    Ok((write(a, 1, condition, expiry, returns_old), Form::Plain))
}

fn write<'a>(a: &Arguments<'a>, at: usize, condition: Condition, expiry: Expiry, returns_old: bool) -> Command<'a> {
    a.command(Action::Write { value: a.value(at), condition, expiry, returns_old })
}

/// GETEX.
pub fn getex<'a>(a: &Arguments<'a>, clock: Clock) -> Planned<'a> {
    let deadline = match *a.all() {
        [key] => return Ok((Command { key, action: Action::Get }, Form::Plain)),
        [_, word] if word.eq_ignore_ascii_case(b"persist") => None,
        [_, word, number] => Some(Unit::named(lower(word, &mut [0; 8])).ok_or(SYNTAX)?.future(a, number, clock)?),
        _ => return Err(SYNTAX),
    };
    let condition = ExpireCondition::default();
    Ok((a.command(Action::Expire { deadline, condition, returns_value: true }), Form::Plain))
}

/// PERSIST.
pub fn persist<'a>(a: &Arguments<'a>, _: Clock) -> Planned<'a> {
    let condition = ExpireCondition { has_expiry: Some(true), moves: None };
    Ok((a.command(Action::Expire { deadline: None, condition, returns_value: false }), Form::Count))
}

/// EXPIRE and its like.
pub fn expire<'a>(a: &Arguments<'a>, unit: Unit, clock: Clock) -> Planned<'a> {
    let (mut nx, mut condition) = (false, ExpireCondition::default());
    for word in &a.all()[2..] {
        let side = match lower(word, &mut [0; 8]) {
            b"nx" => {
                nx = true;
                continue;
            }
            b"xx" => {
                condition.has_expiry = Some(true);
                continue;
            }
            b"gt" => Ordering::Greater,
            b"lt" => Ordering::Less,
            _ => return Err(format!("ERR Unsupported option {}", String::from_utf8_lossy(word)).into()),
        };
        if condition.moves.replace(side).is_some_and(|other| other != side) {
            return Err("ERR GT and LT options at the same time are not compatible".into());
        }
    }
    if nx {
        if condition != ExpireCondition::default() {
            return Err("ERR NX and XX, GT or LT options at the same time are not compatible".into());
        }
        condition.has_expiry = Some(false);
    }
    let deadline = Some(unit.deadline(a, integer(a.all()[1])?, clock)?);
    Ok((a.command(Action::Expire { deadline, condition, returns_value: false }), Form::Count))
}

/// How a time is counted.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    millis: i64,
    is_unix: bool,
}

/// Seconds from now.
pub const EX: Unit = Unit { millis: 1000, is_unix: false };
/// Milliseconds from now.
pub const PX: Unit = Unit { millis: 1, is_unix: false };
/// Seconds since 1970.
pub const EXAT: Unit = Unit { millis: 1000, is_unix: true };
/// Milliseconds since 1970.
pub const PXAT: Unit = Unit { millis: 1, is_unix: true };

impl Unit {
    fn named(word: &[u8]) -> Option<Unit> {
        match word {
            b"ex" => Some(EX),
            b"px" => Some(PX),
            b"exat" => Some(EXAT),
            b"pxat" => Some(PXAT),
            _ => None,
        }
    }

    /// A time on the server's clock; 0 if it is past. It can be told as Unix time too.
    fn deadline(self, a: &Arguments<'_>, number: i64, clock: Clock) -> Result<u64, Complaint> {
        let now = if self.is_unix { 0 } else { clock.unix_millis() };
        let unix = number.checked_mul(self.millis).and_then(|millis| millis.checked_add(now));
        let unix = unix.ok_or_else(|| invalid_expire_time(a))?;
        Ok(unix.saturating_sub(clock.unix_offset_millis).max(0) as u64)
    }

    /// The same for what does not take zero and less.
    fn future(self, a: &Arguments<'_>, number: &[u8], clock: Clock) -> Result<u64, Complaint> {
        match integer(number)? {
            number @ 1.. => self.deadline(a, number, clock),
            _ => Err(invalid_expire_time(a)),
        }
    }
}

fn invalid_expire_time(a: &Arguments<'_>) -> Complaint {
    format!("ERR invalid expire time in '{}' command", shown(&a.name.to_ascii_lowercase(), ECHO_BYTES_MAX)).into()
}
