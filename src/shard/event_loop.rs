//! A thread and all it owns: connections, their topic index, buffers, timers. Commands come in, events go out.
//!
//! Everything here runs on the shard's own thread, in one tokio current-thread runtime; others hold a
//! [`ShardHandle`]. The shard's further methods are in `reception` and `admission` (how connections come), `turn` (how they
//! are read and written), `dialogue` (what peers say), `fan_out` (what is sent to many) and `departure` (how connections go).

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::runtime;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tracing::{debug, warn};

use crate::shard::supervisor;

pub use crate::shard::parker::Bell;
use crate::shard::parker::Waiting;

use crate::application::fault_injection;
use crate::application::panic_guard::{catch, catch_task};
use crate::config::RuntimeValues;
use crate::error::CloseReason;
use crate::hub::operation_queue_manager::OperationQueue;
use crate::hub::subscription_manager::TopicIndex;
use crate::memory::memory_manager::ReclaimLevel;
use crate::monitoring::counters::DropReason;
use crate::monitoring::statistics_collector::ShardCounters;
use crate::shard::acceptor::Entrance;
use crate::shard::close::Departures;
use crate::shard::connection::Connection;
use crate::shard::context::Shared;
use crate::shard::handshake::UpgradeRequest;
use crate::shard::ingress::{Backlog, READ_BUFFER_BYTES};
use crate::shard::outbox::Envelopes;
use crate::shard::pending::Visitors;
use crate::shard::pending_places::PendingHandshakes;
use crate::shard::probe::{Post, ShardInspection, Snapshot, TICK};
use crate::shard::reclaim::Relief;
use crate::shard::run_end::RunEnd;
use crate::shard::timers::Timers;
use crate::shard::wake_queue::WakeQueue;
use crate::transport::assembler::Limits;
use crate::transport::deflate::{Deflaters, Inflater};
use crate::transport::encoded_message::EncodedMessage;
use crate::transport::listener::Accepted;
use crate::transport::socket::reactor::{Reactor, Registry};
use crate::types::{ConnectionKey, ConnectionNumber, ShardId};

/// How many publishes are carried out before connections get their turn.
const OPERATIONS_PER_TURN: usize = 128;

const COMMANDS_PER_TURN: usize = 64;

/// Data frames of one message. Fragments cost no memory, but an endless row of them costs time.
const MAX_FRAGMENTS: u32 = 16_384;

/// Bookkeeping: never dropped, never counted against the bound of publishes.
pub enum Command {
    #[cfg(test)]
    Break,
    /// A socket that asks for an upgrade.
    Accept(Box<UpgradeRequest>),
    /// Accept at this door.
    Attend(Entrance),
    /// The service's own word to everybody.
    Announce(Arc<EncodedMessage>),
    /// Empty caches and buffers; connections stay.
    ClearBuffers,
    /// Close the connection, if it is still there.
    Close { key: ConnectionKey, number: ConnectionNumber, reason: CloseReason },
    /// Write what was published, say goodbye, end when everybody has gone or at the deadline.
    Drain { deadline: Instant },
    /// The runtime configuration has changed.
    Reconfigure(RuntimeValues),
    /// A connection of the own port, accepted by another shard.
    Receive(Accepted),
    /// Give back what is not needed, and say how much it was.
    Tidy { depth: ReclaimLevel, report: std::sync::mpsc::Sender<Relief> },
}

