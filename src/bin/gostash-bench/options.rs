//! The command line: what it may say, what each option is by default, and one clear sentence when it is wrong.
//! It knows no socket and measures nothing.

use std::ffi::OsString;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::prelude::*;

use crate::protocol::Protocol;
use crate::workload::{Distribution, Mode, Sizes};

/// What `--help` prints.
pub const USAGE: &str = "\
gostash-bench: load a cache server, and say what that cost whom

usage: gostash-bench [options]
       gostash-bench replay FILE [options marked r]

where
  --host NAME           r  the server's host (localhost)
  --port N              r  its TCP port (19201)
  --unix-socket PATH    r  a Unix socket instead
  --protocol NAME       r  gostash, resp, memcached or echo (gostash)
  --pid N               r  the server's process, to read its CPU time and memory (found from the socket)
how
  --clients N              connections that work (50)
  --idle-clients N         connections that have worked once and then stay idle (0)
  --pipeline N[,N...]   r  requests each connection sends at a time; several give a row each (1)
  --rate N                 open loop: so many requests a second, timed from the moment each was due;
                           --pipeline is then how many may be under way on a connection
  --duration SECONDS       measure for so long (5)
  --requests N             measure so many requests instead
  --warmup SECONDS         run for so long before measuring (1)
what
  --command NAME           mix (GET and SET), get, set, inc, dec, or del (SET, then DEL of the same key) (mix)
  --get-percent N          share of GET in a mix (90)
  --keys N                 number of keys (100000)
  --key-size SIZE          bytes, or a range such as 16-64 (16)
  --value-size SIZE        bytes, or a range such as 32-512 or 1kb-1mb (32)
  --distribution NAME      uniform, zipf (exponent 0.99) or zipf:EXPONENT (uniform)
  --preload, --no-preload  set every key first, or do not (--preload)
  --seed N                 of the random numbers (1)
  --request-bytes R        with --protocol echo: send R bytes ...
  --reply-bytes P          ... and take P bytes for the answer
and
  --verify              r  check each byte of each reply; stop at the first wrong one
  --json                r  one line of JSON for each row
  --help, --version
";

/// The longest a run may be told to last, in seconds; what follows is arithmetic on nanoseconds.
const SECONDS_MAX: f64 = 1e6;

/// Keys are numbered in 32 bits, and shuffled by a multiplication that must not overflow.
const KEYS_MAX: u32 = 1_000_000_000;

/// A larger value than any server here takes, in bytes.
const SIZE_MAX: usize = 1 << 30;

/// What the user asked for.
pub enum Request {
    /// Make load.
    Load(Options),
    /// Replay a trace.
    Replay(PathBuf, Options),
    /// Print this and be done.
    Print(String),
}

/// Every option, at its default or as set.
#[derive(Clone, Debug)]
pub struct Options {
    /// Host of the server.
    pub host: String,
    /// TCP port of the server.
    pub port: u16,
    /// Its Unix socket, if that is to be used.
    pub unix_socket: Option<PathBuf>,
    /// The language spoken.
    pub protocol: Protocol,
    /// The server's process.
    pub pid: Option<u32>,
    /// Connections that work.
    pub clients: usize,
    /// Connections that have worked and are idle.
    pub idle_clients: usize,
    /// Requests under way on each connection, one row each.
    pub depths: Vec<usize>,
    /// Requests a second in open loop.
    pub rate: Option<f64>,
    /// How long to measure.
    pub duration: Duration,
    /// How many requests to measure instead.
    pub requests: Option<u64>,
    /// How long to run before that.
    pub warmup: Duration,
    /// Which commands.
    pub mode: Mode,
    /// Share of GET in a mix.
    pub get_percent: u32,
    /// How many keys.
    pub keys: u32,
    /// Their length in bytes.
    pub key_size: Sizes,
    /// The values' length in bytes.
    pub value_size: Sizes,
    /// Which keys are asked for how often.
    pub distribution: Distribution,
    /// Whether every key is set first.
    pub preload: bool,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Bytes sent for bytes expected, when an echo stands in for another server.
    pub shape: Option<(usize, usize)>,
    /// Whether every byte is checked.
    pub verify: bool,
    /// Whether rows are JSON.
    pub json: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            host: "localhost".to_string(),
            port: 19201,
            unix_socket: None,
            protocol: Protocol::Gostash,
            pid: None,
            clients: 50,
            idle_clients: 0,
            depths: vec![1],
            rate: None,
            duration: Duration::from_secs(5),
            requests: None,
            warmup: Duration::from_secs(1),
            mode: Mode::Mix,
            get_percent: 90,
            keys: 100_000,
            key_size: Sizes::exactly(16),
            value_size: Sizes::exactly(32),
            distribution: Distribution::Uniform,
            preload: true,
            seed: 1,
            shape: None,
            verify: false,
            json: false,
        }
    }
}

