//! A topic with history that this node follows on a broker: puts what the broker pushes in order, and finds out what is missing.
//! Pure state machine: pushes and replies come in, deliveries and requests come out.
//!
//! Owned by the broker's thread, one per followed topic. Local subscribers receive what a stream yields, in this order. The newest
//! publications are kept in a ring, which answers resumes without the broker.
//!
//! A push that follows the newest publication, by its offset and by the id of its predecessor, is delivered at once. Everything else
//! is held, and the history is fetched: the broker's list decides, not the push. Compared with what was delivered, it either
//!
//! * contains the newest publication: what follows is delivered, and no client notices;
//! * or belongs to another epoch (`reset`), to another line of the same epoch (`fork`), or begins too late (`expired`): subscribers
//!   are told the position where the new line begins for them, and receive what follows it, except what they have.
//!
//! A publication is recognized by its origin, the id of the first attempt to publish it: a node offers its own again, with a new id, to
//! a broker that may have lost them. It is recognized as long as it is among the newest that the ring holds, so nodes must not offer
//! what is older than that. A position is recognized by its id alone: each attempt is stored at most once, so its id at its offset
//! proves everything before it.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::gate::GateLimits;
use super::loss::LossReason;
use super::position::{Offset, Position, PublicationId};
use super::rings::{Entry, Ring, TopicLimits};

mod history;

pub use history::{BrokenChain, FetchedHistory};

/// Fetches in a row that do not explain what is held, before it is given up as part of a line that the broker has lost.
const MAX_FETCHES: u8 = 3;
/// Ids that are remembered beside those of the ring.
const MAX_APART: usize = 1000;

/// Nodes of which the newest publication is remembered; a node that starts anew is another one.
const MAX_NODES: usize = 64;

/// A stored message that knows the id of the first attempt to publish it.
pub trait Origin: Clone {
    fn origin(&self) -> PublicationId;
}

/// What the owner of a stream does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<P> {
    /// To all local subscribers.
    Deliver(Entry<P>),
    /// Local subscribers have this publication already: only their position advances.
    Skip(Position),
    /// Local subscribers have missed publications before this position, or have received some that are no part of the history.
    Gap { reason: LossReason, position: Position },
    /// Read the history from this offset on, or all of it.
    Fetch { from: Option<Offset> },
}

#[derive(Debug)]
pub struct Stream<P> {
    limits: TopicLimits,
    held_limits: GateLimits,
    /// What was delivered, up to the newest. `None` before the first fetch.
    ring: Option<Ring<P>>,
    /// Pushes that could not be placed, in the order of their arrival.
    held: VecDeque<Entry<P>>,
    held_bytes: usize,
    fetch: Fetch,
    /// Fetches since the last delivery that left something held.
    fruitless: u8,
    /// What local subscribers have and the ring does not: publications without a position, and those of lines that were left.
    apart: VecDeque<PublicationId>,
    /// The newest publication of each node that published to the topic.
    newest: SmallVec<[PublicationId; 2]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fetch {
    Idle,
    /// `is_stale` if something was held since it was sent.
    UnderWay {
        is_stale: bool,
    },
}

/// How a push relates to what was delivered.
enum Relation {
    Next,
    Known,
    Unexplained,
}

impl<P: Origin> Stream<P> {
    /// `limits` are those of the ring, `held_limits` those of pushes that wait for a fetch.
    pub fn new(limits: TopicLimits, held_limits: GateLimits) -> Self {
        Self {
            limits,
            held_limits,
            ring: None,
            held: VecDeque::new(),
            held_bytes: 0,
            fetch: Fetch::Idle,
            fruitless: 0,
            apart: VecDeque::new(),
            newest: SmallVec::new(),
        }
    }

    /// The newest position that local subscribers were sent. `None` before the first fetch.
    pub fn top(&self) -> Option<Position> {
        self.ring.as_ref().map(Ring::top)
    }

    /// What resumes are answered from.
    pub fn ring(&mut self) -> Option<&mut Ring<P>> {
        self.ring.as_mut()
    }

    /// Whether something is held or was never fetched, and no fetch is under way: [`synchronize`](Self::synchronize) after a while.
    pub fn is_behind(&self) -> bool {
        self.fetch == Fetch::Idle && (self.ring.is_none() || !self.held.is_empty())
    }

    /// Compares with the broker: when the subscription to the topic's channel was confirmed, first or again, and while
    /// [`is_behind`](Self::is_behind).
    pub fn synchronize(&mut self, steps: &mut Vec<Step<P>>) {
        let from = self.top().map(|top| top.offset.next());
        self.request(from, steps);
    }