/// What others hold of a shard. Dropping it without a [`Command::Drain`] ends the shard at once.
pub struct ShardHandle {
    pub id: ShardId,
    commands: mpsc::UnboundedSender<Command>,
    bell: Arc<Bell>,
    pub operations: Arc<OperationQueue>,
    pub post: Arc<Post>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What shards hold of each other.
pub struct ShardInbox {
    commands: mpsc::WeakUnboundedSender<Command>,
    bell: Arc<Bell>,
}

impl ShardInbox {
    /// Does nothing if the shard has ended.
    pub fn send(&self, command: Command) {
        if let Some(commands) = self.commands.upgrade() {
            // Its end may come between the two.
            let _ = commands.send(command);
            self.bell.notify_one();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    Draining { deadline: Instant },
}

pub struct Shard {
    pub(crate) id: ShardId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) counters: Arc<ShardCounters>,
    pub(crate) runtime: Cell<RuntimeValues>,
    pub(crate) limits: Limits,
    pub(crate) phase: Cell<Phase>,
    pub(crate) connections: RefCell<Slab<Rc<Connection>>>,
    pub(crate) topics: RefCell<TopicIndex>,
    pub(crate) timers: Timers,
    pub(crate) staged: RefCell<Vec<ConnectionKey>>,
    /// Connections that get a turn without news of their transport.
    pub(crate) roused: RefCell<Vec<ConnectionKey>>,
    /// Connections whose turn was too short.
    pub(crate) backlog: RefCell<Backlog>,
    pub(crate) knocks: Arc<WakeQueue>,
    /// Rung to have the shard look for something to do.
    pub(crate) bell: Arc<Bell>,
    /// Where sockets are watched.
    pub(crate) registry: Registry,
    pub(crate) visitors: Visitors,
    pub(crate) pending: PendingHandshakes,
    /// Where newcomers on the own port come in. Outlives a shard that breaks.
    pub(crate) entrance: RefCell<Option<Entrance>>,
    pub(crate) door_keeper: RefCell<Option<AbortHandle>>,
    pub(crate) admissions: Cell<usize>,
    pub(crate) departures: Departures,
    /// Told when draining begins, and when its deadline comes nearer.
    pub(crate) draining: Notify,
    pub(crate) post: Arc<Post>,
    pub(crate) next_tick: Cell<Instant>,
    pub(crate) next_snapshot: Cell<Instant>,
    pub(crate) next_health_check: Cell<Instant>,
    /// Whether the publish that is carried out is the only one of this turn.
    pub(crate) is_lone: Cell<bool>,
    /// When what is carried out in this turn was published.
    published: RefCell<Vec<Instant>>,
    // Shared by all connections, so that an idle one holds no buffer.
    pub(crate) read_buffer: RefCell<Box<[u8]>>,
    pub(crate) inflater: RefCell<Inflater>,
    pub(crate) deflaters: RefCell<Deflaters>,
    pub(crate) envelopes: RefCell<Envelopes>,
    /// Lets the next turn panic where nothing contains it.
    #[cfg(test)]
    is_to_break: Cell<bool>,
}

impl ShardHandle {
    /// Starts the thread. Its runtime is built here, so that a system that refuses one is the caller's error.
    pub fn spawn(id: ShardId, shared: Arc<Shared>, end: Arc<RunEnd>) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let first = {
            let _context = runtime.enter();
            Reactor::new()?
        };
        let (commands, inbox) = mpsc::unbounded_channel();
        let bell = Arc::new(Bell::new());
        let operations = Arc::new(OperationQueue::new(shared.options.max_queue_bytes, bell.clone()));
        let post = Arc::new(Post::new(Instant::now()));
        let thread = std::thread::Builder::new().name(format!("carillon-{}", id.0)).spawn({
            let operations = operations.clone();
            let (dispatch, post, bell) = (shared.dispatch.clone(), post.clone(), bell.clone());
            move || {
                // Gone last of all that the thread holds.
                let _end = end;
                let _log = tracing::dispatcher::set_default(&dispatch);
                let make = |registry| Shard::new(id, shared.clone(), post.clone(), bell.clone(), registry);
                supervisor::keep_running(&runtime, first, make, inbox, &operations);
            }
        })?;
        Ok(Self { id, commands, bell, operations, post, thread: Mutex::new(Some(thread)) })
    }

    /// Reaches the shard, but does not keep it running.
    pub fn inbox(&self) -> ShardInbox {
        ShardInbox { commands: self.commands.downgrade(), bell: self.bell.clone() }
    }

    /// `false` if the shard has ended.
    pub fn send(&self, command: Command) -> bool {
        let is_sent = self.commands.send(command).is_ok();
        self.bell.notify_one();
        is_sent
    }

    /// What is known of the shard without asking it.
    pub fn inspect(&self, now: Instant) -> (ShardInspection, Snapshot) {
        let snapshot = self.post.snapshot();
        let shard = ShardInspection {
            id: self.id,
            connections: snapshot.connections,
            topics: snapshot.topics,
            queued_operations: self.operations.len(),
            queued_bytes: self.operations.bytes(),
            pending_bytes: snapshot.pending_bytes,
            stalled_for: self.post.stalled_for(now),
        };
        (shard, snapshot)
    }

    /// Waits for the thread to end. Whoever comes second waits as long.
    pub fn join(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            warn!(shard = self.id.0, "a shard ended by a panic");
        }
    }
}

impl Drop for ShardHandle {
    fn drop(&mut self) {
        // The inbox closes with the last handle, which the shard notices when it looks.
        let (closed, _) = mpsc::unbounded_channel();
        self.commands = closed;
        self.bell.notify_one();
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        // Those that it could not let go of one by one.
        self.shared.connection_places.give_back(self.connections.get_mut().len());
    }
}

