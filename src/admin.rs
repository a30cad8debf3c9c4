//! Questions about the whole server or about other clients: what CONFIG and CLIENT ask for, and how they are answered.
//! It is told what there is by whoever has it, and knows no socket and no loop.

use std::fmt::Write;

use crate::config;
use crate::limits::{CLIENTS_MAX, MEMORY_BYTES_MIN, SCAN_PATTERN_BYTES_MAX, SECONDS_MAX};
use crate::output::Output;
use crate::protocol::glob;
use crate::protocol::request::{self, Complaint, SYNTAX};
use crate::protocol::resp::Version;
use crate::protocol::verbs::Kind;

/// A command that a session cannot answer by itself.
#[derive(Debug)]
pub struct Question {
    /// Which command.
    pub kind: Kind,
    /// Its arguments.
    pub words: Vec<Box<[u8]>>,
    /// How many connections have been looked at, for what is about all of them and may take more than one turn.
    pub at: usize,
    /// How many of them were what was asked for.
    pub found: i64,
    /// The one who asks is among them.
    pub includes_asker: bool,
    /// What has been found out so far.
    pub text: String,
}

/// The options that CONFIG SET can change.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What the process may take, in bytes.
    pub max_memory: usize,
    /// Connections at once, and the most that the system allows.
    pub max_clients: usize,
    /// How long a client may be silent, in seconds; 0 for ever.
    pub timeout_seconds: u64,
}

/// Which clients are meant.
#[derive(Debug)]
pub struct Filter {
    ids: Vec<u64>,
    address: Option<String>,
    local_address: Option<String>,
    skips_asker: bool,
    /// There is but one type of client and one user: others mean nobody.
    nobody: bool,
    /// The first form of CLIENT KILL: it is an error if there is no such client.
    pub must_exist: bool,
}

/// A client, as CLIENT LIST shows it and filters see it.
#[derive(Debug)]
pub struct Client<'a> {
    /// Its number.
    pub id: u64,
    /// Its own address.
    pub address: String,
    /// The address that it has connected to.
    pub local_address: String,
    /// Since when it is connected, in milliseconds.
    pub age_millis: u64,
    /// Since when it has sent no command, in milliseconds.
    pub idle_millis: u64,
    /// What it called itself.
    pub name: &'a str,
    /// The name and the version of its library.
    pub library: [&'a str; 2],
    /// The command that it sent last.
    pub command: &'static str,
    /// The version of RESP that it is answered in.
    pub version: Version,
    /// Output that waits for it, and memory that it holds, in bytes.
    pub bytes: [usize; 2],
}

impl Question {
    /// A question that has just been asked.
    pub fn new(kind: Kind, words: &[&[u8]]) -> Self {
        let words = words.iter().map(|&word| word.into()).collect();
        Question { kind, words, at: 0, found: 0, includes_asker: false, text: String::new() }
    }

    /// Its first argument in lower case, and the others.
    pub fn subcommand(&self) -> (Vec<u8>, &[Box<[u8]>]) {
        match self.words.split_first() {
            Some((first, rest)) => (first.to_ascii_lowercase(), rest),
            None => Default::default(),
        }
    }
}

/// Answers CONFIG GET: those of `settings` whose names match one of the patterns.
///
/// # Errors
/// No pattern, or one that is too long.
pub fn config_get(
    patterns: &[Box<[u8]>],
    settings: &[(&str, String)],
    version: Version,
    output: &mut Output,
) -> Result<(), Complaint> {
    if patterns.is_empty() {
        return Err(Complaint::arity("config|get"));
    }
    if patterns.iter().any(|pattern| pattern.len() > SCAN_PATTERN_BYTES_MAX) {
        return Err(SYNTAX);
    }
    let patterns: Vec<_> = patterns.iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
    let matches = |name: &str| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes()));
    let found: Vec<_> = settings.iter().filter(|(name, _)| matches(name)).collect();
    output.push_map(found.len(), version);
    for (name, value) in found {
        output.push_bulk(name.as_bytes());
        output.push_bulk(value.as_bytes());
    }
    Ok(())
}

