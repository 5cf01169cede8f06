//! Does what is due at a time.

use std::time::{Duration, Instant};

use super::driving::drive_news;
use super::parts::Parts;
use crate::application::interface::Disconnect;
use crate::error::CloseReason;
use crate::shard::close;
use crate::shard::deadlines::Moment;
use crate::shard::heartbeats::{self, Due};
use crate::transport::socket::Readiness;
use crate::types::{ConnectionKey, PeerRef};

/// Heartbeats handled before others are served.
const HEARTBEATS_PER_TURN: usize = 128;

/// When a connection is checked again whose token is still being checked at the end of its time.
const AUTH_CHECKED_AGAIN: Duration = Duration::from_millis(250);

/// Handles every deadline that is over. `time`: when the turn began.
pub fn on_time(parts: &mut Parts, time: Instant) {
    let now = parts.timers.moment(time);
    while let Some((key, batch)) = parts.timers.due_flush(now) {
        if parts.peers.connection(key).is_some_and(|connection| connection.outbox.batch() == batch) {
            parts.guarded(key, |scope| scope.flush_batch());
        }
    }
    parts.egress.clear_batches();
    parts.handshakes().expire(time);
    on_heartbeats(parts, now);
    while let Some(peer) = parts.timers.due_close_timeout(now) {
        parts.with_peer(peer, |scope| close::abort(scope, &Disconnect::Lost));
    }
    while let Some(peer) = parts.timers.due_read_resume(now) {
        parts.with_peer(peer, |scope| {
            scope.connection.is_throttled = false;
            scope.mark_ready();
        });
    }
    while let Some(peer) = parts.timers.due_auth_timeout(now) {
        on_auth_timeout(parts, peer);
    }
    while let Some(peer) = parts.timers.due_refusal_timeout(now) {
        if parts.peers.pending_of(peer).is_some() {
            parts.handshakes().remove(peer.key);
        }
    }
}

/// Handles the heartbeats that are due, so many that others are not kept waiting: after the process was stopped all are.
fn on_heartbeats(parts: &mut Parts, now: Moment) {
    for _ in 0..HEARTBEATS_PER_TURN {
        let Some((at, peer)) = parts.timers.due_heartbeat(now) else { return };
        let Some(connection) = parts.peers.connection_of(peer) else { continue };
        // Read for each heartbeat, so that every answer is about one interval.
        let stall = connection.transport.max_wait();
        if connection.liveness.is_awaited() {
            read_arrived(parts, peer.key);
        }
        parts.with_peer(peer, |scope| {
            if let Some(next) = heartbeats::on_due(scope, &Due { at, now, stall }) {
                scope.timers.schedule_heartbeat(next, peer);
            }
        });
    }
}

/// The time for an `auth` message is over.
fn on_auth_timeout(parts: &mut Parts, peer: PeerRef) {
    if parts.peers.connection_of(peer).is_some_and(|connection| connection.is_anonymous()) {
        read_arrived(parts, peer.key);
    }
    parts.with_peer(peer, |scope| {
        if !scope.connection.is_anonymous() {
            return;
        }
        if scope.connection.has_hooks_in_flight() {
            // The message arrived in time, and its answer has a deadline of its own.
            scope.timers.schedule_auth_timeout(AUTH_CHECKED_AGAIN, peer);
        } else {
            close::close(scope, CloseReason::AuthenticationRequired);
        }
    });
}

/// Reads also what the reactor has not reported yet.
fn read_arrived(parts: &mut Parts, key: ConnectionKey) {
    if let Some(connection) = parts.peers.connection(key) {
        connection.transport.on_readiness(Readiness { readable: true, ..Readiness::default() });
        drive_news(parts, key);
    }
}
