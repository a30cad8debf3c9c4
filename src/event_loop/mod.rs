//! A stand-in for the event loop: it waits for a signal to stop and answers nothing.

pub mod listener;

use std::io;

use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use crate::config::Config;
use listener::Listeners;

/// The event loop.
pub struct EventLoop {
    poll: Poll,
    signals: Signals,
    _listeners: Listeners,
}

impl EventLoop {
    /// A loop over these listeners.
    pub fn new(_config: &Config, listeners: Listeners) -> io::Result<EventLoop> {
        let poll = Poll::new()?;
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        poll.registry()
            .register(&mut signals, Token(0), Interest::READABLE)?;
        Ok(EventLoop {
            poll,
            signals,
            _listeners: listeners,
        })
    }

    /// Runs until a signal ends it.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(16);
        while self.signals.pending().next().is_none() {
            match self.poll.poll(&mut events, None) {
                Err(problem) if problem.kind() != io::ErrorKind::Interrupted => {
                    return Err(problem);
                }
                _ => {}
            }
        }
        Ok(())
    }
}
