//! What publishers and clients write down. The verdict is reached from these logs alone.

use std::collections::BTreeMap;

use crate::broker::gate::Reply;
use crate::broker::loss::LossReason;
use crate::broker::position::Position;

/// A topic by its number, from 1.
pub type TopicNumber = u64;

/// What a publication carries: its place in the publishers' log of the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    pub topic: TopicNumber,
    pub index: usize,
}

/// A publication, as the publisher knows it.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// Counts everything that happens in a schedule.
    pub step: u64,
    pub time: u64,
    /// What the service returned.
    pub position: Position,
    pub bytes: usize,
}

/// What a client sent as `since`, and what it knows about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Nothing,
    /// The newest position that it received for this topic, in this connection or an earlier one.
    Kept(Position),
    /// A position that it made up, or that belongs to another topic.
    Forged(Position),
    Malformed,
}

#[derive(Clone, Copy, Debug)]
pub enum Happened {
    Subscribed {
        sent: Sent,
        reply: Reply,
    },
    Received {
        payload: Payload,
        position: Position,
    },
    Gap {
        reason: LossReason,
        position: Position,
    },
    Unsubscribed,
    /// The connection was lost, with everything that was under way. Concerns all topics.
    Disconnected,
}

/// One line of a client's log.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub step: u64,
    pub time: u64,
    /// 0 for all topics.
    pub topic: TopicNumber,
    pub happened: Happened,
}

#[derive(Debug, Default)]
pub struct Logs {
    pub published: BTreeMap<TopicNumber, Vec<Published>>,
    pub clients: Vec<Vec<Line>>,
    /// Steps at which the service was started anew.
    pub restarts: Vec<u64>,
}

/// What justifies a loss in a schedule.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    pub publications: usize,
    pub ttl: u64,
    pub bytes: usize,
    pub replay_publications: usize,
    pub replay_bytes: usize,
    /// Whether topics can be evicted, or limits shrink.
    pub has_pressure: bool,
    /// Whether connections drop publications.
    pub has_drops: bool,
    /// Whether reads of the history can fail.
    pub has_failures: bool,
    /// Whether a gate can hold all that is published in the schedule.
    pub has_wide_gates: bool,
}

/// Every outcome that the schedules together must reach.
pub const ALL_OUTCOMES: [&str; 12] = [
    "started",
    "recovered, nothing missed",
    "recovered, replayed",
    "lost: expired",
    "lost: reset",
    "lost: fork",
    "lost: too_many",
    "lost: unavailable",
    "lost: malformed",
    "gap: slow",
    "gap: too_many",
    "received",
];
