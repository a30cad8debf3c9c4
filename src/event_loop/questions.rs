//! The answers to what sessions cannot know: options, counters, other clients. The words are [`admin`]'s and [`info`]'s;
//! here they are given what there is, a bounded part of it in each turn.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::connection::Connection;
use super::turn::thread_cpu_time;
use super::{EventLoop, TURN_CONNECTIONS, token};
use crate::admin::{self, Client, Filter, Options, Question};
use crate::info::{self, Snapshot};
use crate::limits::{DESCRIPTORS_RESERVED, KEEPALIVE, VALUE_SHARE};
use crate::memory::MemoryLimit;
use crate::protocol::request::Complaint;
use crate::protocol::verbs::{Kind, VERBS};

/// Answers in one turn: an INFO takes 50 us.
const ANSWERS: usize = 2;

/// Connections that one question may look at in one turn.
const LOOKS: usize = 2 * TURN_CONNECTIONS;

impl EventLoop {
    /// Answers questions that the sessions of this turn have, as many as one turn may. The others' turn comes again.
    pub(super) fn answer_questions(&mut self) {
        let mut answers = 0;
        for at in 0..self.visits.len() {
            let key = self.visits[at].session;
            if answers < ANSWERS
                && let Some(question) = self.connections[key].take_question()
            {
                answers += 1;
                self.answer(key, *question);
            }
        }
    }

    fn answer(&mut self, key: usize, mut question: Question) {
        let (subcommand, rest) = question.subcommand();
        let version = self.connections[key].version();
        let result = match (question.kind, subcommand.as_slice()) {
            (Kind::Info, _) => {
                let text = info::info(&question.words, &self.snapshot(), &self.executor);
                self.connections[key].output().push_bulk(text.as_bytes());
                Ok(())
            }
            (Kind::Config, b"get") => {
                let settings = self.settings_by_redis_s_names();
                admin::config_get(rest, &settings, version, self.connections[key].output())
            }
            (Kind::Config, b"set") => self.set_options(rest).map(|()| self.connections[key].output().push(b"+OK\r\n")),
            (Kind::Config, _) => Err(Complaint::about_subcommand(&question.words[0], "config")),
            (_, subcommand) => match Filter::parse(rest, subcommand == b"kill") {
                Ok(filter) if subcommand == b"kill" => self.kill(key, &filter, &mut question),
                Ok(filter) => self.list(key, &filter, &mut question),
                Err(complaint) => Err(complaint),
            },
        };
        if let Err(complaint) = result {
            self.executor.stats.errors += 1;
            self.connections[key].output().push_error(complaint.text());
        } else if question.at > 0 && question.at < self.connections.0.capacity() {
            self.connections[key].ask_again(question);
        }
    }

    /// The keys of the connections to look at in this turn.
    fn looks(&self, question: &mut Question) -> std::ops::Range<usize> {
        let from = question.at;
        question.at = self.connections.0.capacity().min(from + LOOKS);
        from..question.at
    }

    fn list(&mut self, key: usize, filter: &Filter, question: &mut Question) -> Result<(), Complaint> {
        for other in self.looks(question) {
            if let Some(connection) = self.client_at(other) {
                let client = describe(connection, self.now_millis);
                if filter.means(&client, self.id(key)) {
                    client.describe(&mut question.text);
                }
            }
        }
        if question.at == self.connections.0.capacity() {
            self.connections[key].output().push_bulk(question.text.as_bytes());
        }
        Ok(())
    }

    fn kill(&mut self, key: usize, filter: &Filter, question: &mut Question) -> Result<(), Complaint> {
        for other in self.looks(question) {
            let Some(connection) = self.client_at(other) else {
                continue;
            };
            if !filter.means(&describe(connection, self.now_millis), self.id(key)) {
                continue;
            }
            question.found += 1;
            if other == key {
                question.includes_asker = true;
            } else {
                self.connections[other].output().clear();
                self.connections[other].quit();
                self.connections[other].end_input();
                // It finds that it is over when its turn comes.
                self.connections.0[other].queued = true;
                self.ready.push_back(token(other, self.connections.0[other].serial));
            }
        }
        if question.at < self.connections.0.capacity() {
            return Ok(());
        }
        if question.includes_asker {
            self.connections[key].quit();
        }
        match question.found {
            0 if filter.must_exist => return Err(Complaint::Text("ERR No such client")),
            _ if filter.must_exist => self.connections[key].output().push(b"+OK\r\n"),
            found => self.connections[key].output().push_integer(found),
        }
        Ok(())
    }

