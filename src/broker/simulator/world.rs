//! A schedule: draws actions from its seed and applies them, then lets everything come to rest.

use super::client::{Client, Following, State};
use super::log::{Conditions, Logs, Payload, Published, Sent, TopicNumber};
use super::plan::{Action, Plan};
use super::server::{ConnectionNumber, Server};
use crate::broker::position::{Epoch, NodeId, Offset, Position, PublicationId, Since};
use crate::broker::random::Random;

pub struct World {
    plan: Plan,
    random: Random,
    trace: bool,
    step: u64,
    time: u64,
    server: Server,
    clients: Vec<Client>,
    connections: ConnectionNumber,
    logs: Logs,
}

impl World {
    pub fn new(seed: u64, trace: bool) -> Self {
        let mut random = Random::seeded(seed);
        let plan = Plan::new(&mut random);
        if trace {
            println!("{plan:#?}");
        }
        let server = Server::new(&plan, &mut random);
        let clients = std::iter::repeat_with(Client::default).take(plan.clients).collect();
        Self { plan, random, trace, step: 0, time: 0, server, clients, connections: 0, logs: Logs::default() }
    }

    pub fn conditions(&self) -> Conditions {
        self.plan.conditions()
    }

    pub fn logs(mut self) -> Logs {
        self.logs.clients = self.clients.into_iter().map(|client| client.log).collect();
        self.logs
    }

    pub fn run(&mut self) {
        for _ in 0..self.plan.steps {
            let action = self.plan.action(&mut self.random);
            self.apply(action);
        }
        self.settle();
        for client in 0..self.clients.len() {
            self.reconnect(client);
        }
        self.settle();
        for topic in 1..=self.plan.topics {
            self.publish(topic);
        }
        self.settle();
    }

    /// Lets all that is under way arrive.
    fn settle(&mut self) {
        while self.flow() {}
    }

    /// One round of everything that moves by itself. `false` if nothing did.
    fn flow(&mut self) -> bool {
        self.step += 1;
        let mut is_busy = self.server.look_up();
        for shard in 0..self.plan.shards {
            is_busy |= self.server.deliver(shard);
        }
        is_busy |= self.server.read(0, self.time);
        is_busy |= self.server.answer(0, false);
        for client in 0..self.clients.len() {
            let Some(connection) = self.clients[client].connection else { continue };
            is_busy |= self.server.write(connection);
            is_busy |= self.receive(client);
        }
        is_busy
    }

    fn apply(&mut self, action: Action) {
        self.step += 1;
        let client = self.random.below(self.clients.len() as u64) as usize;
        let topic = 1 + self.random.below(self.plan.topics);
        let choice = self.random.next();
        if self.trace {
            println!("step {} at {}: {action:?}, client {client}, topic {topic}", self.step, self.time);
        }
        match action {
            Action::Publish => self.publish(topic),
            Action::Burst => {
                for _ in 0..1 + choice % 6 {
                    self.publish(topic);
                    while self.server.look_up() {}
                    for shard in 0..self.plan.shards {
                        while self.server.deliver(shard) {}
                    }
                }
            }
            Action::LookUp => drop(self.server.look_up()),
            Action::Deliver => drop(self.server.deliver(choice as usize % self.plan.shards)),
            Action::Read => drop(self.server.read(choice, self.time)),
            Action::Answer => drop(self.server.answer(choice, false)),
            Action::GiveUp => drop(self.server.answer(choice, true)),
            Action::Write => {
                if let Some(connection) = self.clients[client].connection {
                    self.server.write(connection);
                }
            }
            Action::Receive => drop(self.receive(client)),
            Action::Flow => {
                for _ in 0..choice % 12 {
                    self.flow();
                }
            }
            Action::Reconnect => self.reconnect(client),
            Action::Disconnect => self.disconnect(client),
            Action::Connect => self.connect(client),
            Action::Subscribe => self.subscribe(client, topic, false),
            Action::SubscribeForged => self.subscribe(client, topic, true),
            Action::Unsubscribe => self.unsubscribe(client, topic),
            Action::Wait => self.time += choice % 100,
            Action::Sweep => self.server.rings().sweep(self.time, choice as usize % 4),
            Action::Bound => self.server.rings().set_max_bytes(choice as usize % self.plan.max_bytes),
            Action::Divide => self.server.rings().set_divisor(choice as usize % 5),
            Action::Restart => self.restart(),
        }
    }

