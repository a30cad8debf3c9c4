//! How buffers stay within their bound. A session is not read from while its output is at its high-water mark; but that
//! bounds one, and there may be many.
//!
//! From an eighth of the bound on, long frames and transactions are received one at a time, so that each comes to its
//! end. Over the bound, whoever holds more than a fair share is not read from. If that does not help within a second,
//! the largest holder is closed, one more each tick; a quarter over the bound, it is closed at once, one in each turn.

use std::mem;

use super::EventLoop;
use super::connection::find;
use crate::limits::*;

impl EventLoop {
    /// Memory that all connections hold now, in bytes: their buffers, and chunks that the store does not hold.
    pub(super) fn buffer_bytes(&self) -> usize {
        self.held_bytes + self.executor.store.stray_chunk_bytes()
    }

    /// The bound on that, in bytes.
    pub(super) fn buffer_bytes_max(&self) -> usize {
        let share = BUFFER_BYTES_MAX.min(self.config.max_memory.bytes / BUFFER_SHARE);
        share.max(self.executor.value_bytes_max) + BUFFER_EXTRA_BYTES
    }

    /// Whether to read from a connection now. In a crowd it may have to wait, unless its client has closed.
    #[inline(always)]
    pub(super) fn wants_read(&mut self, slot: usize) -> bool {
        let connection = &self.connections[slot];
        connection.wants_read() && (self.eighths < CROWDED_EIGHTHS || connection.read_closed || self.may_grow(slot))
    }

    /// Whether a connection may hold more while buffers are crowded.
    #[cold]
    fn may_grow(&mut self, slot: usize) -> bool {
        let connection = &mut self.connections[slot];
        // Strangers, who could take their time, stand in nobody's way.
        if !connection.session.collects() || connection.session.is_stranger() {
            let burden_bytes = connection.session.burden_bytes();
            return self.relieve_at.is_none() || burden_bytes <= self.buffer_bytes_max() / self.connections.len();
        }
        let token = connection.token(slot);
        if !mem::replace(&mut connection.in_line, true) {
            self.line.push_back(token);
        }
        self.line.front() == Some(&token) && self.eighths < FULL_EIGHTHS
    }

    /// Finds out who is the first in line, and requeues those that were.
    fn move_line(&mut self) {
        for _ in 0..TURN_LOOKS {
            let Some(token) = self.line.front() else { return };
            if let Some((slot, connection)) = find(&mut self.connections, *token) {
                let wants_more = connection.session.collects() && connection.session.wants_input();
                // One that sends little at a time could hold up the others for as long as it likes.
                let may_pause = self.line_bytes >= READ_LARGE_BYTES && self.now_millis < self.line_millis + TICK_MILLIS;
                let goes_on = wants_more && (connection.readable || may_pause);
                connection.in_line = goes_on && self.eighths >= CROWDED_EIGHTHS;
                if connection.readable && self.eighths < FULL_EIGHTHS || !connection.in_line {
                    connection.enqueue(slot, &mut self.ready);
                }
                if connection.in_line {
                    return;
                }
            }
            self.line.pop_front();
            self.line_millis = self.now_millis;
            self.line_bytes = 0;
        }
    }

    /// Finds out how full buffers are, moves the line on, and closes whoever has to go.
    pub(super) fn relieve_pressure(&mut self) {
        self.eighths = OVER_EIGHTHS * self.buffer_bytes() / self.buffer_bytes_max();
        self.move_line();
        if self.eighths < OVER_EIGHTHS {
            if self.relieve_at.take().is_some() {
                self.sweeps.end = self.sweeps.start + SWEEP_PARTS;
            }
            return;
        }
        let relieve_at = *self.relieve_at.get_or_insert(self.now_millis + PRESSURE_MILLIS);
        let burdens = self.connections.iter().map(|(slot, connection)| (connection.session.burden_bytes(), slot));
        // Who has sent more than it takes to authenticate, and did not, goes first, and so drives out nobody who has.
        let is_stranger = |slot: usize| self.connections[slot].session.is_stranger();
        let weight = |&(bytes, slot): &(usize, usize)| (bytes > STRANGER_HELD_BYTES && is_stranger(slot), bytes);
        let is_due = self.now_millis >= relieve_at || self.eighths >= RELIEF_EIGHTHS;
        if is_due && let Some((bytes, slot)) = burdens.max_by_key(weight) {
            self.relieve_at = Some(self.now_millis + TICK_MILLIS);
            self.disconnect(slot, format_args!("buffers were over their bound, {bytes} bytes for it alone"));
        }
    }
}
