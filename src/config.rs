//! Options: defaults, then the configuration file, then flags, all through one table and one `set`.
//!
//! It knows how an option is written and what range it may have, and remembers where each was set, so that whoever
//! finds later that a value cannot be used complains about the same place. It knows no socket and opens
//! nothing but the configuration file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use log::LevelFilter;

use crate::limits::{CLIENTS_MAX, CPU_MAX, MEMORY_BYTES_MIN, PASSWORD_BYTES_MAX, SECONDS_MAX, VALUE_BYTES_MAX_MAX};
use crate::memory::MemoryLimit;
use crate::password::Password;
use crate::store::Eviction;

/// Every option's value.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The name or address to listen on.
    pub host: String,
    /// The TCP port; 0 picks a free one.
    pub port: u16,
    /// The Unix socket to listen on as well.
    pub unix_socket: Option<PathBuf>,
    /// Connections at once.
    pub max_clients: usize,
    /// The longest value, in bytes.
    pub max_value_size: usize,
    /// What the process may take, and why so much.
    pub max_memory: MemoryLimit,
    /// What a full store does.
    pub eviction: Eviction,
    /// The time to live of a write that brings none; `None` is for ever.
    pub default_ttl: Option<Duration>,
    /// How long after its last complete command a connection is closed; `None` is never.
    pub idle_timeout: Option<Duration>,
    /// How long output may wait for a client that reads nothing; `None` is for ever.
    pub stall_timeout: Option<Duration>,
    /// What clients have to say first; `None` lets everybody in.
    pub password: Option<Password>,
    /// The core to pin the event loop to.
    pub cpu: Option<usize>,
    /// What is logged unless `RUST_LOG` says otherwise.
    pub log_level: LevelFilter,
    /// Where each option was set, as complaints about it begin; one that was not set is missing.
    places: BTreeMap<&'static str, String>,
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

/// All options: the help, the messages, the defaults and the example file follow this table.
pub const OPTIONS: &[ServerOption] = &[
    ServerOption {
        name: "host",
        default: "localhost",
        expected: "a name or address of this machine",
        meaning: "listen on every address of this machine that it stands for; 0.0.0.0 and :: are all of their kind",
        set: |config, text| put(&mut config.host, Some(text.to_owned()).filter(|host| !host.is_empty())),
    },
    ServerOption {
        name: "port",
        default: "19201",
        expected: "a port from 0 to 65535",
        meaning: "TCP port; 0 picks one that is free on all addresses",
        set: |config, text| put(&mut config.port, whole(text, 0..=u16::MAX)),
    },
    ServerOption {
        name: "unix-socket",
        default: "",
        expected: "a path, or nothing for no such socket",
        meaning: "listen on this Unix socket too; only this user may connect to it",
        set: |config, text| put(&mut config.unix_socket, Some(Some(text.into()).filter(|_| !text.is_empty()))),
    },
    ServerOption {
        name: "max-clients",
        default: "10000",
        expected: "a number from 1 to 1000000",
        meaning: "connections at once; one more is refused",
        set: |config, text| put(&mut config.max_clients, whole(text, 1..=CLIENTS_MAX)),
    },
    ServerOption {
        name: "max-value-size",
        default: "16mb",
        expected: "a size from 1b to 512mb",
        meaning: "the longest value; an eighth of max-memory is a limit as well",
        set: |config, text| put(&mut config.max_value_size, size(text, 1..=VALUE_BYTES_MAX_MAX)),
    },
    ServerOption {
        name: "max-memory",
        default: "auto",
        expected: "a size from 8mb up, or auto",
        meaning: "what the whole process may take; auto is three quarters of the container's limit, \
                  without one a quarter of the machine's memory, at most 1gb",
        set: |config, text| {
            let limit = match text {
                "auto" => Some(MemoryLimit::of_this_machine()),
                _ => size(text, MEMORY_BYTES_MIN..=usize::MAX).map(MemoryLimit::chosen),
            };
            put(&mut config.max_memory, limit)
        },
    },
    ServerOption {
        name: "eviction",
        default: "s3-fifo",
        expected: "s3-fifo or none",
        meaning: "what makes room at max-memory; with none, writes that need more memory are refused",
        set: |config, text| {
            let eviction = match text {
                "s3-fifo" => Some(Eviction::S3Fifo),
                "none" => Some(Eviction::None),
                _ => None,
            };
            put(&mut config.eviction, eviction)
        },
    },
    ServerOption {
        name: "default-ttl",
        default: "0",
        expected: "seconds from 0 to 315360000",
        meaning: "time to live of a write that brings none; 0 is for ever",
        set: |config, text| put(&mut config.default_ttl, seconds(text)),
    },
    ServerOption {
        name: "idle-timeout",
        default: "0",
        expected: "seconds from 0 to 315360000",
        meaning: "close a connection so long after its last complete command; 0 is never",
        set: |config, text| put(&mut config.idle_timeout, seconds(text)),
    },
    ServerOption {
        name: "stall-timeout",
        default: "60",
        expected: "seconds from 0 to 315360000",
        meaning: "close a connection that reads none of the output waiting for it so long; 0 is never",
        set: |config, text| put(&mut config.stall_timeout, seconds(text)),
    },
    ServerOption {
        name: "password",
        default: "",
        expected: "a password of at most 512 bytes, or nothing for none",
        meaning: "what Redis clients have to say first, while GoStash frames are refused; better set in the file or as \
                  the environment's GOSTASH_PASSWORD than as a flag, which other users can see",
        set: |config, text| {
            let password = Some(text).filter(|text| !text.is_empty()).map(Password::new);
            put(&mut config.password, (text.len() <= PASSWORD_BYTES_MAX).then_some(password))
        },
    },
    ServerOption {
        name: "cpu",
        default: "any",
        expected: "a core from 0 to 1023, or any",
        meaning: "pin the event loop to this core",
        set: |config, text| {
            let cpu = if text == "any" { Some(None) } else { whole(text, 0..=CPU_MAX).map(Some) };
            put(&mut config.cpu, cpu)
        },
    },
    ServerOption {
        name: "log-level",
        default: "info",
        expected: "off, error, warn, info, debug or trace",
        meaning: "what is logged to standard error; the environment's RUST_LOG wins",
        set: |config, text| put(&mut config.log_level, text.parse().ok()),
    },
];

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub enum Invocation {
    /// To serve.
    Serve(Box<Config>),
    /// To print [`help`].
    Help,
    /// To print the version.
    Version,
}

