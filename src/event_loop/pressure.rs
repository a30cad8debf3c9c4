//! How buffers stay within their bound. A session is not read from while its output is at its high-water mark; but that
//! bounds one, and there may be many.
//!
//! From an eighth of the bound on, long frames and transactions are received one at a time, so that each comes to its
//! end. Over the bound, whoever holds more than a fair share is not read from. If that does not help within a second,
//! the largest holder is closed, one more each tick; a quarter over the bound, it is closed at once, one in each turn.

use std::collections::VecDeque;
use std::mem;

use mio::Token;

use super::EventLoop;
use super::connection::{Connection, find};
use crate::limits::*;
use crate::memory;
use crate::session::Resp;

/// What connections hold, and what they have to wait for because of that.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    pub(super) held_bytes: usize, // by all connections, chunks aside
    held_bytes_peak: usize,       // since the last tick
    /// Resident memory at the last tick beyond all that is counted, or the most that is allowed for it, in bytes.
    uncounted_bytes: usize,
    eighths: usize, // of their bound that all buffers take
    /// While buffers are crowded: connections that collect a long frame or a transaction. Only the first is read from,
    /// until it has all of that or its client pauses; for a tick, it may pause if it has sent much.
    pub(super) line: VecDeque<Token>,
    line_millis: u64,             // since when it has been the first
    pub(super) line_bytes: usize, // read from it since then
    relieve_at: Option<u64>, // while buffers are over their bound: when the largest holder is closed, in milliseconds
}

impl EventLoop {
    /// Memory that all connections hold now, in bytes: their buffers, and chunks that the store does not hold.
    pub(super) fn buffer_bytes(&self) -> usize {
        self.pressure.held_bytes + self.executor.store.stray_chunk_bytes()
    }

    /// The bound on that, in bytes.
    pub(super) fn buffer_bytes_max(&self) -> usize {
        let share = BUFFER_BYTES_MAX.min(self.config.max_memory.bytes / BUFFER_SHARE);
        share.max(self.executor.value_bytes_max) + BUFFER_EXTRA_BYTES
    }

    /// Memory that is taken outside of the store and its chunks, in bytes: from the start, for connections, and what nobody
    /// counts.
    pub(super) fn outside_bytes(&mut self, is_tick: bool) -> usize {
        let spare: usize = self.spare.iter().map(Vec::capacity).sum();
        let places = self.connections.capacity() * (size_of::<Connection>() + size_of::<Resp>());
        // What connections have freed counts until the next tick, which finds out whether the system got it back.
        let Pressure { held_bytes, held_bytes_peak, uncounted_bytes, .. } = &mut self.pressure;
        *held_bytes_peak = if is_tick { *held_bytes } else { *held_bytes.max(held_bytes_peak) };
        let counted = self.base_bytes + self.input.len() + spare + places + *held_bytes_peak;
        if is_tick {
            // Not counted are, for example, holes in the C library's heap, where connections held something.
            let store = &self.executor.store;
            let counted_in_all = store.memory_bytes() - store.outside_bytes + counted;
            let uncounted = memory::resident_bytes().map_or(0, |bytes| bytes.saturating_sub(counted_in_all));
            *uncounted_bytes = uncounted.min(self.config.max_memory.bytes / UNCOUNTED_SHARE);
        }
        counted + *uncounted_bytes
    }

    /// Shares what room is left for buffers among the connections of this turn, and returns how many it may serve.
    pub(super) fn share_room(&mut self) -> usize {
        let store = &self.executor.store;
        // Replies take memory, too: as it runs out, a turn serves fewer, and one or none while the store makes room.
        let free_bytes = self.buffer_bytes_max().saturating_sub(self.buffer_bytes());
        let left_bytes = if store.is_short { 0 } else { free_bytes };
        let is_blocked = store.is_short && store.is_over(self.config.max_memory.bytes / SHORT_SHARE);
        let most = if is_blocked { 0 } else { (left_bytes / VISIT_BYTES).clamp(1, TURN_CONNECTIONS) };
        self.executor.exec_output_bytes = (left_bytes / most.max(1) / 4).clamp(OUTPUT_HIGH_BYTES, VISIT_BYTES);
        most
    }