    fn publish(&mut self, topic: TopicNumber) {
        let log = self.logs.published.entry(topic).or_default();
        let bytes = self.random.below(120) as usize;
        let payload = Payload { topic, index: log.len() };
        let position = self.server.publish(payload, bytes, self.time);
        log.push(Published { step: self.step, time: self.time, position, bytes });
    }

    fn receive(&mut self, client: usize) -> bool {
        let client = &mut self.clients[client];
        let Some(frame) = client.connection.and_then(|connection| self.server.receive(connection)) else {
            return false;
        };
        if self.trace {
            println!("  receives {frame:?}");
        }
        client.receive(frame, self.step, self.time);
        true
    }

    fn connect(&mut self, client: usize) {
        if self.clients[client].connection.is_none() {
            self.connections += 1;
            self.server.connect(self.connections, self.connections % self.plan.shards);
            self.clients[client].connection = Some(self.connections);
        }
    }

    fn reconnect(&mut self, client: usize) {
        self.connect(client);
        let topics: Vec<_> = self.clients[client].wanted.keys().copied().collect();
        topics.into_iter().for_each(|topic| self.subscribe(client, topic, false));
    }

    fn disconnect(&mut self, client: usize) {
        if let Some(connection) = self.clients[client].connection {
            self.server.disconnect(connection);
            self.clients[client].disconnected(self.step, self.time);
        }
    }

    fn subscribe(&mut self, client: usize, topic: TopicNumber, forges: bool) {
        let forged = forges.then(|| self.forge());
        let client = &mut self.clients[client];
        let Some(connection) = client.connection else { return };
        let following = client.wanted.entry(topic).or_insert(Following { state: State::Idle, kept: None });
        if following.state != State::Idle {
            return;
        }
        let sent = forged.unwrap_or_else(|| following.kept.map_or(Sent::Nothing, Sent::Kept));
        following.state = State::Asked(sent);
        // Through the text form, as clients send it.
        let since = match sent {
            Sent::Nothing => Since::parse(None),
            Sent::Kept(position) | Sent::Forged(position) => Since::parse(Some(&position.to_string())),
            Sent::Malformed => Since::parse(Some("1:1")),
        };
        if self.trace {
            println!("  sends since {sent:?}");
        }
        self.server.subscribe(connection, topic, since);
    }

    fn unsubscribe(&mut self, client: usize, topic: TopicNumber) {
        let client = &mut self.clients[client];
        let (Some(connection), Some(following)) = (client.connection, client.wanted.get_mut(&topic)) else { return };
        if following.state == State::Subscribed {
            following.state = State::Leaving;
            self.server.unsubscribe(connection, topic);
        }
    }

    fn restart(&mut self) {
        for client in 0..self.clients.len() {
            self.disconnect(client);
        }
        self.server = Server::new(&self.plan, &mut self.random);
        self.logs.restarts.push(self.step);
    }

    /// A position of any topic and time, mostly changed in one place.
    fn forge(&mut self) -> Sent {
        let random = &mut self.random;
        let known: Vec<_> = self.logs.published.values().flatten().map(|published| published.position).collect();
        let Some(place) = random.next().checked_rem(known.len() as u64) else { return Sent::Malformed };
        let mut position: Position = known[place as usize];
        match random.below(8) {
            0 => return Sent::Malformed,
            1 => position.epoch = Epoch::from_random(random.next()),
            2 => position.offset = Offset::new(position.offset.get() + random.below(4)),
            3 => position.offset = Offset::new(position.offset.get().saturating_sub(random.below(4))),
            4 => position.id = PublicationId { sequence: position.id.sequence + random.below(4), ..position.id },
            5 => position.id = PublicationId::none(position.id.node),
            6 => position.id.node = NodeId::from_random(random.next()),
            _ => (),
        }
        Sent::Forged(position)
    }
}