/// Carries out CONFIG SET on `options`: all that is asked for, or nothing. `clients_max` is what the system allows.
///
/// # Errors
/// An option that cannot be set, or not to that.
pub fn config_set(words: &[Box<[u8]>], clients_max: usize, options: Options) -> Result<Options, Complaint> {
    if words.is_empty() || words.len() % 2 == 1 {
        return Err(Complaint::arity("config|set"));
    }
    let clients_max = clients_max.min(CLIENTS_MAX);
    let mut changed = options;
    for pair in words.chunks_exact(2) {
        let name = String::from_utf8_lossy(&pair[0]).to_ascii_lowercase();
        let text = std::str::from_utf8(&pair[1]).unwrap_or_default();
        let number = |least, most| text.parse().ok().filter(|number| (least..=most).contains(number));
        let (is_set, expected) = match name.as_str() {
            "maxmemory" => {
                let bytes = config::size(text, MEMORY_BYTES_MIN..=usize::MAX);
                let expected = format!("a memory value of at least {} mb", MEMORY_BYTES_MIN >> 20);
                (bytes.map(|bytes| changed.max_memory = bytes), expected)
            }
            "maxclients" => {
                let clients = number(1, clients_max as u64);
                let expected = format!("between 1 and {clients_max}");
                (clients.map(|clients| changed.max_clients = clients as usize), expected)
            }
            "timeout" => {
                let seconds = number(0, SECONDS_MAX);
                (seconds.map(|seconds| changed.timeout_seconds = seconds), format!("between 0 and {SECONDS_MAX}"))
            }
            _ => {
                let text = format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'");
                return Err(Complaint::Words(text));
            }
        };
        is_set.ok_or_else(|| {
            let place = format!("possibly related to argument '{name}'");
            Complaint::Words(format!("ERR CONFIG SET failed ({place}) - argument must be {expected}"))
        })?;
    }
    Ok(changed)
}

impl Filter {
    /// From what follows CLIENT LIST, or CLIENT KILL if `kills`.
    ///
    /// # Errors
    /// What is no filter.
    pub fn parse(words: &[Box<[u8]>], kills: bool) -> Result<Self, Complaint> {
        let mut filter = Filter {
            ids: Vec::new(),
            address: None,
            local_address: None,
            skips_asker: kills,
            nobody: false,
            must_exist: false,
        };
        let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
        match words {
            [] if kills => return Err(Complaint::arity("client|kill")),
            [address] if kills => {
                (filter.address, filter.must_exist) = (Some(text(address)), true);
                filter.skips_asker = false;
                return Ok(filter);
            }
            _ => {}
        }
        let id = |word: &[u8]| {
            let id = request::integer(word).ok().and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
            id.ok_or(Complaint::Text("ERR client-id should be greater than 0"))
        };
        let mut words = words;
        while let [name, value, rest @ ..] = words {
            words = rest;
            match name.to_ascii_lowercase().as_slice() {
                b"id" => {
                    filter.ids.push(id(value)?);
                    while let [more, rest @ ..] = words
                        && !kills
                    {
                        filter.ids.push(id(more)?);
                        words = rest;
                    }
                }
                b"type" => match value.to_ascii_lowercase().as_slice() {
                    b"normal" => {}
                    b"master" | b"replica" | b"slave" | b"pubsub" => filter.nobody = true,
                    _ => return Err(Complaint::Words(format!("ERR Unknown client type '{}'", text(value)))),
                },
                b"user" if kills => filter.nobody |= **value != *b"default",
                b"addr" if kills => filter.address = Some(text(value)),
                b"laddr" if kills => filter.local_address = Some(text(value)),
                b"skipme" if kills => match value.to_ascii_lowercase().as_slice() {
                    b"yes" => filter.skips_asker = true,
                    b"no" => filter.skips_asker = false,
                    _ => return Err(SYNTAX),
                },
                _ => return Err(SYNTAX),
            }
        }
        if words.is_empty() { Ok(filter) } else { Err(SYNTAX) }
    }

    /// Whether `client` is meant, by a question of the client numbered `asker`.
    pub fn means(&self, client: &Client<'_>, asker: u64) -> bool {
        let is_left_out = self.nobody || self.skips_asker && client.id == asker;
        !is_left_out
            && (self.ids.is_empty() || self.ids.contains(&client.id))
            && self.address.as_ref().is_none_or(|address| *address == client.address)
            && self.local_address.as_ref().is_none_or(|address| *address == client.local_address)
    }
}

impl Client<'_> {
    /// Appends its line of CLIENT LIST.
    pub fn describe(&self, text: &mut String) {
        let Client { id, address, local_address, name, library: [library, library_version], command, .. } = self;
        let (age, idle) = (self.age_millis / 1000, self.idle_millis / 1000);
        let (version, [waiting, held]) = (self.version.number(), self.bytes);
        let _ = writeln!(
            text,
            "id={id} addr={address} laddr={local_address} name={name} age={age} idle={idle} flags=N db=0 sub=0 psub=0 \
             ssub=0 omem={waiting} tot-mem={held} cmd={command} user=default lib-name={library} lib-ver={library_version} resp={version}"
        );
    }
}
