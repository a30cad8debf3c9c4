//! The commands that are not about one key, such as those on a client's connection, MULTI, COMMAND and SCAN. Most are
//! answered here. A command about the whole server or about other clients becomes a [`Question`].

use super::Phase;
use super::resp::{NOT_AUTHENTICATED, Outcome, Question, RespClient};
use crate::execute::Executor;
use crate::limits::*;
use crate::output::Output;
use crate::protocol::glob;
use crate::protocol::resp::Arguments;
use crate::protocol::verbs::{self, COMMANDS, Complaint, REDIS_VERSION, SYNTAX, VERBS, Verb, integer, lower, shown};

const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. Are you sure \
    your configuration is correct?";

impl RespClient<'_> {
    /// Executes a command that is not about a key. Those that are answered with OK are here, the others below.
    pub(super) fn execute_unkeyed(&mut self, verb: &Verb, arguments: &Arguments<'_>) -> Outcome {
        match (verb.name, arguments.all()) {
            ("auth", words) => self.authenticate(words)?,
            ("select", [index]) if integer(index)? != 0 => Err("ERR DB index is out of range: there is only DB 0")?,
            ("select", _) => {}
            ("quit", _) => (*self.phase, self.resp.queue) = (Phase::Closing, None),
            ("client|setname", [_, name]) => self.resp.set_name(0, printable(name)?),
            ("client|setinfo", [_, what, text]) => match lower(what, &mut [0; 8]) {
                b"lib-name" => self.resp.set_name(1, printable(text)?),
                b"lib-ver" => self.resp.set_name(2, printable(text)?),
                _ => return Err(format!("ERR Unrecognized option '{}'", shown(what)).into()),
            },
            // Either way the keys are gone at once, and their memory is given back in the background.
            ("flushall" | "flushdb", [how]) if !matches!(lower(how, &mut [0; 8]), b"async" | b"sync") => Err(SYNTAX)?,
            ("flushall" | "flushdb", [_, _, ..]) => Err(SYNTAX)?,
            ("flushall" | "flushdb", _) => self.executor.store.flush(),
            ("multi", _) if self.resp.queue.is_none() => self.resp.queue = Some(Box::default()),
            ("discard", _) => drop(self.resp.queue.take().ok_or("ERR DISCARD without MULTI")?),
            _ => return self.answer_unkeyed(verb, arguments),
        }
        self.output.push(b"+OK\r\n");
        Ok(())
    }

    /// Executes a command that is answered with more than OK.
    fn answer_unkeyed(&mut self, verb: &Verb, arguments: &Arguments<'_>) -> Outcome {
        let (output, is_resp3) = (&mut *self.output, self.resp.is_resp3);
        match (verb.name, arguments.all()) {
            ("ping", []) => output.push(b"+PONG\r\n"),
            ("ping" | "echo", [_]) => output.push_bulk_value(arguments.value(0)),
            ("ping", _) => return Err(verbs::wrong_arity(verb.name)),
            ("hello", words) => self.hello(words)?,
            ("exec", _) => self.exec()?,
            // Unlike other errors, this one does not make the transaction fail.
            ("multi", _) => {
                self.executor.stats.errors += 1;
                output.push_line(b'-', "ERR MULTI calls can not be nested");
            }
            ("client|id", _) => output.push_header(b':', self.id as i64),
            ("client|getname", _) => match self.resp.names()[0] {
                "" => output.push_null(is_resp3),
                name => output.push_bulk(name.as_bytes()),
            },
            ("command|count", _) => output.push_header(b':', COMMANDS as i64),
            ("command|docs", _) => output.push_map(0, is_resp3),
            ("command" | "command|info", words) => {
                let find = |name: &&[u8]| VERBS.iter().find(|verb| name.eq_ignore_ascii_case(verb.name.as_bytes()));
                let named: Vec<_> = words.iter().skip(1).map(find).collect();
                let rows = if named.is_empty() { VERBS[..COMMANDS].iter().map(Some).collect() } else { named };
                self.executor.store.work += 3 * rows.len() as u64;
                output.push_header(b'*', rows.len() as i64);
                rows.into_iter().for_each(|row| push_verb(row, is_resp3, output));
            }
            ("time", _) => {
                let millis = self.executor.clock.unix_millis();
                output.push_header(b'*', 2);
                [millis / 1000, millis % 1000 * 1000].iter().for_each(|it| output.push_bulk(it.to_string().as_bytes()));
            }
            ("dbsize", _) => output.push_header(b':', self.executor.store.len() as i64),
            ("scan", [cursor, options @ ..]) => scan(cursor, options, self.executor, output)?,
            ("keys", _) => Err("ERR KEYS is not served, since all other clients would have to wait: use SCAN")?,
            (_, words) if words.iter().any(|word| word.len() > NAME_BYTES_MAX) => return Err(SYNTAX),
            (verb, words) => {
                let words = words.iter().map(|word| word.to_ascii_lowercase().into()).collect();
                self.resp.question = Some(Box::new(Question { verb, words, ..Question::default() }));
            }
        }
        Ok(())
    }

    /// HELLO: sets the protocol's version, and may authenticate and name the client.
    fn hello(&mut self, words: &[&[u8]]) -> Outcome {
        let is_resp3 = match words.first().map(|number| integer(number)) {
            None => self.resp.is_resp3,
            Some(Ok(version @ (2 | 3))) => version == 3,
            Some(Ok(_)) => return Err("NOPROTO unsupported protocol version".into()),
            Some(Err(_)) => return Err("ERR Protocol version is not an integer or out of range".into()),
        };
        let (mut name, mut options) = (None, words.get(1..).unwrap_or_default());
        while let [option, rest @ ..] = options {
            options = match (lower(option, &mut [0; 8]), rest) {
                (b"auth", [user, password, rest @ ..]) => self.authenticate(&[user, password]).map(|()| rest)?,
                (b"setname", [word, rest @ ..]) => {
                    name = Some(printable(word)?);
                    rest
                }
                _ => return Err(format!("ERR Syntax error in HELLO option '{}'", shown(option)).into()),
            };
        }
        if !self.resp.authenticated {
            return Err(NOT_AUTHENTICATED);
        }
        name.into_iter().for_each(|name| self.resp.set_name(0, name));
        self.resp.is_resp3 = is_resp3;
        self.output.push_map(7, is_resp3);
        for word in ["server", "redis", "version", REDIS_VERSION, "mode", "standalone", "role", "master", "proto"] {
            self.output.push_bulk(word.as_bytes());
        }
        self.output.push_header(b':', 2 + i64::from(is_resp3));
        self.output.push_bulk(b"id");
        self.output.push_header(b':', self.id as i64);
        self.output.push_bulk(b"modules");
        self.output.push_header(b'*', 0);
        Ok(())
    }

    /// AUTH with a password, or with a user name and a password. There is one user, `default`.
    fn authenticate(&mut self, words: &[&[u8]]) -> Outcome {
        let password = &self.executor.password;
        let (user, guess) = match *words {
            [_] if password.is_none() => return Err(NO_PASSWORD.into()),
            [guess] => (b"default".as_slice(), guess),
            [user, guess] => (user, guess),
            _ => return Err(SYNTAX),
        };
        // As in Redis: a user without a password accepts any.
        if password.as_ref().is_some_and(|password| !password.is(guess)) || user != b"default" {
            return Err("WRONGPASS invalid username-password pair or user is disabled.".into());
        }
        self.resp.authenticated = true;
        Ok(())
    }
}