    /// Whether to read from a connection now, which may have something for us. In a crowd it may have to wait, unless its
    /// client has closed.
    #[inline(always)]
    pub(super) fn wants_read(&mut self, slot: usize) -> bool {
        let connection = &self.connections[slot];
        let wants_read =
            connection.readable && (connection.drain_bytes_left.is_some() || connection.session.wants_input());
        let is_free = self.pressure.eighths < CROWDED_EIGHTHS || connection.read_closed;
        wants_read && (is_free || self.may_grow(slot))
    }

    /// Whether a connection may hold more while buffers are crowded. What collects stands in line for that from now on.
    #[cold]
    fn may_grow(&mut self, slot: usize) -> bool {
        let fair_bytes = self.buffer_bytes_max() / self.connections.len();
        let Pressure { eighths, line, relieve_at, .. } = &mut self.pressure;
        let connection = &mut self.connections[slot];
        // Strangers, who could take their time, stand in nobody's way.
        if !connection.session.collects() || connection.session.is_stranger() {
            return relieve_at.is_none() || connection.session.burden_bytes() <= fair_bytes;
        }
        let token = connection.token(slot);
        if !mem::replace(&mut connection.in_line, true) {
            line.push_back(token);
        }
        line.front() == Some(&token) && *eighths < FULL_EIGHTHS
    }

    /// Finds out who is the first in line, and requeues those that were.
    fn move_line(&mut self) {
        let Pressure { eighths, line, line_millis, line_bytes, .. } = &mut self.pressure;
        for _ in 0..TURN_LOOKS {
            let Some(token) = line.front() else { return };
            if let Some((slot, connection)) = find(&mut self.connections, *token) {
                let wants_more = connection.session.collects() && connection.session.wants_input();
                // One that sends little at a time could hold up the others for as long as it likes.
                let may_pause = *line_bytes >= READ_LARGE_BYTES && self.now_millis < *line_millis + TICK_MILLIS;
                let goes_on = wants_more && (connection.readable || may_pause);
                connection.in_line = goes_on && *eighths >= CROWDED_EIGHTHS;
                if connection.readable && *eighths < FULL_EIGHTHS || !connection.in_line {
                    connection.enqueue(slot, &mut self.ready);
                }
                if connection.in_line {
                    return;
                }
            }
            line.pop_front();
            *line_millis = self.now_millis;
            *line_bytes = 0;
        }
    }

    /// Finds out how full buffers are, moves the line on, and closes whoever has to go.
    pub(super) fn relieve_pressure(&mut self) {
        self.pressure.eighths = OVER_EIGHTHS * self.buffer_bytes() / self.buffer_bytes_max();
        self.move_line();
        if self.pressure.eighths < OVER_EIGHTHS {
            if self.pressure.relieve_at.take().is_some() {
                self.sweeps.end = self.sweeps.start + SWEEP_PARTS;
            }
            return;
        }
        let relieve_at = *self.pressure.relieve_at.get_or_insert(self.now_millis + PRESSURE_MILLIS);
        let burdens = self.connections.iter().map(|(slot, connection)| (connection.session.burden_bytes(), slot));
        // Who has sent more than it takes to authenticate, and did not, goes first, and so drives out nobody who has.
        let is_stranger = |slot: usize| self.connections[slot].session.is_stranger();
        let weight = |&(bytes, slot): &(usize, usize)| (bytes > STRANGER_HELD_BYTES && is_stranger(slot), bytes);
        let is_due = self.now_millis >= relieve_at || self.pressure.eighths >= RELIEF_EIGHTHS;
        if is_due && let Some((bytes, slot)) = burdens.max_by_key(weight) {
            self.pressure.relieve_at = Some(self.now_millis + TICK_MILLIS);
            self.disconnect(slot, format_args!("buffers were over their bound, {bytes} bytes for it alone"));
        }
    }
}
