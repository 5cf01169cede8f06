//! Runs streams of several nodes against a model of a broker: pushes that are lost, delayed and cut off, reads that fail, brokers that
//! are set back, replaced by a lagging one, or emptied, and nodes that publish the same again.
//!
//! One topic: topics do not influence each other. The verdict comes from what the nodes' subscribers received, the broker's own list
//! at the end, and the number of times that it was set back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Coverage;
use crate::broker::cursor::{Arrival, Cursor};
use crate::broker::gate::GateLimits;
use crate::broker::position::{Epoch, NodeId, Offset, Position, PublicationId};
use crate::broker::random::Random;
use crate::broker::rings::{Entry, TopicLimits};
use crate::broker::stream::{FetchedHistory, Origin, Step, Stream};

type Publication = Entry<Payload>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Payload {
    origin: PublicationId,
}

impl Origin for Payload {
    fn origin(&self) -> PublicationId {
        self.origin
    }
}

/// A broker's history of the topic, as one script changes it in one step.
#[derive(Clone, Debug)]
struct Broker {
    top: Position,
    list: VecDeque<Publication>,
    /// What has left the list. A real broker forgets it; nodes must not offer what is old enough to be here.
    trimmed: BTreeSet<PublicationId>,
    size: usize,
}

#[derive(Debug)]
struct Node {
    id: NodeId,
    sequence: u64,
    stream: Stream<Payload>,
    is_connected: bool,
    /// Pushes and replies under way, in order.
    pushes: VecDeque<Publication>,
    replies: VecDeque<Option<FetchedHistory<Payload>>>,
    /// Own publications that the broker has acknowledged and may have lost, to be offered again.
    own: Vec<(PublicationId, u64)>,
    log: Vec<Line>,
}

#[derive(Clone, Debug)]
enum Line {
    Delivered(Publication),
    /// `is_covered` if subscribers were told of a gap when the publication was in the history already.
    Skipped {
        position: Position,
        origin: PublicationId,
        is_covered: bool,
    },
    Gap(Position),
    /// In the history when the topic was first followed, or when subscribers were told of a gap.
    Adopted(PublicationId),
    /// Delivered at once, without a position.
    Unplaced(PublicationId),
}

struct Cluster {
    random: Random,
    broker: Broker,
    /// Earlier states that the broker can be set back to.
    snapshots: Vec<Broker>,
    nodes: Vec<Node>,
    published: u64,
    /// The origin of every attempt.
    origins: BTreeMap<PublicationId, PublicationId>,
    /// How often history was lost: forks, resets, and publications that left the list before a node had read them.
    setbacks: u64,
    has_trims: bool,
    now: u64,
    coverage: Coverage,
    trace: bool,
}

impl Broker {
    fn new(random: &mut Random, size: usize) -> Self {
        let id = PublicationId::none(NodeId::from_random(0));
        Self {
            top: Position { epoch: Epoch::from_random(random.next()), offset: Offset::ZERO, id },
            list: VecDeque::new(),
            trimmed: BTreeSet::new(),
            size,
        }
    }

    /// Stores a publication, unless its origin is in the list: then it is an offer that is not needed.
    fn store(&mut self, id: PublicationId, payload: Payload) -> Option<Publication> {
        let origin = payload.origin;
        if self.list.iter().any(|stored| stored.payload.origin == origin) || self.trimmed.contains(&origin) {
            return None;
        }
        let position = Position { offset: self.top.offset.next(), id, ..self.top };
        let entry = Entry { position, previous: self.top.id, time: 0, bytes: 10, payload };
        self.top = position;
        self.list.push_back(entry.clone());
        if self.list.len() > self.size {
            self.trimmed.extend(self.list.pop_front().map(|trimmed| trimmed.payload.origin));
        }
        Some(entry)
    }

    fn read(&self, from: Option<Offset>) -> FetchedHistory<Payload> {
        let entries: Vec<_> =
            self.list.iter().filter(|entry| from.is_none_or(|from| entry.position.offset >= from)).cloned().collect();
        let is_whole = entries.len() == self.list.len();
        FetchedHistory::new(self.top, entries, is_whole).expect("the model stores consecutive publications")
    }
}

