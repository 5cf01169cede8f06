//! The deadlines of one shard: batches, heartbeats, closing handshakes, `auth` messages, throttled reads, refused handshakes. Pure.
//!
//! Owned by the event loop, which waits until the earliest. Entries are never cancelled: the code that takes a due one checks whether it
//! still means anything.

use std::time::{Duration, Instant};

use crate::shard::deadlines::{Deadlines, Moment};
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
            batches: Deadlines::default(),
            heartbeats: Deadlines::default(),
            closes: Deadlines::default(),
            auths: Deadlines::default(),
            reads: Deadlines::default(),
            refusals: Deadlines::default(),
        }
    }

    pub fn schedule_flush(&mut self, delay: Duration, key: ConnectionKey, batch: u8) {
        let due = self.after(delay);
        self.batches.push(due, (key, batch));
    }

    /// Every batch has left.
    pub fn clear_flushes(&mut self) {
        self.batches.clear();
    }

    pub fn schedule_heartbeat(&mut self, delay: Duration, peer: PeerRef) {
        let due = self.after(delay);
        self.heartbeats.push(due, peer);
    }

    pub fn schedule_close_timeout(&mut self, delay: Duration, peer: PeerRef) {
        let due = self.after(delay);
        self.closes.push(due, peer);
    }

    pub fn schedule_auth_timeout(&mut self, delay: Duration, peer: PeerRef) {
        let due = self.after(delay);
        self.auths.push(due, peer);
    }

    pub fn schedule_read_resume(&mut self, delay: Duration, peer: PeerRef) {
        let due = self.after(delay);
        self.reads.push(due, peer);
    }

    pub fn schedule_refusal_timeout(&mut self, delay: Duration, peer: PeerRef) {
        let due = self.after(delay);
        self.refusals.push(due, peer);
    }

    pub fn due_flush(&mut self, now: Moment) -> Option<(ConnectionKey, u8)> {
        self.batches.pop_due(now).map(|(_, entry)| entry)
    }

    /// With the moment it was due at.
    pub fn due_heartbeat(&mut self, now: Moment) -> Option<(Moment, PeerRef)> {
        self.heartbeats.pop_due(now)
    }

    pub fn due_close_timeout(&mut self, now: Moment) -> Option<PeerRef> {
        self.closes.pop_due(now).map(|(_, peer)| peer)
    }

    pub fn due_auth_timeout(&mut self, now: Moment) -> Option<PeerRef> {
        self.auths.pop_due(now).map(|(_, peer)| peer)
    }

    pub fn due_read_resume(&mut self, now: Moment) -> Option<PeerRef> {
        self.reads.pop_due(now).map(|(_, peer)| peer)
    }

    pub fn due_refusal_timeout(&mut self, now: Moment) -> Option<PeerRef> {
        self.refusals.pop_due(now).map(|(_, peer)| peer)
    }

    /// The earliest deadline of all.
    pub fn next(&self) -> Option<Instant> {
        let next = [
            self.batches.next(),
            self.heartbeats.next(),
            self.closes.next(),
            self.auths.next(),
            self.reads.next(),
            self.refusals.next(),
        ];
        let Moment(nanoseconds) = next.into_iter().flatten().min()?;
        Some(self.started + Duration::from_nanos(nanoseconds))
    }

    /// `now` on the shard's clock.
    pub fn moment(&self, now: Instant) -> Moment {
        let elapsed = now.saturating_duration_since(self.started);
        Moment(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
    }

    fn after(&self, delay: Duration) -> Moment {
        self.moment(Instant::now()).after(delay)
    }
}
