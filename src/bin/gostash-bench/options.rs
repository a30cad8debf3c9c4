//! The command line: one table of what it may say, of defaults, and of what to say when a value is wrong. It knows no
//! socket and measures nothing.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use gostash::config::size;
use gostash::limits::KEY_BYTES_MAX;

use crate::protocol::{Operation, PROTOCOLS, Protocol};
use crate::workload::{FIRST_DIGITS, Sizes};

/// Makes [`Options`] and [`OPTIONS`] of one table: a field and its type; the option's name, its default, if any, and
/// how a value is read; what it may be, which is nothing if the option is a flag; what it does.
macro_rules! options {
    ($($field:ident: $type:ty = $name:literal, $default:literal, $read:expr,
        $expected:literal, $meaning:literal;)*) => {
        /// Every option's value.
        #[derive(Clone, Default)]
        pub struct Options {
            /// A trace to be replayed.
            pub trace: Option<PathBuf>,
            $(pub $field: $type,)*
        }

        const OPTIONS: &[Row] = &[$(Row {
            name: $name,
            default: $default,
            expected: $expected,
            meaning: $meaning,
            set: |options, text| {
                options.$field = $read(text)?.into();
                Some(())
            },
        },)*];
    };
}

struct Row {
    name: &'static str,
    default: &'static str,
    expected: &'static str,
    meaning: &'static str,
    set: fn(&mut Options, &str) -> Option<()>,
}

options! {
    host: String = "host", "localhost", Some, "a host name", "the server's host";
    port: u16 = "port", "19201", number(1..=u16::MAX), "a port from 1 to 65535", "its TCP port";
    unix_socket: Option<PathBuf> = "unix-socket", "", |text| Some(PathBuf::from(text)),
        "a path", "a Unix socket instead";
    protocol: Protocol = "protocol", "gostash", |text| PROTOCOLS.into_iter().find(|known| known.name == text),
        "gostash, resp, memcached or echo", "what the server speaks: gostash, resp, memcached or echo";
    pid: Option<u32> = "pid", "", number(1..=u32::MAX), "the number of a process",
        "the server's process, whose CPU time and memory are read; else found from the socket";
    clients: usize = "clients", "50", number(1..=60_000_usize), "a number from 1 to 60000", "connections that work";
    idle_clients: usize = "idle-clients", "0", number(0..=60_000_usize), "a number from 0 to 60000",
        "connections that have worked once and then stay idle";
    depths: Vec<usize> = "pipeline", "1", depths,
        "a number from 1 to 1000000, or several such as 1,16,64",
        "requests each connection sends at a time; several, as 1,16,64, give a row each";
    rate: Option<f64> = "rate", "", number(1.0..=1e9), "requests a second, from 1 to 1e9",
        "open loop: so many requests a second, timed from when each was due; --pipeline is how many may be under way";
    duration: f64 = "duration", "5", number(0.0..=1e6), "seconds, such as 0.5", "measure for so many seconds";
    requests: Option<u64> = "requests", "", number(1..=u64::MAX), "a number of at least 1",
        "measure so many requests instead";
    warmup: f64 = "warmup", "1", number(0.0..=1e6), "seconds, such as 0.5", "run for so many seconds before measuring";
    command: Option<Operation> = "command", "mix", |text| match text {
            "mix" => Some(None),
            _ => Operation::ALL.into_iter().find(|known| known.name().to_lowercase() == text).map(Some),
        },
        "mix, get, set, inc, dec or del",
        "mix (GET and SET), get, set, inc, dec, or del (SET, then DEL of the same key)";
    get_percent: u32 = "get-percent", "90", number(0..=100_u32), "a number from 0 to 100", "share of GET in a mix";
    // Keys are numbered in 32 bits, and shuffled by a multiplication that must not overflow.
    keys: u32 = "keys", "100000", number(1..=1_000_000_000_u32), "a number from 1 to 1000000000", "number of keys";
    key_size: Sizes = "key-size", "16", sizes(1..=KEY_BYTES_MAX), "bytes from 1 to 65535, or a range such as 32-512",
        "length of keys in bytes, or a range such as 16-64";
    value_size: Sizes = "value-size", "32", sizes(0..=1 << 30), "bytes from 0 to 1073741824, or a range such as 32-512",
        "length of values in bytes, or a range such as 32-512 or 1kb-1mb";
    zipf: Option<f64> = "distribution", "uniform", |text: &str| match text {
            "uniform" => Some(None),
            "zipf" => Some(Some(0.99)),
            _ => number(f64::MIN_POSITIVE..=10.0)(text.strip_prefix("zipf:")?).map(Some),
        },
        "uniform, zipf or zipf:EXPONENT up to 10",
        "of the keys: uniform, zipf (exponent 0.99) or zipf:EXPONENT";
    preload: bool = "preload", "yes", flag, "", "set every key first, or, with --no-preload, do not";
    seed: u64 = "seed", "1", number(0..=u64::MAX), "a number", "seed of the random numbers";
    request_bytes: Option<usize> = "request-bytes", "", number(1..=1_usize << 30), "a number from 1",
        "with --protocol echo: send so many bytes ...";
    reply_bytes: Option<usize> = "reply-bytes", "", number(1..=1_usize << 30), "a number from 1",
        "... and take so many bytes for the answer";
    verify: bool = "verify", "no", flag, "", "check each byte of each reply; stop at the first wrong one";
    json: bool = "json", "no", flag, "", "one line of JSON for each row";
}

/// Options that a replay has a use for.
const REPLAY_OPTIONS: [&str; 8] = ["host", "port", "unix-socket", "protocol", "pid", "pipeline", "verify", "json"];