impl Shard {
    fn new(id: ShardId, shared: Arc<Shared>, post: Arc<Post>, bell: Arc<Bell>, registry: Registry) -> Self {
        let now = Instant::now();
        Self {
            id,
            counters: shared.statistics.shard(usize::from(id.0)),
            runtime: Cell::new(shared.runtime.values()),
            limits: Limits { max_message: shared.options.base.max_payload, max_fragments: MAX_FRAGMENTS },
            phase: Cell::new(Phase::Serving),
            connections: RefCell::default(),
            topics: RefCell::default(),
            timers: Timers::new(now, bell.clone()),
            staged: RefCell::default(),
            roused: RefCell::default(),
            backlog: RefCell::default(),
            knocks: Arc::new(WakeQueue::new(bell.clone())),
            bell,
            registry,
            visitors: Visitors::default(),
            pending: PendingHandshakes::new(shared.options.threads, shared.options.handshake_timeout),
            entrance: RefCell::default(),
            door_keeper: RefCell::default(),
            admissions: Cell::new(0),
            departures: Departures::default(),
            draining: Notify::new(),
            post,
            next_tick: Cell::new(now + TICK),
            next_snapshot: Cell::new(now),
            next_health_check: Cell::new(now + shared.options.base.health_check_interval),
            is_lone: Cell::new(false),
            published: RefCell::default(),
            read_buffer: RefCell::new(vec![0; READ_BUFFER_BYTES].into_boxed_slice()),
            inflater: RefCell::default(),
            deflaters: RefCell::default(),
            envelopes: RefCell::default(),
            #[cfg(test)]
            is_to_break: Cell::new(false),
            shared,
        }
    }

    pub(crate) async fn run(
        self: Rc<Self>,
        inbox: &mut mpsc::UnboundedReceiver<Command>,
        operations: &OperationQueue,
        reactor: &mut Reactor,
    ) {
        debug!(shard = self.id.0, "shard started");
        self.attend();
        let mut waiting = Waiting::new(&self.bell);
        while !self.is_done() {
            let has_waited = if inbox.is_empty() && operations.is_empty() && !self.has_roused() {
                let due = self.next_deadline();
                self.timers.arm(due);
                waiting.until(due, reactor).await
            } else {
                false
            };
            #[cfg(test)]
            assert!(!self.is_to_break.get(), "as the test wants it");
            fault_injection::trip("a shard");
            // Every turn does some of everything, so that a flood of one kind does not starve the others.
            self.take_commands(inbox, operations);
            self.take_operations(operations);
            self.give_turns(reactor);
            catch("timers", || self.act_on_time(Instant::now()));
            catch("writing", || self.flush_staged());
            self.note_latencies();
            // Whoever never waits would keep the runtime from its tasks, and from looking for news.
            if !has_waited {
                tokio::task::yield_now().await;
            }
        }
        debug!(shard = self.id.0, "shard ended");
    }

    fn take_commands(self: &Rc<Self>, inbox: &mut mpsc::UnboundedReceiver<Command>, operations: &OperationQueue) {
        for _ in 0..COMMANDS_PER_TURN {
            match inbox.try_recv() {
                Ok(command) => {
                    catch("a command", || self.obey(command, operations));
                }
                Err(TryRecvError::Empty) => break,
                // Every handle is gone: nobody can ask us to drain any more.
                Err(TryRecvError::Disconnected) => {
                    catch("draining", || self.begin_draining(operations, Instant::now()));
                    break;
                }
            }
        }
    }

    fn obey(self: &Rc<Self>, command: Command, operations: &OperationQueue) {
        match command {
            #[cfg(test)]
            Command::Break => self.is_to_break.set(true),
            Command::Accept(arrival) => {
                tokio::task::spawn_local(catch_task("a handshake", self.clone().admit(*arrival)));
            }
            Command::Attend(entrance) => {
                self.entrance.replace(Some(entrance));
                self.attend();
            }
            Command::Announce(message) => self.send_to_all(&message),
            Command::ClearBuffers => self.clear_buffers(),
            Command::Close { key, number, reason } => {
                if let Some(connection) = self.connection_numbered(key, number) {
                    self.close(&connection, reason);
                }
            }
            Command::Drain { deadline } => self.begin_draining(operations, deadline),
            Command::Reconfigure(values) => self.reconfigure(values),
            Command::Receive(newcomer) => self.welcome(newcomer),
            Command::Tidy { depth, report } => {
                // Whoever asked may have stopped waiting.
                let _ = report.send(self.tidy(depth));
            }
        }
    }

