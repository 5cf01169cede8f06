//! The event loop: opens connections, answers what they must answer, hands every message to the ledger.
//!
//! Owns the sockets and one read buffer. Its commands are in `actions`, what it makes of the bytes it reads in `dialogue`; how
//! long the loop has waited for events is the generator's idle time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::mem;
use std::time::{Duration, Instant};

use flate2::Decompress;
use memchr::memmem::Finder;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::command::{Opening, Outcome, Recovery, Target};
use crate::connection::{Connection, Phase};
use crate::ledger::Ledger;
use crate::stream::Sessions;
use crate::token::Signer;
use crate::wire;

/// Wakes the loop when a command has come.
pub const COMMAND: Token = Token(usize::MAX);

const READ_BUFFER: usize = 256 * 1024;
const LONGEST_MESSAGE: usize = 1024 * 1024;
/// What stands for a close without a code.
pub(crate) const NO_CODE: u16 = 1006;

pub struct Generator {
    pub(crate) target: Target,
    pub(crate) signer: Signer,
    pub(crate) sessions: Option<Sessions>,
    pub(crate) server: File,
    pub(crate) poll: Poll,
    pub(crate) events: Events,
    pub(crate) buffer: Vec<u8>,
    pub(crate) inflated: Vec<u8>,
    pub(crate) inflater: Decompress,
    pub(crate) number: Finder<'static>,
    pub(crate) connections: Slab<Connection>,
    pub(crate) ledger: Ledger,
    pub(crate) opening: Opening,
    pub(crate) next_number: u64,
    /// Connections still to be opened, those in the making, and those of them whose handshake is under way.
    pub(crate) wanted: u32,
    pub(crate) pending: u32,
    pub(crate) handshaking: u32,
    pub(crate) open: u64,
    pub(crate) tally: Tally,
}

/// What one command has seen.
pub(crate) struct Tally {
    pub(crate) begun: Instant,
    pub(crate) waited: Duration,
    pub(crate) opened: u64,
    pub(crate) refused: u64,
    pub(crate) pongs: u64,
    pub(crate) closed: BTreeMap<u16, u64>,
    pub(crate) abandoned: u64,
    pub(crate) recovery: Option<Recovery>,
}

pub(crate) enum Fate {
    Stays,
    /// Goes as the generator wanted it.
    Done,
    ClosedByServer(u16),
}

impl Generator {
    pub fn new(target: Target, server: File, poll: Poll) -> Self {
        Self {
            signer: Signer::new(&target.secret),
            sessions: target.tls.then(Sessions::default),
            target,
            server,
            poll,
            events: Events::with_capacity(1024),
            buffer: vec![0; READ_BUFFER],
            inflated: Vec::with_capacity(LONGEST_MESSAGE),
            inflater: Decompress::new(false),
            number: Finder::new(b"\"n\":"),
            connections: Slab::new(),
            ledger: Ledger::default(),
            opening: Opening::default(),
            next_number: 0,
            wanted: 0,
            pending: 0,
            handshaking: 0,
            open: 0,
            tally: Tally::new(),
        }
    }

    /// Starts the clocks of a command. What came uncalled since the last one, doubled or closed, counts to this one.
    pub fn begin(&mut self) {
        self.tally.begun = Instant::now();
        self.tally.waited = Duration::ZERO;
        self.ledger.take_latency();
    }

    /// Ends it.
    pub fn outcome(&mut self, result: Result<(), String>) -> Outcome {
        let tally = mem::replace(&mut self.tally, Tally::new());
        let seconds = tally.begun.elapsed().as_secs_f64();
        if result.is_err() {
            self.ledger.write_off();
        }
        Outcome {
            seconds,
            idle: tally.waited.as_secs_f64() / seconds,
            counts: mem::take(&mut self.ledger.counts),
            latency: self.ledger.take_latency(),
            open: self.open,
            opened: tally.opened,
            refused: tally.refused,
            pongs: tally.pongs,
            closed: tally.closed,
            abandoned: tally.abandoned,
            recovery: tally.recovery,
            error: result.err(),
        }
    }

    pub(crate) fn all_opened(&self) -> bool {
        self.wanted == 0 && self.pending == 0
    }

