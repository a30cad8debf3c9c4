//! Options: defaults, the configuration file, the environment's password and flags, each overriding those before.
//!
//! This file knows how an option is written and what its range is. It remembers where each was set, so that an error
//! which shows only when a value is used can name the place, too. It opens nothing but the configuration file.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::prelude::*;
use log::LevelFilter;

use crate::limits::*;
use crate::memory::{self, MemoryLimit};
use crate::password::Password;
use crate::store::Eviction;

/// A configuration file with every option at its default. It is also the help, and the one source of the defaults.
pub const EXAMPLE: &str = include_str!("../.config.stash.example");

/// Makes [`Config`] and [`OPTIONS`] from one table: field, type, the option's name, what it may be, how it is parsed.
macro_rules! options {
    ($($field:ident: $type:ty = $name:literal, $expected:literal, |$text:ident| $read:expr;)*) => {
        /// Every option's value.
        #[derive(Clone)]
        pub struct Config {
            $(#[doc = $expected] pub $field: $type,)*
            /// Where each option was set, as an error about it begins. One that was not set is missing.
            places: BTreeMap<&'static str, String>,
        }

        /// Every option's name and what it may be, in the order of [`EXAMPLE`].
        pub const OPTIONS: &[(&str, &str)] = &[$(($name, $expected)),*];

        impl Default for Config {
            fn default() -> Self {
                $(let $field = default($name).and_then(Config::$field).expect("a value in .config.stash.example");)*
                Config { $($field,)* places: BTreeMap::new() }
            }
        }

        impl Config {
            $(fn $field($text: &str) -> Option<$type> { $read })*

            /// Sets the option of this name, which must exist, or returns `None` if it cannot be what `text` says.
            fn put(&mut self, name: &str, text: &str) -> Option<()> {
                $(if name == $name {
                    self.$field = Self::$field(text)?;
                })*
                Some(())
            }
        }
    };
}

options! {
    host: String = "host", "a name or address of this machine", |text| (!text.is_empty()).then(|| text.into());
    port: u16 = "port", "a port from 0 to 65535", |text| whole(text, 0..=u16::MAX);
    unix_socket: Option<PathBuf> = "unix-socket", "a path, or nothing for no such socket",
        |text| Some((!text.is_empty()).then(|| text.into()));
    max_clients: usize = "max-clients", "a number from 1 to 1000000", |text| whole(text, 1..=CLIENTS_MAX);
    max_value_size: usize = "max-value-size", "a size from 1b to 512mb", |text| size(text, 1..=VALUE_BYTES_MAX_MAX);
    max_memory: MemoryLimit = "max-memory", "a size from 8mb to 256gb, or auto", |text| match text {
        "auto" => Some(MemoryLimit::auto(memory::read)),
        _ => size(text, MEMORY_BYTES_MIN..=STORE_BYTES_MAX).map(MemoryLimit::chosen),
    };
    eviction: Eviction = "eviction", "s3-fifo or none", |text| match text {
        "s3-fifo" => Some(Eviction::S3Fifo),
        "none" => Some(Eviction::None),
        _ => None,
    };
    default_ttl: u64 = "default-ttl", "seconds from 0 to 315360000", |text| whole(text, 0..=SECONDS_MAX);
    idle_timeout: u64 = "idle-timeout", "seconds from 0 to 315360000", |text| whole(text, 0..=SECONDS_MAX);
    stall_timeout: u64 = "stall-timeout", "seconds from 0 to 315360000", |text| whole(text, 0..=SECONDS_MAX);
    password: Option<Password> = "password", "a password of at most 512 bytes, or nothing for none",
        |text| (text.len() <= PASSWORD_BYTES_MAX).then(|| (!text.is_empty()).then(|| Password::new(text)));
    cpu: Option<usize> = "cpu", "a core from 0 to 1023, or any",
        |text| if text == "any" { Some(None) } else { whole(text, 0..=CPU_MAX).map(Some) };
    spin: Duration = "spin", "microseconds from 0 to 100000",
        |text| whole(text, 0..=SPIN_MICROS_MAX).map(Duration::from_micros);
    log_level: LevelFilter = "log-level", "off, error, warn, info, debug or trace", |text| text.parse().ok();
}

/// What the command line asks for.
pub enum Invocation {
    /// To serve, by these options.
    Serve(Box<Config>),
    /// To print this text and exit.
    Print(&'static str),
}

impl Config {
    /// Reads the command line, without the program's name, the file that it names, and the environment's `password`,
    /// which wins over the file. Flags win over both. Of two like flags, or two lines for one option, the later wins.
    /// Fails for the first option that cannot be used: the error says where that was set, what it may be and what it is.
    pub fn from_args(
        args: impl IntoIterator<Item = OsString>,
        password: Option<OsString>,
    ) -> Result<Invocation, String> {
        let mut args = lexopt::Parser::from_args(args);
        // An empty variable is one that nobody filled in, and takes no password away.
        let password = password.filter(|value| !value.is_empty());
        let password = password.map(|value| ("GOSTASH_PASSWORD".to_owned(), "password", value));
        let (mut file, mut flags) = (None, Vec::from_iter(password));
        while let Some(arg) = args.next().map_err(|problem| problem.to_string())? {
            let (name, expected) = match &arg {
                Short('h') | Long("help") => return Ok(Invocation::Print(EXAMPLE)),
                Long("version") => return Ok(Invocation::Print(concat!("gostash ", env!("CARGO_PKG_VERSION"), "\n"))),
                Long("config") => ("config", "the path of a configuration file"),
                _ => *OPTIONS.iter().find(|(name, _)| arg == Long(name)).ok_or_else(|| {
                    let (problem, flags) = (arg.unexpected(), names(", --"));
                    format!("{problem}: expected one of --{flags}, --config, --help, --version")
                })?,
            };
            let place = format!("--{name}");
            let value = args.value().map_err(|_| error(&place, expected, "nothing"))?;
            if name == "config" { file = Some(value) } else { flags.push((place, name, value)) }
        }
        let mut config = Config::default();
        file.map(|path| config.read_file(&path)).transpose()?;
        for (place, name, value) in flags {
            config.set(place, name, value.as_encoded_bytes())?;
        }
        Ok(Invocation::Serve(Box::new(config)))
    }

    fn read_file(&mut self, path: &OsStr) -> Result<(), String> {
        let shown = path.display();
        let unread = |problem| error("--config", "a text file that can be read", format!("{shown}: {problem}"));
        let text = std::fs::read_to_string(path).map_err(unread)?;
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') || line.starts_with("//") {
                continue;
            }
            let place = format!("{shown}:{number}");
            // A line of another form may hold a password, so it is not shown.
            let pair = line.split_once('=').filter(|(name, _)| !name.trim_end().contains([' ', '\t', ':']));
            let (name, value) = pair.ok_or_else(|| error(&place, "name=value", "a line of another form"))?;
            let name = name.trim_end();
            self.set(format!("{place}: {name:.80}"), name, value.trim_start().as_bytes())?;
        }
        Ok(())
    }

    /// Sets one option from its text; `place` is how an error about it begins.
    pub(crate) fn set(&mut self, place: String, name: &str, value: &[u8]) -> Result<(), String> {
        let Some((name, expected)) = OPTIONS.iter().find(|(known, _)| *known == name) else {
            return Err(error(&place, format!("one of {}", names(", ")), quote(name)));
        };
        // Errors are shown and logged, and a password must not be.
        let shown = String::from_utf8_lossy(value);
        let got = if *name == "password" { format!("{} bytes", value.len()) } else { quote(&shown) };
        let Ok(value) = str::from_utf8(value) else { return Err(error(&place, "UTF-8", got)) };
        self.places.insert(name, place);
        self.put(name, value).ok_or_else(|| error(&self.places[name], expected, got))
    }

    /// A problem with an option's value that showed only when it was used, after the place where it was set.
    pub fn error(&self, name: &str, problem: impl Display) -> String {
        format!("{}: {problem}", self.places.get(name).map_or(name, String::as_str))
    }
}

/// An option's default, as it is written in a file.
pub fn default(name: &str) -> Option<&'static str> {
    EXAMPLE.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

fn error(place: &str, expected: impl Display, got: impl Display) -> String {
    format!("{place}: expected {expected}, got {got}")
}

fn names(separator: &str) -> String {
    OPTIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(separator)
}

/// Text as an error shows it: in quotes, with control characters escaped, and cut after 80 characters.
fn quote(text: &str) -> String {
    text.char_indices().nth(80).map_or_else(|| format!("{text:?}"), |(end, _)| format!("{:?}...", &text[..end]))
}

/// A whole number within `range`, in plain digits: `FromStr` alone would take a `+` as well.
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
