//! The command line: one table with every option, its default, its parser and its help text. It knows no socket and
//! measures nothing.

use std::error::Error;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::exit;
use std::str::FromStr;

use gostash::config::size;
use gostash::limits::KEY_BYTES_MAX;
use lexopt::prelude::*;

use crate::print;
use crate::protocol::{Operation, PROTOCOLS, Protocol};
use crate::workload::{FIRST_NUMBER, Sizes};

/// Defines [`Options`] and [`OPTIONS`] from one table. A row has a field, which is named as its option, and the field's
/// type; the default; the parser of a value, and what it expects, for errors and the help; and what the option does.
macro_rules! options {
    ($($name:ident: $type:ty = $default:literal, $read:expr, $expected:expr, $meaning:literal;)*) => {
        #[derive(Clone, Default)]
        pub struct Options {
            /// The file of a trace, which is replayed instead of drawing random keys.
            pub replay: Option<PathBuf>,
            $(#[doc = $meaning] pub $name: $type,)*
        }

        const OPTIONS: &[Row] = &[$(Row {
            name: stringify!($name),
            default: $default,
            expected: $expected,
            meaning: $meaning,
            set: |options, text| {
                options.$name = $read(text)?.into();
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

/// Marks an option that takes no value: `--NAME` sets it, and `--no-NAME` unsets it.
const FLAG: &str = "a flag";

options! {
    host: String = "localhost", Some, "a host name", "the server";
    port: u16 = "19201", number(1..=u16::MAX), "a port from 1 to 65535", "its TCP port";
    unix_socket: Option<PathBuf> = "none", |text| Some(PathBuf::from(text)), "a path", "a Unix socket instead";
    protocol: Protocol = "gostash", |text| PROTOCOLS.into_iter().find(|known| known.name == text),
        "gostash, resp, memcached or echo", "what the server speaks";
    pid: Option<u32> = "none", number(1..=u32::MAX), "a process id", "the server, if the socket does not tell";
    clients: usize = "50", number(1..=60_000_usize), "a number from 1 to 60000", "connections";
    idle_clients: usize = "0", number(0..=60_000_usize), "a number from 0 to 60000",
        "more connections, idle after the preload";
    pipeline: Vec<usize> = "1", |text: &str| text.split(',').map(number(1..=1_000_000)).collect::<Option<Vec<_>>>(),
        "a number from 1 to 1000000, or several such as 1,16,64",
        "requests in flight on each connection, a row for each depth";
    rate: Option<f64> = "none", number(1.0..=1e9), "requests a second, from 1 to 1e9",
        "open loop, at most --pipeline in flight on each connection, timed from when each was due";
    duration: f64 = "5", number(0.001..=1e6), "seconds from 0.001", "how long it measures";
    requests: Option<u64> = "none", number(1..=u64::MAX), "a number of at least 1", "measure so many requests instead";
    warmup: f64 = "1", number(0.0..=1e6), "seconds, such as 0.5", "how long it runs before it measures";
    command: Option<Operation> = "mix", |text| match text {
            "mix" => Some(None),
            _ => Operation::ALL.into_iter().find(|known| known.name().to_lowercase() == text).map(Some),
        },
        "mix, get, set, inc, dec or del", "what is sent, where mix is GET and SET, and del a SET and a DEL of its key";
    get_percent: u32 = "90", number(0..=100_u32), "a number from 0 to 100", "share of GET in a mix";
    // Keys are 32-bit numbers, and shuffling them multiplies in 64 bits, which must not overflow.
    keys: u32 = "100000", number(1..=1_000_000_000_u32), "a number from 1 to 1000000000", "number of keys";
    key_size: Sizes = "16", sizes(1..=KEY_BYTES_MAX), "bytes from 1 to 65535, or a range such as 8-16",
        "length of keys";
    value_size: Sizes = "32", sizes(0..=1 << 30), "bytes from 0 to 1gb, or a range such as 1kb-1mb", "length of values";
    distribution: Option<f64> = "uniform", |text: &str| match text {
            "uniform" => Some(None),
            "zipf" => Some(Some(0.99)),
            _ => number(f64::MIN_POSITIVE..=10.0)(text.strip_prefix("zipf:")?).map(Some),
        },
        "uniform, zipf or zipf:EXPONENT up to 10", "how keys are drawn, where zipf is zipf:0.99";
    preload: bool = "yes", |text| Some(text == "yes"), FLAG, "set every key first, or, with --no-preload, do not";
    request_bytes: Option<usize> = "none", number(1..=1_usize << 30), "a number from 1", "length of an echo's requests";
    reply_bytes: Option<usize> = "none", number(1..=1_usize << 30), "a number from 1", "length of an echo's replies";
    verify: bool = "no", |text| Some(text == "yes"), FLAG, "check each byte of each reply, and end at a wrong one";
    json: bool = "no", |text| Some(text == "yes"), FLAG, "one line of JSON for each row";
}

/// The options that a replay accepts.
const REPLAY_OPTIONS: [&str; 8] = ["host", "port", "unix_socket", "protocol", "pid", "pipeline", "verify", "json"];

impl Options {
    /// Parses the command line. An error is one sentence. `--help` prints and ends the program.
    pub fn parse() -> Result<Options, Box<dyn Error>> {
        let mut options = Options::default();
        for Row { default, set, .. } in OPTIONS.iter().filter(|row| row.default != "none") {
            set(&mut options, default).expect("a default that its own parser takes");
        }
        let mut parser = lexopt::Parser::from_env();
        if parser.raw_args()?.next_if(|word| word == "replay").is_some() {
            let file = parser.value().map_err(|_| "replay: expected the file of a trace, got nothing")?;
            options.replay = Some(file.into());
        }
        while let Some(argument) = parser.next()? {
            let name = match argument {
                Short('h') | Long("help") => exit_after(&help())?,
                Short('V') | Long("version") => exit_after(concat!("gostash-bench ", env!("CARGO_PKG_VERSION"), "\n"))?,
                Long(name) => name.to_owned(),
                other => return Err(other.unexpected().into()),
            };
            let (flag, meant) = name.strip_prefix("no-").map_or((&*name, "yes"), |flag| (flag, "no"));
            let is_it = |row: &&Row| row.name.replace('_', "-") == if row.expected == FLAG { flag } else { &name };
            let row =
                OPTIONS.iter().find(is_it).ok_or_else(|| format!("--{name}: no such option; --help lists them"))?;
            if options.replay.is_some() && !REPLAY_OPTIONS.contains(&row.name) {
                return Err(format!("--{name}: not an option of replay").into());
            }
            let expected = row.expected;
            let text = match expected {
                FLAG => meant.to_owned(),
                _ => parser.value().map_err(|_| format!("--{name}: expected {expected}, got nothing"))?.string()?,
            };
            (row.set)(&mut options, &text).ok_or_else(|| format!("--{name}: expected {expected}, got '{text}'"))?;
        }
        // A number has a known length, and the value of a shaped echo is its reply.
        let known = options.reply_bytes.or(options.counts().then(|| FIRST_NUMBER.to_string().len()));
        options.value_size = known.map_or(options.value_size, |bytes| Sizes { low: bytes, high: bytes });
        options.conflict().map_or(Ok(options), |problem| Err(problem.into()))
    }

    /// Why these options do not go together, if they do not.
    fn conflict(&self) -> Option<String> {
        let Options { keys, clients, key_size: Sizes { low, .. }, .. } = *self;
        let digits = format!("{:x}", keys - 1).len();
        let shape = [self.request_bytes, self.reply_bytes];
        let can_shape = !shape.contains(&None) && self.protocol.name == "echo" && !self.verify;
        Some(if shape != [None; 2] && !can_shape {
            "--request-bytes, --reply-bytes: expected both, with --protocol echo and without --verify".into()
        } else if low < digits {
            format!("--key-size: expected at least {digits} to tell {keys} keys apart, got {low}")
        } else if self.owns_keys() && (keys as usize) < clients {
            format!("--keys: expected at least one for each of {clients} clients, which have their own, got {keys}")
        } else if self.replay.is_some() && self.pipeline.len() > 1 {
            "--pipeline: expected one depth, since a replay begins with an empty server".into()
        } else if self.verify && !self.preload && self.counts() {
            "--verify: expected --preload with it, to know what the numbers were".into()
        } else {
            return None;
        })
    }

    /// Whether each client has keys of its own: it deletes only what it has set, and knows what the numbers are.
    pub fn owns_keys(&self) -> bool {
        self.command == Some(Operation::Del) || (self.verify && self.counts())
    }

    /// Whether values are numbers, for INC and DEC.
    pub fn counts(&self) -> bool {
        matches!(self.command, Some(Operation::Inc | Operation::Dec))
    }

    pub fn target(&self) -> String {
        match &self.unix_socket {
            Some(path) => format!("unix:{}", path.display()),
            None => format!("{}:{}", self.host, self.port),
        }
    }
}

fn exit_after<T>(text: &str) -> Result<T, String> {
    print(text)?;
    exit(0)
}

fn help() -> String {
    let rows = OPTIONS.iter().map(|Row { name, default, expected, meaning, .. }| {
        format!("  --{:<15} {meaning}: {expected} ({default})\n", name.replace('_', "-"))
    });
    format!(
        "gostash-bench: load a cache server, and report throughput, latency and the server's CPU time\n\n\
         usage: gostash-bench [options]\n       \
                gostash-bench replay FILE [--{}]\n\n{}",
        REPLAY_OPTIONS.join(", --").replace('_', "-"),
        rows.collect::<String>()
    )
}

fn number<T: FromStr + PartialOrd>(range: RangeInclusive<T>) -> impl Fn(&str) -> Option<T> {
    move |text| text.parse().ok().filter(|number| range.contains(number))
}

/// Parses one length, or a range of two, in the units of the server's own options.
fn sizes(range: RangeInclusive<usize>) -> impl Fn(&str) -> Option<Sizes> {
    move |text| {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let sizes = Sizes { low: size(low, range.clone())?, high: size(high, range.clone())? };
        (sizes.low <= sizes.high).then_some(sizes)
    }
}
