//! Everything a shard has to do at a time: batches, heartbeats, closing handshakes, missing `auth` messages, rests.
//!
//! Owned by a shard. One sleep covers all; whoever adds an earlier deadline rings the bell.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::shard::deadlines::Deadlines;
use crate::shard::event_loop::Bell;
use crate::types::{ConnectionKey, ConnectionNumber};

type Identified = (ConnectionKey, ConnectionNumber);

pub struct Timers {
    started: Instant,
    /// With the batch the deadline is for. A batch that left early is recognised by it; should another connection
    /// have taken the place, its batch leaves a little early, which harms nobody.
    flushes: RefCell<Deadlines<(ConnectionKey, u8)>>,
    heartbeats: RefCell<Deadlines<Identified>>,
    lingers: RefCell<Deadlines<Identified>>,
    auths: RefCell<Deadlines<Identified>>,
    rests: RefCell<Deadlines<Identified>>,
    /// What the shard waits for at present.
    armed: Cell<Option<Instant>>,
    bell: Arc<Bell>,
}

impl Timers {
    pub fn new(now: Instant, bell: Arc<Bell>) -> Self {
        Self {
            started: now,
            flushes: RefCell::new(Deadlines::new(now)),
            heartbeats: RefCell::new(Deadlines::new(now)),
            lingers: RefCell::new(Deadlines::new(now)),
            auths: RefCell::new(Deadlines::new(now)),
            rests: RefCell::new(Deadlines::new(now)),
            armed: Cell::new(None),
            bell,
        }
    }

    pub fn flush_in(&self, delay: Duration, key: ConnectionKey, batch: u8) {
        self.add(&self.flushes, delay, (key, batch));
    }

    /// Every batch has left.
    pub fn forget_flushes(&self) {
        self.flushes.borrow_mut().clear();
    }

    pub fn beat_in(&self, delay: Duration, key: ConnectionKey, number: ConnectionNumber) {
        self.add(&self.heartbeats, delay, (key, number));
    }

    pub fn linger_for(&self, delay: Duration, key: ConnectionKey, number: ConnectionNumber) {
        self.add(&self.lingers, delay, (key, number));
    }

    pub fn auth_within(&self, delay: Duration, key: ConnectionKey, number: ConnectionNumber) {
        self.add(&self.auths, delay, (key, number));
    }

    pub fn rest_for(&self, delay: Duration, key: ConnectionKey, number: ConnectionNumber) {
        self.add(&self.rests, delay, (key, number));
    }

    pub fn due_flush(&self, now: Instant) -> Option<(ConnectionKey, u8)> {
        self.flushes.borrow_mut().pop_due(now).map(|(_, entry)| entry)
    }

    /// With the moment it was due at.
    pub fn due_heartbeat(&self, now: Instant) -> Option<(Instant, Identified)> {
        self.heartbeats.borrow_mut().pop_due(now)
    }

    pub fn due_linger(&self, now: Instant) -> Option<Identified> {
        self.lingers.borrow_mut().pop_due(now).map(|(_, entry)| entry)
    }

    pub fn due_auth(&self, now: Instant) -> Option<Identified> {
        self.auths.borrow_mut().pop_due(now).map(|(_, entry)| entry)
    }

    pub fn due_rest(&self, now: Instant) -> Option<Identified> {
        self.rests.borrow_mut().pop_due(now).map(|(_, entry)| entry)
    }

    /// The earliest deadline of all.
    pub fn next(&self) -> Option<Instant> {
        [
            self.flushes.borrow().next(),
            self.heartbeats.borrow().next(),
            self.lingers.borrow().next(),
            self.auths.borrow().next(),
            self.rests.borrow().next(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The shard waits until `due`, unless its bell is rung: as it will be for an earlier deadline.
    pub fn arm(&self, due: Option<Instant>) {
        self.armed.set(due);
    }

    /// Has the shard look at its deadlines again if this one is earlier than what it waits for.
    pub fn wake_for(&self, deadline: Instant) {
        if self.armed.get().is_none_or(|armed| deadline < armed) {
            self.bell.notify_one();
        }
    }

    /// Makes the shard look at its state again.
    pub fn interrupt(&self) {
        self.bell.notify_one();
    }

    /// Milliseconds since the shard began; wraps after 49 days, so only differences mean anything.
    pub fn millis(&self, now: Instant) -> u32 {
        // Truncation is the wrapping.
        now.saturating_duration_since(self.started).as_millis() as u32
    }

    fn add<T>(&self, deadlines: &RefCell<Deadlines<T>>, delay: Duration, entry: T) {
        let now = Instant::now();
        deadlines.borrow_mut().push(now, delay, entry);
        self.wake_for(now + delay);
    }
}
