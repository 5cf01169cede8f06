//! How connections come: the handshake answered, the token checked, a place reserved, the user looked up.
//!
//! The 101 is queued only after the connection stands in every table, so that whatever a client does after it
//! finds the connection there. Runs on the shard's thread.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::{debug, info};

use crate::application::interface::{Event, EventKind, HookArgument, HookCall, HookFault};
use crate::authenticator::Identity;
use crate::error::CloseReason;
use crate::hub::anonymous_limit::AnonymousPlace;
use crate::hub::connection_limit::ConnectionPlace;
use crate::hub::connection_manager::{self, ConnectionRef, Opened, Reservation};
use crate::hub::subscription_manager::Topics;
use crate::monitoring::counters::{RejectionReason, Traffic};
use crate::monitoring::log_throttle::Line;
use crate::protocol::json::SharedJson;
use crate::protocol::message_handler::{Outcome, RequestError, encode};
use crate::protocol::outgoing;
use crate::shard::connection::{Connection, Member, State};
use crate::shard::event_loop::Shard;
use crate::shard::pending::{Visitor, connection_key};
use crate::shard::session::HookUnderWay;
use crate::transport::deflate::Negotiated;
use crate::transport::encoded_message::EncodedMessage;
use crate::transport::encoding::Encoding;
use crate::transport::forwarded::{self, Peer};
use crate::transport::handshake::{self, Rejection, RequestHead, Unavailability, Upgrade};
use crate::transport::{Source, Transport};
use crate::types::{ConnectionId, ConnectionKey, ConnectionNumber, HookKind, UnixMillis};

/// How long a peer may take to read why it is sent away.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// What is read of a peer after it was refused, so that the answer is not lost to a reset; then comes the reset.
const MAX_READ_AFTER_REFUSAL: usize = 64 * 1024;

/// What a client that is turned away for want of memory is asked to wait: a few steps of the recovery.
const RETRY_AFTER_SECONDS: u32 = 30;

/// The same while as many connections as may wait for their token: one of them is soon decided.
const RETRY_ANONYMOUS_SECONDS: u32 = 5;

/// Counts the connections of all services of the process.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// A peer that asks for an upgrade.
pub struct UpgradeRequest {
    pub source: Source,
    pub head: RequestHead,
    /// What came behind the request in the same packet.
    pub early: Vec<u8>,
    /// Where the peer is, if something else than the source knows better.
    pub peer: Option<Peer>,
}

/// A handshake that is refused.
struct Refused {
    rejection: Rejection,
    /// How it would have been accepted, if it was one for an upgrade.
    upgrade: Option<Upgrade>,
}

/// Somebody who may come in.
enum Admitted {
    /// Has proved who it is, and has a place.
    Known(Reservation),
    /// Has still to prove it.
    Anonymous(AnonymousPlace),
}

/// Why somebody could not prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthFault {
    /// The service is going down.
    Draining,
    /// The user has as many connections as one may have.
    LimitReached,
    /// The token or the user.
    Refused(&'static str),
    /// Whoever could tell does not answer: come back later.
    Unavailable { retry_after: Duration },
}

/// Counts an admission under way, so that a draining shard waits for it.
pub(crate) struct Underway(Rc<Shard>);

impl Underway {
    pub fn new(shard: &Rc<Shard>) -> Self {
        shard.admissions.set(shard.admissions.get() + 1);
        Self(shard.clone())
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.admissions.set(self.0.admissions.get().saturating_sub(1));
        if self.0.is_draining() {
            self.0.timers.interrupt();
        }
    }
}

/// Whom an upgrade request came from.
pub(crate) enum Applicant {
    /// Not polled by anybody yet.
    Source(Source),
    /// The one whose request was read.
    Visitor(Visitor),
}

impl Applicant {
    /// Whether it has gone meanwhile.
    fn has_left(&self) -> bool {
        match self {
            Self::Source(source) => source.has_ended(),
            Self::Visitor(visitor) => visitor.has_ended(),
        }
    }

