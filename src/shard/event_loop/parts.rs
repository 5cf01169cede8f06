//! The parts of a shard, and what needs nearly all of them: work on one connection, publications, the end of connections.
//!
//! Only the event loop and the files beside this one see it. Everything else gets the parts it changes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tracing::error;

use crate::application::fault_injection;
use crate::application::interface::Disconnect;
use crate::application::panic_guard::{catch, record_panic};
use crate::hub::operation_queue_manager::{Operation, Receivers};
use crate::shard::close;
use crate::shard::context::ShardContext;
use crate::shard::egress::Egress;
use crate::shard::fan_out::{self, Failed, FanOut};
use crate::shard::handshake::{Established, HandshakeScope};
use crate::shard::ingress::Ingress;
use crate::shard::peers::{Peer, Peers};
use crate::shard::pending_places::PendingPlaces;
use crate::shard::run_queue::RunQueue;
use crate::shard::scope::{Scope, Tables};
use crate::shard::timers::Timers;
use crate::transport::assembler::Limits;
use crate::transport::encoded_message::EncodedMessage;
use crate::transport::socket::reactor::Registry;
use crate::types::{ConnectionKey, PeerRef, Priority};

/// Data frames of one message. Fragments cost no memory, but an endless row of them costs time.
const MAX_FRAGMENTS: u32 = 16_384;

pub struct Parts {
    pub shard: Rc<ShardContext>,
    pub peers: Peers,
    pub tables: Tables,
    pub ingress: Ingress,
    pub egress: Egress,
    pub fan_out: FanOut,
    pub timers: Timers,
    pub run_queue: RunQueue,
    pub pending_places: PendingPlaces,
}

impl Parts {
    pub fn new(shard: Rc<ShardContext>, registry: Registry, now: Instant) -> Self {
        let options = &shard.run.options;
        let limits = Limits { max_message: options.base.max_payload, max_fragments: MAX_FRAGMENTS };
        Self {
            peers: Peers::new(registry, shard.notify.clone()),
            tables: Tables::default(),
            ingress: Ingress::new(limits),
            egress: Egress::new(shard.run.runtime.values()),
            fan_out: FanOut::default(),
            timers: Timers::new(now),
            run_queue: RunQueue::default(),
            pending_places: PendingPlaces::new(shard.pending.most(), options.handshake_timeout),
            shard,
        }
    }

    pub fn publish(&mut self, operation: &Operation) {
        let Self { fan_out, peers, tables, egress, timers, run_queue, shard, .. } = self;
        let failed = fan_out.publish(operation, peers, &tables.subscriptions, egress, timers, run_queue, shard);
        self.close_failed(failed);
    }

    /// Sends a message of the service itself at once, past the queue.
    pub fn broadcast_system(&mut self, message: &Arc<EncodedMessage>) {
        self.publish(&Operation {
            receivers: Receivers::All,
            message: message.clone(),
            priority: Priority::Immediate,
            published: Instant::now(),
        });
    }

    pub fn flush_dirty(&mut self) {
        let Self { peers, egress, run_queue, shard, .. } = self;
        let broken = fan_out::flush_dirty(peers, egress, run_queue, shard);
        self.close_failed(Failed { broken, slow: Vec::new() });
    }

    pub fn close_failed(&mut self, Failed { slow, broken }: Failed) {
        for key in slow {
            self.guarded(key, close::close_slow_consumer);
        }
        for key in broken {
            self.end_by_panic(key);
        }
    }

    /// Does something with a connection that may be gone by now.
    pub fn with_peer(&mut self, peer: PeerRef, action: impl FnOnce(&mut Scope<'_>)) {
        if self.peers.connection_of(peer).is_some() {
            self.guarded(peer.key, action);
        }
    }

    /// A panic ends this connection and no other: state shared with others is only changed by code that leaves it whole, and this
    /// connection is taken out of every table.
    pub fn guarded(&mut self, key: ConnectionKey, action: impl FnOnce(&mut Scope<'_>)) {
        let acted = catch_unwind(AssertUnwindSafe(|| {
            if let Some((mut scope, _)) = self.scope(key) {
                action(&mut scope);
            }
        }));
        if acted.is_err() {
            self.end_by_panic(key);
        }
    }

    pub fn end_by_panic(&mut self, key: ConnectionKey) {
        record_panic();
        let number = self.peers.connection(key).map(|connection| connection.number.0);
        error!(connection = number, "a connection was ended by a panic");
        catch("the end of a connection", || self.finish_connection(key, &Disconnect::Lost));
        // Whatever failed again: the peer and its place go.
        self.drop_connection(key);
    }

    /// The stream of a connection has ended.
    pub fn remove_connection(&mut self, key: ConnectionKey, ending: &Disconnect) {
        if catch_unwind(AssertUnwindSafe(|| self.finish_connection(key, ending))).is_err() {
            self.end_by_panic(key);
        }
    }

    /// Does something with a pending handshake, which may become a connection. A panic ends this handshake and no other.
    pub fn guarded_handshake(
        &mut self,
        key: ConnectionKey,
        action: impl FnOnce(&mut HandshakeScope<'_>) -> Option<Established>,
    ) -> Option<Established> {
        let acted = catch_unwind(AssertUnwindSafe(|| {
            fault_injection::trip("a pending handshake");
            action(&mut self.handshakes())
        }));
        acted.unwrap_or_else(|_panic| {
            match self.peers.get_mut(key) {
                Some(Peer::Connection(_)) => self.end_by_panic(key),
                _ => {
                    record_panic();
                    error!("a handshake was ended by a panic");
                    catch("the end of a handshake", || self.handshakes().remove(key));
                }
            }
            None
        })
    }

    fn finish_connection(&mut self, key: ConnectionKey, ending: &Disconnect) {
        if let Some((mut scope, _)) = self.scope(key) {
            close::finish(&mut scope, ending);
            self.drop_connection(key);
        }
    }

    fn drop_connection(&mut self, key: ConnectionKey) {
        if self.peers.connection(key).is_some() {
            self.ingress.remove(key);
            self.peers.remove(key);
            self.shard.run.connection_places.give_back(1);
        }
    }

    pub fn scope(&mut self, key: ConnectionKey) -> Option<(Scope<'_>, &mut Ingress)> {
        let Self { peers, tables, egress, timers, run_queue, shard, ingress, .. } = self;
        let connection = peers.connection(key)?;
        Some((Scope { connection, tables, egress, timers, run_queue, shard }, ingress))
    }

    pub fn handshakes(&mut self) -> HandshakeScope<'_> {
        let Self { peers, pending_places, timers, run_queue, shard, ingress, .. } = self;
        let buffer = &mut *ingress.buffer;
        HandshakeScope { peers, places: pending_places, timers, run_queue, buffer, shard }
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // Those that were not removed one by one.
        self.shard.run.connection_places.give_back(self.peers.connection_count());
    }
}
