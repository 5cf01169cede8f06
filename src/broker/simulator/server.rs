//! A service made of the real parts and of queues: a publisher's thread, shards, connections with outboxes, and a network.
//!
//! Everything that takes time in a real service is a step of its own here, so that a schedule can put anything in between.

use std::collections::{BTreeMap, VecDeque};

use super::log::{Payload, TopicNumber};
use super::plan::{DropPolicy, Plan};
use crate::broker::cursor::{Arrival, Cursor};
use crate::broker::gate::{Gate, Output, Reply};
use crate::broker::loss::LossReason;
use crate::broker::position::{Epoch, NodeId, Position, Since};
use crate::broker::random::Random;
use crate::broker::rings::{Entry, Resumed, Rings};
use crate::hub::Topic;
use crate::types::BillId;

pub type ConnectionNumber = usize;

#[derive(Debug)]
pub struct Server {
    plan: Plan,
    rings: Rings<Payload>,
    /// Publications with a position, before their subscribers were looked up.
    published: VecDeque<Entry<Payload>>,
    /// By shard.
    queues: Vec<VecDeque<Entry<Payload>>>,
    pub connections: BTreeMap<ConnectionNumber, Connection>,
}

#[derive(Debug)]
pub struct Connection {
    shard: usize,
    subscriptions: BTreeMap<TopicNumber, Subscription>,
    outbox: VecDeque<Frame>,
    /// Written and not received.
    network: VecDeque<Frame>,
}

#[derive(Debug)]
enum Subscription {
    Resuming { gate: Box<Gate<Payload>>, since: Since, read: Option<Resumed<Payload>> },
    Live(Cursor),
}

#[derive(Clone, Copy, Debug)]
pub enum Frame {
    Reply { topic: TopicNumber, reply: Reply },
    Unsubscribed { topic: TopicNumber },
    Publication { payload: Payload, position: Position },
    Gap { topic: TopicNumber, reason: LossReason, position: Position },
}

pub fn topic(number: TopicNumber) -> Topic {
    Topic::Bill(BillId::new(number).expect("topics are numbered from 1"))
}

impl Server {
    pub fn new(plan: &Plan, random: &mut Random) -> Self {
        let (node, epoch) = (NodeId::from_random(random.next()), Epoch::from_random(random.next()));
        let mut rings = Rings::new(node, epoch, plan.max_bytes, plan.replay);
        // Few buckets, so that forgotten topics share them.
        rings.set_floors(2);
        Self {
            plan: plan.clone(),
            rings,
            published: VecDeque::new(),
            queues: vec![VecDeque::new(); plan.shards],
            connections: BTreeMap::new(),
        }
    }

    pub fn rings(&mut self) -> &mut Rings<Payload> {
        &mut self.rings
    }

    /// Assigns the position and hands the publication on, in one step.
    pub fn publish(&mut self, payload: Payload, bytes: usize, now: u64) -> Position {
        let stamp = self.rings.publish(&topic(payload.topic), self.plan.limits, now, bytes, |_| payload);
        let (position, previous) = (stamp.position, stamp.previous);
        self.published.push_back(Entry { position, previous, time: now, bytes, payload });
        position
    }

    /// Sends the oldest publication to the shards that have subscribers at this moment. `false` if there is none.
    pub fn look_up(&mut self) -> bool {
        let Some(entry) = self.published.pop_front() else { return false };
        for (shard, queue) in self.queues.iter_mut().enumerate() {
            let has_subscriber = self.connections.values().any(|connection| {
                connection.shard == shard && connection.subscriptions.contains_key(&entry.payload.topic)
            });
            if has_subscriber {
                queue.push_back(entry.clone());
            }
        }
        true
    }

    /// A shard takes the next publication from its queue. `false` if there is none.
    pub fn deliver(&mut self, shard: usize) -> bool {
        let Some(entry) = self.queues.get_mut(shard).and_then(VecDeque::pop_front) else { return false };
        for connection in self.connections.values_mut().filter(|connection| connection.shard == shard) {
            connection.deliver(&entry, &self.plan);
        }
        true
    }

    pub fn connect(&mut self, number: ConnectionNumber, shard: usize) {
        let connection =
            Connection { shard, subscriptions: BTreeMap::new(), outbox: VecDeque::new(), network: VecDeque::new() };
        self.connections.insert(number, connection);
    }

    pub fn disconnect(&mut self, number: ConnectionNumber) {
        self.connections.remove(&number);
    }

