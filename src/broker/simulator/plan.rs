//! What a schedule is made of, drawn from its seed: sizes and bounds, and how often each action is taken.

use super::log::Conditions;
use crate::broker::gate::GateLimits;
use crate::broker::random::Random;
use crate::broker::rings::{ReplayLimits, TopicLimits};

/// What a connection does with a publication when its outbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropPolicy {
    Oldest,
    Newest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Publish,
    /// Several publications that reach their shards while nothing else moves.
    Burst,
    LookUp,
    Deliver,
    Read,
    Answer,
    GiveUp,
    Write,
    Receive,
    /// Several rounds of everything that moves by itself.
    Flow,
    Disconnect,
    /// Connects and subscribes to everything that the client followed before.
    Reconnect,
    Connect,
    Subscribe,
    SubscribeForged,
    Unsubscribe,
    Wait,
    Sweep,
    Bound,
    Divide,
    Restart,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub steps: usize,
    pub topics: u64,
    pub clients: usize,
    pub shards: usize,
    pub limits: TopicLimits,
    pub replay: ReplayLimits,
    pub gate: GateLimits,
    pub max_bytes: usize,
    pub outbox: usize,
    pub policy: DropPolicy,
    pub weights: Vec<(Action, u64)>,
}

impl Plan {
    pub fn new(random: &mut Random) -> Self {
        let has_pressure = random.below(3) == 0;
        // Only a history elsewhere can fail to answer, and such a history does not forget topics.
        let has_failures = !has_pressure && random.below(2) == 0;
        let pick = |random: &mut Random, choices: &[usize]| choices[random.below(choices.len() as u64) as usize];
        let limits = TopicLimits {
            publications: pick(random, &[1, 4, 12, 100]),
            ttl: pick(random, &[100, 1000, 100_000]) as u64,
            bytes: pick(random, &[600, 4000, 100_000]),
        };
        let replay =
            ReplayLimits { publications: pick(random, &[2, 10, 100]), bytes: pick(random, &[400, 100_000, 100_000]) };
        let gate = GateLimits { publications: pick(random, &[1, 3, 1000]), bytes: pick(random, &[200, 100_000]) };
        let mut weigh = |action, highest: u64| (action, random.below(highest + 1));
        // At least one of each that lets things happen at all.
        let mut weights = vec![
            (Action::Publish, 6),
            (Action::LookUp, 4),
            (Action::Deliver, 4),
            (Action::Read, 2),
            (Action::Answer, 2),
            (Action::Write, 3),
            (Action::Receive, 4),
            (Action::Flow, 3),
            (Action::Disconnect, 2),
            (Action::Reconnect, 4),
            (Action::Connect, 1),
            (Action::Subscribe, 3),
            weigh(Action::Publish, 8),
            weigh(Action::Burst, 3),
            weigh(Action::LookUp, 12),
            weigh(Action::Deliver, 12),
            weigh(Action::Read, 6),
            weigh(Action::Answer, 6),
            weigh(Action::Write, 8),
            weigh(Action::Receive, 10),
            weigh(Action::Disconnect, 2),
            weigh(Action::SubscribeForged, 2),
            weigh(Action::Unsubscribe, 2),
            weigh(Action::Wait, 4),
            weigh(Action::Sweep, 2),
            (Action::Restart, u64::from(random.below(4) == 0)),
        ];
        if has_pressure {
            weights.extend([(Action::Bound, 1), (Action::Divide, 1)]);
        }
        if has_failures {
            weights.push((Action::GiveUp, 1));
        }
        Self {
            steps: 40 + random.below(160) as usize,
            topics: 1 + random.below(3),
            clients: 1 + random.below(3) as usize,
            shards: 1 + random.below(2) as usize,
            limits,
            replay,
            gate,
            max_bytes: if has_pressure { 1000 + random.below(6000) as usize } else { 1 << 20 },
            outbox: pick(random, &[1, 2, 4, 1000]),
            policy: if random.below(2) == 0 { DropPolicy::Oldest } else { DropPolicy::Newest },
            weights,
        }
    }

    pub fn action(&self, random: &mut Random) -> Action {
        let total = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut place = random.below(total);
        for (action, weight) in &self.weights {
            match place.checked_sub(*weight) {
                Some(rest) => place = rest,
                None => return *action,
            }
        }
        Action::Publish
    }

    pub fn conditions(&self) -> Conditions {
        let has = |action| self.weights.iter().any(|(known, weight)| *known == action && *weight > 0);
        Conditions {
            publications: self.limits.publications,
            ttl: self.limits.ttl,
            bytes: self.limits.bytes,
            replay_publications: self.replay.publications,
            replay_bytes: self.replay.bytes,
            has_pressure: has(Action::Bound),
            has_drops: self.outbox < 1000,
            has_failures: has(Action::GiveUp),
            has_wide_gates: self.gate.publications == 1000 && self.gate.bytes == 100_000,
        }
    }
}
