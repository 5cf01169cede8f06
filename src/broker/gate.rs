//! The gate of a resuming subscription: holds back live publications until the history before them was replayed. Pure state machine.
//!
//! Owned by the shard of the connection, one per resume. The order is what makes a resume lose nothing:
//!
//! 1. Register the subscription, so that every publication from now on arrives here, and create the gate.
//! 2. Read the history. Publications that arrive meanwhile are [pushed](Gate::push) and held.
//! 3. [Answer](Gate::answer) with what was read: this yields the reply to the client.
//! 4. Send the reply, and then what [`next_output`](Gate::next_output) yields, as the connection takes it: the replay and what was held, each
//!    publication once. Publications that arrive meanwhile are pushed, too.
//! 5. When [`next_output`](Gate::next_output) yields nothing more, replace the gate by its [cursor](Gate::into_cursor).
//!
//! What arrives before the replay is over is bounded. Beyond the bound nothing of it is delivered and the client is told
//! `too_many`, in the reply if there was none yet. A replay that was announced is always completed.

use std::collections::VecDeque;

use super::cursor::{Arrival, Cursor};
use super::loss::LossReason;
use super::position::Position;
use super::rings::{Entry, Resumed};

/// Bounds of what a gate holds beside the replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateLimits {
    pub publications: usize,
    /// Payloads.
    pub bytes: usize,
}

#[derive(Debug)]
pub struct Gate<P> {
    limits: GateLimits,
    is_answered: bool,
    /// How far the client has got.
    cursor: Cursor,
    /// How far it will have got when the queue was sent.
    end: Cursor,
    /// What is to be sent: the replay, then what arrived.
    queue: VecDeque<Item<P>>,
    /// How many items of the queue arrived, and their payloads.
    held: usize,
    held_bytes: usize,
    /// The newest position that arrived since the bound was exceeded.
    discarded: Option<Position>,
}

#[derive(Debug)]
enum Item<P> {
    Replayed(Entry<P>),
    Arrived(Entry<P>),
    ArrivedGap { reason: LossReason, position: Position },
}

/// What a client is told when it subscribes with `since`. `position` is where the publications that follow begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It had seen nothing yet.
    Started { position: Position },
    /// It receives everything from its position to this one, and then what follows.
    Recovered { position: Position },
    /// It receives nothing of what it missed. Without a position nothing is known about the topic.
    Lost { reason: LossReason, position: Option<Position> },
}

/// The next message for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<P> {
    Publication(Entry<P>),
    /// Publications before `position` are missing.
    Gap {
        reason: LossReason,
        position: Position,
    },
}

impl Reply {
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Started { position } | Self::Recovered { position } => Some(*position),
            Self::Lost { position, .. } => *position,
        }
    }
}

impl GateLimits {
    /// 1 000 publications, 1 MiB.
    pub const DEFAULT: Self = Self { publications: 1000, bytes: 1 << 20 };
}

impl<P> Gate<P> {
    pub fn new(limits: GateLimits) -> Self {
        Self {
            limits,
            is_answered: false,
            cursor: Cursor::unknown(),
            end: Cursor::unknown(),
            queue: VecDeque::new(),
            held: 0,
            held_bytes: 0,
            discarded: None,
        }
    }

    /// Holds a publication that arrived.
    pub fn push(&mut self, entry: Entry<P>) {
        // Before the answer all arrivals are new.
        if self.is_answered && self.end.accept(entry.position, entry.previous) == Arrival::Duplicate {
            return;
        }
        let (position, bytes) = (entry.position, entry.bytes);
        self.hold(position, bytes, Item::Arrived(entry));
    }

    /// Holds the news that publications before `position` are missing.
    pub fn push_gap(&mut self, reason: LossReason, position: Position) {
        self.end = Cursor::at(position);
        self.hold(position, 0, Item::ArrivedGap { reason, position });
    }