/// An option that cannot be used: where it was given, what was expected there and what was found.
#[derive(Debug, PartialEq)]
pub struct OptionError {
    place: String,
    expected: String,
    got: String,
}

impl Default for Config {
    /// Every option at its default, by the same way that files and flags take.
    fn default() -> Self {
        let mut config = Config {
            host: String::new(),
            port: 0,
            unix_socket: None,
            max_clients: 0,
            max_value_size: 0,
            max_memory: MemoryLimit::chosen(0),
            eviction: Eviction::None,
            default_ttl: None,
            idle_timeout: None,
            stall_timeout: None,
            password: None,
            cpu: None,
            log_level: LevelFilter::Off,
            places: BTreeMap::new(),
        };
        for option in OPTIONS {
            (option.set)(&mut config, option.default).expect("a default is a value of its own option");
        }
        config
    }
}

impl Config {
    /// Reads the command line, without the program's name, and the file that it names.
    ///
    /// Flags win over the file wherever `--config` stands, and of two settings of one option in the same place the
    /// later wins. The first error ends it.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, OptionError> {
        let mut parser = lexopt::Parser::from_args(args);
        let mut file = None;
        let mut flags = Vec::new();
        loop {
            let name = match parser.next().map_err(unexpected)? {
                Some(lexopt::Arg::Long("help")) => return Ok(Invocation::Help),
                Some(lexopt::Arg::Long("version")) => return Ok(Invocation::Version),
                Some(lexopt::Arg::Long(name)) => name.to_owned(),
                Some(other) => return Err(unexpected(other.unexpected())),
                None => break,
            };
            let option = OPTIONS.iter().find(|option| option.name == name);
            let expected = match option {
                Some(option) => option.expected,
                None if name == "config" => "the path of a configuration file",
                None => {
                    return Err(error(format!("--{name}"), format!("one of {}", flag_names()), "no such flag"));
                }
            };
            let value = parser.value().map_err(|_| error(format!("--{name}"), expected, "nothing"))?;
            match option {
                Some(option) => {
                    let text = value.to_str().ok_or_else(|| {
                        error(format!("--{name}"), expected, quote(&value.to_string_lossy()) + ", not UTF-8")
                    })?;
                    flags.push((option.name, text.to_owned()));
                }
                None => file = Some(PathBuf::from(value)),
            }
        }
        let mut config = Config::default();
        if let Some(file) = file {
            config.read_file(&file)?;
        }
        for (name, value) in flags {
            config.set(format!("--{name}"), name, &value)?;
        }
        Ok(Invocation::Serve(Box::new(config)))
    }

    /// Takes the environment's password, which gives way to any other.
    pub fn offer_password(&mut self, password: &str) -> Result<(), OptionError> {
        match self.places.contains_key("password") {
            true => Ok(()),
            false => self.set("GOSTASH_PASSWORD".into(), "password", password),
        }
    }

    /// An error about an option's value that only showed when it was used, at the place where it was set.
    pub fn error(&self, name: &str, got: impl Into<String>) -> OptionError {
        let place = self.places.get(name).map_or(name, String::as_str);
        let expected = OPTIONS.iter().find(|option| option.name == name).map_or("", |option| option.expected);
        error(place, expected, got)
    }

    fn read_file(&mut self, path: &Path) -> Result<(), OptionError> {
        let text = std::fs::read_to_string(path).map_err(|problem| {
            error("--config", "a text file that can be read", format!("{}: {problem}", path.display()))
        })?;
        self.read_text(path, &text)
    }

    fn read_text(&mut self, path: &Path, text: &str) -> Result<(), OptionError> {
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || line.starts_with("//") {
                continue;
            }
            let place = format!("{}:{number}", path.display());
            let Some((name, value)) = line.split_once('=') else {
                return Err(error(place, "name=value", quote(line)));
            };
            let name = name.trim_end();
            self.set(format!("{place}: {name}"), name, value.trim_start())?;
        }
        Ok(())
    }

    /// Sets one option from its text; `place` is how an error about it begins.
    fn set(&mut self, place: String, name: &str, value: &str) -> Result<(), OptionError> {
        let Some(option) = OPTIONS.iter().find(|option| option.name == name) else {
            let names: Vec<_> = OPTIONS.iter().map(|option| option.name).collect();
            return Err(error(place, format!("one of {}", names.join(", ")), quote(name)));
        };
        if (option.set)(self, value).is_none() {
            // Errors are shown and logged, and a password must not be.
            let got = if name == "password" { format!("{} bytes", value.len()) } else { quote(value) };
            return Err(error(place, option.expected, got));
        }
        self.places.insert(option.name, place);
        Ok(())
    }
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, got {}", self.place, self.expected, self.got)
    }
}