    /// The connection at this place, unless it is over already.
    fn client_at(&self, key: usize) -> Option<&Connection> {
        self.connections.0.get(key).filter(|connection| !connection.session.is_broken())
    }

    fn id(&self, key: usize) -> u64 {
        u64::from(self.connections.0[key].serial) + 1
    }

    fn set_options(&mut self, words: &[Box<[u8]>]) -> Result<(), Complaint> {
        let granted = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |granted| granted as usize);
        let before = Options {
            max_memory: self.config.max_memory.bytes,
            max_clients: self.config.max_clients,
            timeout_seconds: self.config.idle_timeout.map_or(0, |time| time.as_secs()),
        };
        let options = admin::config_set(words, granted.saturating_sub(DESCRIPTORS_RESERVED), before)?;
        self.config.max_clients = options.max_clients;
        self.config.idle_timeout = Some(Duration::from_secs(options.timeout_seconds)).filter(|time| !time.is_zero());
        if options.max_memory != before.max_memory {
            self.config.max_memory = MemoryLimit::chosen(options.max_memory);
            let value_bytes_max = self.config.max_value_size.min(options.max_memory / VALUE_SHARE);
            self.executor.set_memory_limit(options.max_memory, value_bytes_max);
        }
        log::info!("CONFIG SET: {options:?}");
        Ok(())
    }

    fn settings_by_redis_s_names(&self) -> Vec<(&'static str, String)> {
        let config = &self.config;
        let unix_socket = config.unix_socket.as_ref().map_or(String::new(), |path| path.display().to_string());
        vec![
            ("appendonly", "no".to_owned()),
            ("bind", config.host.clone()),
            ("databases", "1".to_owned()),
            ("maxclients", config.max_clients.to_string()),
            ("maxmemory", config.max_memory.bytes.to_string()),
            ("maxmemory-policy", self.policy().to_owned()),
            ("port", config.port.to_string()),
            ("proto-max-bulk-len", self.executor.value_bytes_max().to_string()),
            ("save", String::new()),
            ("tcp-keepalive", KEEPALIVE.as_secs().to_string()),
            ("timeout", config.idle_timeout.map_or(0, |time| time.as_secs()).to_string()),
            ("unixsocket", unix_socket),
        ]
    }

    /// The nearest of Redis's names for what a full store does.
    fn policy(&self) -> &'static str {
        if self.executor.store.evicts() { "allkeys-lfu" } else { "noeviction" }
    }

    fn snapshot(&mut self) -> Snapshot {
        Snapshot {
            port: self.config.port,
            uptime_millis: self.now_millis,
            clients: [self.clients(), self.config.max_clients],
            max_memory: self.config.max_memory.bytes,
            policy: self.policy(),
            buffer_bytes: self.held_bytes,
            second: self.clock.history.rates(self.now_millis / 1000),
            turns: [self.clock.turns, thread_cpu_time().as_micros() as u64],
            longest_turns: self.clock.history.longest(self.now_millis / 1000).map(|turn| turn.to_string()),
            ready: self.ready.len(),
        }
    }
}

fn describe(connection: &Connection, now_millis: u64) -> Client<'_> {
    let [address, local_address] = connection.addresses();
    let session = &connection.session;
    let resp = session.resp();
    Client {
        id: u64::from(connection.serial) + 1,
        address,
        local_address,
        age_millis: now_millis - connection.accepted_millis,
        idle_millis: now_millis - session.last_command_millis(),
        name: resp.map_or("", |resp| &resp.name),
        library: resp.map_or([""; 2], |resp| resp.library.each_ref().map(|word| &**word)),
        command: resp.map_or("NULL", |resp| VERBS[resp.last_verb].name),
        version: session.version(),
        bytes: [session.output_bytes(), session.held_bytes()],
    }
}
