//! The event loop: opens connections, answers what they must answer, hands every message to the ledger.
//!
//! Owns the sockets and one read buffer. Commands are plain functions that turn the loop until their condition holds; how
//! long the loop has waited for events is the generator's idle time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::time::{Duration, Instant};

use flate2::{Decompress, FlushDecompress};
use memchr::memmem::{self, Finder};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::command::{Dialect, Opening, Outcome, Recovery, Stream, Target};
use crate::connection::{Connection, Phase};
use crate::control::Order;
use crate::ledger::{Ledger, Topic};
use crate::token::Signer;
use crate::wire::{self, Header};

/// Wakes the loop when a command has come.
pub const COMMAND: Token = Token(usize::MAX);

const READ_BUFFER: usize = 256 * 1024;
const LONGEST_MESSAGE: usize = 1024 * 1024;
/// A command that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(60);
/// Of so many connections one inflates what it gets; the others count compressed messages without looking inside.
const INFLATED: u64 = 16;
const NO_CODE: u16 = 1006;

pub struct Generator {
    target: Target,
    signer: Signer,
    server: File,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    inflated: Vec<u8>,
    inflater: Decompress,
    number: Finder<'static>,
    connections: Slab<Connection>,
    ledger: Ledger,
    opening: Opening,
    next_number: u64,
    /// Connections still to be opened, and those in the making.
    wanted: u32,
    pending: u32,
    open: u64,
    tally: Tally,
}

/// What one command has seen.
struct Tally {
    begun: Instant,
    waited: Duration,
    opened: u64,
    refused: u64,
    pongs: u64,
    closed: BTreeMap<u16, u64>,
    abandoned: u64,
    recovery: Option<Recovery>,
}

enum Fate {
    Stays,
    /// Goes as the generator wanted it.
    Done,
    ClosedByServer(u16),
}

impl Generator {
    pub fn new(target: Target, server: File, poll: Poll) -> Self {
        Self {
            signer: Signer::new(&target.secret),
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
            open: 0,
            tally: Tally::new(),
        }
    }

