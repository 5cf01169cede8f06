//! Ends all connections of a shard: with an announcement at shutdown, at once after the grace period, or with 1012 after a failure.

use std::time::Instant;

use super::driving::drive_peers;
use super::parts::Parts;
use crate::application::interface::Disconnect;
use crate::application::panic_guard::catch;
use crate::error::CloseReason;
use crate::protocol::outgoing;
use crate::shard::close;
use crate::shard::parker::Parker;
use crate::transport::encoded_message::EncodedMessage;
use crate::transport::socket::reactor::Reactor;
use crate::types::UnixMillis;

/// Everything published has been queued: the batches, the announcement and the close frame follow.
pub fn announce_shutdown(parts: &mut Parts) {
    let reconnect_delay = parts.shard.run.options.base.reconnect_delay.as_millis() as f64;
    let announcement = EncodedMessage::text(outgoing::server_shutdown(UnixMillis::now().as_f64(), reconnect_delay));
    for key in parts.peers.connection_keys() {
        let closed = catch("a close at shutdown", || {
            if let Some((mut scope, _)) = parts.scope(key) {
                close::shut_down(&mut scope, &announcement);
            }
        });
        if closed.is_none() {
            parts.guarded(key, |scope| close::abort(scope, &Disconnect::Lost));
        }
    }
    parts.egress.clear_batches();
}

/// The grace period is over.
pub fn abort_all(parts: &mut Parts) {
    for key in parts.peers.connection_keys() {
        parts.guarded(key, |scope| {
            scope.connection.transport.abort();
            close::abort(scope, &Disconnect::GraceExceeded);
        });
    }
    for key in parts.peers.pending_keys() {
        parts.handshakes().remove(key);
    }
}

/// Closes every connection with 1012 and waits until `deadline` for their close frames to be written. For a loop that has failed: what
/// fails here fails alone.
pub async fn give_up(parts: &mut Parts, reactor: &mut Reactor, deadline: Instant) {
    for key in parts.peers.pending_keys() {
        catch("a handshake of a failed shard", || parts.handshakes().remove(key));
    }
    for key in parts.peers.connection_keys() {
        catch("a connection of a failed shard", || {
            parts.guarded(key, |scope| close::close(scope, CloseReason::ServiceRestart));
        });
    }
    catch("last frames", || parts.flush_dirty());
    let shard = parts.shard.clone();
    let mut parker = Parker::new(&shard.notify);
    while !parts.peers.is_empty() && Instant::now() < deadline {
        if parts.run_queue.is_empty() {
            parker.wait(Some(deadline), reactor).await;
        }
        catch("last frames", || drive_peers(parts, reactor));
    }
    // A notification that was meant for the next loop may have been consumed here.
    shard.notify.notify_one();
    for key in parts.peers.connection_keys() {
        catch("a connection of a failed shard", || parts.remove_connection(key, &Disconnect::Lost));
    }
}