    /// Waits once and handles all that has come.
    pub(crate) fn turn(&mut self, timeout: Duration) -> Result<(), String> {
        self.open_more();
        let before = Instant::now();
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.to_string()),
            _ => {}
        }
        self.tally.waited += before.elapsed();
        let events = mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            if event.token() != COMMAND {
                self.handle(event.token().0, event.is_read_closed() || event.is_error());
            }
        }
        self.events = events;
        Ok(())
    }

    fn open_more(&mut self) {
        while self.wanted > 0 && self.handshaking < self.opening.in_flight {
            self.wanted -= 1;
            let number = self.next_number;
            self.next_number += 1;
            let entry = self.connections.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            let begun = Connection::begin(number, self.target.port, &self.opening, self.sessions.as_ref()).and_then(
                |mut connection| {
                    connection.stream.register(self.poll.registry(), Token(entry.key()), interest)?;
                    Ok(connection)
                },
            );
            match begun {
                Ok(connection) => {
                    entry.insert(connection);
                    self.pending += 1;
                    self.handshaking += 1;
                }
                Err(_) => self.tally.refused += 1,
            }
        }
    }

    fn handle(&mut self, key: usize, ends: bool) {
        // Events of a connection that went earlier in the same turn.
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.paused {
            return;
        }
        if connection.phase == Phase::Connecting {
            let sent = match connection.stream.is_connected() {
                Ok(()) => connection.handshake(self.target.dialect, &self.signer, self.opening.deflate),
                Err(error) if error.kind() == ErrorKind::NotConnected && !ends => return,
                Err(error) => Err(error),
            };
            if sent.is_err() {
                self.end(key, Fate::ClosedByServer(NO_CODE));
            }
            return;
        }
        let mut buffer = mem::take(&mut self.buffer);
        let fate = self.read(key, ends, &mut buffer);
        self.buffer = buffer;
        self.end(key, fate);
    }

    fn read(&mut self, key: usize, ends: bool, buffer: &mut [u8]) -> Fate {
        loop {
            let connection = &mut self.connections[key];
            let length = match connection.stream.read(buffer) {
                Ok(0) => {
                    return if connection.phase == Phase::Closing { Fate::Done } else { Fate::ClosedByServer(NO_CODE) };
                }
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Fate::Stays,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => {
                    return if connection.phase == Phase::Closing { Fate::Done } else { Fate::ClosedByServer(NO_CODE) };
                }
            };
            let now = Instant::now();
            let mut rest = mem::take(&mut connection.rest);
            let fate = if rest.is_empty() {
                let (used, fate) = self.consume(key, &buffer[..length], now);
                rest.extend_from_slice(&buffer[used..length]);
                fate
            } else {
                rest.extend_from_slice(&buffer[..length]);
                let (used, fate) = self.consume(key, &rest, now);
                rest.drain(..used);
                fate
            };
            let connection = &mut self.connections[key];
            if !rest.is_empty() {
                connection.rest = rest;
            }
            if !matches!(fate, Fate::Stays) || connection.paused {
                return fate;
            }
            // Events come once per change: a short read has taken all there is, unless the end is behind it.
            if length < buffer.len() && !ends && self.connections[key].stream.short_read_is_last() {
                return Fate::Stays;
            }
        }
    }

    /// Drops a connection as a lost network does.
    pub(crate) fn forget(&mut self, key: usize) {
        let connection = self.connections.remove(key);
        if !connection.paused {
            self.ledger.leave(&connection.subscriptions);
        }
        self.open -= 1;
    }

    pub(crate) fn say_goodbye(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        connection.phase = Phase::Closing;
        self.open -= 1;
        // If that fails the end is noticed on reading.
        let _ = connection.frame(wire::CLOSE, &1000_u16.to_be_bytes());
    }

    fn end(&mut self, key: usize, fate: Fate) {
        let code = match fate {
            Fate::Stays => return,
            Fate::Done => {
                self.connections.remove(key);
                return;
            }
            Fate::ClosedByServer(code) => code,
        };
        let connection = self.connections.remove(key);
        match connection.phase {
            Phase::Connecting | Phase::Handshaking | Phase::Joining | Phase::Subscribing => {
                self.handshaking -= u32::from(matches!(connection.phase, Phase::Connecting | Phase::Handshaking));
                self.pending -= 1;
                self.tally.refused += 1;
            }
            Phase::Open | Phase::Retiring => {
                self.open -= 1;
                self.tally.abandoned += self.ledger.leave(&connection.subscriptions);
                *self.tally.closed.entry(code).or_default() += 1;
            }
            Phase::Closing => {}
        }
    }
}

impl Tally {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            waited: Duration::ZERO,
            opened: 0,
            refused: 0,
            pongs: 0,
            closed: BTreeMap::new(),
            abandoned: 0,
            recovery: None,
        }
    }
}

pub(crate) fn text(error: impl ToString) -> String {
    error.to_string()
}