    /// To be polled by a task.
    fn visiting(self, shard: &Rc<Shard>) -> io::Result<Visitor> {
        match self {
            Self::Source(source) => Visitor::new(source, shard),
            Self::Visitor(visitor) => Ok(visitor),
        }
    }

    /// To be given turns when there is news.
    fn let_in(self, shard: &Shard, key: ConnectionKey) -> io::Result<Transport> {
        match self {
            Self::Source(source) => Transport::register(source, &shard.registry, key.0),
            Self::Visitor(visitor) => visitor.let_in(key),
        }
    }
}

impl Shard {
    /// Takes a socket over and answers its upgrade request.
    pub(crate) async fn admit(self: Rc<Self>, arrival: UpgradeRequest) {
        let _underway = Underway::new(&self);
        let UpgradeRequest { source, head, early, peer } = arrival;
        let peer = peer.unwrap_or_else(|| source.peer());
        self.answer_upgrade(Applicant::Source(source), head, early, peer).await;
    }

    /// Answers one upgrade request, from first check to open connection or refusal.
    pub(crate) async fn answer_upgrade(
        self: &Rc<Self>,
        applicant: Applicant,
        head: RequestHead,
        early: Vec<u8>,
        peer: Peer,
    ) {
        match self.decide(&head).await {
            // The look-up takes its time. Who is not there any more is no connection, and nobody hears of one.
            Ok(_) if self.shared.options.hooks.contains(HookKind::LookupUser) && applicant.has_left() => {
                debug!("a peer left during its handshake")
            }
            Ok((upgrade, admitted, place)) => {
                let trusted = &self.shared.options.trust_proxy;
                let remote = forwarded::client_of(&head, peer, trusted).map(|address| address.to_string());
                self.let_in(applicant, &upgrade, (admitted, place), early, remote.unwrap_or_default().into());
                self.flush_staged();
            }
            Err(Refused { rejection, upgrade }) => {
                if self.shared.refusal_log.admits(Line::Refused, Instant::now()) {
                    debug!(reason = rejection.reason(), "a handshake was refused");
                }
                self.counters.rejections.add(RejectionReason::from(&rejection), 1);
                let response = self.shared.options.refusals.answer(&rejection, upgrade.as_ref());
                match applicant.visiting(self) {
                    Ok(visitor) => self.respond(&visitor, response).await,
                    Err(failure) => debug!(%failure, "a socket could not be taken over"),
                }
            }
        }
    }

    /// Handles an `auth` message: lets an anonymous connection in, or renews the claims of a known one.
    pub(crate) async fn authenticate_message(
        self: Rc<Self>,
        token: String,
        message_id: Option<SharedJson>,
        under_way: HookUnderWay,
    ) {
        // Closed meanwhile: nothing is left to authenticate.
        let Some(renewing) = under_way.connection().filter(|one| one.is_listening()).map(|one| one.user()) else {
            return;
        };
        let outcome = match &renewing {
            Some(user) => self.renew(user.as_str(), &token).await,
            None => self.authenticate(&token).await.map(|(reservation, identity)| (Some(reservation), identity)),
        };
        let Some(connection) = under_way.connection() else { return };
        drop(under_way);
        // A peer that has left meanwhile is no connection.
        if !connection.is_listening() || (renewing.is_none() && connection.transport.has_ended()) {
            return;
        }
        let mut is_refused = false;
        let reply = match &outcome {
            Ok((Some(_), _)) if !connection.is_open() => Outcome::Silent,
            // Two `auth` messages in a row: the first one has let it in already.
            Ok((Some(_), _)) => Outcome::Failed(RequestError::AuthenticationFailed),
            Ok((None, identity)) => {
                connection.auth_succeeded();
                let expires = identity.expires_at.map(|seconds| seconds as f64 * 1000.0);
                Outcome::Authenticated { user: identity.user.as_str(), expires }
            }
            Err(fault) => {
                if self.shared.refusal_log.admits(Line::Unauthorized, Instant::now()) {
                    debug!(connection = connection.number.0, ?fault, "authentication failed");
                }
                // Only what the peer is to blame for.
                is_refused = matches!(fault, AuthFault::Refused(_)) && connection.auth_failed();
                Outcome::Failed(RequestError::AuthenticationFailed)
            }
        };
        match encode(&reply, message_id.as_ref().map(SharedJson::get), UnixMillis::now().as_f64()) {
            Some(reply) => self.send_reply(&connection, reply),
            // The greeting is the reply.
            None => {
                if let Ok((Some(reservation), _)) = outcome {
                    connection.auth_succeeded();
                    self.join(&connection, reservation);
                }
            }
        }
        if is_refused {
            self.flush_batch(&connection);
            self.close(&connection, CloseReason::AuthenticationRequired);
        }
        self.flush_staged();
    }