    /// An own publication was delivered to local subscribers without a position, while the broker was away. `origin` is the id of the
    /// first attempt to publish it.
    pub fn delivered_locally(&mut self, origin: PublicationId) {
        // Not noted as the newest of this node: earlier ones may be missing still.
        self.remember(origin);
    }

    /// The broker pushed a publication.
    pub fn receive(&mut self, entry: Entry<P>, now: u64, steps: &mut Vec<Step<P>>) {
        if let Fetch::UnderWay { is_stale } = &mut self.fetch {
            *is_stale = true;
            self.hold(entry);
            return;
        }
        match self.relate(&entry) {
            Relation::Known => (),
            Relation::Next => {
                self.deliver(entry, now, steps);
                self.place_held(now, steps);
            }
            Relation::Unexplained => {
                self.hold(entry);
                self.synchronize(steps);
            }
        }
    }

    /// The fetch failed, or its reply was malformed. What is held stays.
    pub fn fetch_failed(&mut self) {
        self.fetch = Fetch::Idle;
    }

    /// The connection to the broker has ended, with the fetch. What it pushed and could not be placed is in the history, or of a line
    /// that was lost: the next fetch tells.
    pub fn disconnected(&mut self) {
        self.fetch = Fetch::Idle;
        // Before the first fetch, what is held says what subscribers must receive of it.
        if self.ring.is_some() {
            self.held.clear();
            self.held_bytes = 0;
        }
    }

    /// The reply to a fetch.
    pub fn fetched(&mut self, history: FetchedHistory<P>, now: u64, steps: &mut Vec<Step<P>>) {
        let Fetch::UnderWay { is_stale } = std::mem::replace(&mut self.fetch, Fetch::Idle) else { return };
        let delivered = match self.top() {
            None => self.begin(history, now, steps),
            Some(top) => self.compare(top, history, now, steps),
        };
        if self.fetch != Fetch::Idle {
            return;
        }
        if self.place_held(now, steps) || delivered {
            self.fruitless = 0;
        }
        if self.held.is_empty() {
            return;
        }
        if is_stale {
            self.synchronize(steps);
            return;
        }
        self.fruitless += 1;
        if self.fruitless >= MAX_FETCHES {
            (self.held_bytes, self.fruitless) = (0, 0);
            self.held.clear();
        }
    }

    /// The first fetch. Subscribers that were there before it receive what was pushed meanwhile, also what the history contains.
    fn begin(&mut self, history: FetchedHistory<P>, now: u64, steps: &mut Vec<Step<P>>) -> bool {
        let mut ring = Ring::new(history.base(), self.limits);
        let mut is_new = false;
        for entry in history.into_entries() {
            is_new |= self.held.iter().any(|held| held.position == entry.position);
            if is_new {
                steps.push(self.step_for(entry.clone()));
            }
            self.note(entry.payload.origin());
            ring.push(entry.position.id, entry.payload, entry.bytes, now, 1);
        }
        self.ring = Some(ring);
        true
    }

    /// A later fetch. Whether anything was delivered.
    fn compare(&mut self, top: Position, history: FetchedHistory<P>, now: u64, steps: &mut Vec<Step<P>>) -> bool {
        if history.contains(&top) {
            let mut missed = history.into_entries();
            missed.retain(|entry| entry.position.offset > top.offset);
            let has_missed = !missed.is_empty();
            missed.into_iter().for_each(|entry| self.deliver(entry, now, steps));
            return has_missed;
        }
        if !history.is_whole() {
            // Where the lines part can be anywhere.
            self.request(None, steps);
            return false;
        }
        let reason = if history.top().epoch != top.epoch {
            LossReason::Reset
        } else if history.base().offset > top.offset {
            LossReason::Expired
        } else {
            LossReason::Fork
        };
        self.change_line(reason, history, now, steps);
        true
    }

    /// Subscribers leave the line of publications that they have followed for another one, and remember what only the old one has.
    fn change_line(&mut self, reason: LossReason, history: FetchedHistory<P>, now: u64, steps: &mut Vec<Step<P>>) {
        let Some(left) = self.ring.take() else { return };
        let mut shared = std::iter::once(history.base()).chain(history.entries().iter().map(|entry| entry.position));
        let shared = shared.rfind(|position| left.id_at(*position) == Some(position.id));
        let is_parted = |entry: &Entry<P>| shared.is_none_or(|shared| entry.position.offset > shared.offset);
        left.newest(usize::MAX).filter(is_parted).for_each(|entry| self.remember(entry.payload.origin()));

        let base = history.base();
        let mut beginning = shared.unwrap_or(base);
        let mut ring = Ring::new(base, self.limits);
        let mut followed = Vec::new();
        for entry in history.into_entries() {
            ring.push(entry.position.id, entry.payload.clone(), entry.bytes, now, 1);
            if entry.position.offset <= beginning.offset {
                continue;
            }
            // A line can go back further than what is remembered. Publications that may have been delivered long ago are left out:
            // a client that got the gap reloads, and that covers everything fetched.
            let may_be_old = self.may_be_old(entry.payload.origin());
            let position = entry.position;
            let step = self.step_for(entry);
            let step = if may_be_old { Step::Skip(position) } else { step };
            match step {
                Step::Skip(position) if followed.is_empty() => beginning = position,
                step => followed.push(step),
            }
        }
        self.ring = Some(ring);
        steps.push(Step::Gap { reason, position: beginning });
        steps.append(&mut followed);
    }

