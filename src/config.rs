//! Options: defaults, the environment's password, the configuration file and flags, each over the one before, all
//! through one table and one `set`.
//!
//! It knows how an option is written and what range it may have, and remembers where each was set, so that whoever
//! finds later that a value cannot be used complains about the same place. It knows no socket and opens
//! nothing but the configuration file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::prelude::*;
use log::LevelFilter;

use crate::limits::{CLIENTS_MAX, CPU_MAX, MEMORY_BYTES_MIN, PASSWORD_BYTES_MAX, SECONDS_MAX, VALUE_BYTES_MAX_MAX};
use crate::memory::MemoryLimit;
use crate::password::Password;
use crate::store::Eviction;

/// Makes [`Config`] and [`OPTIONS`] of one table: what an option does; its field and type; its name, its default, what
/// it may be, and how a value is read.
macro_rules! options {
    ($(
        $(#[doc = $meaning:literal])*
        $field:ident: $type:ty = $name:literal, $default:literal, $expected:expr, $read:expr;
    )*) => {
        /// Every option's value.
        #[derive(Clone, Debug)]
        pub struct Config {
            $($(#[doc = $meaning])* pub $field: $type,)*
            /// Where each option was set, as complaints about it begin; one that was not set is missing.
            places: BTreeMap<&'static str, String>,
        }

        /// All options: the help, the messages, the defaults and the example file follow this table.
        pub const OPTIONS: &[ServerOption] = &[$(ServerOption {
            name: $name,
            default: $default,
            expected: $expected,
            meaning: concat!($($meaning),*),
            set: |config, text| {
                let read: fn(&str) -> Option<$type> = $read;
                config.$field = read(text)?;
                Some(())
            },
        },)*];

        impl Default for Config {
            fn default() -> Self {
                $(let $field: fn(&str) -> Option<$type> = $read;)*
                $(let $field = $field($default).expect("a default is a value of its own option");)*
                Config { $($field,)* places: BTreeMap::new() }
            }
        }
    };
}

options! {
    /// listen on every address of this machine that it stands for; 0.0.0.0 and :: are all of their kind
    host: String = "host", "localhost", "a name or address of this machine", |text| unless_empty(text).map(String::from);
    /// TCP port; 0 picks one that is free on all addresses
    port: u16 = "port", "19201", "a port from 0 to 65535", |text| whole(text, 0..=u16::MAX);
    /// listen on this Unix socket too; only this user may connect to it
    unix_socket: Option<PathBuf> = "unix-socket", "", "a path, or nothing for no such socket",
        |text| Some(unless_empty(text).map(PathBuf::from));
    /// connections at once; one more is refused
    max_clients: usize = "max-clients", "10000", "a number from 1 to 1000000", |text| whole(text, 1..=CLIENTS_MAX);
    /// the longest value; an eighth of max-memory is a limit as well
    max_value_size: usize = "max-value-size", "16mb", "a size from 1b to 512mb",
        |text| size(text, 1..=VALUE_BYTES_MAX_MAX);
    /// what the whole process may take; auto is three quarters of the container's limit,
    /// without one a quarter of the machine's memory, at most 1gb
    max_memory: MemoryLimit = "max-memory", "auto", "a size from 8mb up, or auto", |text| match text {
        "auto" => Some(MemoryLimit::of_this_machine()),
        _ => size(text, MEMORY_BYTES_MIN..=usize::MAX).map(MemoryLimit::chosen),
    };
    /// what makes room at max-memory; with none, writes that need more memory are refused
    eviction: Eviction = "eviction", "s3-fifo", "s3-fifo or none", |text| match text {
        "s3-fifo" => Some(Eviction::S3Fifo),
        "none" => Some(Eviction::None),
        _ => None,
    };
    /// time to live of a write that brings none; 0 is for ever
    default_ttl: Option<Duration> = "default-ttl", "0", SECONDS, seconds;
    /// close a connection so long after its last complete command; 0 is never
    idle_timeout: Option<Duration> = "idle-timeout", "0", SECONDS, seconds;
    /// close a connection that reads none of the output waiting for it so long; 0 is never
    stall_timeout: Option<Duration> = "stall-timeout", "60", SECONDS, seconds;
    /// what Redis clients have to say first, while GoStash frames are refused; better set in the file or as
    /// the environment's GOSTASH_PASSWORD than as a flag, which other users can see
    password: Option<Password> = "password", "", "a password of at most 512 bytes, or nothing for none",
        |text| (text.len() <= PASSWORD_BYTES_MAX).then(|| unless_empty(text).map(Password::new));
    /// pin the event loop to this core
    cpu: Option<usize> = "cpu", "any", "a core from 0 to 1023, or any",
        |text| if text == "any" { Some(None) } else { whole(text, 0..=CPU_MAX).map(Some) };
    /// what is logged to standard error; the environment's RUST_LOG wins
    log_level: LevelFilter = "log-level", "info", "off, error, warn, info, debug or trace", |text| text.parse().ok();
}

/// One row of [`OPTIONS`].
pub struct ServerOption {
    /// Its name: `--name VALUE` as a flag, `name=VALUE` in the file.
    pub name: &'static str,
    /// Its default, as one would write it.
    pub default: &'static str,
    /// What a value may be.
    pub expected: &'static str,
    /// What it does.
    pub meaning: &'static str,
    set: fn(&mut Config, &str) -> Option<()>,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// To serve.
    Serve(Box<Config>),
    /// To print this and no more.
    Print(String),
}

impl Config {
    /// Reads the command line, without the program's name, and the file that it names, over the `password` that the
    /// environment may have.
    ///
    /// Flags win over the file wherever `--config` stands, and of two settings of one option in the same place the
    /// later wins.
    ///
    /// # Errors
    /// The first option that cannot be used: where it was given, what was expected there and what was found.
    pub fn from_args(
        args: impl IntoIterator<Item = OsString>,
        password: Option<OsString>,
    ) -> Result<Invocation, String> {
        let mut args = lexopt::Parser::from_args(args);
        let (mut file, mut flags) = (None, Vec::new());
        while let Some(arg) = args.next().map_err(|problem| problem.to_string())? {
            let option = OPTIONS.iter().find(|option| arg == Long(option.name));
            let (name, expected) = match (&arg, option) {
                (Long("help"), _) => return Ok(Invocation::Print(help())),
                (Long("version"), _) => {
                    return Ok(Invocation::Print(concat!("gostash ", env!("CARGO_PKG_VERSION"), "\n").to_owned()));
                }
                (Long("config"), _) => ("config", "the path of a configuration file"),
                (_, Some(option)) => (option.name, option.expected),
                _ => {
                    let flags = names(", --");
                    return Err(format!(
                        "{}: expected one of --{flags}, --config, --help, --version",
                        arg.unexpected()
                    ));
                }
            };
            let place = format!("--{name}");
            let value = args.value().map_err(|_| error(&place, expected, "nothing"))?;
            let value = value.into_string().map_err(|value| error(&place, "UTF-8", value.display()))?;
            match option {
                Some(option) => flags.push((place, option.name, value)),
                None => file = Some(value),
            }
        }
        let mut config = Config::default();
        if let Some(password) = password {
            config.set("GOSTASH_PASSWORD".into(), "password", &password.to_string_lossy())?;
        }
        if let Some(file) = file {
            config.read_file(&file)?;
        }
        for (place, name, value) in flags {
            config.set(place, name, &value)?;
        }
        Ok(Invocation::Serve(Box::new(config)))
    }

    fn read_file(&mut self, path: &str) -> Result<(), String> {
        let text = std::fs::read_to_string(path);
        let text =
            text.map_err(|problem| error("--config", "a text file that can be read", format!("{path}: {problem}")))?;
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') || line.starts_with("//") {
                continue;
            }
            let Some((name, value)) = line.split_once('=') else {
                return Err(error(&format!("{path}:{number}"), "name=value", quote(line)));
            };
            let name = name.trim_end();
            self.set(format!("{path}:{number}: {name}"), name, value.trim_start())?;
        }
        Ok(())
    }

    /// Sets one option from its text; `place` is how an error about it begins.
    fn set(&mut self, place: String, name: &str, value: &str) -> Result<(), String> {
        let Some(option) = OPTIONS.iter().find(|option| option.name == name) else {
            return Err(error(&place, format!("one of {}", names(", ")), quote(name)));
        };
        self.places.insert(option.name, place);
        // Errors are shown and logged, and a password must not be.
        let got = if name == "password" { format!("{} bytes", value.len()) } else { quote(value) };
        (option.set)(self, value).ok_or_else(|| self.error(name, got))
    }

    /// An error about an option's value that only showed when it was used, at the place where it was set.
    pub fn error(&self, name: &str, got: impl Display) -> String {
        let expected = OPTIONS.iter().find(|option| option.name == name).map_or("", |option| option.expected);
        error(self.places.get(name).map_or(name, String::as_str), expected, got)
    }
}

fn help() -> String {
    let options = OPTIONS.iter().map(|ServerOption { name, default, meaning, .. }| {
        format!("  --{name:<15}{meaning} (default: {})\n", unless_empty(default).unwrap_or("none"))
    });
    format!(
        "gostash: a small, fast in-memory cache server\n\n\
         Usage: gostash [--config FILE] [--NAME VALUE]...\n\n\
         Every option is a flag, --port 19201, and a line of the configuration file, port=19201.\n\
         Defaults give way to the file, and the file to flags. Sizes are in b, kb, mb or gb (1024 each).\n\n\
         {}  \
         --config FILE     read options from this file; .config.stash.example shows them all\n  \
         --help            print this and exit\n  \
         --version         print the version and exit\n",
        options.collect::<String>()
    )
}

fn error(place: &str, expected: impl Display, got: impl Display) -> String {
    format!("{place}: expected {expected}, got {got}")
}

fn names(separator: &str) -> String {
    OPTIONS.iter().map(|option| option.name).collect::<Vec<_>>().join(separator)
}

/// Text as an error shows it: its control characters visible, and no longer than a line.
fn quote(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn unless_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// A whole number of plain digits: `FromStr` alone would take a `+` as well.
fn whole<T: FromStr + PartialOrd>(text: &str, range: RangeInclusive<T>) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && range.contains(number))
}

/// A number of bytes within `range`: plain digits, or digits and b, kb, mb or gb in any case.
pub fn size(text: &str, range: RangeInclusive<usize>) -> Option<usize> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let is_unit = |name: &&str| unit.is_empty() || name.eq_ignore_ascii_case(unit);
    let power = ["b", "kb", "mb", "gb"].iter().position(is_unit)?;
    let bytes = whole(digits, 0..=usize::MAX)?.checked_mul(1 << (10 * power))?;
    range.contains(&bytes).then_some(bytes)
}

const SECONDS: &str = "seconds from 0 to 315360000";

/// A number of seconds, of which 0 means none.
fn seconds(text: &str) -> Option<Option<Duration>> {
    let seconds = whole(text, 0..=SECONDS_MAX)?;
    Some((seconds > 0).then(|| Duration::from_secs(seconds)))
}
