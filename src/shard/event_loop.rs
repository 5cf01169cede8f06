//! The event loop of one shard: owns its parts and takes its turns.
//!
//! Runs on the shard's thread, in one tokio current-thread runtime. Each turn does some of everything, so that a flood of one kind does
//! not starve the others: commands and results of tasks, publications, peers with news, deadlines, and one write per connection.

mod deadlines;
mod driving;
mod parts;
mod shutdown;
mod upkeep;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::task::AbortHandle;
use tracing::debug;

use self::parts::Parts;
use crate::application::fault_injection;
use crate::application::panic_guard::catch;
use crate::hub::operation_queue_manager::OperationQueue;
use crate::shard::acceptor::start_accepting;
use crate::shard::command::{Command, Internal, PortSocket, UpgradeRequest};
use crate::shard::context::ShardContext;
use crate::shard::parker::Parker;
use crate::shard::probe::{Probe, SnapshotSlot};
use crate::shard::{close, session};
use crate::transport::socket::reactor::{Reactor, Registry};
use crate::types::PeerRef;

/// Publications delivered before connections are driven.
const OPERATIONS_PER_TURN: usize = 128;

/// Commands, and results of tasks, handled before publications are delivered.
const COMMANDS_PER_TURN: usize = 64;

/// How often a draining shard looks again after its deadline.
const AFTER_DEADLINE: Duration = Duration::from_millis(10);

/// How long upgrade requests are answered in one turn.
const HANDSHAKE_SLICE: Duration = Duration::from_millis(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining { deadline: Instant },
}

/// The receiving ends of everything that is sent to a shard.
pub struct Inbox {
    pub commands: mpsc::UnboundedReceiver<Command>,
    pub operations: Arc<OperationQueue>,
}

pub struct EventLoop {
    parts: Parts,
    probe: Probe,
    results: mpsc::UnboundedReceiver<Internal>,
    /// The socket of the own port. Outlives a loop that fails.
    listener: Option<PortSocket>,
    accepting: Option<AbortHandle>,
    phase: Phase,
    /// Makes the next turn panic where nothing catches it.
    #[cfg(test)]
    is_to_break: bool,
}

impl EventLoop {
    pub fn new(
        shard: Rc<ShardContext>,
        results: mpsc::UnboundedReceiver<Internal>,
        snapshots: Arc<SnapshotSlot>,
        registry: Registry,
        listener: Option<PortSocket>,
    ) -> Self {
        let now = Instant::now();
        let probe = Probe::new(snapshots, shard.run.options.base.health_check_interval, now);
        Self {
            parts: Parts::new(shard, registry, now),
            probe,
            results,
            listener,
            accepting: None,
            phase: Phase::Serving,
            #[cfg(test)]
            is_to_break: false,
        }
    }

    pub async fn run(&mut self, inbox: &mut Inbox, reactor: &mut Reactor) {
        debug!(shard = self.parts.shard.id.0, "shard started");
        if let Some(listener) = self.listener.clone() {
            self.accepting = Some(start_accepting(&self.parts.shard, listener));
        }
        let shard = self.parts.shard.clone();
        let mut parker = Parker::new(&shard.notify);
        while !self.is_done() {
            let has_waited = if self.is_idle(inbox) { parker.wait(self.next_deadline(), reactor).await } else { false };
            #[cfg(test)]
            assert!(!self.is_to_break, "as the test wants it");
            fault_injection::trip("a shard");
            self.take_commands(inbox);
            self.take_results();
            self.take_operations(&inbox.operations);
            driving::drive_peers(&mut self.parts, reactor);
            catch("timers", || self.on_time(Instant::now()));
            catch("writing", || self.parts.flush_dirty());
            self.parts.egress.record_latencies(&self.parts.shard.counters);
            // A loop that never waits would keep the runtime from its tasks, and from looking for news.
            if !has_waited {
                tokio::task::yield_now().await;
            }
        }
        debug!(shard = self.parts.shard.id.0, "shard ended");
    }

    /// Ends the connections of a loop that has failed.
    pub async fn give_up(&mut self, reactor: &mut Reactor, deadline: Instant) {
        if let Some(accepting) = self.accepting.take() {
            // Connections wait in the system's queue for the next loop.
            accepting.abort();
        }
        shutdown::give_up(&mut self.parts, reactor, deadline).await;
    }

    /// For the loop that follows this one.
    pub fn take_listener(&mut self) -> Option<PortSocket> {
        self.listener.take()
    }

