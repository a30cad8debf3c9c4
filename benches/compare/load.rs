//! One contender under load: its memory, its cost and throughput at each depth, and its latencies at a given rate. All
//! figures come from gostash-bench.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::contenders::{Contender, Role};
use crate::options::{KEY_BYTES, Options};
use crate::results::{Measurement, Results};
use crate::servers::{Server, Stop, run};

/// How long a measurement may take beyond its duration, to connect, to set the keys, and to wait for the last replies.
const PATIENCE: Duration = Duration::from_secs(60);

/// The depth at which latencies are measured and memory is filled. It is so deep that requests go on being sent in a
/// stall.
const OPEN_DEPTH: usize = 64;

pub(crate) struct Load<'a> {
    pub(crate) options: &'a Options,
    /// Where the load generator runs.
    pub(crate) client_cores: &'a [usize],
    pub(crate) folder: &'a Path,
    pub(crate) stop: &'a Stop,
}

impl Load<'_> {
    /// Fills a new server and measures its memory. Returns the version that the server reports.
    pub(crate) fn memory(&self, contender: &Contender, results: &mut Results) -> Result<String, Box<dyn Error>> {
        let server = Server::start(contender, self.folder, self.stop)?;
        let version = version(contender, server.port).unwrap_or_default();
        let items = self.options.items;
        if items == 0 || contender.role == Role::Floor {
            return Ok(version);
        }
        // The same requests each time, so that buffers for the clients, which are not the items', are as large before as
        // after. If a key is missing, the server has evicted items, and has not shown what they take.
        let resident = |keys: usize| -> Result<Option<f64>, Box<dyn Error>> {
            let requests = format!("--requests 20000 --get-percent 100 --warmup 0 --pipeline {OPEN_DEPTH}");
            let row = self.bench(contender, &server, &format!("--keys {keys} {requests}"), Duration::ZERO)?;
            Ok(row.filter(|row| row["misses"] == 0).and_then(|row| row["server_resident_bytes"].as_f64()))
        };
        let (before, after) = (resident(100)?, resident(items)?);
        if let (Some(before), Some(after)) = (before, after) {
            let bytes = (after - before) / items as f64 - (KEY_BYTES + self.options.value_size) as f64;
            let row = json!({ "items": items, "bytes_beyond_key_and_value_per_item": bytes });
            results.push(&contender.name, Measurement::Memory, 0, row);
        }
        Ok(version)
    }

    /// One round: starts a new process, and measures each depth and the latencies.
    pub(crate) fn round(
        &self,
        contender: &Contender,
        round: usize,
        results: &mut Results,
    ) -> Result<(), Box<dyn Error>> {
        let Options { duration, warmup, rate, .. } = self.options;
        let server = Server::start(contender, self.folder, self.stop)?;
        let long = format!("--duration {duration} --warmup {warmup}");
        // Where a rate is missed, what was due is sent for as long again.
        let patience = Duration::from_secs_f64(2.0 * duration + warmup);
        let mut preload = "--preload";
        for &depth in &self.options.depths {
            let arguments = format!("{long} {preload} --pipeline {depth}");
            preload = "--no-preload";
            if let Some(row) = self.bench(contender, &server, &arguments, patience)? {
                results.push(&contender.name, Measurement::Depth(depth), round, row);
            }
        }
        let arguments = format!("{long} {preload} --pipeline {OPEN_DEPTH} --rate {rate}");
        if let Some(row) = self.bench(contender, &server, &arguments, patience)? {
            results.push(&contender.name, Measurement::Latency, round, row);
        }
        Ok(())
    }

    /// Runs gostash-bench and returns its row. If it fails, prints its error and returns `None`.
    fn bench(
        &self,
        contender: &Contender,
        server: &Server,
        arguments: &str,
        expected: Duration,
    ) -> Result<Option<Value>, Box<dyn Error>> {
        let binary = std::env::current_exe()?.with_file_name("gostash-bench");
        let mut command = Command::new(binary);
        let Options { clients, keys, value_size, .. } = self.options;
        command.args(["--host", "127.0.0.1", "--port", &server.port.to_string(), "--protocol", &contender.protocol]);
        command.args(["--json", "--clients", &clients.to_string(), "--value-size", &value_size.to_string()]);
        if !arguments.contains("--keys") {
            command.args(["--keys", &keys.to_string()]);
        }
        command.args(arguments.split(' '));
        let output = run(&mut command, self.client_cores, expected + PATIENCE, self.stop)?;
        if !output.status.success() {
            self.stop.check()?;
            eprint!("{}, {arguments}: {}", contender.name, String::from_utf8_lossy(&output.stderr));
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&output.stdout)?))
    }
}

/// The version that the server reports.
fn version(contender: &Contender, port: u16) -> Option<String> {
    let (question, names): (&str, &[&str]) = match (contender.role, contender.protocol.as_str()) {
        (Role::Own | Role::Variant | Role::Floor, _) => return Some(env!("CARGO_PKG_VERSION").to_owned()),
        (_, "resp") => {
            ("*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n", &["gostash_version:", "valkey_version:", "redis_version:"])
        }
        (_, "memcached") => ("version\r\n", &["VERSION "]),
        _ => return None,
    };
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    socket.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
    socket.write_all(question.as_bytes()).ok()?;
    let mut answer = vec![0; 16 * 1024];
    let count = socket.read(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer[..count]);
    names.iter().find_map(|name| Some(answer.lines().find_map(|line| line.strip_prefix(name))?.to_owned()))
}
