//! Messages to a shard: commands of other threads, and the results of the shard's own tasks.
//!
//! Both are bookkeeping: never dropped, and not counted against the bound of publications.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use tokio::sync::{Notify, oneshot};

use crate::config::RuntimeValues;
use crate::error::CloseReason;
use crate::hub::limit::Slot;
use crate::memory::memory_manager::ReclaimLevel;
use crate::protocol::json::SharedJson;
use crate::protocol::message_handler::Reply;
use crate::shard::access::{AuthFault, Authorized, Renewal};
use crate::shard::reclaim::Reclaimed;
use crate::transport::Source;
use crate::transport::encoded_message::EncodedMessage;
use crate::transport::forwarded::Peer;
use crate::transport::handshake::{Rejection, RequestHead};
use crate::transport::listener::{Accepted, ListenerSocket};
use crate::types::{ConnectionKey, ConnectionNumber, PeerRef};

/// A request of another thread.
pub enum Command {
    /// Answer an upgrade request that Node has read.
    Accept(Box<UpgradeRequest>),
    /// Send a message of the service itself to every open connection.
    BroadcastSystem(Arc<EncodedMessage>),
    /// Panic where nothing catches it.
    #[cfg(test)]
    Break,
    /// Discard batches and caches; connections stay.
    ClearBuffers,
    /// Close the connection, if it is still there.
    Close { key: ConnectionKey, number: ConnectionNumber, reason: CloseReason },
    /// Write what was published, close every connection, and end when they are gone or at the deadline.
    Drain { deadline: Instant },
    /// Give back memory that is not needed, and report how much it was.
    Reclaim { depth: ReclaimLevel, report: mpsc::Sender<Reclaimed> },
    /// Apply changed runtime configuration.
    Reconfigure(RuntimeValues),
    /// Read the request of a connection that another shard has accepted.
    Receive(Accepted),
    /// Accept connections on this socket.
    StartAccepting(PortSocket),
}

/// The result of one of the shard's tasks.
pub enum Internal {
    /// A connection was accepted. The slot is its place among the pending handshakes.
    Accepted(Accepted, Slot),
    /// The listener was closed.
    AcceptorEnded,
    /// An `auth` message was checked.
    Authenticated {
        peer: PeerRef,
        message_id: Option<SharedJson>,
        /// Without a renewal the connection had no user when the check began.
        result: Result<Renewal, AuthFault>,
    },
    /// The look-up of a handshake has ended.
    Authorized { peer: PeerRef, result: Result<Authorized, Rejection> },
    /// Can a silent pending handshake be closed, so that another connection gets its place or descriptor?
    MakeRoom { answer: oneshot::Sender<bool> },
    /// The hook of a request has answered.
    Replied { peer: PeerRef, reply: Option<Reply> },
    /// A task ended by a panic.
    TaskFailed { peer: PeerRef },
}

/// A peer that asks for an upgrade.
pub struct UpgradeRequest {
    pub source: Source,
    pub head: RequestHead,
    /// Bytes that followed the request in the same packet.
    pub early: Vec<u8>,
    /// The peer's address, if something else than the source knows it better.
    pub peer: Option<Peer>,
}

/// A socket of the service's own port, and which shard reads what it accepts.
#[derive(Clone)]
pub struct PortSocket {
    pub socket: ListenerSocket,
    pub distribution: Distribution,
}

#[derive(Clone)]
pub enum Distribution {
    /// The shard that accepts: each has a socket of its own.
    Local,
    /// All shards in turn, by this function.
    RoundRobin(Arc<dyn Fn(Accepted) + Send + Sync>),
}

/// Sends commands to a shard without keeping it alive.
pub struct ShardInbox {
    commands: tokio::sync::mpsc::WeakUnboundedSender<Command>,
    notify: Arc<Notify>,
}

impl ShardInbox {
    pub fn new(commands: tokio::sync::mpsc::WeakUnboundedSender<Command>, notify: Arc<Notify>) -> Self {
        Self { commands, notify }
    }

    /// Does nothing if the shard has ended.
    pub fn send(&self, command: Command) {
        if let Some(commands) = self.commands.upgrade() {
            // The shard may end between the two.
            let _ = commands.send(command);
            self.notify.notify_one();
        }
    }
}
