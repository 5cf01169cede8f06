//! What was published, what has arrived, and what is still due: every message at every connection, exactly once, in order.
//!
//! Messages carry the number of their publish; a publish belongs to a topic and has a place in it. A connection owes
//! itself every place after its subscription was acknowledged. Owned by the generator, touched by its one thread.

use std::time::Instant;

use hdrhistogram::Histogram;
use serde::Serialize;

/// A bill, or 0 for what goes to everybody.
pub type Topic = u32;
pub const EVERYBODY: Topic = 0;

#[derive(Default)]
pub struct Ledger {
    publishes: Vec<Publish>,
    topics: Vec<TopicLog>,
    /// Deliveries that must still come.
    outstanding: u64,
    pub counts: Counts,
    latencies: Option<Histogram<u64>>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    pub publishes: u64,
    pub deliveries: u64,
    pub lost: u64,
    pub doubled: u64,
    /// Came to a connection that had not asked for them, or with a number nobody published.
    pub stray: u64,
}

struct Publish {
    topic: Topic,
    place: u32,
    at: Instant,
}

#[derive(Clone, Copy, Default)]
struct TopicLog {
    published: u32,
    /// Acknowledged subscriptions that are read.
    subscribers: u32,
}

/// One topic of one connection. Places count from 1.
#[derive(Clone, Copy)]
pub struct Subscription {
    topic: Topic,
    /// The last place that arrived; 0 before any.
    seen: u32,
    /// Everything after this place is due; `None` until the server has acknowledged.
    after: Option<u32>,
    /// Nothing after this place is due.
    until: u32,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    pub count: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Ledger {
    /// Notes a publish and returns its number.
    pub fn publish(&mut self, topic: Topic, at: Instant) -> usize {
        let log = self.log(topic);
        log.published += 1;
        let (place, subscribers) = (log.published, log.subscribers);
        self.outstanding += u64::from(subscribers);
        self.counts.publishes += 1;
        self.publishes.push(Publish { topic, place, at });
        self.publishes.len() - 1
    }

    pub fn deliver(&mut self, subscriptions: &mut [Subscription], number: usize, now: Instant) {
        let Some(&Publish { topic, place, at }) = self.publishes.get(number) else {
            self.counts.stray += 1;
            return;
        };
        let found = subscriptions.binary_search_by_key(&topic, |subscription| subscription.topic);
        let Some(subscription) = found.ok().and_then(|index| subscriptions.get_mut(index)) else {
            self.counts.stray += 1;
            return;
        };
        if place <= subscription.seen {
            self.counts.doubled += 1;
            return;
        }
        let due_before = subscription.due(self.log(topic).published);
        let expected = if subscription.seen > 0 {
            subscription.seen + 1
        } else {
            subscription.after.map_or(place, |after| after + 1)
        };
        self.counts.lost += u64::from(place.saturating_sub(expected));
        subscription.seen = place;
        let due_after = subscription.due(self.log(topic).published);
        // What was written off is no longer in the sum.
        self.outstanding = self.outstanding.saturating_sub(u64::from(due_before - due_after));
        self.counts.deliveries += 1;
        self.latencies().saturating_record(now.duration_since(at).as_micros() as u64);
    }

    /// Counts a message whose content is not looked at as the one that must come next.
    pub fn deliver_next(&mut self, subscriptions: &mut [Subscription], now: Instant) {
        let Some(&Publish { topic, .. }) = self.publishes.last() else { return };
        let Some(subscription) = subscriptions.iter().find(|subscription| subscription.topic == topic) else { return };
        let place = subscription.seen.max(subscription.after.unwrap_or(0)) + 1;
        let number = self.publishes.iter().rposition(|publish| publish.topic == topic && publish.place == place);
        self.deliver(subscriptions, number.unwrap_or(usize::MAX), now);
    }

    /// From now on everything published to these topics must arrive.
    pub fn acknowledge(&mut self, subscriptions: &mut [Subscription]) {
        for subscription in subscriptions {
            let log = self.log(subscription.topic);
            subscription.after = Some(log.published);
            log.subscribers += 1;
        }
    }

    /// What was published until now must still arrive, what follows need not.
    pub fn retire(&mut self, subscriptions: &mut [Subscription]) {
        for subscription in subscriptions {
            let log = self.log(subscription.topic);
            subscription.until = log.published;
            log.subscribers -= 1;
        }
    }

    pub fn is_complete(&mut self, subscriptions: &[Subscription]) -> bool {
        subscriptions.iter().all(|subscription| subscription.due(self.log(subscription.topic).published) == 0)
    }

    /// Nothing is waited for any more. Returns how many were due.
    pub fn leave(&mut self, subscriptions: &[Subscription]) -> u64 {
        let mut due = 0;
        for subscription in subscriptions.iter().filter(|subscription| subscription.after.is_some()) {
            let log = self.log(subscription.topic);
            if subscription.until == u32::MAX {
                log.subscribers -= 1;
            }
            due += u64::from(subscription.due(log.published));
        }
        self.outstanding = self.outstanding.saturating_sub(due);
        due
    }

    /// The opposite of [`Self::leave`], for a connection that is read again.
    pub fn rejoin(&mut self, subscriptions: &[Subscription]) {
        for subscription in subscriptions.iter().filter(|subscription| subscription.after.is_some()) {
            let log = self.log(subscription.topic);
            log.subscribers += 1;
            let due = subscription.due(log.published);
            self.outstanding += u64::from(due);
        }
    }

    pub fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Gives up what has not come.
    pub fn write_off(&mut self) {
        self.counts.lost += self.outstanding;
        self.outstanding = 0;
    }

    /// The latencies since the last call, in milliseconds.
    pub fn take_latency(&mut self) -> Latency {
        let latency = summary(self.latencies());
        self.latencies().reset();
        latency
    }

    pub fn record(&mut self, micros: u64) {
        self.latencies().saturating_record(micros);
    }

    fn latencies(&mut self) -> &mut Histogram<u64> {
        // 1 µs to 100 s in three digits: these bounds are valid ones.
        self.latencies.get_or_insert_with(|| Histogram::new_with_bounds(1, 100_000_000, 3).expect("valid bounds"))
    }

    fn log(&mut self, topic: Topic) -> &mut TopicLog {
        let index = topic as usize;
        if self.topics.len() <= index {
            self.topics.resize(index + 1, TopicLog::default());
        }
        &mut self.topics[index]
    }
}

impl Subscription {
    pub fn new(topic: Topic) -> Self {
        Self { topic, seen: 0, after: None, until: u32::MAX }
    }

