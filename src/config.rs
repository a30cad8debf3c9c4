//! Options: defaults, the environment's password, the configuration file and flags, each over the one before, all
//! through one table and one `set`.
//!
//! It knows how an option is written and what range it may have, and remembers where each was set, so that whoever
//! finds later that a value cannot be used complains about the same place. It knows no socket and opens
//! nothing but the configuration file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use log::LevelFilter;

use crate::limits::{
    CLIENTS_MAX, CPU_MAX, MEMORY_BYTES_MIN, PASSWORD_BYTES_MAX, SECONDS_MAX, SPIN_MICROS_MAX, VALUE_BYTES_MAX_MAX,
};
use crate::memory::MemoryLimit;
use crate::password::Password;
use crate::store::Eviction;

/// Makes [`Config`] and [`OPTIONS`] of one table: a field and its type; the option's name and default, and how a value
/// is read; what it may be; what it does.
macro_rules! options {
    ($($field:ident: $type:ty = $name:literal, $default:literal, $read:expr; $expected:literal; $meaning:expr;)*) => {
        /// Every option's value.
        // What an option means is written for the help.
        #[allow(clippy::doc_markdown)]
        #[derive(Clone, Debug)]
        pub struct Config {
            $(#[doc = $meaning] pub $field: $type,)*
            /// Where each option was set, as complaints about it begin; one that was not set is missing.
            places: BTreeMap<&'static str, String>,
        }

        impl Default for Config {
            fn default() -> Self {
                $(let $field: fn(&str) -> Option<$type> = $read;)*
                $(let $field = $field($default).expect("a default is a value of its own option");)*
                Config { $($field,)* places: BTreeMap::new() }
            }
        }

        /// All options: the help, the messages, the defaults and the example file follow this table.
        pub const OPTIONS: &[ServerOption] = &[$(ServerOption {
            name: $name,
            default: $default,
            expected: $expected,
            meaning: $meaning,
            set: |config, text| {
                let read: fn(&str) -> Option<$type> = $read;
                config.$field = read(text)?;
                Some(())
            },
        },)*];
    };
}

options! {
    host: String = "host", "localhost", |text| unless_empty(text).map(str::to_owned);
        "a name or address of this machine";
        "listen on every address of this machine that it stands for; 0.0.0.0 and :: are all of their kind";
    port: u16 = "port", "19201", |text| whole(text, 0..=u16::MAX);
        "a port from 0 to 65535";
        "TCP port; 0 picks one that is free on all addresses";
    unix_socket: Option<PathBuf> = "unix-socket", "", |text| Some(unless_empty(text).map(PathBuf::from));
        "a path, or nothing for no such socket";
        "listen on this Unix socket too; only this user may connect to it";
    max_clients: usize = "max-clients", "10000", |text| whole(text, 1..=CLIENTS_MAX);
        "a number from 1 to 1000000";
        "connections at once; one more is refused";
    max_value_size: usize = "max-value-size", "16mb", |text| size(text, 1..=VALUE_BYTES_MAX_MAX);
        "a size from 1b to 512mb";
        "the longest value; an eighth of max-memory is a limit as well";
    max_memory: MemoryLimit = "max-memory", "auto", |text| match text {
            "auto" => Some(MemoryLimit::of_this_machine()),
            _ => size(text, MEMORY_BYTES_MIN..=usize::MAX).map(MemoryLimit::chosen),
        };
        "a size from 8mb up, or auto";
        "what the whole process may take; auto is three quarters of the container's limit, \
         without one a quarter of the machine's memory, at most 1gb";
    eviction: Eviction = "eviction", "s3-fifo", |text| match text {
            "s3-fifo" => Some(Eviction::S3Fifo),
            "none" => Some(Eviction::None),
            _ => None,
        };
        "s3-fifo or none";
        "what makes room at max-memory; with none, writes that need more memory are refused";
    default_ttl: Option<Duration> = "default-ttl", "0", seconds;
        "seconds from 0 to 315360000";
        "time to live of a write that brings none; 0 is for ever";
    idle_timeout: Option<Duration> = "idle-timeout", "0", seconds;
        "seconds from 0 to 315360000";
        "close a connection so long after its last complete command; 0 is never";
    stall_timeout: Option<Duration> = "stall-timeout", "60", seconds;
        "seconds from 0 to 315360000";
        "close a connection that reads none of the output waiting for it so long; 0 is never";
    password: Option<Password> = "password", "", |text| {
            (text.len() <= PASSWORD_BYTES_MAX).then(|| unless_empty(text).map(Password::new))
        };
        "a password of at most 512 bytes, or nothing for none";
        "what Redis clients have to say first, while GoStash frames are refused; better set in the file or as \
         the environment's GOSTASH_PASSWORD than as a flag, which other users can see";
    cpu: Option<usize> = "cpu", "any", |text| match text {
            "any" => Some(None),
            _ => whole(text, 0..=CPU_MAX).map(Some),
        };
        "a core from 0 to 1023, or any";
        "pin the event loop to this core";
    spin: Duration = "spin", "0", |text| whole(text, 0..=SPIN_MICROS_MAX).map(Duration::from_micros);
        "microseconds from 0 to 100000";
        "poll so long without sleeping when there is nothing to do; for a server that has a core of its own";
    log_level: LevelFilter = "log-level", "info", |text| text.parse().ok();
        "off, error, warn, info, debug or trace";
        "what is logged to standard error; the environment's RUST_LOG wins";
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

/// An option that cannot be used: where it was given, what was expected there and what was found.
#[derive(Debug)]
pub struct OptionError(String);

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OptionError {}

impl Config {
    /// Reads the command line, without the program's name, and the file that it names, over the `password` that the
    /// environment may have.
    ///
    /// Flags win over the file wherever `--config` stands, and of two settings of one option in the same place the
    /// later wins.
    ///
    /// # Errors
    /// The first option that cannot be used.
    pub fn from_args(
        args: impl IntoIterator<Item = OsString>,
        password: Option<OsString>,
    ) -> Result<Invocation, OptionError> {
        let args =
            args.into_iter().map(|arg| arg.into_string().map_err(|arg| error("arguments", "UTF-8", arg.display())));
        let mut args = args.collect::<Result<Vec<_>, _>>()?.into_iter();
        let (mut file, mut flags) = (None, Vec::new());
        while let Some(arg) = args.next() {
            let (flag, value) = match arg.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (arg.as_str(), None),
            };
            let option = OPTIONS.iter().find(|option| flag.strip_prefix("--") == Some(option.name));
            let expected = match (flag, option) {
                ("--help", _) => return Ok(Invocation::Print(help())),
                ("--version", _) => {
                    return Ok(Invocation::Print(concat!("gostash ", env!("CARGO_PKG_VERSION"), "\n").to_owned()));
                }
                ("--config", _) => "the path of a configuration file",
                (_, Some(option)) => option.expected,
                _ => {
                    let expected = format!("one of --{}, --config, --help, --version", names(", --"));
                    return Err(error(flag, expected, "no such flag"));
                }
            };
            let value = value.or_else(|| args.next()).ok_or_else(|| error(flag, expected, "nothing"))?;
            match option {
                Some(option) => flags.push((option.name, value)),
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
        for (name, value) in flags {
            config.set(format!("--{name}"), name, &value)?;
        }
        Ok(Invocation::Serve(Box::new(config)))
    }

    fn read_file(&mut self, path: &str) -> Result<(), OptionError> {
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
    fn set(&mut self, place: String, name: &str, value: &str) -> Result<(), OptionError> {
        let Some(option) = OPTIONS.iter().find(|option| option.name == name) else {
            return Err(error(&place, format!("one of {}", names(", ")), quote(name)));
        };
        if (option.set)(self, value).is_none() {
            // Errors are shown and logged, and a password must not be.
            let got = if name == "password" { format!("{} bytes", value.len()) } else { quote(value) };
            return Err(error(&place, option.expected, got));
        }
        self.places.insert(option.name, place);
        Ok(())
    }

    /// An error about an option's value that only showed when it was used, at the place where it was set.
    pub fn error(&self, name: &str, got: impl fmt::Display) -> OptionError {
        let expected = OPTIONS.iter().find(|option| option.name == name).map_or("", |option| option.expected);
        error(self.places.get(name).map_or(name, String::as_str), expected, got)
    }
}

fn help() -> String {
    let mut text = String::from(
        "gostash: a small, fast in-memory cache server\n\n\
         Usage: gostash [--config FILE] [--NAME VALUE]...\n\n\
         Every option is a flag, --port 19201, and a line of the configuration file, port=19201.\n\
         Defaults give way to the file, and the file to flags. Sizes are in b, kb, mb or gb (1024 each).\n\n",
    );
    for ServerOption { name, default, meaning, .. } in OPTIONS {
        text += &format!("  --{name:<15} {meaning} (default: {})\n", unless_empty(default).unwrap_or("none"));
    }
    text + "  --config FILE     read options from this file; .config.stash.example shows them all\n  \
              --help            print this and exit\n  \
              --version         print the version and exit\n"
}

fn error(place: &str, expected: impl fmt::Display, got: impl fmt::Display) -> OptionError {
    OptionError(format!("{place}: expected {expected}, got {got}"))
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
    let unit = unit.to_ascii_lowercase();
    let power = ["b", "kb", "mb", "gb"].iter().position(|name| *name == unit).or(unit.is_empty().then_some(0))?;
    let bytes = whole(digits, 0..=usize::MAX)?.checked_mul(1 << (10 * power))?;
    range.contains(&bytes).then_some(bytes)
}

/// A number of seconds, of which 0 means none.
fn seconds(text: &str) -> Option<Option<Duration>> {
    let seconds = whole(text, 0..=SECONDS_MAX)?;
    Some((seconds > 0).then(|| Duration::from_secs(seconds)))
}