    /// Starts the account of a command.
    pub fn begin(&mut self) {
        self.tally = Tally::new();
        self.ledger.counts = Default::default();
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
            counts: self.ledger.counts,
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

    pub fn open(&mut self, opening: Opening) -> Result<(), String> {
        self.opening = opening;
        self.wanted = opening.count;
        self.until("not all connections were opened", |this| this.all_opened())
    }

    pub fn lockstep(&mut self, topic: Topic, rounds: u32, burst: u32) -> Result<(), String> {
        for _ in 0..rounds {
            self.publish(topic, burst as usize)?;
            self.until("not everything arrived", |this| this.ledger.outstanding() == 0)?;
        }
        Ok(())
    }

    pub fn stream(&mut self, stream: Stream) -> Result<(), String> {
        let begun = Instant::now();
        let due = |done: u64, rate: f64| begun + Duration::from_secs_f64(done as f64 / rate);
        let end = begun + Duration::from_secs_f64(stream.seconds);
        let mut drop_at = stream.drop_after.map(|seconds| begun + Duration::from_secs_f64(seconds));
        let mut dropped = None;
        let (mut published, mut replaced) = (0_u64, 0_u64);
        loop {
            let now = Instant::now();
            while due(published, stream.per_second) <= now
                && (due(published, stream.per_second) < end || dropped.is_some())
            {
                // A prime step visits the topics in no order that connections share.
                let topic = stream.first + ((published * 7919) % u64::from(stream.topics)) as Topic;
                self.publish(topic, 1)?;
                published += 1;
            }
            while stream.churn_per_second > 0.0 && due(replaced, stream.churn_per_second) <= now && now < end {
                self.replace_one(replaced);
                replaced += 1;
            }
            if drop_at.is_some_and(|at| at <= now) {
                drop_at = None;
                dropped = Some(now);
                self.drop_all();
            }
            if let Some(at) = dropped.take_if(|_| self.all_opened()) {
                let latency = self.ledger.take_latency();
                self.tally.recovery = Some(Recovery { seconds: at.elapsed().as_secs_f64(), latency });
            }
            if now >= end && dropped.is_none() {
                break;
            }
            if now >= end + LIMIT {
                return Err("not everybody came back".to_owned());
            }
            let next_publish = due(published, stream.per_second);
            let next_change = if stream.churn_per_second > 0.0 { due(replaced, stream.churn_per_second) } else { end };
            let next = next_publish.min(next_change).min(drop_at.unwrap_or(end));
            let next = if now >= end { now + Duration::from_millis(1) } else { next.min(end) };
            self.turn(next.saturating_duration_since(Instant::now()))?;
        }
        self.until("not everything arrived", |this| {
            this.ledger.outstanding() == 0 && this.all_opened() && this.connections.len() as u64 == this.open
        })
    }

    pub fn ping(&mut self, rounds: u32) -> Result<(), String> {
        let dialect = self.target.dialect;
        for (_, connection) in &mut self.connections {
            connection.pings_left = rounds;
            connection.ping(dialect).map_err(text)?;
        }
        let expected = u64::from(rounds) * self.connections.len() as u64;
        self.until("not every ping was answered", |this| this.tally.pongs == expected)
    }

    pub fn resume(&mut self) -> Result<(), String> {
        for (key, connection) in &mut self.connections {
            if mem::take(&mut connection.paused) {
                self.ledger.rejoin(&connection.subscriptions);
                self.poll.registry().register(&mut connection.stream, Token(key), Interest::READABLE).map_err(text)?;
            }
        }
        self.until("not everything arrived", |this| this.ledger.outstanding() == 0)
    }

    pub fn settle(&mut self, time: Duration) -> Result<(), String> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(end.saturating_duration_since(Instant::now()))?;
        }
        Ok(())
    }

    pub fn close(&mut self) -> Result<(), String> {
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            let connection = &self.connections[key];
            match connection.phase {
                Phase::Closing => {}
                _ if connection.paused => self.forget(key),
                _ => {
                    self.ledger.leave(&connection.subscriptions);
                    self.say_goodbye(key);
                }
            }
        }
        self.until("not every connection was closed", |this| this.connections.is_empty())
    }

    /// Waits for events until a command comes.
    pub fn wait(&mut self) -> Result<(), String> {
        self.turn(LIMIT)
    }

    fn publish(&mut self, topic: Topic, count: usize) -> Result<(), String> {
        let now = Instant::now();
        let first = self.ledger.publish(topic, now);
        (1..count).for_each(|_| {
            self.ledger.publish(topic, now);
        });
        let order = Order::Publish { topic, n: first, count };
        let line = serde_json::to_string(&order).map_err(text)? + "\n";
        self.server.write_all(line.as_bytes()).map_err(|error| format!("the server takes no orders: {error}"))
    }

    fn until(&mut self, failure: &str, done: impl Fn(&mut Self) -> bool) -> Result<(), String> {
        let limit = Instant::now() + LIMIT;
        while !done(self) {
            let left = limit.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!(
                    "{failure}: {} open, {} being opened, {} to be opened, {} messages due",
                    self.open,
                    self.pending,
                    self.wanted,
                    self.ledger.outstanding()
                ));
            }
            self.turn(left)?;
        }
        Ok(())
    }

    fn all_opened(&self) -> bool {
        self.wanted == 0 && self.pending == 0
    }

    /// Waits once and handles all that has come.
    fn turn(&mut self, timeout: Duration) -> Result<(), String> {
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
        while self.wanted > 0 && self.pending < self.opening.in_flight {
            self.wanted -= 1;
            let number = self.next_number;
            self.next_number += 1;
            let entry = self.connections.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            let begun = Connection::begin(number, self.target.port, &self.opening).and_then(|mut connection| {
                self.poll.registry().register(&mut connection.stream, Token(entry.key()), interest)?;
                Ok(connection)
            });
            match begun {
                Ok(connection) => {
                    entry.insert(connection);
                    self.pending += 1;
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
            let sent = match connection.stream.peer_addr() {
                Ok(_) => connection.handshake(self.target.dialect, &self.signer, self.opening.deflate),
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
            if length < buffer.len() && !ends {
                return Fate::Stays;
            }
        }
    }

    /// Returns how many bytes are used up.
    fn consume(&mut self, key: usize, bytes: &[u8], now: Instant) -> (usize, Fate) {
        let mut used = 0;
        if self.connections[key].phase == Phase::Handshaking {
            let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return (0, Fate::Stays) };
            used = end + 4;
            if !bytes.starts_with(b"HTTP/1.1 101") {
                return (used, Fate::ClosedByServer(NO_CODE));
            }
            if self.upgraded(key).is_err() {
                return (used, Fate::ClosedByServer(NO_CODE));
            }
        }
        while let Some(header) = wire::header(&bytes[used..]) {
            let Some(payload) = bytes[used..].get(header.length..header.length + header.payload) else { break };
            used += header.length + header.payload;
            match self.frame(key, header, payload, now) {
                Ok(Fate::Stays) => {}
                Ok(fate) => return (used, fate),
                Err(_) => return (used, Fate::ClosedByServer(NO_CODE)),
            }
        }
        (used, Fate::Stays)
    }

    fn upgraded(&mut self, key: usize) -> io::Result<()> {
        let connection = &mut self.connections[key];
        if self.target.dialect == Dialect::SocketIo {
            connection.phase = Phase::Joining;
            return Ok(());
        }
        self.admitted(key)
    }

    /// Authenticated; what is left is to subscribe.
    fn admitted(&mut self, key: usize) -> io::Result<()> {
        let connection = &mut self.connections[key];
        if connection.subscriptions.is_empty() {
            self.opened(key);
            return Ok(());
        }
        connection.subscribe(self.target.dialect)
    }

    fn opened(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        connection.phase = Phase::Open;
        self.pending -= 1;
        self.open += 1;
        self.tally.opened += 1;
        if self.opening.paused && self.poll.registry().deregister(&mut connection.stream).is_ok() {
            self.ledger.leave(&connection.subscriptions);
            connection.paused = true;
        }
    }

    fn frame(&mut self, key: usize, header: Header, payload: &[u8], now: Instant) -> io::Result<Fate> {
        let connection = &mut self.connections[key];
        match header.opcode {
            wire::PING => {
                connection.frame(wire::PONG, payload)?;
                Ok(Fate::Stays)
            }
            wire::CLOSE if connection.phase == Phase::Closing => Ok(Fate::Stays),
            wire::CLOSE => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                Ok(Fate::ClosedByServer(code))
            }
            wire::PONG => Ok(Fate::Stays),
            _ if !header.compressed => self.message(key, payload, now),
            _ if connection.number % INFLATED == 0 => {
                let text = self.inflate(payload)?;
                let fate = self.message(key, &text, now);
                self.inflated = text;
                fate
            }
            _ => {
                self.ledger.deliver_next(&mut connection.subscriptions, now);
                Ok(Fate::Stays)
            }
        }
    }

    fn message(&mut self, key: usize, text: &[u8], now: Instant) -> io::Result<Fate> {
        let connection = &mut self.connections[key];
        let batch = text.starts_with(br#"{"type":"batch","#);
        let (mut at, mut numbered) = (0, false);
        while let Some(found) = self.number.find(&text[at..]) {
            at += found + self.number.needle().len();
            let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit());
            let number = digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
            numbered = true;
            if connection.phase != Phase::Closing {
                self.ledger.deliver(&mut connection.subscriptions, number, now);
            }
            if !batch {
                break;
            }
        }
        match connection.phase {
            Phase::Retiring if self.ledger.is_complete(&connection.subscriptions) => self.say_goodbye(key),
            Phase::Joining => return self.join(key, text),
            Phase::Subscribing if (batch || !numbered) && memmem::find(text, b"subscribed\"").is_some() => {
                self.ledger.acknowledge(&mut connection.subscriptions);
                self.opened(key);
            }
            Phase::Open if !numbered => return self.answer(key, text, now),
            _ => {}
        }
        Ok(Fate::Stays)
    }

    /// Socket.IO: first the transport says what it is, then the namespace wants the token.
    fn join(&mut self, key: usize, text: &[u8]) -> io::Result<Fate> {
        let connection = &mut self.connections[key];
        if text.starts_with(b"40") {
            self.admitted(key)?;
        } else if text.starts_with(b"44") {
            return Ok(Fate::ClosedByServer(NO_CODE));
        } else if text.starts_with(b"0") {
            let token = self.signer.token(&connection.user());
            connection.frame(wire::TEXT, format!(r#"40{{"token":"{token}"}}"#).as_bytes())?;
        }
        Ok(Fate::Stays)
    }

    fn answer(&mut self, key: usize, text: &[u8], now: Instant) -> io::Result<Fate> {
        let connection = &mut self.connections[key];
        if self.target.dialect == Dialect::SocketIo && text == b"2" {
            connection.frame(wire::TEXT, b"3")?;
        } else if memmem::find(text, b"\"pong\"").is_some() {
            self.tally.pongs += 1;
            if let Some(at) = connection.pinged_at.take() {
                self.ledger.record(now.duration_since(at).as_micros() as u64);
            }
            if connection.pings_left > 0 {
                connection.ping(self.target.dialect)?;
            }
        }
        Ok(Fate::Stays)
    }

    /// The next open connection from a place that jumps about.
    fn replace_one(&mut self, step: u64) {
        let length = self.connections.capacity();
        let start = (step as usize * 7919) % length.max(1);
        let key = (0..length).map(|offset| (start + offset) % length).find(|&key| {
            self.connections.get(key).is_some_and(|connection| connection.phase == Phase::Open && !connection.paused)
        });
        let Some(connection) = key.and_then(|key| self.connections.get_mut(key)) else { return };
        connection.phase = Phase::Retiring;
        self.ledger.retire(&mut connection.subscriptions);
        if self.ledger.is_complete(&connection.subscriptions) {
            self.say_goodbye(key.unwrap_or_default());
        }
        self.wanted += 1;
    }

    fn drop_all(&mut self) {
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            if matches!(self.connections[key].phase, Phase::Open | Phase::Retiring) {
                self.wanted += u32::from(self.connections[key].phase == Phase::Open);
                self.forget(key);
            }
        }
        self.ledger.take_latency();
    }

    /// Drops a connection as a lost network does.
    fn forget(&mut self, key: usize) {
        let connection = self.connections.remove(key);
        if !connection.paused {
            self.ledger.leave(&connection.subscriptions);
        }
        self.open -= 1;
    }

    fn say_goodbye(&mut self, key: usize) {
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

    fn inflate(&mut self, payload: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = mem::take(&mut self.inflated);
        text.clear();
        self.inflater.reset(false);
        let tail: &[u8] = &[0, 0, 0xff, 0xff];
        for part in [payload, tail] {
            self.inflater
                .decompress_vec(part, &mut text, FlushDecompress::Sync)
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
        Ok(text)
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

fn text(error: impl ToString) -> String {
    error.to_string()
}
