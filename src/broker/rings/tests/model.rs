//! What rings should answer, worked out from a log that is never shortened. Slow and simple.

use std::collections::HashMap;

use super::super::ring::Ring;
use super::super::{Resumed, Stamp};
use super::{LossReason, ReplayLimits, TopicLimits};
use crate::broker::position::{Epoch, NodeId, Offset, Position, PublicationId};
use crate::broker::rings::Entry;

pub struct Model {
    limits: TopicLimits,
    replay: ReplayLimits,
    topics: HashMap<u64, Topic>,
}

#[derive(Default)]
struct Topic {
    log: Vec<Entry<u64>>,
    /// How many of the log have left.
    gone: usize,
}

impl Model {
    pub fn new(limits: TopicLimits, replay: ReplayLimits) -> Self {
        Self { limits, replay, topics: HashMap::new() }
    }

    pub fn publish(&mut self, topic: u64, stamp: Stamp, bytes: usize, now: u64) {
        let topic = self.topics.entry(topic).or_default();
        assert_eq!(stamp.position.offset.get(), topic.log.len() as u64 + 1);
        let (position, previous) = (stamp.position, stamp.previous);
        topic.log.push(Entry { position, previous, time: now, bytes, payload: position.id.sequence });
        topic.forget(&self.limits, now);
    }

    pub fn resume(&mut self, topic: u64, since: Position, now: u64) -> Resumed<u64> {
        let topic = self.topics.entry(topic).or_default();
        topic.forget(&self.limits, now);
        let start = Position {
            epoch: Epoch::from_random(9),
            offset: Offset::ZERO,
            id: PublicationId::none(NodeId::from_random(7)),
        };
        let positions: Vec<_> = std::iter::once(start).chain(topic.log.iter().map(|entry| entry.position)).collect();
        let top = *positions.last().unwrap();
        let lost = |reason| Resumed::Lost { top, reason };
        let seen = since.offset.get() as usize;
        if seen >= positions.len() {
            return lost(LossReason::Fork);
        }
        if seen < topic.gone {
            return lost(LossReason::Expired);
        }
        if positions[seen] != since {
            return lost(LossReason::Fork);
        }
        let missed = &topic.log[seen..];
        if missed.len() > self.replay.publications
            || missed.iter().map(|entry| entry.bytes).sum::<usize>() > self.replay.bytes
        {
            return lost(LossReason::TooMany);
        }
        Resumed::Recovered { top, entries: missed.to_vec() }
    }
}

impl Topic {
    fn forget(&mut self, limits: &TopicLimits, now: u64) {
        while let Some(oldest) = self.log.get(self.gone) {
            let held = &self.log[self.gone..];
            let bytes: usize = held.iter().map(|entry| entry.bytes + Ring::<u64>::ENTRY_BYTES).sum();
            let is_old = now - oldest.time >= limits.ttl;
            if !is_old && held.len() <= limits.publications && bytes <= limits.bytes {
                break;
            }
            self.gone += 1;
        }
    }
}