impl Cluster {
    fn new(seed: u64, trace: bool) -> Self {
        let mut random = Random::seeded(seed);
        let size = [3, 10, 100][random.below(3) as usize];
        let held = GateLimits { publications: [2, 1000][random.below(2) as usize], bytes: 1 << 20 };
        let broker = Broker::new(&mut random, size);
        let nodes = (0..1 + random.below(3))
            .map(|number| Node {
                id: NodeId::from_random(number + 1),
                sequence: 0,
                stream: Stream::new(TopicLimits { publications: size, ..TopicLimits::DEFAULT }, held),
                is_connected: false,
                pushes: VecDeque::new(),
                replies: VecDeque::new(),
                own: Vec::new(),
                log: Vec::new(),
            })
            .collect();
        let has_trims = size < 100;
        let coverage = Coverage::new();
        Self {
            random,
            broker,
            snapshots: Vec::new(),
            nodes,
            published: 0,
            origins: BTreeMap::new(),
            setbacks: 0,
            has_trims,
            now: 0,
            coverage,
            trace,
        }
    }

    fn run(&mut self) {
        let (set_back, cut) = (self.random.below(2), self.random.below(3));
        for step in 0..40 + self.random.below(160) {
            self.now += 1;
            let node = self.random.below(self.nodes.len() as u64) as usize;
            let choice = self.random.below(100);
            if self.trace {
                println!("step {step}: {choice} at node {node}, broker at {}", self.broker.top);
            }
            match choice {
                0..24 => self.publish(node),
                24..54 => drop(self.push(node)),
                54..74 => drop(self.reply(node)),
                74..84 => self.connect(node),
                84..86 => self.fail(node),
                86..90 if cut > 0 => self.cut(node),
                90..93 => self.snapshots.push(self.broker.clone()),
                93 if set_back > 0 => self.set_back(),
                94 if set_back > 0 => self.empty(),
                95..97 => self.offer(node),
                97..100 => self.tick(node),
                _ => (),
            }
        }
        self.settle();
        // Every node publishes once more: a stream that fell behind shows it now.
        for node in 0..self.nodes.len() {
            self.publish(node);
        }
        self.settle();
    }

    fn settle(&mut self) {
        for node in 0..self.nodes.len() {
            self.connect(node);
        }
        for _ in 0..1000 {
            let mut is_busy = false;
            for node in 0..self.nodes.len() {
                while self.push(node) || self.reply(node) {
                    is_busy = true;
                }
                is_busy |= self.nodes[node].stream.is_behind();
                self.tick(node);
            }
            if !is_busy {
                return;
            }
        }
        panic!("the streams never come to rest");
    }

    fn publish(&mut self, node: usize) {
        let publisher = &mut self.nodes[node];
        if !publisher.is_connected {
            return;
        }
        publisher.sequence += 1;
        let id = PublicationId { node: publisher.id, sequence: publisher.sequence };
        self.published += 1;
        publisher.own.push((id, self.published));
        // Now and then the broker does not answer in time: it is delivered at once, and stored all the same.
        if self.random.below(8) == 0 {
            let publisher = &mut self.nodes[node];
            publisher.stream.delivered_locally(id);
            publisher.log.push(Line::Unplaced(id));
            self.count("delivered without a position");
        }
        self.store(id, Payload { origin: id });
    }

    /// A node offers its newest publications again.
    fn offer(&mut self, node: usize) {
        let offered: Vec<_> = self.nodes[node].own.iter().rev().take(3).rev().copied().collect();
        for (origin, number) in offered {
            // Streams recognize what is among as many publications as the ring holds.
            let is_recent = self.published - number < self.broker.size as u64;
            if self.nodes[node].is_connected && is_recent {
                self.nodes[node].sequence += 1;
                let id = PublicationId { sequence: self.nodes[node].sequence, ..origin };
                self.store(id, Payload { origin });
            }
        }
    }