impl Options {
    /// Reads the program's arguments; what is wrong with them is one sentence. Nothing if they only ask for something
    /// to be printed.
    pub fn parse() -> Result<Option<Options>, String> {
        use lexopt::prelude::*;
        let mut options = Options::default();
        for row in OPTIONS.iter().filter(|row| !row.default.is_empty()) {
            (row.set)(&mut options, row.default).expect("a default is a value of its own option");
        }
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
            let name = match argument {
                Short('h') | Long("help") => return print(&help()),
                Short('V') | Long("version") => {
                    return print(concat!("gostash-bench ", env!("CARGO_PKG_VERSION"), "\n"));
                }
                Long(name) => name.to_owned(),
                Value(word) if word == "replay" && options.trace.is_none() => {
                    options.trace = Some(parser.value().map_err(|_| "replay: expected the file of a trace")?.into());
                    continue;
                }
                other => return Err(other.unexpected().to_string()),
            };
            let (flag, meant) = name.strip_prefix("no-").map_or((&*name, "yes"), |flag| (flag, "no"));
            let row = OPTIONS.iter().find(|row| row.name == if row.expected.is_empty() { flag } else { &name });
            let Some(Row { expected, set, .. }) = row else {
                return Err(format!("--{name}: no such option; --help lists them"));
            };
            if options.trace.is_some() && !REPLAY_OPTIONS.contains(&flag) {
                return Err(format!("--{name}: not an option of replay"));
            }
            let text = match *expected {
                "" => meant.into(),
                _ => parser.value().map_err(|_| format!("--{name}: expected {expected}, got nothing"))?,
            };
            let text = text.to_string_lossy();
            set(&mut options, &text).ok_or_else(|| format!("--{name}: expected {expected}, got '{text}'"))?;
        }
        // A value that is a number is as long as that, and one that an echo makes up is its reply.
        let numbers = options.counts().then_some(FIRST_DIGITS.len());
        options.value_size = options.reply_bytes.or(numbers).map_or(options.value_size, Sizes::exactly);
        options.conflict().map_or(Ok(Some(options)), Err)
    }

    /// What no single option can know about the others.
    fn conflict(&self) -> Option<String> {
        let Options { keys, clients, key_size: Sizes { low, high }, .. } = *self;
        let digits = (keys - 1).max(1).ilog2() as usize / 4 + 1;
        let has_shape = self.request_bytes.or(self.reply_bytes).is_some();
        if has_shape && (self.shape().is_none() || self.protocol.name != "echo") {
            Some("--request-bytes, --reply-bytes: expected both, with --protocol echo".into())
        } else if low < digits {
            Some(format!("--key-size: expected at least {digits} to tell {keys} keys apart, got {low}"))
        } else if self.protocol.name == "memcached" && high > 250 {
            Some(format!("--key-size: expected at most 250, the limit of memcached, got {high}"))
        } else if self.command == Some(Operation::Del) && (keys as usize) < clients {
            Some(format!(
                "--keys: expected at least one for each of {clients} clients, which delete their own, got {keys}"
            ))
        } else if self.verify && !self.preload && self.counts() {
            Some("--verify: expected --preload with it, to know what the numbers were".into())
        } else {
            None
        }
    }

    /// Whether values are numbers.
    pub fn counts(&self) -> bool {
        matches!(self.command, Some(Operation::Inc | Operation::Dec))
    }

    /// Bytes sent for bytes expected, when an echo stands in for another server.
    pub fn shape(&self) -> Option<(usize, usize)> {
        self.request_bytes.zip(self.reply_bytes)
    }

    /// The server's address as a person would write it.
    pub fn target(&self) -> String {
        match &self.unix_socket {
            Some(path) => format!("unix:{}", path.display()),
            None => format!("{}:{}", self.host, self.port),
        }
    }

    /// `--distribution` as it is written.
    pub fn distribution(&self) -> String {
        self.zipf.map_or("uniform".into(), |exponent| format!("zipf:{exponent}"))
    }
}

fn print(text: &str) -> Result<Option<Options>, String> {
    crate::print(text);
    Ok(None)
}

fn help() -> String {
    let mut text = String::from(
        "gostash-bench: load a cache server, and say what that cost whom\n\n\
         usage: gostash-bench [options]\n       \
                gostash-bench replay FILE [options marked r]\n\n",
    );
    for Row { name, default, expected, meaning, .. } in OPTIONS {
        let mark = if REPLAY_OPTIONS.contains(name) { 'r' } else { ' ' };
        let default = if default.is_empty() || expected.is_empty() { "" } else { &format!(" ({default})") };
        let value = if expected.is_empty() { "" } else { "VALUE" };
        text += &format!("  --{:<21} {mark} {meaning}{default}\n", format!("{name} {value}"));
    }
    text + "  --help\n  --version\n"
}

fn number<T: FromStr + PartialOrd>(range: RangeInclusive<T>) -> impl Fn(&str) -> Option<T> {
    move |text| text.parse().ok().filter(|number| range.contains(number))
}

/// A length or two, each written as the server's own sizes are.
fn sizes(range: RangeInclusive<usize>) -> impl Fn(&str) -> Option<Sizes> {
    move |text| {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let sizes = Sizes { low: size(low, range.clone())?, high: size(high, range.clone())? };
        (sizes.low <= sizes.high).then_some(sizes)
    }
}

fn depths(text: &str) -> Option<Vec<usize>> {
    text.split(',').map(number(1..=1_000_000)).collect()
}

fn flag(text: &str) -> Option<bool> {
    Some(text == "yes")
}
