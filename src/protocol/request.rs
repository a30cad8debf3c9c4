//! What a Redis command asks to be done with a key, options and all, and in which form it is answered. Pure: the time
//! comes in, an [`Action`] goes out, and Redis's words for what is wrong.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::resp::Arguments;
use crate::command::{Action, Clock, Condition, ExpireCondition, Expiry, Measure, Refusal};
use crate::number;

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
    Count,   // how many of the command's keys there were; nothing before the last of them
    All,     // OK once all of the command's keys are done
    Each,    // an array with one for each of the command's keys
}

/// What a command, or one part of it, asks to be done with its key.
pub type Planned<'a> = Result<Action<'a>, Complaint>;

/// Makes that of arguments whose number is right.
pub type Plan = for<'a> fn(&Arguments<'a>, Clock) -> Planned<'a>;

/// What is wrong with a command that is not, or not so, spoken here, in Redis's words. The connection is none the
/// worse for it.
pub type Complaint = Cow<'static, str>;

pub const SYNTAX: Complaint = Cow::Borrowed("ERR syntax error");
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

pub fn wrong_arity(command: &str) -> Complaint {
    format!("ERR wrong number of arguments for '{command}' command").into()
}

pub fn unknown_command(arguments: &Arguments<'_>) -> Complaint {
    let mut shown_arguments = String::new();
    for argument in arguments.all() {
        if let Some(left @ 1..) = ECHO_BYTES_MAX.checked_sub(shown_arguments.len()) {
            shown_arguments += &format!("'{}' ", shown(argument, left));
        }
    }
    let name = shown(arguments.name, ECHO_BYTES_MAX);
    format!("ERR unknown command '{name}', with args beginning with: {shown_arguments}").into()
}

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

pub fn integer(text: &[u8]) -> Result<i64, Complaint> {
    number::parse(text).ok_or(Cow::Borrowed(refusal(Refusal::NotANumber)))
}

/// INCR, DECR and their like with a number.
pub fn add<'a>(a: &Arguments<'a>, sign: i64) -> Planned<'a> {
    let number = a.all().get(1).map_or(Ok(1), |number| integer(number))?;
    Ok(Action::Add(number.checked_mul(sign).ok_or("ERR decrement would overflow")?))
}

/// MEMORY USAGE. How many nested values to look at makes no difference: there are none here.
pub fn memory_usage<'a>(a: &Arguments<'a>, _: Clock) -> Planned<'a> {
    match a.all()[2..] {
        [] => {}
        [option, samples] if option.eq_ignore_ascii_case(b"samples") => drop(integer(samples)?),
        _ => return Err(SYNTAX),
    }
    Ok(Action::Measure(Measure::Memory))
}

pub fn setex<'a>(a: &Arguments<'a>, unit: &[u8], clock: Clock) -> Planned<'a> {
    let expiry = Expiry::At(deadline(a, unit, a.all()[1], 1, clock)?);
    Ok(Action::Write { value: a.value(2), condition: Condition::Always, expiry, returns_old: false })
}

/// SETNX, which is this `condition`, and GETSET.
pub fn write<'a>(a: &Arguments<'a>, condition: Condition, returns_old: bool) -> Planned<'a> {
    Ok(Action::Write { value: a.value(1), condition, expiry: Expiry::Default, returns_old })
}

pub fn set<'a>(a: &Arguments<'a>, clock: Clock) -> Planned<'a> {
    let (mut condition, mut keeps, mut time, mut returns_old) = (Condition::Always, false, None, false);
    let mut words = a.all()[2..].iter();
    while let Some(word) = words.next() {
        match lower(word, &mut [0; 8]) {
            b"nx" if condition != Condition::Present => condition = Condition::Missing,
            b"xx" if condition != Condition::Missing => condition = Condition::Present,
            b"get" => returns_old = true,
            b"keepttl" if time.is_none() => keeps = true,
            _ if time.is_none() && !keeps => time = Some((word, words.next().ok_or(SYNTAX)?)),
            _ => return Err(SYNTAX),
        }
    }
    let expiry = match time {
        Some((unit, number)) => Expiry::At(deadline(a, unit, number, 1, clock)?),
        None if keeps => Expiry::Keep,
        None => Expiry::Default,
    };
    Ok(Action::Write { value: a.value(1), condition, expiry, returns_old })
}

pub fn getex<'a>(a: &Arguments<'a>, clock: Clock) -> Planned<'a> {
    let deadline = match a.all()[1..] {
        [] => return Ok(Action::Get),
        [word] if word.eq_ignore_ascii_case(b"persist") => None,
        [unit, number] => Some(deadline(a, unit, number, 1, clock)?),
        _ => return Err(SYNTAX),
    };
    Ok(Action::Expire { deadline, condition: ExpireCondition::default(), returns_value: true })
}

pub fn persist<'a>(_: &Arguments<'a>, _: Clock) -> Planned<'a> {
    let condition = ExpireCondition { has_expiry: Some(true), moves: None };
    Ok(Action::Expire { deadline: None, condition, returns_value: false })
}

pub fn expire<'a>(a: &Arguments<'a>, unit: &[u8], clock: Clock) -> Planned<'a> {
    let (number, options) = (a.all()[1], &a.all()[2..]);
    let known: [&[u8]; 4] = [b"nx", b"xx", b"gt", b"lt"];
    if let Some(other) = options.iter().find(|word| !known.iter().any(|name| word.eq_ignore_ascii_case(name))) {
        return Err(format!("ERR Unsupported option {}", String::from_utf8_lossy(other)).into());
    }
    let [nx, xx, gt, lt] = known.map(|name| options.iter().any(|word| word.eq_ignore_ascii_case(name)));
    if nx && (xx || gt || lt) {
        return Err("ERR NX and XX, GT or LT options at the same time are not compatible".into());
    }
    if gt && lt {
        return Err("ERR GT and LT options at the same time are not compatible".into());
    }
    let moves = if gt { Some(Ordering::Greater) } else { lt.then_some(Ordering::Less) };
    let condition = ExpireCondition { has_expiry: (nx || xx).then_some(xx), moves };
    let deadline = Some(deadline(a, unit, number, i64::MIN, clock)?);
    Ok(Action::Expire { deadline, condition, returns_value: false })
}

/// The time on the server's clock, 0 if it is past, that a number of at least `least` means: EX and PX count from now,
/// EXAT and PXAT since 1970, in seconds and milliseconds.
fn deadline(a: &Arguments<'_>, unit: &[u8], number: &[u8], least: i64, clock: Clock) -> Result<u64, Complaint> {
    let (unit_millis, start_millis) = match lower(unit, &mut [0; 8]) {
        b"ex" => (1000, clock.unix_millis()),
        b"px" => (1, clock.unix_millis()),
        b"exat" => (1000, 0),
        b"pxat" => (1, 0),
        _ => return Err(SYNTAX),
    };
    let number = Some(integer(number)?).filter(|number| *number >= least);
    let unix = number.and_then(|number| number.checked_mul(unit_millis)?.checked_add(start_millis));
    let Some(unix) = unix else {
        let name = a.name.to_ascii_lowercase();
        return Err(format!("ERR invalid expire time in '{}' command", shown(&name, ECHO_BYTES_MAX)).into());
    };
    Ok(unix.saturating_sub(clock.unix_offset_millis).max(0) as u64)
}
