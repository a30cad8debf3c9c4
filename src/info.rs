//! INFO: Redis's sections and field names, so that what reads them from Redis reads them here, and a section about the
//! loop. Every number is true: what does not exist here is left out, or zero where readers insist on it.

use std::fmt::Write;

use crate::execute::Executor;
use crate::memory;
use crate::protocol::verbs::{REDIS_VERSION, VERBS};

/// What only the loop knows.
#[derive(Debug)]
pub struct Snapshot {
    /// The TCP port.
    pub port: u16,
    /// Time since the start, in milliseconds.
    pub uptime_millis: u64,
    /// Clients connected, and the most there may be.
    pub clients: [usize; 2],
    /// What the process may take, in bytes, and what it does when that is full.
    pub max_memory: usize,
    /// The eviction policy in Redis's words.
    pub policy: &'static str,
    /// What the connections hold, in bytes.
    pub buffer_bytes: usize,
    /// Commands, bytes read and bytes written in the last whole second.
    pub second: [u64; 3],
    /// Turns, and the time that the thread used, in microseconds.
    pub turns: [u64; 2],
    /// The longest turns of the last second, minute and hour, each with its cause.
    pub longest_turns: [String; 3],
    /// Connections that have something to do.
    pub ready: usize,
}

/// The text of these sections; of all if none is named.
pub fn info(names: &[Box<[u8]>], snapshot: &Snapshot, executor: &Executor) -> String {
    type Section = fn(&mut String, &Snapshot, &Executor) -> std::fmt::Result;
    let sections: [(&str, Section); 9] = [
        ("Server", server),
        ("Clients", clients),
        ("Memory", memory_section),
        ("Persistence", persistence),
        ("Stats", stats),
        ("Replication", replication),
        ("Commandstats", command_stats),
        ("Keyspace", keyspace),
        ("Loop", event_loop),
    ];
    let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    let all = names.is_empty() || names.iter().any(|word| ["all", "default", "everything"].iter().any(|n| is(word, n)));
    let mut text = String::new();
    for (name, write) in sections {
        if all || names.iter().any(|word| is(word, name)) {
            let _ = write!(text, "{}# {name}\r\n", if text.is_empty() { "" } else { "\r\n" });
            let start = text.len();
            // Writing to a string does not fail.
            let _ = write(&mut text, snapshot, executor);
            let lines = text.split_off(start).replace('\n', "\r\n");
            text += &lines;
        }
    }
    text
}

fn server(text: &mut String, s: &Snapshot, executor: &Executor) -> std::fmt::Result {
    writeln!(text, "redis_version:{REDIS_VERSION}")?;
    writeln!(text, "gostash_version:{}", env!("CARGO_PKG_VERSION"))?;
    writeln!(text, "redis_mode:standalone\nos:{} {}", std::env::consts::OS, std::env::consts::ARCH)?;
    writeln!(text, "arch_bits:{}\nmultiplexing_api:mio", usize::BITS)?;
    writeln!(text, "process_id:{}\ntcp_port:{}", std::process::id(), s.port)?;
    writeln!(text, "server_time_usec:{}", executor.clock().unix_millis() * 1000)?;
    let seconds = s.uptime_millis / 1000;
    writeln!(text, "uptime_in_seconds:{seconds}\nuptime_in_days:{}", seconds / 86_400)
}

fn clients(text: &mut String, s: &Snapshot, _: &Executor) -> std::fmt::Result {
    let [connected, max] = s.clients;
    writeln!(text, "connected_clients:{connected}\nmaxclients:{max}\nblocked_clients:0")
}

fn memory_section(text: &mut String, s: &Snapshot, executor: &Executor) -> std::fmt::Result {
    let used = executor.base_bytes + executor.store.memory_bytes();
    let resident = memory::resident_bytes().unwrap_or(0);
    writeln!(text, "used_memory:{used}\nused_memory_rss:{resident}")?;
    writeln!(text, "used_memory_startup:{}", executor.base_bytes)?;
    writeln!(text, "maxmemory:{}\nmaxmemory_policy:{}", s.max_memory, s.policy)?;
    writeln!(text, "mem_fragmentation_ratio:{:.2}", resident as f64 / used.max(1) as f64)?;
    writeln!(text, "mem_clients_normal:{}", s.buffer_bytes)
}

fn persistence(text: &mut String, _: &Snapshot, _: &Executor) -> std::fmt::Result {
    writeln!(text, "loading:0\nrdb_bgsave_in_progress:0\naof_enabled:0")
}

fn stats(text: &mut String, s: &Snapshot, executor: &Executor) -> std::fmt::Result {
    let (stats, store) = (&executor.stats, executor.store.stats());
    let [commands, bytes_in, bytes_out] = s.second;
    writeln!(text, "total_connections_received:{}", stats.connections)?;
    writeln!(text, "total_commands_processed:{}", stats.commands())?;
    writeln!(text, "instantaneous_ops_per_sec:{commands}")?;
    writeln!(text, "total_net_input_bytes:{}\ntotal_net_output_bytes:{}", stats.bytes_in, stats.bytes_out)?;
    writeln!(text, "instantaneous_input_kbps:{:.2}", bytes_in as f64 / 1024.0)?;
    writeln!(text, "instantaneous_output_kbps:{:.2}", bytes_out as f64 / 1024.0)?;
    writeln!(text, "rejected_connections:{}", stats.refused)?;
    writeln!(text, "expired_keys:{}\nevicted_keys:{}", store.expired, store.evictions)?;
    writeln!(text, "keyspace_hits:{}\nkeyspace_misses:{}", stats.hits, stats.gets - stats.hits)?;
    writeln!(text, "total_error_replies:{}", stats.errors + stats.broken)?;
    writeln!(text, "client_disconnections:{}", stats.closed)
}

fn replication(text: &mut String, _: &Snapshot, _: &Executor) -> std::fmt::Result {
    writeln!(text, "role:master\nconnected_slaves:0")
}

/// Calls alone: to time each command would take longer than most commands do.
fn command_stats(text: &mut String, _: &Snapshot, executor: &Executor) -> std::fmt::Result {
    for (verb, calls) in VERBS.iter().zip(executor.calls).filter(|(_, calls)| *calls > 0) {
        writeln!(text, "cmdstat_{}:calls={calls},usec=0,usec_per_call=0.00", verb.name)?;
    }
    Ok(())
}

fn keyspace(text: &mut String, _: &Snapshot, executor: &Executor) -> std::fmt::Result {
    match executor.store.len() {
        0 => Ok(()),
        keys => writeln!(text, "db0:keys={keys},expires={},avg_ttl=0", executor.store.expiring()),
    }
}

fn event_loop(text: &mut String, s: &Snapshot, _: &Executor) -> std::fmt::Result {
    let [turns, used] = s.turns;
    writeln!(text, "loop_turns:{turns}\nloop_cpu_usec:{used}")?;
    for (span, turn) in ["second", "minute", "hour"].iter().zip(&s.longest_turns) {
        writeln!(text, "loop_longest_turn_last_{span}:{turn}")?;
    }
    writeln!(text, "loop_ready_connections:{}\nloop_bytes_waiting:{}", s.ready, s.buffer_bytes)
}