    /// Delivers what is held and follows now, in any order; drops what is known. Whether anything was delivered.
    fn place_held(&mut self, now: u64, steps: &mut Vec<Step<P>>) -> bool {
        let mut has_delivered = false;
        let mut untried = self.held.len();
        while untried > 0 {
            let Some(entry) = self.held.pop_front() else { break };
            untried -= 1;
            match self.relate(&entry) {
                Relation::Known => self.held_bytes -= entry.bytes,
                // The line goes past it without it, or it has left the ring.
                Relation::Unexplained if self.is_passed(&entry) => self.held_bytes -= entry.bytes,
                Relation::Next => {
                    self.held_bytes -= entry.bytes;
                    self.deliver(entry, now, steps);
                    has_delivered = true;
                    untried = self.held.len();
                }
                Relation::Unexplained => self.held.push_back(entry),
            }
        }
        has_delivered
    }

    fn is_passed(&self, entry: &Entry<P>) -> bool {
        self.top().is_some_and(|top| entry.position.epoch == top.epoch && entry.position.offset <= top.offset)
    }

    fn relate(&self, entry: &Entry<P>) -> Relation {
        let Some(ring) = &self.ring else { return Relation::Unexplained };
        let top = ring.top();
        if ring.id_at(entry.position) == Some(entry.position.id) {
            return Relation::Known;
        }
        let follows = entry.before() == top;
        if follows { Relation::Next } else { Relation::Unexplained }
    }

    fn deliver(&mut self, entry: Entry<P>, now: u64, steps: &mut Vec<Step<P>>) {
        if let Some(ring) = &mut self.ring {
            ring.push(entry.position.id, entry.payload.clone(), entry.bytes, now, 1);
        }
        let step = self.step_for(entry);
        steps.push(step);
    }

    /// Whether subscribers have had a publication of the same node that is as new or newer.
    fn may_be_old(&self, origin: PublicationId) -> bool {
        self.newest.iter().any(|newest| newest.node == origin.node && newest.sequence >= origin.sequence)
    }

    /// Keeps the newest publication of each node.
    fn note(&mut self, origin: PublicationId) {
        match self.newest.iter_mut().find(|newest| newest.node == origin.node) {
            Some(newest) => newest.sequence = newest.sequence.max(origin.sequence),
            None => {
                if self.newest.len() == MAX_NODES {
                    self.newest.remove(0);
                }
                self.newest.push(origin);
            }
        }
    }

    /// `Skip` for a publication that local subscribers have.
    fn step_for(&mut self, entry: Entry<P>) -> Step<P> {
        self.note(entry.payload.origin());
        match self.apart.iter().position(|origin| *origin == entry.payload.origin()) {
            Some(place) => {
                self.apart.remove(place);
                Step::Skip(entry.position)
            }
            None => Step::Deliver(entry),
        }
    }

    fn remember(&mut self, origin: PublicationId) {
        if self.apart.len() == MAX_APART {
            self.apart.pop_front();
        }
        self.apart.push_back(origin);
    }

    fn request(&mut self, from: Option<Offset>, steps: &mut Vec<Step<P>>) {
        match &mut self.fetch {
            // The reply may be older than the reason to ask again.
            Fetch::UnderWay { is_stale } => *is_stale = true,
            Fetch::Idle => {
                self.fetch = Fetch::UnderWay { is_stale: false };
                steps.push(Step::Fetch { from });
            }
        }
    }

    /// Beyond the bound nothing is held but the newest: the history has the others.
    fn hold(&mut self, entry: Entry<P>) {
        let is_full = self.held.len() >= self.held_limits.publications
            || self.held_bytes.saturating_add(entry.bytes) > self.held_limits.bytes;
        if is_full {
            self.held.clear();
            self.held_bytes = 0;
        }
        self.held_bytes += entry.bytes;
        self.held.push_back(entry);
    }
}

#[cfg(test)]
mod tests;
