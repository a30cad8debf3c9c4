//! How buffers stay within their bound. A session is not read from while its output is at its high-water mark; but that
//! bounds one, and there may be many.
//!
//! From an eighth of the bound on, what takes more than a quarter of a fair share stands in line, and as much is
//! received at a time as has room to its end, or the first alone. Over the bound, nobody else who holds more than a fair
//! share is read from. If that does not help within a second, the largest holder is closed, one more each tick; a quarter
//! over the bound, it is closed at once, one in each turn.

use std::collections::VecDeque;
use std::mem;

use mio::Token;

use super::EventLoop;
use super::connection::{Connection, find};
use crate::limits::*;
use crate::memory;
use crate::session::{Place, Resp, Session};

/// What connections hold, and what they have to wait for because of that.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    pub(super) held_bytes: usize, // by all connections, chunks aside
    /// Resident memory at the last tick beyond all that is counted, or the most that is allowed for it, in bytes.
    uncounted_bytes: usize,
    pub(super) eighths: usize, // of their bound that all buffers take
    /// In a crowd: who collects a long frame or a transaction, in the order of its beginning. The first are received.
    pub(super) line: VecDeque<Token>,
    ticks_over: u64, // for how many ticks buffers have been over their bound
}

impl EventLoop {
    /// Memory that all connections hold now, in bytes: their buffers, and chunks that the store does not hold.
    pub(super) fn buffer_bytes(&self) -> usize {
        self.pressure.held_bytes + self.executor.store.stray_chunk_bytes()
    }

    /// The bound on that, in bytes.
    pub(super) fn buffer_bytes_max(&self) -> usize {
        let share = BUFFER_BYTES_MAX.min(self.config.max_memory.bytes / VALUE_SHARE);
        share.max(self.executor.value_bytes_max) + BUFFER_EXTRA_BYTES
    }

    /// Memory taken outside of the store and its chunks, in bytes: at the start, for connections, and the uncounted.
    pub(super) fn outside_bytes(&mut self, is_tick: bool) -> usize {
        let places = self.connections.capacity() * (size_of::<Connection>() + size_of::<Resp>());
        let (store, spare) = (&self.executor.store, &self.executor.spare);
        let counted = self.base_bytes + self.input.len() + spare.bytes + places + self.pressure.held_bytes;
        if !is_tick {
            // What was freed counts until the next tick, which finds out whether the system got it back.
            return store.outside_bytes.max(counted + self.pressure.uncounted_bytes);
        }
        // Not counted are, for example, holes in the C library's heap, where connections held something.
        let counted_in_all = store.memory_bytes() - store.outside_bytes + counted;
        let uncounted = memory::resident_bytes().map_or(0, |bytes| bytes.saturating_sub(counted_in_all));
        self.pressure.uncounted_bytes = uncounted.min(self.config.max_memory.bytes / UNCOUNTED_SHARE);
        counted + self.pressure.uncounted_bytes
    }

    /// Tells the store its limit. A full one that may not evict could not make room for buffers that grow later, so it
    /// leaves them all that they ever take, spare ones included. Chunks that come in do not count: the store gets them.
    pub(super) fn limit_store(&mut self) {
        let most_bytes = self.buffer_bytes_max() / OVER_EIGHTHS * RELIEF_EIGHTHS;
        let left_bytes = most_bytes.saturating_sub(self.pressure.held_bytes);
        if self.executor.spare.bytes > left_bytes {
            self.executor.spare = Default::default();
        }
        let reserved_bytes = if self.executor.store.evicts() { 0 } else { left_bytes };
        self.executor.store.set_memory_limit(self.config.max_memory.bytes.saturating_sub(reserved_bytes));
    }

    /// Shares what room is left for buffers among the connections of this turn, and returns how many it may serve.
    pub(super) fn share_room(&mut self) -> usize {
        let store = &self.executor.store;
        // Replies take memory: as it runs out, visits get shorter, then fewer; one or none while the store makes room.
        let left_bytes = if store.is_short { 0 } else { self.buffer_bytes_max().saturating_sub(self.buffer_bytes()) };
        let is_blocked = store.is_short && store.is_over(self.config.max_memory.bytes / SHORT_SHARE);
        let visit_bytes = if self.pressure.eighths < CROWDED_EIGHTHS { left_bytes / TURN_CONNECTIONS / 4 } else { 0 };
        self.executor.output_bytes_max = visit_bytes.clamp(OUTPUT_HIGH_BYTES, VISIT_BYTES);
        if is_blocked { 0 } else { (left_bytes / VISIT_BYTES).clamp(1, TURN_CONNECTIONS) }
    }

    /// Whether to read from a connection now, which may have something for us. In a crowd it may have to wait.
    #[inline(always)]
    pub(super) fn wants_read(&mut self, slot: usize) -> bool {
        let Connection { session, readable, drain_bytes_left, .. } = &self.connections[slot];
        let wants_read = *readable && (drain_bytes_left.is_some() || session.wants_input());
        wants_read && (self.pressure.eighths < CROWDED_EIGHTHS || self.may_grow(slot))
    }