    fn store(&mut self, id: PublicationId, payload: Payload) {
        self.origins.insert(id, payload.origin);
        let Some(entry) = self.broker.store(id, payload) else { return };
        for node in self.nodes.iter_mut().filter(|node| node.is_connected) {
            node.pushes.push_back(entry.clone());
        }
    }

    fn set_back(&mut self) {
        let Some(place) = self.random.next().checked_rem(self.snapshots.len() as u64) else { return };
        self.broker = self.snapshots[place as usize].clone();
        // The line that is left does not come back: an old master becomes a replica of the new one.
        self.snapshots.truncate(place as usize + 1);
        self.lose("set back");
    }

    fn empty(&mut self) {
        self.broker = Broker::new(&mut self.random, self.broker.size);
        self.snapshots.clear();
        self.lose("emptied");
    }

    /// The connections of all nodes end with the broker's life.
    fn lose(&mut self, how: &'static str) {
        self.setbacks += 1;
        self.count(how);
        (0..self.nodes.len()).for_each(|node| self.cut(node));
    }

    fn cut(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        if node.is_connected {
            node.is_connected = false;
            node.pushes.clear();
            node.replies.clear();
            node.stream.disconnected();
        }
    }

    fn connect(&mut self, node: usize) {
        if !std::mem::replace(&mut self.nodes[node].is_connected, true) {
            let mut steps = Vec::new();
            self.nodes[node].stream.synchronize(&mut steps);
            self.apply(node, steps);
        }
    }

    fn tick(&mut self, node: usize) {
        if self.nodes[node].is_connected && self.nodes[node].stream.is_behind() {
            let mut steps = Vec::new();
            self.nodes[node].stream.synchronize(&mut steps);
            self.apply(node, steps);
        }
    }

    /// The oldest reply under way is an error.
    fn fail(&mut self, node: usize) {
        if let Some(reply) = self.nodes[node].replies.front_mut() {
            *reply = None;
        }
    }

    fn push(&mut self, node: usize) -> bool {
        let Some(entry) = self.nodes[node].pushes.pop_front() else { return false };
        let mut steps = Vec::new();
        self.nodes[node].stream.receive(entry, self.now, &mut steps);
        self.apply(node, steps);
        true
    }

    fn reply(&mut self, node: usize) -> bool {
        let Some(reply) = self.nodes[node].replies.pop_front() else { return false };
        let mut steps = Vec::new();
        let is_first = self.nodes[node].stream.top().is_none();
        match reply {
            Some(history) => {
                let ids: Vec<_> = history.entries().iter().map(|entry| entry.payload.origin).collect();
                self.nodes[node].stream.fetched(history, self.now, &mut steps);
                let is_delivered = |id: &PublicationId| {
                    steps.iter().any(|step| matches!(step, Step::Deliver(entry) if entry.payload.origin == *id))
                };
                if is_first {
                    let adopted = ids.into_iter().filter(|id| !is_delivered(id)).map(Line::Adopted);
                    self.nodes[node].log.extend(adopted);
                }
            }
            None => self.nodes[node].stream.fetch_failed(),
        }
        self.apply(node, steps);
        true
    }

    fn apply(&mut self, node: usize, steps: Vec<Step<Payload>>) {
        let mut is_covered = false;
        for step in steps {
            is_covered |= matches!(step, Step::Gap { .. });
            if self.trace {
                println!("  node {node}: {step:?}");
            }
            let line = match step {
                Step::Deliver(entry) => {
                    self.count("delivered");
                    Line::Delivered(entry)
                }
                Step::Skip(position) => {
                    self.count("skipped");
                    Line::Skipped { position, origin: self.origins[&position.id], is_covered }
                }
                Step::Gap { reason, position } => {
                    self.count(reason.as_str());
                    // Subscribers that are told reload, which covers what the history has up to there.
                    let node = &mut self.nodes[node];
                    let history: Vec<_> =
                        node.stream.ring().map_or(Vec::new(), |ring| ring.newest(usize::MAX).collect());
                    let covered = history.into_iter().filter(|entry| entry.position.offset <= position.offset);
                    node.log.extend(covered.map(|entry| Line::Adopted(entry.payload.origin)));
                    Line::Gap(position)
                }
                Step::Fetch { from } => {
                    self.count("fetched");
                    let reply = self.broker.read(from);
                    self.nodes[node].replies.push_back(Some(reply));
                    continue;
                }
            };
            self.nodes[node].log.push(line);
        }
    }

