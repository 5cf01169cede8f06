//! How connections go: closed by us, closed by the peer, lost, cut, or drained at shutdown.
//!
//! A connection departs once: it leaves every table at the moment its end is decided, before its close frame is written, so
//! that what the getters say agrees with what the peer has been told. The application is told when the connection has
//! really ended, which may be up to [`CLOSING_TIMEOUT`] later. Runs on the shard's thread.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tracing::debug;

use crate::application::interface::{Ending, Event, EventKind};
use crate::application::panic_guard::catch;
use crate::error::CloseReason;
use crate::hub::subscription_manager::Transition;
use crate::monitoring::counters::{CloseCause, DropReason};
use crate::protocol::outgoing;
use crate::shard::connection::{Connection, State};
use crate::shard::event_loop::Shard;
use crate::transport::assembler::PeerClose;
use crate::transport::encoded_message::EncodedMessage;
use crate::types::{BillId, ConnectionId, ConnectionKey, Priority, UnixMillis};

/// How long a peer may take to complete the closing handshake and the end of the stream.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(5);

/// What an empty close frame means (RFC 6455 §7.1.5).
const NO_STATUS_RECEIVED: u16 = 1005;

/// Connections that have left the tables and have not ended yet, for the event that tells of the end. Empty while nobody
/// listens.
#[derive(Default)]
pub(crate) struct Departures(RefCell<FxHashMap<ConnectionKey, Departure>>);

struct Departure {
    id: ConnectionId,
    code: u16,
    reason: String,
    /// Whether the peer has sent its close frame.
    is_answered: bool,
}

impl Departures {
    /// The peer's close frame has come.
    fn answered(&self, key: ConnectionKey) {
        if let Some(departure) = self.0.borrow_mut().get_mut(&key) {
            departure.is_answered = true;
        }
    }

    fn take(&self, key: ConnectionKey) -> Option<Departure> {
        let mut departures = self.0.borrow_mut();
        let departure = departures.remove(&key);
        if departures.is_empty() {
            // The end of a crowd must not keep its room.
            *departures = FxHashMap::default();
        }
        departure
    }
}

impl Shard {
    /// Sends a close frame and waits for the peer's.
    pub(crate) fn close(&self, connection: &Rc<Connection>, reason: CloseReason) {
        if !connection.is_listening() {
            return;
        }
        debug!(connection = connection.number.0, code = reason.code(), "closing");
        let (why, discarded) = match reason {
            CloseReason::SlowConsumer => (DropReason::SlowConsumerClosed, connection.outbox.borrow_mut().discard()),
            _ => {
                let waiting = connection.outbox.borrow_mut().take_batch().len();
                (DropReason::Disconnected, u32::try_from(waiting).unwrap_or(u32::MAX))
            }
        };
        self.counters.dropped(why, discarded);
        let next = State::after_closing(reason);
        self.depart(connection, next, &Ending::ByUs(reason));
        self.queue(connection, EncodedMessage::close(reason.code(), reason.text()));
        self.timers.linger_for(CLOSING_TIMEOUT, connection.key, connection.number);
        self.rouse(connection);
    }

    /// The peer broke the protocol: a close frame, and nothing it sends is understood any more.
    pub(crate) fn fault(&self, connection: &Rc<Connection>, reason: CloseReason) {
        if connection.is_listening() {
            self.close(connection, reason);
        } else {
            self.finish(connection);
        }
    }

    /// The peer sent a close frame: it is answered with the same code and reason, unless it answers ours.
    pub(crate) fn peer_closed(&self, connection: &Rc<Connection>, close: Option<PeerClose<'_>>) {
        if !connection.is_listening() {
            self.departures.answered(connection.key);
            self.finish(connection);
            return;
        }
        let discarded = connection.outbox.borrow_mut().take_batch().len();
        self.counters.dropped(DropReason::Disconnected, u32::try_from(discarded).unwrap_or(u32::MAX));
        let (frame, code, reason) = match close {
            Some(PeerClose { code, reason }) => (EncodedMessage::close(code, reason), code, reason.to_owned()),
            None => (EncodedMessage::close_empty(), NO_STATUS_RECEIVED, String::new()),
        };
        self.depart(connection, State::FINISHING, &Ending::ByPeer { code, reason });
        self.queue(connection, frame);
        self.timers.linger_for(CLOSING_TIMEOUT, connection.key, connection.number);
        self.rouse(connection);
    }