    /// What the history says. `None` if it was answered before.
    pub fn answer(&mut self, resumed: Resumed<P>) -> Option<Reply> {
        if std::mem::replace(&mut self.is_answered, true) {
            return None;
        }
        let (Resumed::Started { top } | Resumed::Recovered { top, .. } | Resumed::Lost { top, .. }) = resumed;
        // What was discarded up to the top is in the history. It need not be complete: the shard's queue may hold publications from
        // before the subscription that others were subscribed for.
        let discarded = self.discarded.take().filter(|newest| newest.epoch != top.epoch || newest.offset > top.offset);
        let position = discarded.unwrap_or(top);
        let (reply, replay) = match resumed {
            Resumed::Started { .. } => (Reply::Started { position }, Vec::new()),
            Resumed::Recovered { entries, .. } if discarded.is_none() => (Reply::Recovered { position }, entries),
            Resumed::Recovered { .. } => {
                (Reply::Lost { reason: LossReason::TooMany, position: Some(position) }, Vec::new())
            }
            Resumed::Lost { reason, .. } => (Reply::Lost { reason, position: Some(position) }, Vec::new()),
        };
        let end = reply.position().map_or_else(Cursor::unknown, Cursor::at);
        self.cursor = replay.first().map_or(end, |first| Cursor::at(first.before()));
        self.follow(end);
        for entry in replay.into_iter().rev() {
            self.queue.push_front(Item::Replayed(entry));
        }
        Some(reply)
    }

    /// The history could not be read. `None` if it was answered before.
    pub fn give_up(&mut self) -> Option<Reply> {
        if std::mem::replace(&mut self.is_answered, true) {
            return None;
        }
        let position = self.discarded.take();
        self.cursor = position.map_or_else(Cursor::unknown, Cursor::at);
        self.follow(self.cursor);
        Some(Reply::Lost { reason: LossReason::Unavailable, position })
    }

    /// The next message for the client. `None` if there is no answer yet, or nothing more.
    pub fn next_output(&mut self) -> Option<Output<P>> {
        if !self.is_answered {
            return None;
        }
        while let Some(item) = self.queue.front() {
            let (Item::Replayed(entry) | Item::Arrived(entry)) = item else {
                let Some(Item::ArrivedGap { reason, position }) = self.pop() else { break };
                self.cursor = Cursor::at(position);
                return Some(Output::Gap { reason, position });
            };
            match self.cursor.accept(entry.position, entry.previous) {
                Arrival::Duplicate => drop(self.pop()),
                Arrival::Deliver => {
                    let Some(Item::Replayed(entry) | Item::Arrived(entry)) = self.pop() else { break };
                    return Some(Output::Publication(entry));
                }
                Arrival::Gap(reason) => {
                    // The publication comes next: it follows the position of the gap.
                    let position = entry.before();
                    self.cursor = Cursor::at(position);
                    return Some(Output::Gap { reason, position });
                }
            }
        }
        let position = self.discarded.take()?;
        self.cursor = Cursor::at(position);
        Some(Output::Gap { reason: LossReason::TooMany, position })
    }

    pub fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// Whether everything was sent that had been held back.
    pub fn is_open(&self) -> bool {
        self.is_answered && self.queue.is_empty() && self.discarded.is_none()
    }

    /// How far the client has got: decides about the publications that arrive from now on.
    pub fn into_cursor(self) -> Cursor {
        self.cursor
    }

    /// The room for what is held, without the payloads, which are shared.
    pub fn heap_bytes(&self) -> usize {
        self.queue.capacity() * size_of::<Item<P>>()
    }

    /// Lets what was held follow the answer, without what the answer covers.
    fn follow(&mut self, end: Cursor) {
        self.end = end;
        for _ in 0..self.queue.len() {
            let Some(item) = self.pop() else { break };
            match item {
                Item::Replayed(entry) | Item::Arrived(entry) => self.push(entry),
                Item::ArrivedGap { reason, position } => self.push_gap(reason, position),
            }
        }
    }

    fn pop(&mut self) -> Option<Item<P>> {
        let item = self.queue.pop_front()?;
        match &item {
            Item::Replayed(_) => (),
            Item::Arrived(entry) => {
                self.held -= 1;
                self.held_bytes -= entry.bytes;
            }
            Item::ArrivedGap { .. } => self.held -= 1,
        }
        Some(item)
    }

    fn hold(&mut self, position: Position, bytes: usize, item: Item<P>) {
        let is_full = self.held >= self.limits.publications
            || self.held_bytes.saturating_add(bytes) > self.limits.bytes
            || self.discarded.is_some();
        if !is_full {
            self.held += 1;
            self.held_bytes += bytes;
            self.queue.push_back(item);
            return;
        }
        self.discarded = Some(position);
        if self.held > 0 {
            self.queue.retain(|item| matches!(item, Item::Replayed(_)));
            self.queue.shrink_to_fit();
            (self.held, self.held_bytes) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests;