impl std::error::Error for OptionError {}

/// What `--help` prints.
pub fn help() -> String {
    let mut text = String::from(
        "gostash: a small, fast in-memory cache server\n\n\
         Usage: gostash [--config FILE] [--NAME VALUE]...\n\n\
         Every option is a flag, --port 19201, and a line of the configuration file, port=19201.\n\
         Defaults give way to the file, and the file to flags. Sizes are in b, kb, mb or gb (1024 each).\n\n",
    );
    for option in OPTIONS {
        let default = if option.default.is_empty() { "none" } else { option.default };
        text += &format!("  --{:<15} {} (default: {default})\n", option.name, option.meaning);
    }
    for (flag, meaning) in [
        ("config FILE", "read options from this file; .config.stash.example shows them all"),
        ("help", "print this and exit"),
        ("version", "print the version and exit"),
    ] {
        text += &format!("  --{flag:<15} {meaning}\n");
    }
    text
}

fn error(place: impl Into<String>, expected: impl Into<String>, got: impl Into<String>) -> OptionError {
    OptionError { place: place.into(), expected: expected.into(), got: got.into() }
}

/// What lexopt itself found wrong.
fn unexpected(problem: lexopt::Error) -> OptionError {
    match problem {
        lexopt::Error::UnexpectedOption(flag) => error(flag, format!("one of {}", flag_names()), "no such flag"),
        lexopt::Error::UnexpectedArgument(argument) => {
            error("arguments", "flags, as --help shows them", quote(&argument.to_string_lossy()))
        }
        other => error("arguments", "flags, as --help shows them", other.to_string()),
    }
}

