//! How a connection ends: closed by us, closed by the peer, lost, aborted, or drained at shutdown.
//!
//! A connection is unregistered once: it leaves every table when we decide to close it, before its close frame is written, so that the
//! getters agree with what the peer has received. The application gets its event when the stream has ended, at most
//! [`CLOSING_TIMEOUT`] later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::debug;

use crate::application::interface::{Disconnect, Event, EventKind, SlowConsumerPolicy};
use crate::error::CloseReason;
use crate::hub::Topic;
use crate::hub::subscription_manager::Transition;
use crate::monitoring::counters::{CloseCause, DropReason};
use crate::shard::closings::Closing;
use crate::shard::connection::State;
use crate::shard::egress::{Delivery, report_slow_consumer};
use crate::shard::scope::Scope;
use crate::transport::assembler::PeerClose;
use crate::transport::encoded_message::EncodedMessage;
use crate::types::{ConnectionId, Priority};

/// How long a peer may take to complete the closing handshake and the end of the stream.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(5);

/// What an empty close frame means (RFC 6455 §7.1.5).
const NO_STATUS_RECEIVED: u16 = 1005;

/// Sends a close frame and waits for the peer's.
pub fn close(scope: &mut Scope<'_>, reason: CloseReason) {
    if !scope.connection.is_listening() {
        return;
    }
    debug!(connection = scope.connection.number.0, code = reason.code(), "closing");
    let (why, discarded) = match reason {
        CloseReason::SlowConsumer => (DropReason::SlowConsumerClosed, scope.connection.outbox.discard()),
        _ => (DropReason::Disconnected, discard_batch(scope)),
    };
    scope.shard.counters.dropped(why, discarded);
    unregister(scope, State::after_closing(reason), &Disconnect::ByUs(reason));
    send_last(scope, EncodedMessage::close(reason.code(), reason.text()));
}

/// Closes a connection that does not read fast enough.
pub fn close_slow_consumer(scope: &mut Scope<'_>) {
    report_slow_consumer(scope.connection, SlowConsumerPolicy::Close, scope.shard);
    close(scope, CloseReason::SlowConsumer);
}

/// The peer broke the protocol: sends a close frame, and interprets nothing more of what it sends.
pub fn protocol_error(scope: &mut Scope<'_>, reason: CloseReason) {
    if scope.connection.is_listening() {
        close(scope, reason);
    } else {
        await_end(scope);
    }
}

/// The peer sent a close frame: answers it with the same code and reason, unless it answers ours.
pub fn on_peer_close(scope: &mut Scope<'_>, close: Option<PeerClose<'_>>) {
    if !scope.connection.is_listening() {
        scope.tables.closings.answered(scope.connection.key);
        await_end(scope);
        return;
    }
    let discarded = discard_batch(scope);
    scope.shard.counters.dropped(DropReason::Disconnected, discarded);
    let (frame, code, reason) = match close {
        Some(PeerClose { code, reason }) => (EncodedMessage::close(code, reason), code, reason.to_owned()),
        None => (EncodedMessage::close_empty(), NO_STATUS_RECEIVED, String::new()),
    };
    unregister(scope, State::FINISHING, &Disconnect::ByPeer { code, reason });
    send_last(scope, frame);
}

/// Ends the connection without a close frame.
pub fn abort(scope: &mut Scope<'_>, ending: &Disconnect) {
    unregister(scope, State::Aborted, ending);
    scope.mark_ready();
}

/// Sends what is left at shutdown: the batch, `announcement`, the close frame.
pub fn shut_down(scope: &mut Scope<'_>, announcement: &Arc<EncodedMessage>) {
    scope.flush_batch();
    if scope.connection.is_open() && scope.deliver(announcement, Priority::Immediate) == Delivery::Exhausted {
        debug!(connection = scope.connection.number.0, "no room to announce the shutdown");
    }
    close(scope, CloseReason::Shutdown);
}

/// The stream has ended: tells the application, and clears what the shard counts of the connection. The caller removes the peer.
pub fn finish(scope: &mut Scope<'_>, ending: &Disconnect) {
    unregister(scope, State::Aborted, ending);
    let is_written = !scope.connection.outbox.is_due();
    if let Some(Closing { id, code, reason, is_answered }) = scope.tables.closings.take(scope.connection.key) {
        // Nothing was queued behind the close frame, so if everything is written, it is, too.
        let clean = is_answered && is_written;
        scope.shard.run.application.emit(Event::Disconnection { id, code, reason, clean });
    }
    let discarded = scope.connection.outbox.discard();
    scope.shard.counters.dropped(DropReason::Disconnected, discarded);
    scope.connection.outbox = Default::default();
    scope.connection.account(&scope.shard.counters);
}

fn discard_batch(scope: &mut Scope<'_>) -> u32 {
    u32::try_from(scope.connection.outbox.take_batch().len()).unwrap_or(u32::MAX)
}

fn send_last(scope: &mut Scope<'_>, frame: Arc<EncodedMessage>) {
    scope.queue(frame);
    let peer = scope.peer();
    scope.timers.schedule_close_timeout(CLOSING_TIMEOUT, peer);
    scope.mark_ready();
}

/// Nothing more is expected but the end of the stream.
fn await_end(scope: &mut Scope<'_>) {
    if !matches!(scope.connection.state, State::Finishing { .. } | State::Aborted) {
        scope.connection.state = State::FINISHING;
    }
    scope.mark_ready();
}

/// Moves the connection to `next`; if it was open, takes it out of every table.
fn unregister(scope: &mut Scope<'_>, next: State, ending: &Disconnect) {
    let before = scope.connection.stop_listening(next);
    let run = &scope.shard.run;
    if matches!(before, State::Open(_) | State::Anonymous { .. }) {
        scope.shard.counters.closes.add(CloseCause::from(ending), 1);
    }
    let State::Open(session) = before else { return };
    let key = scope.connection.key;
    let subscriptions = &mut scope.tables.subscriptions;
    let changes: Vec<(Topic, Transition)> =
        session.topics.iter().filter_map(|id| subscriptions.unsubscribe(id, key)).collect();
    run.routing.unsubscribe(&session.user, scope.shard.id, &changes);
    run.users.close(&session.user, scope.connection.number, Instant::now());
    run.statistics.connection_closed();
    if run.application.listens(EventKind::Disconnection) {
        let closing = Closing {
            id: ConnectionId { user: session.user, number: scope.connection.number },
            code: ending.code(),
            reason: ending.reason().to_owned(),
            is_answered: matches!(ending, Disconnect::ByPeer { .. }),
        };
        scope.tables.closings.insert(key, closing);
    }
}