    fn take_operations(&self, operations: &OperationQueue) {
        let mut taken = Vec::new();
        operations.take(OPERATIONS_PER_TURN, &mut taken);
        self.is_lone.set(taken.len() == 1);
        for operation in &taken {
            catch("a publish", || self.carry_out(operation));
        }
        self.is_lone.set(false);
        self.published.borrow_mut().extend(taken.iter().map(|operation| operation.published));
    }

    /// What was carried out in this turn has been written, or put into batches.
    fn note_latencies(&self) {
        let mut published = self.published.borrow_mut();
        if published.is_empty() {
            return;
        }
        let now = Instant::now();
        for time in published.drain(..) {
            self.counters.published(now.saturating_duration_since(time));
        }
    }

    fn reconfigure(&self, values: RuntimeValues) {
        let before = self.runtime.replace(values);
        if values.batch_delay != before.batch_delay || values.batch_size < before.batch_size {
            // What waits was promised to the old setting; sending it early is never wrong.
            self.flush_batches();
            self.timers.forget_flushes();
        }
    }

    fn clear_buffers(&self) {
        for connection in self.all_connections() {
            let discarded = connection.outbox.borrow_mut().take_batch().len();
            self.counters.dropped(DropReason::Cleanup, u32::try_from(discarded).unwrap_or(u32::MAX));
        }
        self.envelopes.borrow_mut().forget();
    }

    fn begin_draining(&self, operations: &OperationQueue, deadline: Instant) {
        // A second order can only bring the end nearer: the process is going.
        let deadline = match self.phase.get() {
            Phase::Draining { deadline: earlier } => earlier.min(deadline),
            Phase::Serving => {
                while !operations.is_empty() {
                    self.take_operations(operations);
                    self.flush_staged();
                }
                self.say_goodbye();
                deadline
            }
        };
        self.phase.set(Phase::Draining { deadline });
        self.draining.notify_waiters();
        if deadline <= Instant::now() {
            self.cut_everybody();
        }
    }

    fn act_on_time(self: &Rc<Self>, now: Instant) {
        if let Phase::Draining { deadline } = self.phase.get()
            && now >= deadline
        {
            self.cut_everybody();
        }
        if now >= self.next_tick.get() {
            self.tick(now);
        }
        while let Some((key, batch)) = self.timers.due_flush(now) {
            if let Some(connection) = self.connection(key)
                && connection.outbox.borrow().batch() == batch
            {
                self.guard(&connection, || self.flush_batch(&connection));
            }
        }
        self.envelopes.borrow_mut().forget();
        self.pending.expire(now);
        self.beat(now);
        while let Some((key, number)) = self.timers.due_linger(now) {
            if let Some(connection) = self.connection_numbered(key, number) {
                self.guard(&connection, || self.cut(&connection));
            }
        }
        while let Some((key, number)) = self.timers.due_rest(now) {
            if let Some(connection) = self.connection_numbered(key, number) {
                connection.is_resting.set(false);
                self.rouse(&connection);
            }
        }
        while let Some((key, number)) = self.timers.due_auth(now) {
            if let Some(connection) = self.connection_numbered(key, number) {
                self.guard(&connection, || self.auth_overdue(&connection));
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let drain = match self.phase.get() {
            // Past the deadline there is nothing to wait for but the tasks that were cut.
            Phase::Draining { deadline } => Some(deadline.max(Instant::now() + Duration::from_millis(10))),
            Phase::Serving => None,
        };
        [self.timers.next(), drain, self.pending.next_deadline(), Some(self.next_tick.get())]
            .into_iter()
            .flatten()
            .min()
    }

    fn is_done(&self) -> bool {
        matches!(self.phase.get(), Phase::Draining { .. })
            && self.connections.borrow().is_empty()
            && self.admissions.get() == 0
    }

    /// When a draining shard stops waiting for its peers.
    pub(crate) fn drain_deadline(&self) -> Option<Instant> {
        match self.phase.get() {
            Phase::Draining { deadline } => Some(deadline),
            Phase::Serving => None,
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        matches!(self.phase.get(), Phase::Draining { .. })
    }

    pub(crate) fn connection(&self, key: ConnectionKey) -> Option<Rc<Connection>> {
        self.connections.borrow().get(key.0 as usize).cloned()
    }

    /// The connection, unless another has taken its place.
    pub(crate) fn connection_numbered(&self, key: ConnectionKey, number: ConnectionNumber) -> Option<Rc<Connection>> {
        self.connection(key).filter(|connection| connection.number == number)
    }

    pub(crate) fn all_connections(&self) -> Vec<Rc<Connection>> {
        self.connections.borrow().iter().map(|(_, connection)| connection.clone()).collect()
    }
}
