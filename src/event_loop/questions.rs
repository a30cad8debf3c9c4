//! Answers that a session cannot give, since they are about the server or about other clients: INFO, CONFIG, CLIENT
//! LIST and CLIENT KILL. A question about all connections looks at a bounded number of them in each turn.

use super::EventLoop;
use super::connection::Connection;
use super::listener::raise_clients_max;
use crate::batch::Visit;
use crate::limits::*;
use crate::protocol::glob;
use crate::protocol::verbs::{Complaint, OUT_OF_MEMORY, SYNTAX, VERBS, integer, shown, wrong_arity};
use crate::session::{Question, Resp, Session};

impl EventLoop {
    /// Answers one question in a turn, as an INFO alone takes 50 us, and so none if others are to be served in it yet.
    /// Answers may be long, so none is given while the store has to make room.
    pub(super) fn answer_questions(&mut self, visits: &[Visit], others_follow: bool) {
        if self.executor.store.is_short || others_follow {
            return;
        }
        let ask = |it: &Visit| Some((it.slot, self.connections[it.slot].session.resp.as_mut()?.question.take()?));
        let Some((slot, question)) = visits.iter().find_map(ask) else { return };
        self.connections[slot].session.last_command_millis = self.now_millis;
        let answered = match question.verb {
            "info" => self.info(slot, &question.words),
            "config|get" => self.config_get(slot, &question.words[1..]),
            "config|set" => self.config_set(slot, &question.words[1..]),
            "client|list" | "client|kill" => self.ask_clients(slot, question),
            verb => Err(format!("ERR nothing answers '{verb}'").into()), // a row of the table that lacks its code
        };
        let Err(complaint) = answered else { return };
        self.executor.stats.errors += 1;
        self.connections[slot].session.output.push_line(b'-', &complaint);
    }

    fn config_get(&mut self, slot: usize, patterns: &[Box<[u8]>]) -> Result<(), Complaint> {
        let config = &self.config;
        let mut settings = vec![
            ("appendonly", "no".to_owned()),
            ("bind", config.host.clone()),
            ("databases", "1".to_owned()),
            ("maxclients", config.max_clients.to_string()),
            ("maxmemory", config.max_memory.bytes.to_string()),
            ("maxmemory-policy", self.policy().to_owned()),
            ("port", config.port.to_string()),
            ("proto-max-bulk-len", self.executor.value_bytes_max.to_string()),
            ("save", String::new()),
            ("tcp-keepalive", KEEPALIVE_SECONDS.to_string()),
            ("timeout", config.idle_timeout.to_string()),
            ("unixsocket", config.unix_socket.as_ref().map_or(String::new(), |path| path.display().to_string())),
        ];
        let mut steps = SCAN_STEPS_MAX;
        settings.retain(|(name, _)| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes(), &mut steps)));
        if steps == 0 {
            return Err(SYNTAX);
        }
        let session = &mut self.connections[slot].session;
        session.output.push_map(settings.len(), session.resp.as_ref().is_some_and(|resp| resp.is_resp3));
        for text in settings.iter().flat_map(|(name, value)| [*name, value]) {
            session.output.push_bulk(text.as_bytes());
        }
        Ok(())
    }

    /// What a full store does, by the nearest of Redis's names.
    pub(super) fn policy(&self) -> &'static str {
        if self.executor.store.evicts() { "allkeys-lfu" } else { "noeviction" }
    }

    /// Sets everything that is asked for, or nothing.
    fn config_set(&mut self, slot: usize, words: &[Box<[u8]>]) -> Result<(), Complaint> {
        let mut config = self.config.clone();
        for pair in words.chunks(2) {
            let [name, value] = pair else { return Err(wrong_arity("config|set")) };
            let name = shown(name).to_string();
            let option = match &*name {
                "maxmemory" => "max-memory",
                "maxclients" => "max-clients",
                "timeout" => "idle-timeout",
                _ => return Err(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'").into()),
            };
            let place = format!("ERR CONFIG SET failed (possibly related to argument '{name}')");
            config.set(place, option, value)?;
        }
        if config.max_clients > self.config.max_clients && raise_clients_max(config.max_clients).is_err() {
            return Err("ERR CONFIG SET failed - the limit on descriptors allows fewer clients".into());
        }
        let (max_memory, max_clients, timeout) = (config.max_memory.bytes, config.max_clients, config.idle_timeout);
        self.executor.value_bytes_max = config.max_value_size.min(max_memory / VALUE_SHARE);
        log::info!("CONFIG SET: maxmemory {max_memory}, maxclients {max_clients}, timeout {timeout}");
        if max_memory != self.config.max_memory.bytes {
            config.max_memory.warn_if_too_much();
        }
        self.config = config;
        self.limit_store();
        self.connections[slot].session.output.push(b"+OK\r\n");
        Ok(())
    }

    /// Goes on with a CLIENT LIST or CLIENT KILL: looks at the next few connections, and answers after the last.
    fn ask_clients(&mut self, slot: usize, mut question: Box<Question>) -> Result<(), Complaint> {
        let (kills, filter) = (question.verb == "client|kill", &question.words[1..]);
        let (slots, mut looks) = (self.connections.capacity(), TURN_LOOKS);
        while question.at < slots && looks > 0 {
            let other = question.at;
            (question.at, looks) = (other + 1, looks - 1);
            let Some(connection) = self.connections.get_mut(other) else { continue };
            if connection.session.is_closing() || kills && !is_selected(filter, connection, other == slot)? {
                continue;
            }
            question.found += 1;
            let chunk = || self.executor.store.chunk();
            if !kills && !question.text.push(listed(connection, self.now_millis).as_bytes(), chunk) {
                return Err(OUT_OF_MEMORY);
            } else if kills && other != slot {
                // What it held is freed here, and a megabyte takes 70 us.
                looks = looks.saturating_sub(connection.session.burden_bytes() / READ_BYTES);
                connection.session.abandon();
                connection.enqueue(other, &mut self.ready); // it is closed when its turn comes
            }
        }
        let Session { resp: Some(resp), output, .. } = &mut self.connections[slot].session else { return Ok(()) };
        if question.at < slots {
            resp.question = Some(question);
            return Ok(());
        }
        match (kills, question.found, filter.len()) {
            (false, ..) => output.push_bulk_value(question.text.value()),
            (true, 0, 1) => return Err("ERR No such client".into()),
            (true, _, 1) => output.push(b"+OK\r\n"),
            (true, found, _) => output.push_header(b':', found),
        }
        if kills && is_selected(filter, &self.connections[slot], true)? {
            self.connections[slot].session.quit();
        }
        Ok(())
    }
}

