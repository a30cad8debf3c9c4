//! What a Redis command on one key asks for, options and all, and in which form it is answered. Pure: the time comes
//! in, a [`Command`] goes out, and Redis's words for what is wrong.

use std::cmp::Ordering;

use super::resp::Arguments;
use super::verbs::{Kind, Verb};
use crate::command::{Clock, Command, Condition, ExpireCondition, Expiry, Measure, Refusal};

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
}

/// What is wrong with a command that is not, or not so, spoken here, in Redis's words. The connection is none the
/// worse for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// In words that are always the same.
    Text(&'static str),
    /// In words that hold some of the command's.
    Words(String),
}

/// Not what the command's options are.
pub const SYNTAX: Complaint = Complaint::Text("ERR syntax error");
const NOT_AN_INTEGER: Complaint = Complaint::Text(refusal(Refusal::NotANumber));

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

impl Complaint {
    /// Too few or too many arguments for `command`.
    pub fn arity(command: &str) -> Self {
        Complaint::Words(format!("ERR wrong number of arguments for '{command}' command"))
    }

    /// A time that cannot be.
    fn expire_time(verb: &Verb) -> Self {
        Complaint::Words(format!("ERR invalid expire time in '{}' command", verb.name))
    }

    /// About a command whose number of arguments is wrong, or that is not known.
    pub fn about(verb: Option<&'static Verb>, arguments: &Arguments<'_>) -> Self {
        if let Some(verb) = verb {
            return Complaint::arity(verb.name);
        }
        let cut = |bytes: &[u8], left: usize| bytes[..bytes.len().min(left)].escape_ascii().to_string();
        let name = cut(arguments.name, ECHO_BYTES_MAX);
        let mut text = format!("ERR unknown command '{name}', with args beginning with: ");
        let mut left = ECHO_BYTES_MAX;
        for argument in arguments.all() {
            if left == 0 {
                break;
            }
            text += &format!("'{}' ", cut(argument, left));
            left = left.saturating_sub(argument.len());
        }
        Complaint::Words(text)
    }

    /// About a subcommand of `command` that is not known.
    pub fn about_subcommand(name: &[u8], command: &str) -> Self {
        let name = name[..name.len().min(ECHO_BYTES_MAX)].escape_ascii();
        Complaint::Words(format!("ERR unknown subcommand '{name}'. Try {} HELP.", command.to_ascii_uppercase()))
    }

    /// The words.
    pub fn text(&self) -> &str {
        match self {
            Complaint::Text(text) => text,
            Complaint::Words(text) => text,
        }
    }
}

/// What `verb` with `arguments`, or one part of it, asks the store; `None` if it is not about a key.
///
/// # Errors
/// A [`Complaint`] if an argument is not what the command takes.
pub fn command<'a>(
    verb: &'static Verb,
    arguments: &Arguments<'a>,
    clock: Clock,
) -> Result<Option<(Command<'a>, Form)>, Complaint> {
    let all = arguments.all();
    let (&key, options) = match all {
        [key, options @ ..] => (key, options),
        [] => return Ok(None),
    };
    let add = |delta| (Command::Add { key, delta }, Form::Plain);
    let measure = |measure, form| (Command::Measure { key, measure }, form);
    let write = |at, condition, expiry, returns_old| Command::Write {
        key,
        value: arguments.value(at),
        condition,
        expiry,
        returns_old,
    };
    Ok(Some(match verb.kind {
        Kind::Get | Kind::MGet => (Command::Get { key }, Form::Plain),
        Kind::Touch => (Command::Get { key }, Form::Count),
        Kind::MSet => {
            let value = arguments.value(1);
            (Command::Set { key, value }, Form::All)
        }
        Kind::Del => (Command::Delete { key }, Form::Count),
        Kind::Exists => measure(Measure::Length, Form::Count),
        Kind::Type => measure(Measure::Length, Form::Type),
        Kind::StrLen => measure(Measure::Length, Form::Number),
        Kind::TimeLeft { absolute, millis } => measure(
            if absolute { Measure::ExpiryTime } else { Measure::TimeLeft },
            if millis { Form::Millis } else { Form::Seconds },
        ),
        Kind::Incr => add(1),
        Kind::Decr => add(-1),
        Kind::IncrBy => add(integer(options[0])?),
        Kind::DecrBy => {
            add(integer(options[0])?.checked_neg().ok_or(Complaint::Text("ERR decrement would overflow"))?)
        }
        Kind::SetNx => (write(1, Condition::Missing, Expiry::Default, false), Form::Count),
        Kind::GetSet => (write(1, Condition::Always, Expiry::Default, true), Form::Plain),
        Kind::SetEx { millis } => {
            let time = Time { absolute: false, millis, number: integer(options[0])? };
            let deadline = time.positive(verb, clock)?;
            let command = write(2, Condition::Always, Expiry::At(deadline), false);
            (command, Form::Plain)
        }
        Kind::Set => {
            let Options { time, keep_ttl, condition, get, .. } = Options::parse(verb, &options[1..])?;
            let expiry = match time {
                Some(time) => Expiry::At(time.positive(verb, clock)?),
                None if keep_ttl => Expiry::Keep,
                None => Expiry::Default,
            };
            (write(1, condition, expiry, get), Form::Plain)
        }
        Kind::Append => {
            let value = arguments.value(1);
            (Command::Append { key, value }, Form::Plain)
        }
        Kind::GetDel => (Command::Take { key }, Form::Plain),
        Kind::GetEx => {
            let Options { time, persist, .. } = Options::parse(verb, options)?;
            let deadline = match time {
                Some(time) => Some(time.positive(verb, clock)?),
                None if persist => None,
                None => return Ok(Some((Command::Get { key }, Form::Plain))),
            };
            let command = Command::Expire { key, deadline, condition: ExpireCondition::default(), returns_value: true };
            (command, Form::Plain)
        }
        Kind::Expire { absolute, millis } => {
            let time = Time { absolute, millis, number: integer(options[0])? };
            let condition = expire_condition(&options[1..])?;
            let deadline = Some(time.deadline(verb, clock)?);
            let command = Command::Expire { key, deadline, condition, returns_value: false };
            (command, Form::Count)
        }
        Kind::Persist => {
            let condition = ExpireCondition { has_expiry: Some(true), moves: None };
            let command = Command::Expire { key, deadline: None, condition, returns_value: false };
            (command, Form::Count)
        }
        Kind::Memory if key.eq_ignore_ascii_case(b"usage") && !options.is_empty() => {
            match options[1..] {
                [] => {}
                // How many nested values to look at: there are none here.
                [option, samples] if option.eq_ignore_ascii_case(b"samples") => {
                    integer(samples)?;
                }
                _ => return Err(SYNTAX),
            }
            let command = Command::Measure { key: options[0], measure: Measure::Memory };
            (command, Form::Plain)
        }
        _ => return Ok(None),
    }))
}

