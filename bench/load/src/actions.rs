//! The generator's commands: each publishes, opens or closes, and turns the loop until its condition holds.

use std::io::Write;
use std::mem;
use std::time::{Duration, Instant};

use mio::{Interest, Token};

use crate::command::{Opening, Recovery, Stream};
use crate::connection::Phase;
use crate::control::Order;
use crate::generator::{Generator, text};
use crate::ledger::Topic;

/// A command that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(60);
/// After so long without a message the server has dropped the rest.
const PATIENCE: Duration = Duration::from_secs(1);

impl Generator {
    pub fn open(&mut self, opening: Opening) -> Result<(), String> {
        self.opening = opening;
        self.wanted = opening.count;
        self.until("not all connections were opened", |this| this.all_opened())
    }

    pub fn lockstep(&mut self, topic: Topic, rounds: u32, burst: u32) -> Result<(), String> {
        for _ in 0..rounds {
            self.publish(topic, burst as usize)?;
            self.until("not everything arrived", |this| this.ledger.outstanding() == 0)?;
        }
        Ok(())
    }

    pub fn stream(&mut self, stream: Stream) -> Result<(), String> {
        let begun = Instant::now();
        let due = |done: u64, rate: f64| begun + Duration::from_secs_f64(done as f64 / rate);
        let end = begun + Duration::from_secs_f64(stream.seconds);
        let mut drop_at = stream.drop_after.map(|seconds| begun + Duration::from_secs_f64(seconds));
        let mut dropped = None;
        let (mut published, mut replaced) = (0_u64, 0_u64);
        loop {
            let now = Instant::now();
            while due(published, stream.per_second) <= now
                && (due(published, stream.per_second) < end || dropped.is_some())
            {
                // A prime step visits the topics in no order that connections share.
                let topic = stream.first + ((published * 7919) % u64::from(stream.topics)) as Topic;
                self.publish(topic, 1)?;
                published += 1;
            }
            while stream.churn_per_second > 0.0 && due(replaced, stream.churn_per_second) <= now && now < end {
                self.replace_one(replaced);
                replaced += 1;
            }
            if drop_at.is_some_and(|at| at <= now) {
                drop_at = None;
                dropped = Some(now);
                self.drop_all();
            }
            if let Some(at) = dropped.take_if(|_| self.all_opened()) {
                let latency = self.ledger.take_latency();
                self.tally.recovery = Some(Recovery { seconds: at.elapsed().as_secs_f64(), latency });
            }
            if now >= end && dropped.is_none() {
                break;
            }
            if now >= end + LIMIT {
                return Err("not everybody came back".to_owned());
            }
            let next_publish = due(published, stream.per_second);
            let next_change = if stream.churn_per_second > 0.0 { due(replaced, stream.churn_per_second) } else { end };
            let next = next_publish.min(next_change).min(drop_at.unwrap_or(end));
            let next = if now >= end { now + Duration::from_millis(1) } else { next.min(end) };
            self.turn(next.saturating_duration_since(Instant::now()))?;
        }
        self.until("not everything arrived", |this| {
            this.ledger.outstanding() == 0 && this.all_opened() && this.connections.len() as u64 == this.open
        })
    }

    pub fn ping(&mut self, rounds: u32) -> Result<(), String> {
        let dialect = self.target.dialect;
        for (_, connection) in &mut self.connections {
            connection.pings_left = rounds;
            connection.ping(dialect).map_err(text)?;
        }
        let expected = u64::from(rounds) * self.connections.len() as u64;
        self.until("not every ping was answered", |this| this.tally.pongs == expected)
    }

    pub fn resume(&mut self) -> Result<(), String> {
        for (key, connection) in &mut self.connections {
            if mem::take(&mut connection.paused) {
                self.ledger.rejoin(&connection.subscriptions);
                connection.stream.register(self.poll.registry(), Token(key), Interest::READABLE).map_err(text)?;
            }
        }
        let (mut arrived, mut since) = (0, Instant::now());
        while self.ledger.outstanding() > 0 && since.elapsed() < PATIENCE {
            self.turn(PATIENCE / 10)?;
            if self.ledger.counts.deliveries > arrived {
                (arrived, since) = (self.ledger.counts.deliveries, Instant::now());
            }
        }
        self.ledger.write_off();
        Ok(())
    }

    pub fn settle(&mut self, time: Duration) -> Result<(), String> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(end.saturating_duration_since(Instant::now()))?;
        }
        Ok(())
    }

    pub fn close(&mut self) -> Result<(), String> {
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            let connection = &self.connections[key];
            match connection.phase {
                Phase::Closing => {}
                _ if connection.paused => self.forget(key),
                _ => {
                    self.ledger.leave(&connection.subscriptions);
                    self.say_goodbye(key);
                }
            }
        }
        self.until("not every connection was closed", |this| this.connections.is_empty())
    }

    /// Waits for events until a command comes.
    pub fn wait(&mut self) -> Result<(), String> {
        self.turn(LIMIT)
    }

    fn publish(&mut self, topic: Topic, count: usize) -> Result<(), String> {
        let now = Instant::now();
        let first = self.ledger.publish(topic, now);
        (1..count).for_each(|_| {
            self.ledger.publish(topic, now);
        });
        let order = Order::Publish { topic, n: first, count };
        let line = serde_json::to_string(&order).map_err(text)? + "\n";
        self.server.write_all(line.as_bytes()).map_err(|error| format!("the server takes no orders: {error}"))
    }

    fn until(&mut self, failure: &str, done: impl Fn(&mut Self) -> bool) -> Result<(), String> {
        let limit = Instant::now() + LIMIT;
        while !done(self) {
            let left = limit.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!(
                    "{failure}: {} open, {} being opened, {} to be opened, {} messages due",
                    self.open,
                    self.pending,
                    self.wanted,
                    self.ledger.outstanding()
                ));
            }
            self.turn(left)?;
        }
        Ok(())
    }

    /// The next open connection from a place that jumps about.
    fn replace_one(&mut self, step: u64) {
        let length = self.connections.capacity();
        let start = (step as usize * 7919) % length.max(1);
        let key = (0..length).map(|offset| (start + offset) % length).find(|&key| {
            self.connections.get(key).is_some_and(|connection| connection.phase == Phase::Open && !connection.paused)
        });
        let Some(connection) = key.and_then(|key| self.connections.get_mut(key)) else { return };
        connection.phase = Phase::Retiring;
        self.ledger.retire(&mut connection.subscriptions);
        if self.ledger.is_complete(&connection.subscriptions) {
            self.say_goodbye(key.unwrap_or_default());
        }
        self.wanted += 1;
    }

    fn drop_all(&mut self) {
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            if matches!(self.connections[key].phase, Phase::Open | Phase::Retiring) {
                self.wanted += u32::from(self.connections[key].phase == Phase::Open);
                self.forget(key);
            }
        }
        self.ledger.take_latency();
    }
}