    pub fn is_draining(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. })
    }

    fn is_idle(&self, inbox: &Inbox) -> bool {
        inbox.commands.is_empty()
            && self.results.is_empty()
            && inbox.operations.is_empty()
            && self.parts.run_queue.is_empty()
    }

    fn is_done(&self) -> bool {
        self.is_draining() && self.parts.peers.is_empty()
    }

    fn next_deadline(&self) -> Option<Instant> {
        let drain = match self.phase {
            // Past the deadline the loop waits for the tasks and peers that were aborted, without spinning.
            Phase::Draining { deadline } => Some(deadline.max(Instant::now() + AFTER_DEADLINE)),
            Phase::Serving => None,
        };
        [self.parts.timers.next(), drain, self.parts.pending_places.next_deadline(), Some(self.probe.next_tick())]
            .into_iter()
            .flatten()
            .min()
    }

    fn take_commands(&mut self, inbox: &mut Inbox) {
        // Looked up when it is needed: few turns have requests.
        let mut began = None;
        for _ in 0..COMMANDS_PER_TURN {
            match inbox.commands.try_recv() {
                Ok(Command::Accept(request)) => {
                    let began = *began.get_or_insert_with(Instant::now);
                    catch("an upgrade request", || self.accept(*request));
                    if began.elapsed() >= HANDSHAKE_SLICE {
                        break;
                    }
                }
                Ok(command) => {
                    catch("a command", || self.handle_command(command, &inbox.operations));
                }
                Err(TryRecvError::Empty) => break,
                // Every handle is gone: no command to drain can come.
                Err(TryRecvError::Disconnected) => {
                    catch("draining", || self.begin_draining(&inbox.operations, Instant::now()));
                    break;
                }
            }
        }
    }

    /// Answers an upgrade request that Node has read.
    fn accept(&mut self, request: UpgradeRequest) {
        let established = self.parts.handshakes().accept(request);
        driving::open(&mut self.parts, established);
    }

    fn handle_command(&mut self, command: Command, operations: &OperationQueue) {
        match command {
            Command::Accept(request) => self.accept(*request),
            Command::BroadcastSystem(message) => self.parts.broadcast_system(&message),
            #[cfg(test)]
            Command::Break => self.is_to_break = true,
            Command::ClearBuffers => upkeep::clear_buffers(&mut self.parts),
            Command::Close { key, number, reason } => {
                if self.parts.peers.connection_of(PeerRef { key, number }).is_some() {
                    self.parts.guarded(key, |scope| close::close(scope, reason));
                }
            }
            Command::Drain { deadline } => self.begin_draining(operations, deadline),
            Command::Reclaim { depth, report } => {
                // The memory manager may have stopped waiting.
                let _ = report.send(upkeep::reclaim(&mut self.parts, depth));
            }
            Command::Reconfigure(values) => upkeep::reconfigure(&mut self.parts, values),
            Command::Receive(accepted) => {
                let established = self.parts.handshakes().receive(accepted);
                driving::open(&mut self.parts, established);
            }
            Command::StartAccepting(listener) => {
                self.accepting = Some(start_accepting(&self.parts.shard, listener.clone()));
                self.listener = Some(listener);
            }
        }
    }

    fn take_results(&mut self) {
        for _ in 0..COMMANDS_PER_TURN {
            let Ok(result) = self.results.try_recv() else { break };
            catch("a result", || self.handle_result(result));
        }
    }

    fn handle_result(&mut self, result: Internal) {
        match result {
            Internal::Accepted(accepted, slot) => {
                let established = self.parts.handshakes().read_request(accepted, slot);
                driving::open(&mut self.parts, established);
            }
            Internal::AcceptorEnded => self.listener = None,
            Internal::Authenticated { peer, message_id, result } => {
                self.parts.with_peer(peer, |scope| session::on_authenticated(scope, message_id.as_ref(), result));
            }
            Internal::Authorized { peer, result } => {
                let established = self.parts.guarded_handshake(peer.key, |scope| scope.on_authorized(peer, result));
                driving::open(&mut self.parts, established);
            }
            Internal::MakeRoom { answer } => {
                // The acceptor may have been stopped.
                let _ = answer.send(self.parts.handshakes().make_room());
            }
            Internal::Replied { peer, reply } => self.parts.with_peer(peer, |scope| session::on_replied(scope, reply)),
            Internal::TaskFailed { peer } => match self.parts.peers.pending_of(peer) {
                Some(_) => self.parts.handshakes().remove(peer.key),
                None => self.parts.with_peer(peer, |scope| session::on_replied(scope, None)),
            },
        }
    }

    fn take_operations(&mut self, operations: &OperationQueue) {
        let mut taken = Vec::new();
        operations.take(OPERATIONS_PER_TURN, &mut taken);
        self.parts.egress.is_single_publish = taken.len() == 1;
        for operation in &taken {
            catch("a publication", || self.parts.publish(operation));
            self.parts.egress.note_published(operation.published);
        }
        self.parts.egress.is_single_publish = false;
    }

    fn begin_draining(&mut self, operations: &OperationQueue, deadline: Instant) {
        // A second command can only bring the end nearer: the process is about to exit.
        let deadline = match self.phase {
            Phase::Draining { deadline: earlier } => earlier.min(deadline),
            Phase::Serving => {
                while !operations.is_empty() {
                    self.take_operations(operations);
                    self.parts.flush_dirty();
                }
                shutdown::announce_shutdown(&mut self.parts);
                self.parts.handshakes().drop_unread();
                deadline
            }
        };
        self.phase = Phase::Draining { deadline };
        self.parts.shard.stop.set();
        if deadline <= Instant::now() {
            shutdown::abort_all(&mut self.parts);
        }
    }

    fn on_time(&mut self, now: Instant) {
        if let Phase::Draining { deadline } = self.phase
            && now >= deadline
        {
            shutdown::abort_all(&mut self.parts);
        }
        let Parts { peers, tables, shard, .. } = &self.parts;
        if now >= self.probe.next_tick() {
            self.probe.on_second(now, peers, &tables.subscriptions, shard);
        }
        deadlines::on_time(&mut self.parts, now);
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
        }
    }
}