/// A number as Redis reads it.
pub fn integer(text: &[u8]) -> Result<i64, Complaint> {
    let text = std::str::from_utf8(text).ok();
    let text = text.filter(|text| !text.starts_with('+'));
    text.and_then(|text| text.parse().ok()).ok_or(NOT_AN_INTEGER)
}

/// A point in time, as it was written.
#[derive(Clone, Copy)]
struct Time {
    absolute: bool,
    millis: bool,
    number: i64,
}

impl Time {
    /// On the server's clock; 0 if it is past.
    fn deadline(self, verb: &'static Verb, clock: Clock) -> Result<u64, Complaint> {
        let millis = self.number.checked_mul(if self.millis { 1 } else { 1000 });
        let from = match self.absolute {
            true => -clock.unix_offset_millis,
            false => clock.now_millis as i64,
        };
        let unix = millis.and_then(|millis| millis.checked_add(from));
        // Its time in the other way of counting, which replies are given in, must exist too.
        let deadline = unix.filter(|millis| *millis < i64::MAX - clock.unix_offset_millis.max(0));
        let deadline = deadline.ok_or_else(|| Complaint::expire_time(verb))?;
        Ok(deadline.max(0) as u64)
    }

    /// The same for commands that do not take zero and less.
    fn positive(self, verb: &'static Verb, clock: Clock) -> Result<u64, Complaint> {
        if self.number <= 0 {
            return Err(Complaint::expire_time(verb));
        }
        self.deadline(verb, clock)
    }
}

/// What SET and GETEX take behind their key and value.
struct Options {
    time: Option<Time>,
    keep_ttl: bool,
    persist: bool,
    condition: Condition,
    get: bool,
}

impl Options {
    fn parse(verb: &'static Verb, mut words: &[&[u8]]) -> Result<Self, Complaint> {
        let sets = verb.kind == Kind::Set;
        let mut options =
            Options { time: None, keep_ttl: false, persist: false, condition: Condition::Always, get: false };
        while let [word, rest @ ..] = words {
            words = rest;
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            let timeless = options.time.is_none() && !options.keep_ttl && !options.persist;
            let (absolute, millis) = (word.len() == 4, is("PX") || is("PXAT"));
            if timeless && (millis || is("EX") || is("EXAT")) {
                let (number, rest) = words.split_first().ok_or(SYNTAX)?;
                words = rest;
                options.time = Some(Time { absolute, millis, number: integer(number)? });
            } else if sets && is("NX") && options.condition != Condition::Present {
                options.condition = Condition::Missing;
            } else if sets && is("XX") && options.condition != Condition::Missing {
                options.condition = Condition::Present;
            } else if sets && is("GET") {
                options.get = true;
            } else if sets && is("KEEPTTL") && options.time.is_none() {
                options.keep_ttl = true;
            } else if !sets && is("PERSIST") && options.time.is_none() {
                options.persist = true;
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(options)
    }
}

fn expire_condition(words: &[&[u8]]) -> Result<ExpireCondition, Complaint> {
    let mut condition = ExpireCondition::default();
    let (mut nx, mut others) = (false, false);
    for word in words {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        let side = if is("GT") { Ordering::Greater } else { Ordering::Less };
        if is("NX") {
            nx = true;
            continue;
        } else if is("XX") {
            condition.has_expiry = Some(true);
        } else if !is("GT") && !is("LT") {
            return Err(Complaint::Words(format!("ERR Unsupported option {}", String::from_utf8_lossy(word))));
        } else if condition.moves.replace(side).is_some_and(|other| other != side) {
            return Err(Complaint::Text("ERR GT and LT options at the same time are not compatible"));
        }
        others = true;
    }
    if nx && others {
        return Err(Complaint::Text("ERR NX and XX, GT or LT options at the same time are not compatible"));
    }
    if nx {
        condition.has_expiry = Some(false);
    }
    Ok(condition)
}