    pub fn subscribe(&mut self, number: ConnectionNumber, topic: TopicNumber, since: Since) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let gate = Box::new(Gate::new(self.plan.gate));
        connection.subscriptions.insert(topic, Subscription::Resuming { gate, since, read: None });
    }

    pub fn unsubscribe(&mut self, number: ConnectionNumber, topic: TopicNumber) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if connection.subscriptions.remove(&topic).is_some() {
            connection.outbox.push_back(Frame::Unsubscribed { topic });
        }
    }

    /// Reads the history for one gate that waits for it. `false` if there is none.
    pub fn read(&mut self, choice: u64, now: u64) -> bool {
        let mut waiting: Vec<_> = (self.connections.values_mut())
            .flat_map(|connection| connection.subscriptions.iter_mut())
            .filter_map(|(number, subscription)| match subscription {
                Subscription::Resuming { since, read: read @ None, .. } => Some((*number, *since, read)),
                _ => None,
            })
            .collect();
        let Some(place) = choice.checked_rem(waiting.len() as u64) else { return false };
        let (number, since, read) = &mut waiting[place as usize];
        **read = Some(self.rings.resume(&topic(*number), since, now));
        true
    }

    /// Answers one gate whose history was read, or that waits for it if `gives_up`. `false` if there is none.
    pub fn answer(&mut self, choice: u64, gives_up: bool) -> bool {
        let mut waiting: Vec<_> = (self.connections.iter())
            .flat_map(|(number, connection)| connection.subscriptions.keys().map(move |topic| (*number, *topic)))
            .filter(|(number, topic)| match &self.connections[number].subscriptions[topic] {
                Subscription::Resuming { gate, read, .. } => !gate.is_answered() && (gives_up || read.is_some()),
                Subscription::Live(_) => false,
            })
            .collect();
        let Some(place) = choice.checked_rem(waiting.len() as u64) else { return false };
        let (number, topic) = waiting.swap_remove(place as usize);
        let connection = self.connections.get_mut(&number).expect("it was just found");
        let Some(Subscription::Resuming { gate, read, .. }) = connection.subscriptions.get_mut(&topic) else {
            return false;
        };
        let reply = match read.take() {
            Some(resumed) if !gives_up => gate.answer(resumed),
            _ => gate.give_up(),
        };
        connection.outbox.push_back(Frame::Reply { topic, reply: reply.expect("it was not answered before") });
        connection.replay(&self.plan);
        true
    }

    /// Writes the next frame of a connection. `false` if there is none.
    pub fn write(&mut self, number: ConnectionNumber) -> bool {
        let Some(connection) = self.connections.get_mut(&number) else { return false };
        let has_written = connection.write();
        connection.replay(&self.plan);
        has_written
    }

    /// What the client of a connection receives next.
    pub fn receive(&mut self, number: ConnectionNumber) -> Option<Frame> {
        self.connections.get_mut(&number)?.network.pop_front()
    }
}

impl Connection {
    fn deliver(&mut self, entry: &Entry<Payload>, plan: &Plan) {
        let (topic, position) = (entry.payload.topic, entry.position);
        match self.subscriptions.get_mut(&topic) {
            None => return,
            Some(Subscription::Resuming { gate, .. }) => {
                gate.push(entry.clone());
                self.replay(plan);
                return;
            }
            Some(Subscription::Live(cursor)) => match cursor.accept(position, entry.previous) {
                Arrival::Duplicate => return,
                Arrival::Gap(reason) => {
                    self.outbox.push_back(Frame::Gap { topic, reason, position: entry.before() });
                }
                Arrival::Deliver => (),
            },
        }
        let is_full = self.publications() >= plan.outbox;
        if is_full && plan.policy == DropPolicy::Newest {
            self.tell_loss(self.outbox.len(), topic, position);
            return;
        }
        if is_full {
            self.drop_oldest();
        }
        self.outbox.push_back(Frame::Publication { payload: entry.payload, position });
    }

    fn publications(&self) -> usize {
        self.outbox.iter().filter(|frame| matches!(frame, Frame::Publication { .. })).count()
    }

    fn drop_oldest(&mut self) {
        let oldest = self.outbox.iter().position(|frame| matches!(frame, Frame::Publication { .. }));
        let Some(place) = oldest else { return };
        if let Some(Frame::Publication { payload, position }) = self.outbox.remove(place) {
            self.tell_loss(place, payload.topic, position);
        }
    }

    /// Puts the news of a loss at this place, or makes it part of the news that stand right before it in the topic.
    fn tell_loss(&mut self, place: usize, lost: TopicNumber, newest: Position) {
        let before = self.outbox.iter_mut().take(place).rev().find(|frame| frame.topic() == lost);
        match before {
            Some(Frame::Gap { position, .. }) => *position = newest,
            _ => self.outbox.insert(place, Frame::Gap { topic: lost, reason: LossReason::Slow, position: newest }),
        }
    }

    /// Takes what gates have held back, as far as there is room.
    fn replay(&mut self, plan: &Plan) {
        let topics: Vec<_> = self.subscriptions.keys().copied().collect();
        for topic in topics {
            while self.publications() < plan.outbox {
                let Some(Subscription::Resuming { gate, .. }) = self.subscriptions.get_mut(&topic) else { break };
                let Some(output) = gate.next_output() else { break };
                self.outbox.push_back(match output {
                    Output::Publication(entry) => {
                        Frame::Publication { payload: entry.payload, position: entry.position }
                    }
                    Output::Gap { reason, position } => Frame::Gap { topic, reason, position },
                });
            }
            let Some(subscription) = self.subscriptions.get_mut(&topic) else { continue };
            if let Subscription::Resuming { gate, .. } = subscription
                && gate.is_open()
            {
                let gate = std::mem::replace(&mut **gate, Gate::new(plan.gate));
                *subscription = Subscription::Live(gate.into_cursor());
            }
        }
    }

    fn write(&mut self) -> bool {
        let next = self.outbox.pop_front();
        self.network.extend(next);
        next.is_some()
    }
}

impl Frame {
    fn topic(&self) -> TopicNumber {
        match self {
            Self::Reply { topic, .. } | Self::Unsubscribed { topic } | Self::Gap { topic, .. } => *topic,
            Self::Publication { payload, .. } => payload.topic,
        }
    }
}
