//! The verdict: what clients received, compared with what was published. Knows nothing of rings, gates and queues.
//!
//! For each client and topic the checker keeps the place in the publishers' log that the client must receive next. A publication must
//! be exactly that one. `recovered: true` never moves the place. A loss that is told moves it to the position that was told. At the
//! end of a schedule every subscribed client has received the newest publication.

use std::collections::BTreeMap;

use super::Coverage;
use super::log::{Conditions, Happened, Line, Logs, Published, Sent, TopicNumber};
use crate::broker::gate::Reply;
use crate::broker::loss::LossReason;
use crate::broker::position::Position;

/// What a client must receive next of a topic.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// This publication.
    Exactly(usize),
    /// A publication from `least` up to `most`: the client's position is the beginning of a history, which names no publication.
    Between { least: usize, most: usize },
}

#[derive(Clone, Copy, Debug)]
struct View {
    next: Next,
    is_subscribed: bool,
    /// A replay was announced up to before this place.
    announced: usize,
}

struct Checker<'logs> {
    logs: &'logs Logs,
    conditions: Conditions,
    coverage: Coverage,
}

pub fn check(logs: &Logs, conditions: Conditions) -> Result<Coverage, String> {
    let mut checker = Checker { logs, conditions, coverage: Coverage::new() };
    for (number, log) in logs.clients.iter().enumerate() {
        checker.check_client(log).map_err(|violation| format!("client {number}: {violation}"))?;
    }
    Ok(checker.coverage)
}

