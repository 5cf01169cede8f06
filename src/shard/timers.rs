//! The deadlines of one shard: batches, heartbeats, closing handshakes, `auth` messages, throttled reads, refused handshakes. Pure.
//!
//! Owned by the event loop, which waits until the earliest. Entries are never cancelled: the code that takes a due one checks whether it
//! still means anything.

use std::time::{Duration, Instant};

use crate::shard::deadlines::Deadlines;
use crate::types::{ConnectionKey, PeerRef};

#[derive(Debug)]
pub struct Timers {
    started: Instant,
    /// With the batch the deadline is for. A batch that left early is recognised by it; should another connection have got the same
    /// key, its batch leaves a little early.
    batches: Deadlines<(ConnectionKey, u8)>,
    heartbeats: Deadlines<PeerRef>,
    closes: Deadlines<PeerRef>,
    auths: Deadlines<PeerRef>,
    reads: Deadlines<PeerRef>,
    refusals: Deadlines<PeerRef>,
}

impl Timers {
    pub fn new(now: Instant) -> Self {
        Self {
            started: now,
            batches: Deadlines::new(now),
            heartbeats: Deadlines::new(now),
            closes: Deadlines::new(now),
            auths: Deadlines::new(now),
            reads: Deadlines::new(now),
            refusals: Deadlines::new(now),
        }
    }

    pub fn schedule_flush(&mut self, delay: Duration, key: ConnectionKey, batch: u8) {
        self.batches.push(Instant::now(), delay, (key, batch));
    }

    /// Every batch has left.
    pub fn clear_flushes(&mut self) {
        self.batches.clear();
    }

    pub fn schedule_heartbeat(&mut self, delay: Duration, peer: PeerRef) {
        self.heartbeats.push(Instant::now(), delay, peer);
    }

    pub fn schedule_close_timeout(&mut self, delay: Duration, peer: PeerRef) {
        self.closes.push(Instant::now(), delay, peer);
    }

    pub fn schedule_auth_timeout(&mut self, delay: Duration, peer: PeerRef) {
        self.auths.push(Instant::now(), delay, peer);
    }

    pub fn schedule_read_resume(&mut self, delay: Duration, peer: PeerRef) {
        self.reads.push(Instant::now(), delay, peer);
    }

    pub fn schedule_refusal_timeout(&mut self, delay: Duration, peer: PeerRef) {
        self.refusals.push(Instant::now(), delay, peer);
    }

    pub fn due_flush(&mut self, now: Instant) -> Option<(ConnectionKey, u8)> {
        self.batches.pop_due(now).map(|(_, entry)| entry)
    }

    /// With the moment it was due at.
    pub fn due_heartbeat(&mut self, now: Instant) -> Option<(Instant, PeerRef)> {
        self.heartbeats.pop_due(now)
    }

    pub fn due_close_timeout(&mut self, now: Instant) -> Option<PeerRef> {
        self.closes.pop_due(now).map(|(_, peer)| peer)
    }

    pub fn due_auth_timeout(&mut self, now: Instant) -> Option<PeerRef> {
        self.auths.pop_due(now).map(|(_, peer)| peer)
    }

    pub fn due_read_resume(&mut self, now: Instant) -> Option<PeerRef> {
        self.reads.pop_due(now).map(|(_, peer)| peer)
    }

    pub fn due_refusal_timeout(&mut self, now: Instant) -> Option<PeerRef> {
        self.refusals.pop_due(now).map(|(_, peer)| peer)
    }

    /// The earliest deadline of all.
    pub fn next(&self) -> Option<Instant> {
        [
            self.batches.next(),
            self.heartbeats.next(),
            self.closes.next(),
            self.auths.next(),
            self.reads.next(),
            self.refusals.next(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Milliseconds since the shard began; wraps after 49 days, so only differences mean anything.
    pub fn millis(&self, now: Instant) -> u32 {
        // Truncation is the wrapping.
        now.saturating_duration_since(self.started).as_millis() as u32
    }
}