    /// Answers a request that becomes no connection. A peer that does not take the answer in time is left.
    pub(crate) async fn respond(&self, visitor: &Visitor, response: Vec<u8>) {
        tokio::select! {
            biased;
            answered = self.write_last(visitor, &response) => {
                if let Err(failure) = answered {
                    debug!(%failure, "an answer was not taken");
                }
            }
            () = self.refusal_overdue() => {}
        }
    }

    /// Writes, ends our side, and reads the peer out, so that what it sent does not reset the answer away.
    async fn write_last(&self, visitor: &Visitor, mut rest: &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            poll_fn(|cx| visitor.poll_writable(cx)).await?;
            match visitor.try_write(rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => {}
                Err(failure) => return Err(failure),
            }
        }
        visitor.shutdown_write();
        let mut left = MAX_READ_AFTER_REFUSAL;
        while left > 0 {
            let read = poll_fn(|cx| {
                let mut buffer = self.read_buffer.borrow_mut();
                let most = left.min(buffer.len());
                visitor.poll_read(cx, buffer.get_mut(..most).unwrap_or_default())
            });
            match read.await? {
                0 => return Ok(()),
                count => left -= count,
            }
        }
        visitor.abort();
        Ok(())
    }

    /// Ends when a refused peer has had its time to read why, or when the shard's own time is up.
    async fn refusal_overdue(&self) {
        let own = Instant::now() + REFUSAL_TIMEOUT;
        loop {
            let overdue = self.drain_deadline().map_or(own, |deadline| own.min(deadline));
            tokio::select! {
                () = tokio::time::sleep_until(overdue.into()) => return,
                () = self.draining.notified() => {}
            }
        }
    }

    async fn decide(&self, head: &RequestHead) -> Result<(Upgrade, Admitted, ConnectionPlace), Refused> {
        let upgrade = handshake::negotiate(head, &self.shared.options.handshake)
            .map_err(|rejection| Refused { rejection, upgrade: None })?;
        match self.authorize(head, &upgrade).await {
            Ok((admitted, place)) => Ok((upgrade, admitted, place)),
            Err(rejection) => Err(Refused { rejection, upgrade: Some(upgrade) }),
        }
    }

    async fn authorize(&self, head: &RequestHead, upgrade: &Upgrade) -> Result<(Admitted, ConnectionPlace), Rejection> {
        handshake::check_origin(upgrade, head, &self.shared.options.handshake)?;
        if self.is_draining() {
            return Err(Rejection::STOPPING);
        }
        if self.shared.level.get().rejects_new_connections() {
            return Err(Rejection::Unavailable {
                why: Unavailability::MemoryPressure,
                retry_after: Some(RETRY_AFTER_SECONDS),
            });
        }
        let Some(place) = self.shared.connection_places.take() else {
            return Err(Rejection::Unavailable { why: Unavailability::TooManyConnections, retry_after: None });
        };
        let admitted = match (handshake::token(head)?, self.shared.options.auth_timeout) {
            (Some(token), _) => match self.authenticate(&token).await {
                Ok((reservation, _)) => Admitted::Known(reservation),
                Err(AuthFault::Draining) => return Err(Rejection::STOPPING),
                Err(AuthFault::Unavailable { retry_after }) => {
                    return Err(Rejection::Unavailable {
                        why: Unavailability::CircuitOpen,
                        retry_after: Some(whole_seconds(retry_after)),
                    });
                }
                Err(AuthFault::LimitReached) => {
                    if self.shared.refusal_log.admits(Line::Unauthorized, Instant::now()) {
                        info!(why = "connection limit reached", "a handshake was not authorised");
                    }
                    return Err(Rejection::ConnectionLimit);
                }
                Err(AuthFault::Refused(why)) => {
                    if self.shared.refusal_log.admits(Line::Unauthorized, Instant::now()) {
                        info!(why, "a handshake was not authorised");
                    }
                    return Err(Rejection::Unauthorized);
                }
            },
            (None, Some(_)) => match self.shared.anonymous.reserve(self.shared.options.max_anonymous) {
                Some(place) => Admitted::Anonymous(place),
                None => {
                    return Err(Rejection::Unavailable {
                        why: Unavailability::TooManyAnonymous,
                        retry_after: Some(RETRY_ANONYMOUS_SECONDS),
                    });
                }
            },
            (None, None) => return Err(Rejection::Unauthorized),
        };
        if self.is_draining() {
            return Err(Rejection::STOPPING);
        }
        Ok((admitted, place))
    }

    /// The token's user, with a place among its connections. The place is taken before the look-up, so that
    /// handshakes settling together cannot pass the limit.
    async fn authenticate(&self, token: &str) -> Result<(Reservation, Identity), AuthFault> {
        let identity = self.verify(token)?;
        let limit = self.runtime.get().max_connections_per_user;
        let beyond = self.shared.options.connection_limit;
        let Some(reservation) = self.shared.users.reserve(&identity.user, limit, beyond) else {
            return Err(AuthFault::LimitReached);
        };
        self.look_up(&identity).await?;
        Ok((reservation, identity))
    }

    /// The same checks for a user who is in already.
    async fn renew(&self, user: &str, token: &str) -> Result<(Option<Reservation>, Identity), AuthFault> {
        let identity = self.verify(token)?;
        if identity.user.as_str() != user {
            return Err(AuthFault::Refused("token of another user"));
        }
        self.look_up(&identity).await?;
        Ok((None, identity))
    }

    fn verify(&self, token: &str) -> Result<Identity, AuthFault> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.shared.verifier().verify(token, now).map_err(|fault| AuthFault::Refused(fault.label()))
    }

    async fn look_up(&self, identity: &Identity) -> Result<(), AuthFault> {
        if !self.shared.options.hooks.contains(HookKind::LookupUser) || self.shared.was_found(identity) {
            return Ok(());
        }
        let user: Arc<str> = (&identity.user).into();
        let claims = serde_json::to_string(&identity.claims).unwrap_or_else(|_| "{}".to_owned());
        let arguments = [HookArgument::Text(user.clone()), HookArgument::Json(claims.into())];
        match self.call_hook(&HookCall::new(HookKind::LookupUser, user, arguments)).await {
            Ok(answer) if answer.is_true() => {
                self.shared.remember_found(identity);
                Ok(())
            }
            Ok(_) => Err(AuthFault::Refused("unknown user")),
            Err(_) if self.is_draining() => Err(AuthFault::Draining),
            Err(HookFault::CircuitOpen { retry_after }) => Err(AuthFault::Unavailable { retry_after }),
            Err(HookFault::Failed(message)) => {
                if self.shared.refusal_log.admits(Line::HookFailed, Instant::now()) {
                    tracing::warn!(reason = message, "lookupUser failed");
                }
                Err(AuthFault::Refused("look-up failed"))
            }
            Err(HookFault::TimedOut) => {
                if self.shared.refusal_log.admits(Line::HookFailed, Instant::now()) {
                    tracing::warn!("lookupUser did not answer in time");
                }
                Err(AuthFault::Refused("look-up timed out"))
            }
        }
    }

    fn let_in(
        self: &Rc<Self>,
        applicant: Applicant,
        upgrade: &Upgrade,
        (admitted, connection_place): (Admitted, ConnectionPlace),
        early: Vec<u8>,
        remote_address: Box<str>,
    ) {
        let number = ConnectionNumber(NEXT_NUMBER.fetch_add(1, Ordering::Relaxed));
        let encoding = upgrade.deflate().as_ref().map_or(Encoding::Plain, Negotiated::encoding);
        let mut connections = self.connections.borrow_mut();
        let place = connections.vacant_entry();
        // A shard would need 2^31 descriptors for there to be none.
        let Some(key) = connection_key(place.key()) else { return };
        let transport = match applicant.let_in(self, key) {
            Ok(transport) => transport,
            Err(failure) => {
                debug!(%failure, "a socket could not be taken over");
                return;
            }
        };
        let (reservation, anonymous) = match admitted {
            Admitted::Known(reservation) => (Some(reservation), None),
            Admitted::Anonymous(anonymous) => (None, Some(anonymous)),
        };
        let state = State::Anonymous { remote_address, place: anonymous };
        let connection = Rc::new(Connection::new(number, key, encoding, transport, state));
        place.insert(connection.clone());
        connection_place.keep();
        drop(connections);
        self.queue(&connection, EncodedMessage::raw(upgrade.response()));
        self.timers.beat_in(self.shared.options.base.heartbeat_interval, key, number);
        match (reservation, self.shared.options.auth_timeout) {
            (Some(reservation), _) => self.join(&connection, reservation),
            (None, Some(timeout)) => self.timers.auth_within(timeout, key, number),
            // No connection is let in without a token unless there is a time for it.
            (None, None) => {}
        }
        self.begin(&connection, early);
    }

    /// Makes a connection its user's: from now on it counts, can be found, and is greeted.
    fn join(&self, connection: &Rc<Connection>, reservation: Reservation) {
        let now = UnixMillis::now();
        let user = reservation.user().clone();
        let open = State::Open(Member { user: user.clone(), bills: Topics::default() });
        let State::Anonymous { remote_address, .. } = std::mem::replace(&mut *connection.state.borrow_mut(), open)
        else {
            unreachable!("only an anonymous connection joins, see the callers")
        };
        let reference = ConnectionRef { number: connection.number, key: connection.key, shard: self.id };
        let Opened { arrival, replaced } = reservation.open(reference, Instant::now());
        if let Some(oldest) = replaced {
            self.shared.close(oldest, CloseReason::Replaced);
        }
        self.shared.statistics.connection_opened(arrival == connection_manager::Arrival::Reconnected);
        self.counters.activity(now);
        let base = &self.shared.options.base;
        let id = ConnectionId { user, number: connection.number };
        let greeting =
            outgoing::connected(&id, now.as_f64(), base.heartbeat_interval.as_millis() as f64, base.max_payload as f64);
        // A frame of its own, since few clients unpack batches; past the bound, since nothing may come before it. What
        // waits is the ack of the message that let the connection in.
        self.flush_batch(connection);
        self.queue(connection, EncodedMessage::text(greeting));
        self.counters.traffic.add(Traffic::Deliveries, 1);
        if self.shared.host.listens(EventKind::Connection) {
            self.shared.host.emit(Event::Connection { id, remote_address: remote_address.into() });
        }
    }
}

/// At least one, so that nobody comes back at once.
fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}