fn flag_names() -> String {
    let names = OPTIONS.iter().map(|option| option.name).chain(["config", "help", "version"]);
    names.map(|name| format!("--{name}")).collect::<Vec<_>>().join(", ")
}

/// Text as an error shows it: its control characters visible, and no longer than a line.
fn quote(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let shown: String = text.chars().take(CHARS_MAX).collect();
    if shown.len() < text.len() { format!("{shown:?}...") } else { format!("{shown:?}") }
}

fn put<T>(slot: &mut T, value: Option<T>) -> Option<()> {
    *slot = value?;
    Some(())
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
    let unit_bytes = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1 << 10,
        "mb" => 1 << 20,
        "gb" => 1 << 30,
        _ => return None,
    };
    let bytes = whole(digits, 0..=usize::MAX)?.checked_mul(unit_bytes)?;
    range.contains(&bytes).then_some(bytes)
}

/// A number of seconds, of which 0 means none.
fn seconds(text: &str) -> Option<Option<Duration>> {
    let seconds = whole(text, 0..=SECONDS_MAX)?;
    Some((seconds > 0).then(|| Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let mut config = Config::default();
        match config.read_text(Path::new("f"), text) {
            Ok(()) => Ok(Config { places: BTreeMap::new(), ..config }),
            Err(problem) => Err(problem.to_string()),
        }
    }

    #[test]
    fn the_example_file_is_every_option_at_its_default() {
        let example = include_str!("../.config.stash.example");
        assert_eq!(read(example), Ok(Config::default()));
        for option in OPTIONS {
            let line = format!("{}={}", option.name, option.default);
            assert!(example.lines().any(|other| other == line), ".config.stash.example has no line {line:?}");
        }
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let config = Config::default();
        assert_eq!((config.host.as_str(), config.port), ("localhost", 19201));
        assert_eq!((config.max_clients, config.max_value_size), (10_000, 16 << 20));
        assert_eq!(config.max_memory, MemoryLimit::of_this_machine());
        assert_eq!(config.eviction, Eviction::S3Fifo);
        assert_eq!((config.unix_socket, config.cpu), (None, None));
        assert_eq!((config.default_ttl, config.idle_timeout), (None, None));
        assert_eq!(config.stall_timeout, Some(Duration::from_secs(60)));
        assert_eq!(config.log_level, LevelFilter::Info);
    }

    #[test]
    fn every_option_can_be_set() {
        let config = read(
            "\u{20}host = ::1 \r\nport=0\nunix-socket=/run/a b=c#d\nmax-clients=1\n\
             max-value-size=1KB\nmax-memory=16Mb\neviction=none\ndefault-ttl=1\nidle-timeout=2\n\
             stall-timeout=0\npassword=a=b c\ncpu=0\nlog-level=TRACE\n",
        );
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let expected = Config {
            host: "::1".into(),
            port: 0,
            unix_socket: Some("/run/a b=c#d".into()),
            max_clients: 1,
            max_value_size: 1024,
            max_memory: MemoryLimit::chosen(16 << 20),
            eviction: Eviction::None,
            default_ttl: seconds(1),
            idle_timeout: seconds(2),
            stall_timeout: None,
            password: Some(Password::new("a=b c")),
            cpu: Some(0),
            log_level: LevelFilter::Trace,
            places: BTreeMap::new(),
        };
        assert_eq!(config, Ok(expected));
    }

    #[test]
    fn a_password_comes_from_flag_file_or_environment_and_is_never_shown() {
        let mut config = Config::default();
        config.offer_password("outside").expect("a password");
        assert_eq!(config.password, Some(Password::new("outside")));
        let flags = ["--password", "inside"].map(OsString::from);
        let Ok(Invocation::Serve(mut config)) = Config::from_args(flags) else {
            panic!("these are flags");
        };
        config.offer_password("outside").expect("a password");
        assert_eq!(config.password, Some(Password::new("inside")));
        assert!(!format!("{config:?}").contains("inside"));
        let long = "secret".repeat(100);
        let error = Config::default().offer_password(&long).expect_err("it is too long").to_string();
        assert!(error.starts_with("GOSTASH_PASSWORD: expected a password") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn comments_and_blank_lines_are_skipped_and_the_later_line_wins() {
        let config = read("# port=1\n\n  // port=2\n\t\nport=3\nport=4\n#\n");
        assert_eq!(config.map(|config| config.port), Ok(4));
    }

    #[test]
    fn sizes_have_a_unit_or_are_bytes() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("7", Some(7)),
            ("7b", Some(7)),
            ("2kb", Some(2048)),
            ("3Mb", Some(3 << 20)),
            ("1GB", Some(1 << 30)),
            ("007kb", Some(7 << 10)),
            ("", None),
            ("kb", None),
            ("1k", None),
            ("1 kb", None),
            ("1tb", None),
            ("-1", None),
            ("+1", None),
            ("1.5mb", None),
            ("1kbb", None),
            ("18446744073709551616", None),
            ("17179869184gb", None),
            ("1\u{e9}", None),
        ] {
            assert_eq!(size(text, 0..=usize::MAX), bytes, "{text:?}");
        }
        assert_eq!((size("1kb", 0..=1024), size("1025", 0..=1024)), (Some(1024), None));
    }

    #[test]
    fn each_bad_value_is_named_with_its_place() {
        let seconds = "expected seconds from 0 to 315360000";
        for (line, problem) in [
            ("host=", r#"expected a name or address of this machine, got """#),
            ("port=65536", r#"expected a port from 0 to 65535, got "65536""#),
            ("port=+1", r#"expected a port from 0 to 65535, got "+1""#),
            ("port=", r#"expected a port from 0 to 65535, got """#),
            ("max-clients=0", r#"expected a number from 1 to 1000000, got "0""#),
            ("max-clients=1000001", r#"expected a number from 1 to 1000000, got "1000001""#),
            ("max-value-size=0", r#"expected a size from 1b to 512mb, got "0""#),
            ("max-value-size=513mb", r#"expected a size from 1b to 512mb, got "513mb""#),
            ("max-memory=7mb", r#"expected a size from 8mb up, or auto, got "7mb""#),
            ("eviction=lru", r#"expected s3-fifo or none, got "lru""#),
            ("default-ttl=1.5", &format!(r#"{seconds}, got "1.5""#)),
            ("idle-timeout=1s", &format!(r#"{seconds}, got "1s""#)),
            ("stall-timeout=315360001", &format!(r#"{seconds}, got "315360001""#)),
            ("cpu=1024", r#"expected a core from 0 to 1023, or any, got "1024""#),
            ("log-level=loud", r#"expected off, error, warn, info, debug or trace, got "loud""#),
        ] {
            let name = line.split('=').next().unwrap_or_default();
            assert_eq!(read(&format!("\n{line}")), Err(format!("f:2: {name}: {problem}")));
        }
        assert_eq!(read("port 1"), Err(r#"f:1: expected name=value, got "port 1""#.into()));
        let names: Vec<_> = OPTIONS.iter().map(|option| option.name).collect();
        let expected = format!(r#"f:1: prot: expected one of {}, got "prot""#, names.join(", "));
        assert_eq!(read("prot=1"), Err(expected));
    }

    #[test]
    fn a_value_is_shown_on_one_short_line() {
        assert_eq!(quote("a\tb\u{1b}"), r#""a\tb\u{1b}""#);
        assert_eq!(quote(&"x".repeat(81)), format!("{:?}...", "x".repeat(80)));
    }

    #[test]
    fn a_late_error_names_the_place_of_the_setting() {
        let mut config = Config::default();
        config.read_text(Path::new("f"), "cpu=7\nport=1").expect("good lines");
        config.set("--port".into(), "port", "2").expect("a good value");
        let late = |name| config.error(name, "x").to_string();
        assert_eq!(late("cpu"), "f:1: cpu: expected a core from 0 to 1023, or any, got x");
        assert_eq!(late("port"), "--port: expected a port from 0 to 65535, got x");
        assert_eq!(late("host"), "host: expected a name or address of this machine, got x");
    }
}