    /// Ends the connection without a close frame.
    pub(crate) fn cut(&self, connection: &Rc<Connection>) {
        self.cut_for(connection, &Ending::Lost);
    }

    pub(crate) fn cut_for(&self, connection: &Rc<Connection>, ending: &Ending) {
        self.depart(connection, State::Cut, ending);
        self.rouse(connection);
    }

    /// The stream of a connection has ended; called once, as the last thing.
    pub(crate) fn retire(&self, connection: &Rc<Connection>, ending: Ending) {
        self.depart(connection, State::Cut, &ending);
        let is_written = !connection.outbox.borrow().is_due();
        if let Some(Departure { id, code, reason, is_answered }) = self.departures.take(connection.key) {
            // Nothing was queued behind the close frame, so with everything written that has been, too.
            let clean = is_answered && is_written;
            self.shared.host.emit(Event::Disconnection { id, code, reason, clean });
        }
        let discarded = connection.outbox.borrow_mut().discard();
        self.counters.dropped(DropReason::Disconnected, discarded);
        connection.outbox.take();
        connection.account(&self.counters);
        connection.transport.deregister(&self.registry);
        self.backlog.borrow_mut().forget(connection.key);
        if self.connections.borrow_mut().try_remove(connection.key.0 as usize).is_some() {
            self.shared.connection_places.give_back(1);
        }
    }

    /// Everything published has been queued: the batches, the announcement and the close frame follow.
    pub(crate) fn say_goodbye(&self) {
        let base = &self.shared.options.base;
        let announcement = EncodedMessage::text(outgoing::server_shutdown(
            UnixMillis::now().as_f64(),
            base.reconnect_delay.as_millis() as f64,
        ));
        for connection in self.all_connections() {
            let said = catch("a goodbye", || {
                self.flush_batch(&connection);
                if connection.is_open() {
                    self.deliver(&connection, &announcement, Priority::Immediate);
                }
                self.close(&connection, CloseReason::Shutdown);
            });
            if said.is_none() {
                self.cut(&connection);
            }
        }
        self.envelopes.borrow_mut().forget();
    }

    pub(crate) fn cut_everybody(&self) {
        for connection in self.all_connections() {
            connection.abort();
            self.cut_for(&connection, &Ending::GraceExceeded);
        }
    }

    /// Nothing more is expected but the end of the stream.
    fn finish(&self, connection: &Rc<Connection>) {
        let mut state = connection.state.borrow_mut();
        if !matches!(*state, State::Finishing { .. } | State::Cut) {
            *state = State::FINISHING;
        }
        drop(state);
        self.rouse(connection);
    }

    /// Moves the connection to `next`; if it was open, takes it out of every table. Its end is told of by [`retire`](Self::retire).
    fn depart(&self, connection: &Rc<Connection>, next: State, ending: &Ending) {
        let before = std::mem::replace(&mut *connection.state.borrow_mut(), next);
        if matches!(before, State::Open(_) | State::Anonymous { .. }) {
            self.counters.closes.add(CloseCause::from(ending), 1);
        }
        let State::Open(member) = before else { return };
        let changes: Vec<(BillId, Transition)> = {
            let mut topics = self.topics.borrow_mut();
            let leave = |bill| Some((bill, topics.unsubscribe(bill, connection.key)?));
            member.bills.iter().filter_map(leave).collect()
        };
        self.shared.routing.unsubscribe(&member.user, self.id, &changes);
        self.shared.users.close(&member.user, connection.number, Instant::now());
        self.shared.statistics.connection_closed();
        if self.shared.host.listens(EventKind::Disconnection) {
            let departure = Departure {
                id: ConnectionId { user: member.user, number: connection.number },
                code: ending.code(),
                reason: ending.reason().to_owned(),
                is_answered: matches!(ending, Ending::ByPeer { .. }),
            };
            self.departures.0.borrow_mut().insert(connection.key, departure);
        }
    }
}
