//! Accepts connections on a socket of the service's own port, as a task of the shard.
//!
//! Holds no part of the shard: accepted connections go to the loop as messages, each with a place among the pending handshakes.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::application::panic_guard::catch_task;
use crate::hub::limit::Slot;
use crate::shard::command::{Distribution, Internal, PortSocket};
use crate::shard::context::ShardContext;
use crate::transport::listener::{Accepted, Acceptor};

/// How long to wait when no pending handshake can make room yet.
const ROOM_PAUSE: Duration = Duration::from_millis(5);

struct ShardAcceptor {
    shard: Rc<ShardContext>,
    distribution: Distribution,
}

/// Starts accepting; ends when the listener is closed.
pub fn start_accepting(shard: &Rc<ShardContext>, port: PortSocket) -> AbortHandle {
    let shard = shard.clone();
    let PortSocket { socket, distribution } = port;
    let accepting = async move {
        socket.accept_loop(&ShardAcceptor { shard: shard.clone(), distribution }).await;
        shard.send(Internal::AcceptorEnded);
    };
    tokio::task::spawn_local(catch_task("accepting", accepting)).abort_handle()
}

impl ShardAcceptor {
    /// Whether the loop has closed a pending handshake.
    async fn makes_room(&self) -> bool {
        let (answer, made) = oneshot::channel();
        self.shard.send(Internal::MakeRoom { answer });
        made.await.unwrap_or(false)
    }
}

impl Acceptor for ShardAcceptor {
    type Place = Slot;

    async fn capacity(&self) -> Slot {
        loop {
            if let Some(slot) = self.shard.pending.take() {
                return slot;
            }
            if !self.makes_room().await {
                tokio::time::sleep(ROOM_PAUSE).await;
            }
        }
    }

    fn accepted(&self, accepted: Accepted, place: Slot) {
        match &self.distribution {
            Distribution::Local => self.shard.send(Internal::Accepted(accepted, place)),
            Distribution::RoundRobin(dispatch) => dispatch(accepted),
        }
    }

    async fn free_descriptor(&self) -> bool {
        self.makes_room().await
    }
}