    pub fn topic(&self) -> Topic {
        self.topic
    }

    fn due(&self, published: u32) -> u32 {
        self.after.map_or(0, |after| published.min(self.until).saturating_sub(after.max(self.seen)))
    }
}

fn summary(histogram: &Histogram<u64>) -> Latency {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    Latency {
        count: histogram.len(),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: histogram.max() as f64 / 1000.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribed(ledger: &mut Ledger) -> Vec<Subscription> {
        let mut subscriptions = vec![Subscription::new(7)];
        ledger.acknowledge(&mut subscriptions);
        subscriptions
    }

    #[test]
    fn a_gap_is_a_loss_and_a_repeat_is_doubled() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let mut subscriptions = subscribed(&mut ledger);
        let numbers: Vec<_> = (0..3).map(|_| ledger.publish(7, now)).collect();
        assert_eq!(ledger.outstanding(), 3);
        ledger.deliver(&mut subscriptions, numbers[0], now);
        ledger.deliver(&mut subscriptions, numbers[2], now);
        ledger.deliver(&mut subscriptions, numbers[2], now);
        assert_eq!((ledger.counts.lost, ledger.counts.doubled, ledger.outstanding()), (1, 1, 0));
    }

    #[test]
    fn what_was_published_before_the_acknowledgement_may_come_or_not() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let early = ledger.publish(7, now);
        let mut subscriptions = subscribed(&mut ledger);
        let late = ledger.publish(7, now);
        assert_eq!(ledger.outstanding(), 1);
        ledger.deliver(&mut subscriptions, early, now);
        assert_eq!(ledger.outstanding(), 1);
        ledger.deliver(&mut subscriptions, late, now);
        assert_eq!((ledger.outstanding(), ledger.counts.lost), (0, 0));
    }

    #[test]
    fn the_first_message_after_the_acknowledgement_must_not_be_missed() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let mut subscriptions = subscribed(&mut ledger);
        ledger.publish(7, now);
        let second = ledger.publish(7, now);
        ledger.deliver(&mut subscriptions, second, now);
        assert_eq!((ledger.counts.lost, ledger.outstanding()), (1, 0));
    }

    #[test]
    fn a_retired_connection_waits_for_what_was_published_before() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let mut subscriptions = subscribed(&mut ledger);
        let before = ledger.publish(7, now);
        ledger.retire(&mut subscriptions);
        ledger.publish(7, now);
        assert!(!ledger.is_complete(&subscriptions));
        ledger.deliver(&mut subscriptions, before, now);
        assert!(ledger.is_complete(&subscriptions));
        assert_eq!(ledger.leave(&subscriptions), 0);
        assert_eq!(ledger.outstanding(), 0);
    }

    #[test]
    fn a_paused_connection_owes_nothing_until_it_is_read_again() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let subscriptions = subscribed(&mut ledger);
        ledger.publish(7, now);
        assert_eq!(ledger.leave(&subscriptions), 1);
        ledger.publish(7, now);
        assert_eq!(ledger.outstanding(), 0);
        ledger.rejoin(&subscriptions);
        assert_eq!(ledger.outstanding(), 2);
    }
}