/// Appends a row of COMMAND's reply.
fn push_verb(verb: Option<&Verb>, is_resp3: bool, output: &mut Output) {
    let Some(verb) = verb else { return output.push_null(is_resp3) };
    output.push_header(b'*', 10);
    output.push_bulk(verb.name.as_bytes());
    output.push_header(b':', verb.arity.into());
    output.push_header(b'*', verb.flags.split_whitespace().count() as i64);
    verb.flags.split_whitespace().for_each(|flag| output.push_line(b'+', flag));
    // The first and the last argument that is a key (-1 is the end), and the step.
    let [key, part] = [verb.key_at, verb.part].map(i64::from);
    let keys = if part > 0 { [key, -1, part] } else { [key, key, key.min(1)] };
    keys.into_iter().for_each(|number| output.push_header(b':', number));
    // Access categories, tips, key specifications and subcommands: clients expect these fields, which are empty here.
    (0..4).for_each(|_| output.push_header(b'*', 0));
}

/// `word` as text, if it can be a field of CLIENT LIST: those are separated by spaces.
fn printable(word: &[u8]) -> Result<&str, Complaint> {
    let is_printable = word.len() <= NAME_BYTES_MAX && word.iter().all(u8::is_ascii_graphic);
    let error = "ERR Client names cannot contain spaces, newlines or special characters, or be longer than 128 bytes.";
    str::from_utf8(word).ok().filter(|_| is_printable).ok_or(error.into())
}

/// SCAN: looks at about as many keys as COUNT says, or at fewer if that would take long or make much output.
fn scan(cursor: &[u8], options: &[&[u8]], executor: &mut Executor, output: &mut Output) -> Outcome {
    let mut cursor: u64 = str::from_utf8(cursor).ok().and_then(|text| text.parse().ok()).ok_or("ERR invalid cursor")?;
    let (mut count, mut pattern, mut has_type) = (10, b"*".as_slice(), true);
    for option in options.chunks(2) {
        let [name, value] = *option else { return Err(SYNTAX) };
        match lower(name, &mut [0; 8]) {
            b"count" => count = Some(integer(value)?).filter(|count| *count > 0).ok_or(SYNTAX)?,
            b"match" => pattern = value,
            // All values are strings, so any other type finds nothing.
            b"type" => has_type = value.eq_ignore_ascii_case(b"string"),
            _ => return Err(SYNTAX),
        }
    }
    let (mut looked_at, mut found, mut steps) = (0, 0, SCAN_STEPS_MAX);
    let mut keys = Output::default();
    let work_max = executor.store.work + SCAN_WORK_UNITS;
    loop {
        cursor = executor.store.scan(cursor, |key| {
            looked_at += 1;
            if has_type && glob::matches(pattern, key, &mut steps) {
                keys.push_bulk(key);
                found += 1;
            }
        });
        // A bucket's keys are all matched at once, so one is begun only while most of the steps are left for it.
        let is_long = keys.len() >= OUTPUT_HIGH_BYTES || steps <= SCAN_STEPS_MAX / 8 * 7;
        if cursor == 0 || looked_at >= count || is_long || executor.store.work >= work_max {
            break;
        }
    }
    executor.store.work += (SCAN_STEPS_MAX - steps + keys.len()) as u64 / STEPS_PER_UNIT;
    if steps == 0 {
        return Err("ERR pattern takes too long to match".into());
    }
    output.push_header(b'*', 2);
    output.push_bulk(cursor.to_string().as_bytes());
    output.push_header(b'*', found);
    output.push(keys.contiguous().unwrap_or_default());
    Ok(())
}