/// One sentence for the user.
#[derive(Debug)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        UsageError(error.to_string())
    }
}

/// Options that a replay has a use for.
const REPLAY_OPTIONS: [&str; 8] = ["host", "port", "unix-socket", "protocol", "pid", "pipeline", "verify", "json"];

impl Request {
    /// Reads the arguments that follow the program's name.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, UsageError> {
        let mut options = Options::default();
        let mut trace = None;
        let mut is_replay = false;
        let (mut request_bytes, mut reply_bytes) = (None, None);
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            let name = match argument {
                Short('h') => "help".to_string(),
                Short('V') => "version".to_string(),
                Long(name) => name.to_string(),
                Value(word) if !is_replay && trace.is_none() && word == "replay" => {
                    is_replay = true;
                    continue;
                }
                Value(file) if is_replay && trace.is_none() => {
                    trace = Some(PathBuf::from(file));
                    continue;
                }
                other => return Err(other.unexpected().into()),
            };
            if is_replay && !REPLAY_OPTIONS.contains(&name.as_str()) && name != "help" {
                return Err(UsageError(format!("--{name}: not an option of replay")));
            }
            let mut value = Text { parser: &mut parser, name: &name };
            match name.as_str() {
                "help" => return Ok(Request::Print(USAGE.to_string())),
                "version" => {
                    return Ok(Request::Print(format!("gostash-bench {}\n", env!("CARGO_PKG_VERSION"))));
                }
                "host" => options.host = value.text("a host name")?,
                "port" => options.port = value.number("a port from 1 to 65535", 1..=65_535)?,
                "unix-socket" => options.unix_socket = Some(value.text("a path")?.into()),
                "protocol" => options.protocol = value.parse("gostash, resp, memcached or echo")?,
                "pid" => options.pid = Some(value.number("the number of a process", 1..=u32::MAX)?),
                "clients" => {
                    options.clients = value.number("a number from 1 to 60000", 1..=60_000)?;
                }
                "idle-clients" => {
                    options.idle_clients = value.number("a number from 0 to 60000", 0..=60_000)?;
                }
                "pipeline" => options.depths = value.depths()?,
                "rate" => {
                    options.rate = Some(value.decimal("requests a second, from 1 to 1e9", 1.0..=1e9)?);
                }
                "duration" => options.duration = value.seconds()?,
                "requests" => {
                    options.requests = Some(value.number("a number of at least 1", 1..=u64::MAX)?);
                }
                "warmup" => options.warmup = value.seconds()?,
                "command" => options.mode = value.parse("mix, get, set, inc, dec or del")?,
                "get-percent" => {
                    options.get_percent = value.number("a number from 0 to 100", 0..=100)?;
                }
                "keys" => {
                    options.keys = value.number("a number from 1 to 1000000000", 1..=KEYS_MAX)?;
                }
                "key-size" => options.key_size = value.sizes(1, gostash::limits::KEY_BYTES_MAX)?,
                "value-size" => options.value_size = value.sizes(0, SIZE_MAX)?,
                "distribution" => {
                    options.distribution = value.parse("uniform, zipf or zipf:EXPONENT up to 10")?;
                }
                "preload" => options.preload = true,
                "no-preload" => options.preload = false,
                "seed" => options.seed = value.number("a number", 0..=u64::MAX)?,
                "request-bytes" => {
                    request_bytes = Some(value.number("a number from 1", 1..=SIZE_MAX)?);
                }
                "reply-bytes" => reply_bytes = Some(value.number("a number from 1", 1..=SIZE_MAX)?),
                "verify" => options.verify = true,
                "json" => options.json = true,
                _ => {
                    return Err(UsageError(format!("--{name}: no such option; --help lists them")));
                }
            }
        }
        match (request_bytes, reply_bytes) {
            (None, None) => {}
            (Some(sent), Some(taken)) if options.protocol == Protocol::Echo => {
                options.shape = Some((sent, taken));
            }
            _ => {
                return Err(UsageError("--request-bytes, --reply-bytes: expected both, with --protocol echo".into()));
            }
        }
        options.check()?;
        match (is_replay, trace) {
            (true, None) => Err(UsageError("replay: expected the file of a trace".into())),
            (true, Some(trace)) => Ok(Request::Replay(trace, options)),
            (false, _) => Ok(Request::Load(options)),
        }
    }
}

