//! INFO, in Redis's sections and field names for the tools that read them, with a section about the loop; and the log's
//! line of counters. Every number is true: what does not exist here is left out, or zero where readers insist on it.

use std::env::consts::{ARCH, OS};

use super::EventLoop;
use super::turn::TurnClock;
use crate::execute::Executor;
use crate::memory;
use crate::protocol::verbs::{Complaint, REDIS_VERSION, VERBS, Verb};
use crate::stats::Stats;

impl EventLoop {
    /// What the server has done so far, on one line.
    pub(super) fn report(&self) -> String {
        let (Executor { stats, store, .. }, TurnClock { turns, long, history, .. }) = (&self.executor, &self.clock);
        let [.., longest] = history.longest(self.now_millis / 1000);
        let (clients, items, memory) = (self.clients(), store.len(), store.memory_bytes());
        let (evictions, expired, misses) = (store.stats().evictions, store.stats().expired, stats.gets - stats.hits);
        let Stats { connections, refused, closed, gets, hits, sets, adds, deletes, errors, broken, .. } = stats;
        let Stats { bytes_in, bytes_out, .. } = stats;
        format!(
            "clients={clients} items={items} memory={memory} evictions={evictions} expired={expired} \
             connections={connections} refused={refused} closed={closed} gets={gets} hits={hits} misses={misses} \
             sets={sets} adds={adds} deletes={deletes} errors={errors} broken={broken} bytes_in={bytes_in} \
             bytes_out={bytes_out} turns={turns} over_200us={long} longest_turn={longest}"
        )
    }

    /// Answers INFO with the sections named, or with all if none is.
    pub(super) fn info(&mut self, slot: usize, names: &[Box<[u8]>]) -> Result<(), Complaint> {
        let (now, pid, stat) = (self.now_millis / 1000, std::process::id(), memory::read("/proc/self/stat".as_ref()));
        // CPU time, in ticks of 10 ms: two fields, counted from the program's name, which may hold spaces.
        let seconds = |at| Some(stat.rsplit(')').next()?.split(' ').nth(at)?.parse::<f64>().ok()? / 100.0);
        let used_cpu = |(user, sys)| format!("\nused_cpu_sys:{sys:.2}\nused_cpu_user:{user:.2}");
        let cpu = seconds(12).zip(seconds(13)).map_or(String::new(), used_cpu);
        let [commands_rate, in_rate, out_rate] = self.clock.history.rates(now);
        let [in_kbps, out_kbps] = [in_rate, out_rate].map(|rate| rate as f64 / 1024.0);
        let [last_second, last_minute, last_hour, _] = self.clock.history.longest(now);
        let (days, turns, ready, waiting) = (now / 86_400, self.clock.turns, self.ready.len(), self.buffer_bytes());
        let (port, clients, max_clients) = (self.config.port, self.clients(), self.config.max_clients);
        let Executor { store, stats, clock, calls, base_bytes: base, .. } = &self.executor;
        let Stats { connections, refused, closed, hits, bytes_in, bytes_out, .. } = stats;
        let (commands, misses, errors) = (stats.commands(), stats.gets - hits, stats.errors + stats.broken);
        let (expired, evicted) = (store.stats().expired, store.stats().evictions);
        let (time_usec, version, policy) = (clock.unix_millis() * 1000, env!("CARGO_PKG_VERSION"), self.policy());
        let (used, resident) = (base + store.memory_bytes(), memory::resident_bytes().unwrap_or(0));
        let [used_mb, max_mb] = [used, self.config.max_memory.bytes].map(|bytes| bytes as f64 / f64::from(1 << 20));
        let (max_memory, fragmentation) = (self.config.max_memory.bytes, resident as f64 / used as f64);
        // Commands are counted but not timed: timing one would take longer than most of them do.
        let line = |(&Verb { name, .. }, calls)| format!("\ncmdstat_{name}:calls={calls},usec=0,usec_per_call=0.00");
        let calls: String = VERBS.iter().zip(calls).filter(|(_, calls)| **calls > 0).map(line).collect();
        let (keys, expires) = (store.len(), store.expiring());
        let keyspace = if keys == 0 { "" } else { &format!("\ndb0:keys={keys},expires={expires},avg_ttl=0") };
        let text = format!(
            "# Server\nredis_version:{REDIS_VERSION}\ngostash_version:{version}\nredis_mode:standalone\nos:{OS} {ARCH}\n\
             arch_bits:64\nmultiplexing_api:mio\nprocess_id:{pid}\ntcp_port:{port}\nserver_time_usec:{time_usec}\n\
             uptime_in_seconds:{now}\nuptime_in_days:{days}\n\n\
             # Clients\nconnected_clients:{clients}\nmaxclients:{max_clients}\nblocked_clients:0\n\n\
             # Memory\nused_memory:{used}\nused_memory_rss:{resident}\nused_memory_startup:{base}\n\
             maxmemory:{max_memory}\nmaxmemory_policy:{policy}\nmem_fragmentation_ratio:{fragmentation:.2}\n\
             mem_clients_normal:{waiting}\nused_memory_human:{used_mb:.2}M\nmaxmemory_human:{max_mb:.2}M\n\n\
             # Persistence\nloading:0\nrdb_bgsave_in_progress:0\naof_enabled:0\n\n\
             # Stats\ntotal_connections_received:{connections}\ntotal_commands_processed:{commands}\n\
             instantaneous_ops_per_sec:{commands_rate}\ntotal_net_input_bytes:{bytes_in}\n\
             total_net_output_bytes:{bytes_out}\ninstantaneous_input_kbps:{in_kbps:.2}\n\
             instantaneous_output_kbps:{out_kbps:.2}\nrejected_connections:{refused}\nexpired_keys:{expired}\n\
             evicted_keys:{evicted}\nkeyspace_hits:{hits}\nkeyspace_misses:{misses}\ntotal_error_replies:{errors}\n\
             client_disconnections:{closed}\n\n\
             # Replication\nrole:master\nconnected_slaves:0\n\n\
             # CPU{cpu}\n\n\
             # Cluster\ncluster_enabled:0\n\n\
             # Commandstats{calls}\n\n\
             # Keyspace{keyspace}\n\n\
             # Loop\nloop_turns:{turns}\nloop_longest_turn_last_second:{last_second}\n\
             loop_longest_turn_last_minute:{last_minute}\nloop_longest_turn_last_hour:{last_hour}\n\
             loop_ready_connections:{ready}\nloop_bytes_waiting:{waiting}"
        );
        let is_named = |title: &str| names.iter().any(|name| name.eq_ignore_ascii_case(title.as_bytes()));
        let shows_all = names.is_empty() || ["all", "default", "everything"].into_iter().any(is_named);
        let is_meant = |section: &&str| shows_all || section[2..].lines().next().is_some_and(is_named);
        let meant: Vec<_> = text.split("\n\n").filter(is_meant).map(|section| section.to_owned() + "\n").collect();
        self.connections[slot].session.output.push_bulk(meant.join("\n").replace('\n', "\r\n").as_bytes());
        Ok(())
    }
}
