//! INFO: Redis's sections and field names, so that what reads them from Redis reads them here, and a section about the
//! loop. Every number is true: what does not exist here is left out, or zero where readers insist on it.

use std::fmt::Write;

use super::EventLoop;
use super::turn::thread_cpu_nanos;
use crate::memory;
use crate::protocol::verbs::{REDIS_VERSION, VERBS};

impl EventLoop {
    /// The text of these sections; of all if none is named.
    pub(super) fn info(&mut self, names: &[Box<[u8]>]) -> String {
        let (now, held) = (self.now_millis / 1000, self.held_bytes);
        let [commands, bytes_in, bytes_out] = self.clock.history.rates(now);
        let [in_second, in_minute, in_hour] = self.clock.history.longest(now);
        let executor = &self.executor;
        let (base, store, stats) = (executor.base_bytes, &executor.store, &executor.stats);
        // The loop tells the store of the chunks that are not the store's as if there were twice as many.
        let used = base + store.memory_bytes().saturating_sub(store.stray_chunk_bytes());
        let resident = memory::resident_bytes().unwrap_or(0);
        let fragmentation = resident as f64 / used.max(1) as f64;
        let misses = stats.gets - stats.hits;
        // Calls alone: to time each command would take longer than most commands do.
        let mut calls = String::new();
        for (verb, calls_of_it) in VERBS.iter().zip(executor.calls).filter(|(_, calls)| *calls > 0) {
            let _ = writeln!(calls, "cmdstat_{}:calls={calls_of_it},usec=0,usec_per_call=0.00", verb.name);
        }
        let keys = match store.len() {
            0 => String::new(),
            keys => format!("db0:keys={keys},expires={},avg_ttl=0\n", store.expiring()),
        };
        let sections = [
            (
                "Server",
                format!(
                    "redis_version:{REDIS_VERSION}\ngostash_version:{}\nredis_mode:standalone\nos:{} {}\narch_bits:{}\n\
                     multiplexing_api:mio\nprocess_id:{}\ntcp_port:{}\nserver_time_usec:{}\nuptime_in_seconds:{now}\n\
                     uptime_in_days:{}\n",
                    env!("CARGO_PKG_VERSION"),
                    std::env::consts::OS,
                    std::env::consts::ARCH,
                    usize::BITS,
                    std::process::id(),
                    self.config.port,
                    executor.clock.unix_millis() * 1000,
                    now / 86_400,
                ),
            ),
            (
                "Clients",
                format!(
                    "connected_clients:{}\nmaxclients:{}\nblocked_clients:0\n",
                    self.clients(),
                    self.config.max_clients
                ),
            ),
            (
                "Memory",
                format!(
                    "used_memory:{used}\nused_memory_rss:{resident}\nused_memory_startup:{base}\nmaxmemory:{}\n\
                     maxmemory_policy:{}\nmem_fragmentation_ratio:{fragmentation:.2}\nmem_clients_normal:{held}\n",
                    self.config.max_memory.bytes,
                    self.policy(),
                ),
            ),
            ("Persistence", "loading:0\nrdb_bgsave_in_progress:0\naof_enabled:0\n".to_owned()),
            (
                "Stats",
                format!(
                    "total_connections_received:{}\ntotal_commands_processed:{}\ninstantaneous_ops_per_sec:{}\n\
                     total_net_input_bytes:{}\ntotal_net_output_bytes:{}\ninstantaneous_input_kbps:{:.2}\n\
                     instantaneous_output_kbps:{:.2}\nrejected_connections:{}\nexpired_keys:{}\nevicted_keys:{}\n\
                     keyspace_hits:{}\nkeyspace_misses:{misses}\ntotal_error_replies:{}\nclient_disconnections:{}\n",
                    stats.connections,
                    stats.commands(),
                    commands,
                    stats.bytes_in,
                    stats.bytes_out,
                    bytes_in as f64 / 1024.0,
                    bytes_out as f64 / 1024.0,
                    stats.refused,
                    store.stats().expired,
                    store.stats().evictions,
                    stats.hits,
                    stats.errors + stats.broken,
                    stats.closed,
                ),
            ),
            ("Replication", "role:master\nconnected_slaves:0\n".to_owned()),
            ("Commandstats", calls),
            ("Keyspace", keys),
            (
                "Loop",
                format!(
                    "loop_turns:{}\nloop_cpu_usec:{}\nloop_longest_turn_last_second:{in_second}\n\
                     loop_longest_turn_last_minute:{in_minute}\nloop_longest_turn_last_hour:{in_hour}\n\
                     loop_ready_connections:{}\nloop_bytes_waiting:{held}\n",
                    self.clock.turns,
                    thread_cpu_nanos() / 1000,
                    self.ready.len(),
                ),
            ),
        ];
        let is_meant = |section: &str| {
            let all = ["all", "default", "everything", section];
            names.is_empty()
                || names.iter().any(|name| all.iter().any(|word| name.eq_ignore_ascii_case(word.as_bytes())))
        };
        let meant = sections.iter().filter(|(section, _)| is_meant(section));
        let texts: Vec<_> = meant.map(|(section, lines)| format!("# {section}\n{lines}")).collect();
        texts.join("\n").replace('\n', "\r\n")
    }
}