impl Options {
    /// What no single option can know about the others.
    fn check(&self) -> Result<(), UsageError> {
        let digits = (self.keys - 1).max(1).ilog2() as usize / 4 + 1;
        if self.key_size.low < digits {
            return Err(UsageError(format!(
                "--key-size: expected at least {digits} to tell {} keys apart, got {}",
                self.keys, self.key_size.low
            )));
        }
        if self.protocol == Protocol::Memcached && self.key_size.high > 250 {
            return Err(UsageError(format!(
                "--key-size: expected at most 250, the limit of memcached, got {}",
                self.key_size.high
            )));
        }
        if self.mode == Mode::Del && (self.keys as usize) < self.clients {
            return Err(UsageError(format!(
                "--keys: expected at least one for each of {} clients, which delete their own, got {}",
                self.clients, self.keys
            )));
        }
        if self.verify && !self.preload && matches!(self.mode, Mode::Inc | Mode::Dec) {
            return Err(UsageError("--verify: expected --preload with it, to know what the numbers were".into()));
        }
        Ok(())
    }

    /// The addresses behind `--host` and `--port`, in the resolver's order.
    pub fn addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        Ok((self.host.as_str(), self.port).to_socket_addrs()?.collect())
    }

    /// The server's address as a person would write it.
    pub fn target(&self) -> String {
        match &self.unix_socket {
            Some(path) => format!("unix:{}", path.display()),
            None => format!("{}:{}", self.host, self.port),
        }
    }
}

/// The value of one option, and what to say if it is not what it should be.
struct Text<'a> {
    parser: &'a mut lexopt::Parser,
    name: &'a str,
}

impl Text<'_> {
    fn wrong(&self, expected: &str, got: &str) -> UsageError {
        UsageError(format!("--{}: expected {expected}, got '{got}'", self.name))
    }

    fn text(&mut self, expected: &str) -> Result<String, UsageError> {
        match self.parser.value() {
            Ok(value) => value.into_string().map_err(|value| self.wrong(expected, &value.to_string_lossy())),
            Err(_) => Err(UsageError(format!("--{}: expected {expected}, got nothing", self.name))),
        }
    }

    fn parse<T: FromStr>(&mut self, expected: &str) -> Result<T, UsageError> {
        let text = self.text(expected)?;
        text.parse().map_err(|_| self.wrong(expected, &text))
    }

    fn number<T: FromStr + PartialOrd>(
        &mut self,
        expected: &str,
        range: std::ops::RangeInclusive<T>,
    ) -> Result<T, UsageError> {
        let text = self.text(expected)?;
        text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| self.wrong(expected, &text))
    }

    fn decimal(&mut self, expected: &str, range: std::ops::RangeInclusive<f64>) -> Result<f64, UsageError> {
        self.number(expected, range)
    }

    fn seconds(&mut self) -> Result<Duration, UsageError> {
        self.decimal("seconds, such as 0.5", 0.0..=SECONDS_MAX).map(Duration::from_secs_f64)
    }

    fn depths(&mut self) -> Result<Vec<usize>, UsageError> {
        let expected = "a number from 1 to 1000000, or several such as 1,16,64";
        let text = self.text(expected)?;
        text.split(',')
            .map(|depth| depth.parse().ok().filter(|depth| (1..=1_000_000).contains(depth)))
            .collect::<Option<Vec<usize>>>()
            .ok_or_else(|| self.wrong(expected, &text))
    }

    fn sizes(&mut self, low: usize, high: usize) -> Result<Sizes, UsageError> {
        let expected = format!("bytes from {low} to {high}, or a range such as 32-512");
        let text = self.text(&expected)?;
        let sizes = text.parse::<Sizes>().ok();
        sizes.filter(|sizes| low <= sizes.low && sizes.high <= high).ok_or_else(|| self.wrong(&expected, &text))
    }
}