/// Whether CLIENT KILL with this filter means a client; an error if that is no filter.
fn is_selected(filter: &[Box<[u8]>], connection: &Connection, is_asker: bool) -> Result<bool, Complaint> {
    let [address, _] = connection.addresses();
    if let [wanted] = filter {
        return Ok(**wanted == *address.as_bytes());
    }
    let (mut spares_asker, mut all_fit) = (true, true);
    for pair in filter.chunks(2) {
        let [name, value] = pair else { return Err(SYNTAX) };
        all_fit &= match (&**name, &**value) {
            (b"id", _) => integer(value)? == connection.session.id as i64,
            (b"addr", _) => **value == *address.as_bytes(),
            (b"type", kind) => kind == b"normal", // there is no other
            (b"skipme", answer @ (b"yes" | b"no")) => {
                spares_asker = answer == b"yes";
                true
            }
            _ => return Err(SYNTAX),
        };
    }
    Ok(all_fit && !(spares_asker && is_asker))
}

/// A client as CLIENT LIST has it: a line.
fn listed(connection: &Connection, now_millis: u64) -> String {
    let Connection { session, accepted_millis, waits_since_millis: since, .. } = connection;
    let none = Resp::default();
    let resp = session.resp.as_deref().unwrap_or(&none);
    let [name, library, library_version] = resp.names();
    let version = 2 + u8::from(resp.is_resp3);
    let [address, local_address] = connection.addresses();
    let [age, idle] = [*accepted_millis, session.last_command_millis.max(*since)].map(|it| (now_millis - it) / 1000);
    let (id, held, waiting) = (session.id, session.burden_bytes(), session.output.len());
    let command = resp.last_verb.map_or("NULL", |verb| VERBS[usize::from(verb)].name);
    format!(
        "id={id} addr={address} laddr={local_address} name={name} age={age} idle={idle} flags=N db=0 sub=0 psub=0 \
         ssub=0 omem={waiting} tot-mem={held} cmd={command} user=default lib-name={library} \
         lib-ver={library_version} resp={version}\n"
    )
}
