//! The peers of one shard under their keys: open connections, and handshakes that are not finished.
//!
//! Owned by the event loop. A peer keeps its key from the first byte of its handshake to the end of its connection; the reactor
//! reports news under it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use slab::Slab;
use tokio::sync::Notify;

use crate::shard::connection::Connection;
use crate::shard::pending::{PendingHandshake, Stage};
use crate::shard::wake_queue::WakeQueue;
use crate::transport::socket::reactor::Registry;
use crate::transport::{Source, Transport};
use crate::types::{ConnectionKey, ConnectionNumber, PeerRef};

/// Counts the peers of all services of the process.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

pub enum Peer {
    Connection(Box<Connection>),
    Pending(Box<PendingHandshake>),
}

pub struct Peers {
    peers: Slab<Peer>,
    connections: usize,
    /// Where sockets are watched.
    registry: Registry,
    /// Peers whose transport wakes from another thread.
    wakes: Arc<WakeQueue>,
}

impl Peers {
    pub fn new(registry: Registry, notify: Arc<Notify>) -> Self {
        Self { peers: Slab::new(), connections: 0, registry, wakes: Arc::new(WakeQueue::new(notify)) }
    }

    /// Watches a source and adds the peer that `make` builds on it.
    pub fn insert(&mut self, source: Source, make: impl FnOnce(PeerRef, Transport) -> Peer) -> io::Result<PeerRef> {
        let entry = self.peers.vacant_entry();
        // A shard would need 2^32 descriptors to run out of keys.
        let key = ConnectionKey(u32::try_from(entry.key()).map_err(|_| io::ErrorKind::OutOfMemory)?);
        let peer = PeerRef { key, number: next_number() };
        let made = make(peer, Transport::register(source, &self.registry, key.0)?);
        self.connections += usize::from(matches!(made, Peer::Connection(_)));
        entry.insert(made);
        Ok(peer)
    }

    /// Adds a pending handshake whose source is not watched yet.
    pub fn insert_unwatched(&mut self, stage: Stage) -> Option<PeerRef> {
        let entry = self.peers.vacant_entry();
        let peer = PeerRef { key: ConnectionKey(u32::try_from(entry.key()).ok()?), number: next_number() };
        entry.insert(Peer::Pending(Box::new(PendingHandshake::new(peer.number, stage))));
        Some(peer)
    }

    /// Watches a source under the key of its pending handshake.
    pub fn watch(&self, key: ConnectionKey, source: Source) -> io::Result<Transport> {
        Transport::register(source, &self.registry, key.0)
    }

    /// A transport that was taken out of its peer is about to be dropped.
    pub fn unwatch(&self, transport: &Transport) {
        transport.deregister(&self.registry);
    }

    /// Replaces a pending handshake by what it has become.
    pub fn replace(&mut self, key: ConnectionKey, make: impl FnOnce(PeerRef) -> Peer) -> Option<PeerRef> {
        let place = self.peers.get_mut(key.0 as usize)?;
        let Peer::Pending(pending) = place else { return None };
        let peer = PeerRef { key, number: pending.number };
        *place = make(peer);
        self.connections += usize::from(matches!(place, Peer::Connection(_)));
        Some(peer)
    }

    /// Removes a peer and closes its transport.
    pub fn remove(&mut self, key: ConnectionKey) -> Option<Peer> {
        let peer = self.peers.try_remove(key.0 as usize)?;
        match &peer {
            Peer::Connection(connection) => {
                self.connections -= 1;
                connection.transport.deregister(&self.registry);
            }
            Peer::Pending(pending) => {
                if let Some(transport) = pending.transport() {
                    transport.deregister(&self.registry);
                }
            }
        }
        Some(peer)
    }

    pub fn get_mut(&mut self, key: ConnectionKey) -> Option<&mut Peer> {
        self.peers.get_mut(key.0 as usize)
    }

    pub fn connection(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        match self.peers.get_mut(key.0 as usize) {
            Some(Peer::Connection(connection)) => Some(connection),
            _ => None,
        }
    }

    /// The connection, unless another has its key by now.
    pub fn connection_of(&mut self, peer: PeerRef) -> Option<&mut Connection> {
        self.connection(peer.key).filter(|connection| connection.number == peer.number)
    }

    pub fn pending(&mut self, key: ConnectionKey) -> Option<&mut PendingHandshake> {
        match self.peers.get_mut(key.0 as usize) {
            Some(Peer::Pending(pending)) => Some(pending),
            _ => None,
        }
    }

    pub fn pending_of(&mut self, peer: PeerRef) -> Option<&mut PendingHandshake> {
        self.pending(peer.key).filter(|pending| pending.number == peer.number)
    }

    /// All connections.
    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.peers.iter().filter_map(|(_, peer)| match peer {
            Peer::Connection(connection) => Some(&**connection),
            Peer::Pending(_) => None,
        })
    }

    pub fn connections_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.peers.iter_mut().filter_map(|(_, peer)| match peer {
            Peer::Connection(connection) => Some(&mut **connection),
            Peer::Pending(_) => None,
        })
    }

    /// For work on each connection that needs other parts, too.
    pub fn connection_keys(&self) -> Vec<ConnectionKey> {
        self.connections().map(|connection| connection.key).collect()
    }

    pub fn pending_keys(&self) -> Vec<ConnectionKey> {
        let pending = self.peers.iter().filter(|(_, peer)| matches!(peer, Peer::Pending(_)));
        pending.filter_map(|(key, _)| u32::try_from(key).ok()).map(ConnectionKey).collect()
    }

    pub fn connection_count(&self) -> usize {
        self.connections
    }

    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Wakes the shard for one peer whose transport does not report to the reactor.
    pub fn waker(&self, peer: PeerRef) -> Waker {
        self.wakes.waker(peer)
    }

    /// The peers that were woken since this was last called, in order; one may be there several times.
    pub fn take_woken(&self) -> Vec<PeerRef> {
        self.wakes.take()
    }

    pub fn shrink_to_fit(&mut self) {
        self.peers.shrink_to_fit();
    }

    /// What the table takes, without the peers themselves.
    pub fn heap_bytes(&self) -> usize {
        self.peers.capacity() * size_of::<Peer>()
    }
}

/// A number that no other peer of the process has.
fn next_number() -> ConnectionNumber {
    ConnectionNumber(NEXT_NUMBER.fetch_add(1, Ordering::Relaxed))
}
