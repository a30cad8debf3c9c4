//! INFO, in Redis's sections and field names for the tools that read them, with a section about the loop; and the log's
//! line of counters. Every number is true: what does not exist here is left out, or zero where readers insist on it.

use std::env::consts::{ARCH, OS};
use std::fmt::Display;
use std::iter::zip;
use std::process;

use super::EventLoop;
use super::turn::TurnClock;
use crate::execute::Executor;
use crate::memory;
use crate::protocol::verbs::{Complaint, REDIS_VERSION, VERBS};
use crate::stats::Stats;

/// A field's name and value. One whose value is empty is left out.
type Field<'a> = (&'a str, &'a dyn Display);

impl EventLoop {
    /// What the server has done so far, on one line.
    pub(super) fn report(&self) -> String {
        let (Executor { stats, store, .. }, TurnClock { turns, long, history, .. }) = (&self.executor, &self.clock);
        let [.., longest] = history.longest(self.now_millis / 1000);
        let (clients, items, memory) = (self.clients(), store.len(), store.memory_bytes() - self.base_bytes);
        let (connections, misses) = (stats.accepted - stats.refused, stats.gets - stats.hits);
        let (evictions, expired) = (store.stats.evictions, store.stats.expired);
        let Stats { refused, closed, gets, hits, sets, adds, deletes, errors, broken, bytes_in, bytes_out, .. } = stats;
        format!(
            "clients={clients} items={items} memory={memory} evictions={evictions} expired={expired} \
             connections={connections} refused={refused} closed={closed} gets={gets} hits={hits} misses={misses} \
             sets={sets} adds={adds} deletes={deletes} errors={errors} broken={broken} bytes_in={bytes_in} \
             bytes_out={bytes_out} turns={turns} over_200us={long} longest_turn={longest}"
        )
    }

    /// Answers INFO with the sections named, or with all if none is.
    pub(super) fn info(&mut self, slot: usize, names: &[Box<[u8]>]) -> Result<(), Complaint> {
        let Executor { store, stats, clock, calls, .. } = &self.executor;
        let seconds = self.now_millis / 1000;
        let [commands_rate, in_rate, out_rate] = self.clock.history.rates(seconds);
        let [last_second, last_minute, last_hour, _] = self.clock.history.longest(seconds);
        let [user_seconds, sys_seconds] = cpu_seconds().unwrap_or_default();
        let used = store.memory_bytes();
        let resident = memory::resident_bytes().unwrap_or(0);
        let waiting = self.buffer_bytes();
        let megabytes = |bytes: usize| format!("{:.2}M", bytes as f64 / f64::from(1 << 20));
        // Commands are counted but not timed: timing one would take longer than most of them do.
        let called = Vec::from_iter(zip(&VERBS, calls).filter(|(_, calls)| **calls > 0).map(|(verb, calls)| {
            (format!("cmdstat_{}", verb.name), format!("calls={calls},usec=0,usec_per_call=0.00"))
        }));
        let called: Vec<Field> = called.iter().map(|(name, value)| (name.as_str(), value as &dyn Display)).collect();
        let keyspace = match store.len() {
            0 => String::new(),
            keys => format!("keys={keys},expires={},avg_ttl=0", store.expiring()),
        };
        #[rustfmt::skip] // a table
        let sections: &[(&str, &[Field])] = &[
            ("Server", &[
                ("redis_version", &REDIS_VERSION), ("gostash_version", &env!("CARGO_PKG_VERSION")),
                ("redis_mode", &"standalone"), ("os", &format!("{OS} {ARCH}")), ("arch_bits", &64),
                ("multiplexing_api", &"mio"), ("process_id", &process::id()), ("tcp_port", &self.config.port),
                ("server_time_usec", &(clock.unix_millis() * 1000)),
                ("uptime_in_seconds", &seconds), ("uptime_in_days", &(seconds / 86_400)),
            ]),
            ("Clients", &[
                ("connected_clients", &self.clients()), ("maxclients", &self.config.max_clients), ("blocked_clients", &0),
            ]),
            ("Memory", &[
                ("used_memory", &used), ("used_memory_rss", &resident), ("used_memory_startup", &self.base_bytes),
                ("maxmemory", &self.config.max_memory.bytes), ("maxmemory_policy", &self.policy()),
                ("mem_fragmentation_ratio", &format!("{:.2}", resident as f64 / used as f64)),
                ("mem_clients_normal", &waiting),
                ("used_memory_human", &megabytes(used)), ("maxmemory_human", &megabytes(self.config.max_memory.bytes)),
            ]),
            ("Persistence", &[("loading", &0), ("rdb_bgsave_in_progress", &0), ("aof_enabled", &0)]),
            ("Stats", &[
                ("total_connections_received", &(stats.accepted - stats.refused)), ("rejected_connections", &stats.refused),
                ("total_commands_processed", &stats.commands()), ("instantaneous_ops_per_sec", &commands_rate),
                ("total_net_input_bytes", &stats.bytes_in), ("total_net_output_bytes", &stats.bytes_out),
                ("instantaneous_input_kbps", &format!("{:.2}", in_rate as f64 / 1024.0)),
                ("instantaneous_output_kbps", &format!("{:.2}", out_rate as f64 / 1024.0)),
                ("expired_keys", &store.stats.expired), ("evicted_keys", &store.stats.evictions),
                ("keyspace_hits", &stats.hits), ("keyspace_misses", &(stats.gets - stats.hits)),
                ("total_error_replies", &(stats.errors + stats.broken)), ("client_disconnections", &stats.closed),
            ]),
            ("Replication", &[("role", &"master"), ("connected_slaves", &0)]),
            ("CPU", &[("used_cpu_sys", &sys_seconds), ("used_cpu_user", &user_seconds)]),
            ("Cluster", &[("cluster_enabled", &0)]),
            ("Commandstats", &called),
            ("Keyspace", &[("db0", &keyspace)]),
            ("Loop", &[
                ("loop_turns", &self.clock.turns), ("loop_longest_turn_last_second", &last_second),
                ("loop_longest_turn_last_minute", &last_minute), ("loop_longest_turn_last_hour", &last_hour),
                ("loop_ready_connections", &(self.ready[0].len() + self.ready[1].len())), ("loop_bytes_waiting", &waiting),
            ]),
        ];
        let is_named = |title: &str| names.iter().any(|name| name.eq_ignore_ascii_case(title.as_bytes()));
        let shows_all = names.is_empty() || ["all", "default", "everything"].into_iter().any(is_named);
        let shown = sections.iter().filter(|(title, _)| shows_all || is_named(title)).map(|(title, fields)| {
            let lines = fields.iter().map(|(name, value)| format!("{name}:{value}\r\n"));
            format!("# {title}\r\n") + &lines.filter(|line| !line.ends_with(":\r\n")).collect::<String>()
        });
        self.connections[slot].session.output.push_bulk(shown.collect::<Vec<_>>().join("\r\n").as_bytes());
        Ok(())
    }
}

/// CPU time of the process, in user and in kernel mode, in seconds, if the system tells.
fn cpu_seconds() -> Option<[String; 2]> {
    let stat = memory::read("/proc/self/stat".as_ref());
    // In ticks of 10 ms: two fields, counted from the program's name, which may hold spaces.
    let mut fields = stat.rsplit(')').next()?.split(' ').skip(12);
    let mut seconds = || Some(format!("{:.2}", fields.next()?.parse::<f64>().ok()? / 100.0));
    Some([seconds()?, seconds()?])
}
