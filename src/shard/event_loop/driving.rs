//! Drives the peers that have news, are ready, or wait in the backlog.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::parts::Parts;
use crate::shard::drive::drive;
use crate::shard::establish::establish;
use crate::shard::handshake::Established;
use crate::shard::ingress::{Budget, Rest};
use crate::shard::peers::Peer;
use crate::transport::socket::Readiness;
use crate::transport::socket::reactor::Reactor;
use crate::types::{ConnectionKey, PeerRef};

/// How long connections of the backlog are driven before others are.
const BACKLOG_SLICE: Duration = Duration::from_millis(3);

/// Opens the connection of a handshake that was authorized.
pub fn open(parts: &mut Parts, established: Option<Established>) {
    let Some(Established { key, upgrade, session, early }) = established else { return };
    parts.guarded(key, |scope| establish(scope, &upgrade, session));
    if let Some(connection) = parts.peers.connection(key) {
        // The first turn begins with what came in the packet of the request.
        parts.ingress.keep(connection, Rest::new(early));
    }
    drive_connection(parts, key, Budget::first());
}

pub fn drive_peers(parts: &mut Parts, reactor: &mut Reactor) {
    reactor.take_events(|key, news| on_news(parts, ConnectionKey(key), news));
    for peer in parts.peers.take_woken() {
        match parts.peers.pending_of(peer) {
            Some(_) => drive_pending(parts, peer.key),
            None => parts.with_peer(peer, |scope| scope.mark_ready()),
        }
    }
    // What is marked ready by these turns is driven in the next.
    for key in parts.run_queue.take_ready() {
        // Another peer may have the key by now.
        match parts.peers.get_mut(key) {
            Some(Peer::Connection(connection)) if connection.is_ready => {
                connection.is_ready = false;
                drive_news(parts, key);
            }
            Some(Peer::Pending(pending)) if pending.is_ready => {
                pending.is_ready = false;
                drive_pending(parts, key);
            }
            _ => {}
        }
    }
    drive_backlog(parts);
}

fn on_news(parts: &mut Parts, key: ConnectionKey, news: Readiness) {
    match parts.peers.get_mut(key) {
        Some(Peer::Connection(connection)) => {
            connection.transport.on_readiness(news);
            drive_news(parts, key);
        }
        Some(Peer::Pending(pending)) => {
            if let Some(transport) = pending.transport() {
                transport.on_readiness(news);
            }
            drive_pending(parts, key);
        }
        None => {}
    }
}

pub fn drive_news(parts: &mut Parts, key: ConnectionKey) {
    // What waits in the backlog continues from there, and others are not kept waiting for it.
    let is_behind = parts.peers.connection(key).is_some_and(|connection| connection.is_behind);
    drive_connection(parts, key, if is_behind { Budget::nothing() } else { Budget::first() });
}

/// Drives connections whose last turn was too short, each at most once.
fn drive_backlog(parts: &mut Parts) {
    let waiting = parts.run_queue.backlog_len();
    if waiting == 0 {
        return;
    }
    let began = Instant::now();
    for _ in 0..waiting {
        let Some(key) = parts.run_queue.next_deferred() else { break };
        if let Some(connection) = parts.peers.connection(key)
            && std::mem::take(&mut connection.is_behind)
        {
            drive_connection(parts, key, Budget::further());
        }
        if began.elapsed() >= BACKLOG_SLICE {
            break;
        }
    }
}

fn drive_connection(parts: &mut Parts, key: ConnectionKey, budget: Budget) {
    let Some(connection) = parts.peers.connection(key) else { return };
    let peer = PeerRef { key, number: connection.number };
    let waker = connection.transport.wakes().then(|| parts.peers.waker(peer));
    let mut cx = Context::from_waker(waker.as_ref().unwrap_or(Waker::noop()));
    let driven = catch_unwind(AssertUnwindSafe(|| {
        let (mut scope, ingress) = parts.scope(key)?;
        Some(drive(&mut scope, ingress, budget, &mut cx))
    }));
    match driven {
        Ok(Some(Poll::Ready(ending))) => parts.remove_connection(key, &ending),
        Ok(_) => {}
        Err(_panic) => parts.end_by_panic(key),
    }
}

fn drive_pending(parts: &mut Parts, key: ConnectionKey) {
    let established = parts.guarded_handshake(key, |scope| scope.drive(key));
    open(parts, established);
}