    fn count(&mut self, name: &'static str) {
        *self.coverage.entry(name).or_default() += 1;
    }

    fn check(&self) -> Result<(), String> {
        let gaps = |node: &Node| node.log.iter().filter(|line| matches!(line, Line::Gap(_))).count() as u64;
        for (number, node) in self.nodes.iter().enumerate() {
            let top = self.check_log(&node.log).map_err(|violation| format!("node {number}: {violation}"))?;
            if node.stream.top() != Some(self.broker.top) {
                return Err(format!("node {number} is at {:?}, the broker at {}", node.stream.top(), self.broker.top));
            }
            if top.is_some_and(|top| top != self.broker.top) {
                return Err(format!("node {number}: subscribers are at {top:?}, the broker at {}", self.broker.top));
            }
            if gaps(node) > self.setbacks && !self.has_trims {
                return Err(format!("node {number}: {} gaps, but {} setbacks", gaps(node), self.setbacks));
            }
        }
        Ok(())
    }

    /// The position that subscribers end at, if they received anything.
    fn check_log(&self, log: &[Line]) -> Result<Option<Position>, String> {
        let mut received: BTreeSet<PublicationId> = BTreeSet::new();
        let mut top: Option<Position> = None;
        let mut beginning: Option<Position> = None;
        let mut cursor = Cursor::unknown();
        for line in log {
            let fail = |what: &str| Err(format!("{what}: {line:?} after {top:?}"));
            match line {
                Line::Unplaced(id) => {
                    if !received.insert(*id) {
                        return fail("twice");
                    }
                }
                Line::Adopted(id) => drop(received.insert(*id)),
                Line::Gap(position) => {
                    beginning = Some(*position);
                    top = Some(*position);
                    cursor = Cursor::at(*position);
                }
                Line::Skipped { position, origin, is_covered } => {
                    if !is_covered && !received.contains(origin) {
                        return fail("skipped without having been received");
                    }
                    received.insert(*origin);
                    top = Some(*position);
                    cursor.advance(*position);
                }
                Line::Delivered(entry) => {
                    if !received.insert(entry.payload.origin) {
                        return fail("twice");
                    }
                    if top.is_some_and(|top| entry.before() != top) {
                        return fail("out of order or after a loss");
                    }
                    if cursor.accept(entry.position, entry.previous) != Arrival::Deliver {
                        return fail("a cursor stops it");
                    }
                    top = Some(entry.position);
                }
            }
        }
        // What the broker has since the last gap, or since the topic was first followed, is what subscribers have.
        let since = beginning.map_or(Offset::ZERO, |beginning| beginning.offset);
        let followed = self.broker.list.iter().filter(|entry| entry.position.offset > since);
        match followed.into_iter().find(|entry| !received.contains(&entry.payload.origin)) {
            Some(missing) => Err(format!("never received: {missing:?}")),
            None => Ok(top),
        }
    }
}

fn simulate(seed: u64, trace: bool) -> Result<BTreeMap<&'static str, u64>, String> {
    let mut cluster = Cluster::new(seed, trace);
    cluster.run();
    cluster.check().map_err(|violation| {
        format!("{violation}\nreplay: CARILLON_SCHEDULE={seed} cargo test --no-default-features --lib simulator::cluster -- --nocapture")
    })?;
    Ok(cluster.coverage)
}

#[test]
fn followed_topics_never_lose_silently_in_any_schedule() {
    let outcomes = [
        "delivered",
        "delivered without a position",
        "skipped",
        "fetched",
        "set back",
        "emptied",
        "fork",
        "reset",
        "expired",
    ];
    super::run_schedules(simulate, &outcomes);
}
