//! The commands that a client asks about itself and about what can be asked, and the one that walks through the keys:
//! each an answer written at once. They know one client, and nobody's keys but the scan.

use super::resp::Resp;
use crate::execute::Executor;
use crate::limits::{NAME_BYTES_MAX, OUTPUT_HIGH_BYTES, SCAN_PATTERN_BYTES_MAX, SCAN_WORK_UNITS};
use crate::output::Output;
use crate::protocol::glob;
use crate::protocol::request::{self, Complaint, SYNTAX};
use crate::protocol::resp::Version;
use crate::protocol::verbs::{self, REDIS_VERSION, VERBS, Verb};

/// HELLO: which version to speak, with a password and a name if the client likes.
pub(super) fn hello(
    resp: &mut Resp,
    words: &[&[u8]],
    executor: &Executor,
    output: &mut Output,
) -> Result<(), Complaint> {
    let mut version = resp.version;
    let mut name = None;
    let (number, mut options) = words.split_first().map_or((None, words), |(number, options)| (Some(number), options));
    if let Some(number) = number {
        version = match request::integer(number) {
            Ok(2) => Version::Two,
            Ok(3) => Version::Three,
            Ok(_) => return Err(Complaint::Text("NOPROTO unsupported protocol version")),
            Err(_) => return Err(Complaint::Text("ERR Protocol version is not an integer or out of range")),
        };
    }
    while let [option, rest @ ..] = options {
        options = match (option.to_ascii_lowercase().as_slice(), rest) {
            (b"auth", [user, password, rest @ ..]) => {
                authenticate(resp, &[user, password], executor)?;
                rest
            }
            (b"setname", [word, rest @ ..]) => {
                name = Some(printable(word)?);
                rest
            }
            _ => {
                let option = option.escape_ascii();
                return Err(Complaint::Words(format!("ERR Syntax error in HELLO option '{option}'")));
            }
        };
    }
    if !resp.authenticated {
        return Err(Complaint::Text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
             <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    resp.version = version;
    resp.name = name.unwrap_or_else(|| std::mem::take(&mut resp.name));
    output.push_map(7, version);
    for (name, text) in [("server", "redis"), ("version", REDIS_VERSION), ("mode", "standalone"), ("role", "master")] {
        output.push_bulk(name.as_bytes());
        output.push_bulk(text.as_bytes());
    }
    for (name, number) in [("proto", version.number()), ("id", resp.id as i64)] {
        output.push_bulk(name.as_bytes());
        output.push_integer(number);
    }
    output.push_bulk(b"modules");
    output.push_array(0);
    Ok(())
}

/// What CLIENT tells a client about itself, and lets it say.
pub(super) fn client(
    resp: &mut Resp,
    subcommand: &[u8],
    words: &[&[u8]],
    output: &mut Output,
) -> Result<(), Complaint> {
    let subcommand = subcommand.to_ascii_lowercase();
    match (subcommand.as_slice(), words) {
        (b"id", []) => output.push_integer(resp.id as i64),
        (b"getname", []) if resp.name.is_empty() => output.push_null(resp.version),
        (b"getname", []) => output.push_bulk(resp.name.as_bytes()),
        (b"setname", [name]) => {
            resp.name = printable(name)?;
            output.push(b"+OK\r\n");
        }
        (b"setinfo", [what, text]) => {
            let place = match what.to_ascii_lowercase().as_slice() {
                b"lib-name" => 0,
                b"lib-ver" => 1,
                _ => return Err(Complaint::Words(format!("ERR Unrecognized option '{}'", what.escape_ascii()))),
            };
            resp.library[place] = printable(text)?;
            output.push(b"+OK\r\n");
        }
        (b"id" | b"getname" | b"setname" | b"setinfo", _) => {
            return Err(Complaint::arity(&format!("client|{}", String::from_utf8_lossy(&subcommand))));
        }
        _ => return Err(Complaint::about_subcommand(&subcommand, "client")),
    }
    Ok(())
}

/// COMMAND: the table of commands, or rows of it.
pub(super) fn command(words: &[&[u8]], version: Version, output: &mut Output) -> Result<(), Complaint> {
    let (subcommand, names) = words.split_first().map_or((b"info".as_slice(), words), |(first, rest)| (first, rest));
    match (subcommand.to_ascii_lowercase().as_slice(), names) {
        (b"count", []) => output.push_integer(VERBS.len() as i64),
        (b"docs", _) => output.push_map(0, version),
        (b"info", []) => {
            output.push_array(VERBS.len());
            VERBS.iter().for_each(|verb| push_verb(verb, output));
        }
        (b"info", names) => {
            output.push_array(names.len());
            for name in names {
                match verbs::find(name) {
                    Some(verb) => push_verb(verb, output),
                    None => output.push_null_array(version),
                }
            }
        }
        _ => return Err(Complaint::about_subcommand(subcommand, "command")),
    }
    Ok(())
}

/// A row of COMMAND's answer.
fn push_verb(verb: &Verb, output: &mut Output) {
    let flags: Vec<_> = verb.flags.split_whitespace().collect();
    let (first, last, step) = verb.keys;
    output.push_array(10);
    output.push_bulk(verb.name.as_bytes());
    output.push_integer(verb.arity.into());
    output.push_array(flags.len());
    flags.iter().for_each(|flag| output.push_status(flag));
    [first, last, step].iter().for_each(|&number| output.push_integer(number.into()));
    // Access categories, tips, key specifications and subcommands: clients look at their places, which are empty.
    (0..4).for_each(|_| output.push_array(0));
}

/// AUTH with a password, or with the one user that there is and a password.
pub(super) fn authenticate(resp: &mut Resp, words: &[&[u8]], executor: &Executor) -> Result<(), Complaint> {
    let (user, guess) = match *words {
        [guess] => (b"default".as_slice(), guess),
        [user, guess] => (user, guess),
        _ => return Err(SYNTAX),
    };
    let right = match &executor.password {
        None if words.len() == 1 => {
            return Err(Complaint::Text(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            ));
        }
        // Redis's default user takes any password then.
        None => user == b"default",
        Some(password) => password.is(guess) && user == b"default",
    };
    if !right {
        return Err(Complaint::Text("WRONGPASS invalid username-password pair or user is disabled."));
    }
    resp.authenticated = true;
    Ok(())
}

/// A name that can stand in a line of CLIENT LIST.
fn printable(word: &[u8]) -> Result<Box<str>, Complaint> {
    let name = std::str::from_utf8(word).ok().filter(|name| name.bytes().all(|byte| (b'!'..=b'~').contains(&byte)));
    let name = name.filter(|name| name.len() <= NAME_BYTES_MAX);
    name.map(Into::into).ok_or(Complaint::Text(
        "ERR Client names cannot contain spaces, newlines or special characters, or be longer than 128 bytes.",
    ))
}

/// One step of a scan.
pub(super) struct Scan<'a> {
    cursor: u64,
    count: usize,
    pattern: Option<&'a [u8]>,
    /// There is but one type, so that another finds nothing.
    nothing: bool,
}

impl<'a> Scan<'a> {
    pub(super) fn parse(cursor: &[u8], mut options: &[&'a [u8]]) -> Result<Self, Complaint> {
        let cursor = std::str::from_utf8(cursor).ok().and_then(|cursor| cursor.parse().ok());
        let cursor = cursor.ok_or(Complaint::Text("ERR invalid cursor"))?;
        let mut scan = Scan { cursor, count: 10, pattern: None, nothing: false };
        while let [option, rest @ ..] = options {
            let (&value, rest) = rest.split_first().ok_or(SYNTAX)?;
            match option.to_ascii_lowercase().as_slice() {
                b"count" => {
                    let count = request::integer(value)?;
                    scan.count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or(SYNTAX)?;
                }
                b"match" if value.len() > SCAN_PATTERN_BYTES_MAX => {
                    return Err(Complaint::Text("ERR pattern is too long"));
                }
                b"match" => scan.pattern = Some(value),
                b"type" => scan.nothing = !value.eq_ignore_ascii_case(b"string"),
                _ => return Err(SYNTAX),
            }
            options = rest;
        }
        Ok(scan)
    }

    /// Looks at about as many keys as were asked for, or fewer if that would take long or make much output.
    pub(super) fn run(self, executor: &mut Executor, output: &mut Output) {
        let (mut looked_at, mut found) = (0, 0);
        let mut work = 0;
        let mut keys = Output::default();
        let mut cursor = self.cursor;
        let work_before = executor.store.work();
        loop {
            cursor = executor.store.scan(cursor, |key| {
                looked_at += 1;
                let matches = self.pattern.is_none_or(|pattern| {
                    work += glob::cost(pattern, key);
                    glob::matches(pattern, key)
                });
                if matches && !self.nothing {
                    keys.push_bulk(key);
                    found += 1;
                }
            });
            let done = work + executor.store.work() - work_before;
            let enough = looked_at >= self.count || done >= SCAN_WORK_UNITS || keys.len() >= OUTPUT_HIGH_BYTES;
            if cursor == 0 || enough {
                break;
            }
        }
        executor.charge(work + found as u64);
        output.push_array(2);
        output.push_bulk(cursor.to_string().as_bytes());
        output.push_array(found);
        output.push(keys.contiguous().unwrap_or_default());
    }
}
