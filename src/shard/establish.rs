//! Turns an authorized handshake into an open connection, and gives a connection its user.
//!
//! The 101 is queued after the connection stands in every table, so that whatever a client does after it finds the connection there.

use std::time::Instant;

use crate::application::interface::{Event, EventKind};
use crate::error::CloseReason;
use crate::hub::connection_manager::{Arrival, ConnectionRef, Opened, Reservation};
use crate::hub::subscription_manager::Topics;
use crate::monitoring::counters::Traffic;
use crate::protocol::outgoing;
use crate::shard::access::SessionPlace;
use crate::shard::connection::{Connection, Session, State};
use crate::shard::scope::Scope;
use crate::transport::Transport;
use crate::transport::deflate::Negotiated;
use crate::transport::encoded_message::EncodedMessage;
use crate::transport::encoding::Encoding;
use crate::transport::handshake::Upgrade;
use crate::types::UnixMillis;
use crate::types::{ConnectionId, PeerRef};

/// A connection that has not answered its handshake yet.
pub fn new_connection(peer: PeerRef, transport: Transport, upgrade: &Upgrade, remote_address: Box<str>) -> Connection {
    let encoding = upgrade.deflate().as_ref().map_or(Encoding::Plain, Negotiated::encoding);
    let state = State::Anonymous { remote_address, slot: None };
    Connection::new(peer.number, peer.key, encoding, transport, state)
}

/// Answers the handshake and opens the session, or waits for the client's `auth` message.
pub fn establish(scope: &mut Scope<'_>, upgrade: &Upgrade, place: SessionPlace) {
    let (peer, options) = (scope.peer(), &scope.shard.run.options);
    scope.queue(EncodedMessage::raw(upgrade.response()));
    scope.timers.schedule_heartbeat(options.base.heartbeat_interval, peer);
    match place {
        SessionPlace::User(reservation) => open_session(scope, reservation),
        SessionPlace::Anonymous(place) => {
            if let State::Anonymous { slot, .. } = &mut scope.connection.state {
                *slot = Some(place);
            }
            if let Some(timeout) = options.auth_timeout {
                scope.timers.schedule_auth_timeout(timeout, peer);
            }
        }
    }
}

/// Makes an anonymous connection its user's: it counts, can be found, and is greeted.
pub fn open_session(scope: &mut Scope<'_>, reservation: Reservation) {
    let shard = scope.shard;
    let now = UnixMillis::now();
    let user = reservation.user().clone();
    let open = State::Open(Session { user: user.clone(), topics: Topics::default() });
    let before = std::mem::replace(&mut scope.connection.state, open);
    let remote_address = match before {
        State::Anonymous { remote_address, .. } => remote_address,
        _ => unreachable!("callers see that the connection is anonymous"),
    };
    let number = scope.connection.number;
    let reference = ConnectionRef { number, key: scope.connection.key, shard: shard.id };
    let Opened { arrival, replaced } = reservation.open(reference, Instant::now());
    if let Some(oldest) = replaced {
        shard.run.close(oldest, CloseReason::Replaced);
    }
    shard.run.statistics.connection_opened(arrival == Arrival::Reconnected);
    shard.counters.activity(now);
    let base = &shard.run.options.base;
    let id = ConnectionId { user, number };
    let greeting =
        outgoing::connected(&id, now.as_f64(), base.heartbeat_interval.as_millis() as f64, base.max_payload as f64);
    // A frame of its own, since few clients unpack batches; past the bound, since nothing may precede it. What waits is the ack of
    // the message that opened the session.
    scope.flush_batch();
    scope.queue(EncodedMessage::text(greeting));
    shard.counters.traffic.add(Traffic::Deliveries, 1);
    if shard.run.application.listens(EventKind::Connection) {
        shard.run.application.emit(Event::Connection { id, remote_address: remote_address.into() });
    }
}