impl Checker<'_> {
    fn check_client(&mut self, log: &[Line]) -> Result<(), String> {
        let mut views: BTreeMap<TopicNumber, View> = BTreeMap::new();
        for line in log {
            if matches!(line.happened, Happened::Disconnected) {
                views.values_mut().for_each(|view| view.is_subscribed = false);
                continue;
            }
            let view = views.get(&line.topic).copied();
            let view = self.check_line(line, view).map_err(|violation| {
                format!("topic {} step {}: {violation}: {:?}, before: {view:?}", line.topic, line.step, line.happened)
            })?;
            views.insert(line.topic, view);
        }
        for (topic, view) in views.iter().filter(|(_, view)| view.is_subscribed) {
            let count = self.published(*topic).len();
            if !view.next.includes(count) {
                return Err(format!("topic {topic}: {count} publications, but at the end {view:?}"));
            }
        }
        Ok(())
    }

    fn check_line(&mut self, line: &Line, view: Option<View>) -> Result<View, String> {
        match line.happened {
            Happened::Subscribed { sent, reply } => {
                let next = self.check_reply(line, sent, reply, view.map(|view| view.next))?;
                let announced = match reply {
                    Reply::Recovered { position } => self.find(line.topic, position).map_or(0, |index| index + 1),
                    Reply::Started { .. } | Reply::Lost { .. } => 0,
                };
                Ok(View { next, is_subscribed: true, announced })
            }
            Happened::Received { payload, position } => {
                let view = view.filter(|view| view.is_subscribed).ok_or("received without a subscription")?;
                let index = payload.index;
                if payload.topic != line.topic || self.published(line.topic)[index].position != position {
                    return Err("not what was published".into());
                }
                if !view.next.includes(index) {
                    return Err(format!("publication {index} out of order, lost or twice"));
                }
                self.count("received");
                Ok(View { next: Next::Exactly(index + 1), ..view })
            }
            Happened::Gap { reason, position } => {
                let view = view.filter(|view| view.is_subscribed).ok_or("a gap without a subscription")?;
                let next = self.place_after(line, position, view.next.least());
                if next.least() <= view.next.least() {
                    return Err("a gap in which nothing is missing, or that goes back".into());
                }
                if reason == LossReason::TooMany && view.next.least() < view.announced {
                    return Err("an announced replay was cut short".into());
                }
                let is_justified = match reason {
                    LossReason::Slow => self.conditions.has_drops,
                    LossReason::TooMany => !self.conditions.has_wide_gates,
                    // Without a history to compare with, what is still queued from before the subscription shows as a gap.
                    LossReason::Fork => self.conditions.has_failures,
                    _ => false,
                };
                self.justify(is_justified, reason)?;
                self.count(match reason {
                    LossReason::Slow => "gap: slow",
                    LossReason::Fork => "gap: fork",
                    _ => "gap: too_many",
                });
                Ok(View { next, ..view })
            }
            Happened::Unsubscribed => {
                let view = view.ok_or("unsubscribed without a subscription")?;
                Ok(View { is_subscribed: false, ..view })
            }
            Happened::Disconnected => Err("concerns all topics".into()),
        }
    }

    fn check_reply(&mut self, line: &Line, sent: Sent, reply: Reply, next: Option<Next>) -> Result<Next, String> {
        match (reply, sent) {
            (Reply::Started { position }, Sent::Nothing) => {
                self.count("started");
                Ok(self.place_after(line, position, 0))
            }
            (Reply::Recovered { position }, Sent::Kept(kept)) => {
                let next = next.ok_or("recovered without a position")?;
                self.count(if position == kept { "recovered, nothing missed" } else { "recovered, replayed" });
                Ok(next)
            }
            (Reply::Recovered { .. }, Sent::Forged(forged)) => {
                let is_beginning = forged.id.is_none();
                match self.find(line.topic, forged) {
                    Some(index) => Ok(Next::Exactly(index + 1)),
                    None if is_beginning => Ok(Next::Between { least: 0, most: self.published_at(line) }),
                    None => Err("a position of no publication of the topic was recovered".into()),
                }
            }
            (Reply::Lost { reason, position }, sent) => {
                self.check_loss(line, sent, reason, next)?;
                let least = 0;
                Ok(position.map_or(Next::Between { least, most: self.published_at(line) }, |position| {
                    self.place_after(line, position, least)
                }))
            }
            _ => Err("a reply to another request".into()),
        }
    }

    /// Whether a client with this position had to lose continuity.
    fn check_loss(&mut self, line: &Line, sent: Sent, reason: LossReason, next: Option<Next>) -> Result<(), String> {
        self.count(match reason {
            LossReason::Expired => "lost: expired",
            LossReason::Reset => "lost: reset",
            LossReason::Fork => "lost: fork",
            LossReason::TooMany => "lost: too_many",
            LossReason::Unavailable => "lost: unavailable",
            LossReason::Malformed => "lost: malformed",
            LossReason::Slow => "lost: slow",
        });
        let conditions = self.conditions;
        let is_justified = match reason {
            LossReason::Unavailable => conditions.has_failures,
            LossReason::Malformed => sent == Sent::Malformed,
            LossReason::Slow => false,
            LossReason::Fork => matches!(sent, Sent::Forged(_)),
            LossReason::Reset => match sent {
                Sent::Kept(_) => !self.logs.restarts.is_empty(),
                _ => matches!(sent, Sent::Forged(_)),
            },
            LossReason::Expired | LossReason::TooMany => {
                let missed = match (sent, next) {
                    (Sent::Kept(_), Some(next)) => next.least(),
                    // A forged position may lie anywhere.
                    _ => 0,
                };
                let missed = self.published(line.topic).get(missed..self.published_at(line)).unwrap_or_default();
                let bytes: usize = missed.iter().map(|publication| publication.bytes).sum();
                if reason == LossReason::TooMany {
                    !conditions.has_wide_gates
                        || missed.len() > conditions.replay_publications
                        || bytes > conditions.replay_bytes
                } else {
                    let is_old = missed.first().is_some_and(|oldest| line.time - oldest.time >= conditions.ttl);
                    // What an entry costs beside its payload is less than this.
                    let cost = bytes + missed.len() * 100;
                    conditions.has_pressure
                        || is_old
                        || missed.len() > conditions.publications
                        || cost > conditions.bytes
                }
            }
        };
        self.justify(is_justified, reason)
    }

    fn justify(&self, is_justified: bool, reason: LossReason) -> Result<(), String> {
        if is_justified { Ok(()) } else { Err(format!("{reason} for no reason")) }
    }

    /// What follows a position that the client was told when it wrote `line`. Everything published after that moment must follow.
    fn place_after(&self, line: &Line, position: Position, least: usize) -> Next {
        match self.find(line.topic, position) {
            Some(index) => Next::Exactly(index + 1),
            None => Next::Between { least, most: self.published_at(line) },
        }
    }

    fn find(&self, topic: TopicNumber, position: Position) -> Option<usize> {
        self.published(topic).iter().position(|publication| publication.position == position)
    }

    fn published(&self, topic: TopicNumber) -> &[Published] {
        self.logs.published.get(&topic).map_or(&[], Vec::as_slice)
    }

    /// How many publications of the topic there were when the client wrote the line.
    fn published_at(&self, line: &Line) -> usize {
        self.published(line.topic).partition_point(|publication| publication.step <= line.step)
    }

    fn count(&mut self, name: &'static str) {
        *self.coverage.entry(name).or_default() += 1;
    }
}

impl Next {
    fn least(self) -> usize {
        match self {
            Self::Exactly(next) => next,
            Self::Between { least, .. } => least,
        }
    }

    fn includes(self, index: usize) -> bool {
        match self {
            Self::Exactly(next) => index == next,
            Self::Between { least, most } => (least..=most).contains(&index),
        }
    }
}
