//! The command line of the comparison.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::exit;
use std::str::FromStr;

use crate::contenders::Contender;

const USAGE: &str = "\
gostash-compare: the same load against this server, its variants, and others

usage: gostash-compare [options]
  --server NAME[:PROTOCOL]=COMMAND   compare with this, too; may be repeated. The shell runs COMMAND in the results'
                        folder, so its paths must be absolute. It stays in the foreground, and has {port} in it; with
                        {threads} in it, it is also measured on all cores but the last, if there are more than two.
                        PROTOCOL is gostash (the default), resp or memcached
  --no-peers            leave out redis-server, valkey-server and memcached, even if they are on the PATH
  --rounds N            rounds, over which the medians are taken (5)
  --pipeline N[,N...]   depths of pipelines (1,16,64)
  --duration SECONDS    of each measurement (1)
  --warmup SECONDS      before each (0.3)
  --rate N              requests a second when latencies are measured, the same for all (20000)
  --clients N           connections (50)
  --keys N              number of keys (100000)
  --value-size BYTES    length of values; keys have 16 bytes, 90 % of requests are GETs (32)
  --items N             number of items when memory is measured; 0 leaves that out (1000000)
  --quick               one short round, to see that everything works
  --markdown            print the table as the README has it
  --folder PATH         where page and raw figures go, in a folder named by the date and time (results)
";

pub(crate) struct Options {
    pub(crate) servers: Vec<Contender>,
    pub(crate) peers: bool,
    pub(crate) rounds: usize,
    pub(crate) depths: Vec<usize>,
    pub(crate) duration: f64,
    pub(crate) warmup: f64,
    pub(crate) rate: u32,
    pub(crate) clients: usize,
    pub(crate) keys: usize,
    pub(crate) value_size: usize,
    pub(crate) items: usize,
    pub(crate) markdown: bool,
    pub(crate) folder: PathBuf,
    /// The command line, for the page.
    pub(crate) command: String,
}

/// Every key's length, in bytes: gostash-bench's own default.
pub(crate) const KEY_BYTES: usize = 16;

impl Default for Options {
    fn default() -> Self {
        Options {
            servers: Vec::new(),
            peers: true,
            rounds: 5,
            depths: vec![1, 16, 64],
            duration: 1.0,
            warmup: 0.3,
            rate: 20_000,
            clients: 50,
            keys: 100_000,
            value_size: 32,
            items: 1_000_000,
            markdown: false,
            folder: "results".into(),
            command: String::new(),
        }
    }
}

impl Options {
    /// Parses the command line. `--help` prints the usage and ends the program.
    pub(crate) fn from_command_line() -> Result<Self, lexopt::Error> {
        use lexopt::prelude::*;
        let words: Vec<String> = std::env::args().skip(1).map(|word| quote(&word)).collect();
        let command = format!("scripts/compare.sh {}", words.join(" ")).trim_end().to_owned();
        let mut options = Options { command, ..Options::default() };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("server") => options.servers.push(parser.value()?.parse()?),
                Long("no-peers") => options.peers = false,
                Long("rounds") => options.rounds = number("rounds", &text(&mut parser)?, 1)?,
                Long("pipeline") => {
                    let depths = text(&mut parser)?;
                    options.depths =
                        depths.split(',').map(|depth| number("pipeline", depth, 1)).collect::<Result<_, _>>()?;
                }
                // In a shorter time gostash-bench tells no CPU time.
                Long("duration") => options.duration = number("duration", &text(&mut parser)?, 0.1)?,
                Long("warmup") => options.warmup = number("warmup", &text(&mut parser)?, 0.0)?,
                Long("rate") => options.rate = number("rate", &text(&mut parser)?, 1)?,
                Long("clients") => options.clients = number("clients", &text(&mut parser)?, 1)?,
                Long("keys") => options.keys = number("keys", &text(&mut parser)?, 1)?,
                Long("value-size") => options.value_size = number("value-size", &text(&mut parser)?, 0)?,
                Long("items") => options.items = number("items", &text(&mut parser)?, 0)?,
                Long("quick") => {
                    (options.rounds, options.duration, options.warmup) = (1, 0.15, 0.05);
                    (options.keys, options.items, options.rate) = (10_000, 20_000, 5_000);
                    options.depths = vec![16];
                }
                Long("markdown") => options.markdown = true,
                Long("folder") => options.folder = parser.value()?.into(),
                Short('h') | Long("help") => {
                    print!("{USAGE}");
                    exit(0);
                }
                _ => return Err(argument.unexpected()),
            }
        }
        // A longer time than this, in seconds, may be none that the standard library can tell.
        if options.duration.max(options.warmup) > 1e6 {
            return Err("--duration, --warmup: expected at most 1000000 seconds".into());
        }
        Ok(options)
    }
}

/// The value that follows an option.
fn text(parser: &mut lexopt::Parser) -> Result<String, lexopt::Error> {
    parser.value()?.into_string().map_err(lexopt::Error::NonUnicodeValue)
}

/// The number that an option's value must be.
fn number<T: FromStr + PartialOrd + Display>(option: &str, text: &str, least: T) -> Result<T, lexopt::Error> {
    let number = text.parse().ok().filter(|number| *number >= least);
    number.ok_or_else(|| format!("--{option}: expected a number of at least {least}, got '{text}'").into())
}

/// Quotes a word for the shell.
fn quote(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./,:=".contains(&byte);
    if word.bytes().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
