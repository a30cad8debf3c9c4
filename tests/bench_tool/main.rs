//! gostash-bench from outside: every mode against the real server at tiny size, and what it reports about servers that
//! are slow or wrong.
//!
//! - `fake`: a server with a chosen fault
//! - `load`: modes, figures and errors of the load generator
//! - `wire`: the bytes that are sent, and replies that are fragmented or changed on their way
//! - `replay`: the replay of a trace
//! - `echo`: the bare echo (needs the feature `variants`)
//! - `compare`: the comparison (needs the feature `compare`)
//! - `server`: the real server, shared with the other integration tests

#[cfg(feature = "compare")]
mod compare;
#[cfg(feature = "variants")]
mod echo;
mod fake;
mod load;
mod replay;
// These tests use only a part of it.
#[allow(dead_code)]
#[path = "../integration/server.rs"]
mod server;
mod wire;

use std::net::SocketAddr;
use std::process::{Command, Output};

/// Runs a command to its end.
fn ended(command: &mut Command) -> Output {
    command.output().expect("gostash-bench starts")
}

/// gostash-bench with these arguments.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gostash-bench"));
    command.args(args);
    command
}

/// The same against the server at this address.
fn at(address: SocketAddr, args: &[&str]) -> Command {
    let mut command = command(args);
    command.args(["--host", "127.0.0.1", "--port", &address.port().to_string()]);
    command
}

/// Runs it there, with JSON rows. It must succeed and print nothing to standard error.
fn rows(address: SocketAddr, args: &[&str]) -> Vec<Row> {
    run(at(address, args).arg("--json"))
}

fn run(command: &mut Command) -> Vec<Row> {
    let output = ended(command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{command:?}: {} {said}", output.status);
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(|line| Row(line.to_owned())).collect()
}

/// The words that an option takes, as its line of the help has them: `..., and del a SET: mix, get, inc or del (mix)`.
fn words_of(option: &str) -> Vec<String> {
    let help = String::from_utf8(ended(&mut command(&["--help"])).stdout).expect("text");
    let line = help.lines().find(|line| line.trim_start().starts_with(&format!("--{option} "))).expect("its line");
    let (words, _default) = line.rsplit(": ").next().and_then(|words| words.split_once(" (")).expect("words");
    words.replace(" or ", ", ").split(", ").map(str::to_owned).collect()
}

/// One line of JSON.
struct Row(String);

impl Row {
    fn text(&self, name: &str) -> &str {
        let quoted = format!("\"{name}\":");
        let at = self.0.find(&quoted).unwrap_or_else(|| panic!("no {name} in {}", self.0)) + quoted.len();
        let rest = &self.0[at..];
        &rest[..rest.find([',', '}']).expect("a field ends")]
    }

    fn number(&self, name: &str) -> f64 {
        self.text(name).parse().unwrap_or_else(|_| panic!("{name} is no number in {}", self.0))
    }
}

/// Runs it; it must fail with this status and one line that contains all of `parts`.
fn fails(command: &mut Command, status: i32, parts: &[&str]) {
    let output = ended(command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{command:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{command:?}: {said}");
    for part in parts {
        assert!(said.contains(part), "{command:?}: expected '{part}' in: {said}");
    }
}