    /// Whether a connection may hold more while buffers are crowded. What collects stands in line for that from now on.
    #[cold]
    fn may_grow(&mut self, slot: usize) -> bool {
        let Pressure { eighths, line, .. } = &mut self.pressure;
        let connection = &mut self.connections[slot];
        let token = connection.token(slot);
        if let Some((missing_bytes, place)) = connection.session.collected(&self.executor) {
            if !mem::replace(&mut connection.in_line, true) {
                *place = Some(Place { missing_bytes, reads_until: None });
                line.push_back(token);
            }
            let is_received = place.as_ref().is_some_and(|place| place.reads_until.is_some());
            // While nobody may be received, who has closed is found out at least.
            return is_received || *eighths >= FULL_EIGHTHS && connection.read_closed;
        }
        let is_free = *eighths < OVER_EIGHTHS || connection.read_closed; // who has closed brings little more
        is_free || connection.session.burden_bytes() <= self.executor.share_bytes * CROWD_SHARE
    }

    /// Finds out who is received: as many from the head of the line as have room to their ends, or the first alone.
    /// Whoever leaves it goes on a ready queue, even one that is gone: so the next turn comes at once, and looks on.
    fn move_line(&mut self, mut room_bytes: usize) {
        let Pressure { eighths, line, .. } = &mut self.pressure;
        let mut at = 0;
        for _ in 0..TURN_LOOKS {
            let Some(token) = line.get(at) else { return };
            let Some((slot, connection)) = find(&mut self.connections, *token) else {
                self.ready[0].extend(line.remove(at));
                continue;
            };
            let can_run = connection.session.can_run();
            let mut fits = true;
            connection.in_line = false;
            // A frame that began behind the one that stood here has no place: it goes to the end of the line.
            if let Some((missing_bytes, Some(place))) = connection.session.collected(&self.executor) {
                let read = mem::replace(&mut place.missing_bytes, missing_bytes).saturating_sub(missing_bytes) as u64;
                // One that sends little at a time could hold up the others for as long as it likes.
                let until = place.reads_until.unwrap_or(0).max(self.now_millis) + read / LINE_BYTES_PER_MILLI;
                let taken_bytes = missing_bytes.next_multiple_of(CHUNK_BYTES);
                fits = taken_bytes <= room_bytes || at == 0 && *eighths < FULL_EIGHTHS;
                place.reads_until = fits.then_some(until.min(self.now_millis + PRESSURE_MILLIS));
                connection.in_line = connection.readable || can_run || until.max(self.spared_until) > self.now_millis;
                room_bytes = room_bytes.saturating_sub(taken_bytes);
            }
            if !connection.in_line || connection.readable && fits {
                connection.enqueue(slot, &mut self.ready);
            }
            if connection.in_line {
                at += 1;
            } else {
                line.remove(at);
            }
        }
    }

    /// Finds out how full buffers are, moves the line on, and closes whoever has to go.
    pub(super) fn relieve_pressure(&mut self, is_tick: bool) {
        let (held_bytes, bytes_max) = (self.buffer_bytes(), self.buffer_bytes_max());
        let eighths = OVER_EIGHTHS * held_bytes / bytes_max;
        let share_bytes = (bytes_max / CROWD_SHARE / self.connections.len().max(1)).max(SHORT_VISIT_BYTES);
        self.executor.share_bytes = if eighths < CROWDED_EIGHTHS { usize::MAX } else { share_bytes };
        let was_over = mem::replace(&mut self.pressure.eighths, eighths) >= OVER_EIGHTHS;
        self.move_line(bytes_max.saturating_sub(held_bytes));
        if eighths >= OVER_EIGHTHS {
            self.pressure.ticks_over += u64::from(is_tick);
        } else if was_over {
            self.pressure.ticks_over = 0;
            self.sweeps.end = self.sweeps.start + SWEEP_PARTS; // who was held back is looked at in the next turns
        }
        let is_due = is_tick && self.pressure.ticks_over > PRESSURE_MILLIS / TICK_MILLIS;
        if !is_due && eighths < RELIEF_EIGHTHS {
            return;
        }
        let holders = || self.connections.iter().filter(|(_, connection)| connection.held_bytes > 0);
        // What all replies together keep alive. Closing a client that is sent what the store holds frees nothing.
        let own_bytes = |session: &Session| session.burden_bytes() - session.output.chunk_bytes;
        let sent_bytes = holders().fold(held_bytes, |left, (_, it)| left.saturating_sub(own_bytes(&it.session)));
        let weights = holders().map(|(slot, Connection { session, .. })| {
            let bytes = own_bytes(session) + session.output.chunk_bytes.min(sent_bytes);
            // Who has sent more than it takes to authenticate, and did not, goes first, and so drives out nobody who has.
            (bytes > STRANGER_HELD_BYTES && session.is_stranger(), bytes, slot)
        });
        let Some((_, bytes, slot)) = weights.max() else { return };
        self.disconnect(slot, &format!("buffers were over their bound, {bytes} bytes for it alone"));
    }
}
