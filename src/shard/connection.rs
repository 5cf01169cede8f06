//! One connection: its state, and what is known of its transport. Small, since there are very many.
//!
//! Owned by the shard's `peers`, used on the shard's thread. `drive` reads and writes it, `session` executes its requests, `fan_out`
//! delivers to it, `close` ends it.

use std::io::{self, IoSlice};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use crate::error::CloseReason;
use crate::hub::limit::Slot;
use crate::hub::subscription_manager::Topics;
use crate::memory::progressive_degradation::DegradationLevel;
use crate::monitoring::counters::Traffic;
use crate::monitoring::statistics_collector::ShardCounters;
use crate::shard::heartbeat::Liveness;
use crate::shard::outbox::{Flushed, Outbox};
use crate::shard::token_bucket::{Rate, RateDecision, TokenBucket};
use crate::transport::Transport;
use crate::transport::assembler::Assembler;
use crate::transport::deflate::Deflaters;
use crate::transport::encoded_message::EncodedMessage;
use crate::transport::encoding::Encoding;
use crate::types::{ConnectionId, ConnectionKey, ConnectionNumber, UserId};

/// A connection with more unread replies than this is not read from until the peer has read them.
const MAX_UNREAD_REPLIES: usize = 64 * 1024;

/// What a waiting reply takes beside its payload: without it, empty pongs would not be limited.
const REPLY_OVERHEAD: usize = 128;

/// A connection with this many hooks under way is not read from until one has answered.
const MAX_HOOKS_IN_FLIGHT: u8 = 8;

/// A connection whose `auth` messages are refused this often in a row is closed.
const MAX_FAILED_AUTHS: u8 = 3;

pub struct Connection {
    pub number: ConnectionNumber,
    pub key: ConnectionKey,
    pub encoding: Encoding,
    pub transport: Transport,
    pub assembler: Assembler,
    pub state: State,
    pub outbox: Outbox,
    pub liveness: Liveness,
    /// What replies queued since the outbox was last empty take.
    pending_reply_bytes: u32,
    hooks_in_flight: u8,
    /// Tells tasks whether the connection is still listening. Only while hooks are in flight.
    listening: Option<Rc<()>>,
    /// `auth` messages in a row that were refused.
    failed_auths: u8,
    /// Only while messages are limited.
    bucket: Option<TokenBucket>,
    /// In `egress`'s list of connections to write to at the end of the turn.
    pub is_dirty: bool,
    /// In `run_queue`'s list of connections to drive without news of their transport.
    pub is_ready: bool,
    /// In `run_queue`'s backlog, where it continues its work.
    pub is_behind: bool,
    /// `ingress` keeps bytes of it that were read and not processed yet.
    pub has_rest: bool,
    /// Its last turn read everything there was to read.
    pub is_caught_up: bool,
    /// The socket was full at the last write: no write can succeed until the transport has news.
    pub is_blocked: bool,
    /// The socket has taken bytes since the last heartbeat.
    pub has_written: bool,
    /// Not read from for a while because memory is low.
    pub is_throttled: bool,
    /// The unwritten bytes that the shard's counters know of.
    accounted: usize,
}

/// What an idle connection takes of the heap.
pub const CONNECTION_BYTES: usize = size_of::<Connection>();

/// The stages of a connection. Only an `Open` one has a user and subscriptions, and is in the tables.
pub enum State {
    /// Accepted without a token; waits for `auth`.
    Anonymous {
        remote_address: Box<str>,
        /// `None` while a connection whose user is known is being set up.
        slot: Option<Slot>,
    },
    Open(Session),
    /// Our close frame is queued or sent; the peer's is awaited.
    Closing {
        discarded: u32,
    },
    /// Only the outbox is written, and nothing that is read is interpreted: the end of the stream is awaited.
    Finishing {
        end_sent: bool,
        discarded: u32,
    },
    /// To be dropped without another byte.
    Aborted,
}

/// The user of an open connection, and its subscriptions.
pub struct Session {
    pub user: UserId,
    pub topics: Topics,
}

impl Connection {
    pub fn new(
        number: ConnectionNumber,
        key: ConnectionKey,
        encoding: Encoding,
        transport: Transport,
        state: State,
    ) -> Self {
        Self {
            number,
            key,
            encoding,
            transport,
            assembler: Assembler::new(encoding != Encoding::Plain),
            state,
            outbox: Outbox::default(),
            liveness: Liveness::default(),
            pending_reply_bytes: 0,
            hooks_in_flight: 0,
            listening: None,
            failed_auths: 0,
            bucket: None,
            is_dirty: false,
            is_ready: false,
            is_behind: false,
            has_rest: false,
            is_caught_up: false,
            is_blocked: false,
            has_written: false,
            is_throttled: false,
            accounted: 0,
        }
    }

    /// The user, while the connection is open.
    pub fn user(&self) -> Option<&UserId> {
        match &self.state {
            State::Open(session) => Some(&session.user),
            _ => None,
        }
    }

    pub fn id(&self) -> Option<ConnectionId> {
        self.user().map(|user| ConnectionId { user: user.clone(), number: self.number })
    }

    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    pub fn is_anonymous(&self) -> bool {
        matches!(self.state, State::Anonymous { .. })
    }

    /// Whether the peer's messages are processed.
    pub fn is_listening(&self) -> bool {
        matches!(self.state, State::Anonymous { .. } | State::Open(_))
    }

    /// Writes what is due without waiting; the rest waits for news of the transport. `false` if the connection has to be driven: to
    /// ask for that news, or to find a failed write again and end.
    #[must_use]
    pub fn flush(&mut self, deflaters: &mut Deflaters, counters: &ShardCounters) -> bool {
        if self.is_blocked || !self.outbox.is_due() {
            return true;
        }
        match self.write_due(deflaters, counters) {
            Ok(Flushed::Everything) => true,
            Ok(Flushed::Blocked) | Err(_) => {
                self.is_blocked = true;
                false
            }
        }
    }

    /// Hands everything due to the transport until all is taken or it is full.
    pub fn write_due(&mut self, deflaters: &mut Deflaters, counters: &ShardCounters) -> io::Result<Flushed> {
        let Self { transport, outbox, has_written, .. } = self;
        let flushed = outbox.flush(deflaters, |parts| write(transport, parts, has_written, counters))?;
        if flushed == Flushed::Everything {
            self.pending_reply_bytes = 0;
        }
        Ok(flushed)
    }

    /// Writes a message that nothing is due before, without queueing it. `None` if that is not possible now; otherwise whether the
    /// connection has to be driven, as after [`flush`](Self::flush).
    pub fn write_through(
        &mut self,
        message: &Arc<EncodedMessage>,
        encoding: Encoding,
        deflaters: &mut Deflaters,
        counters: &ShardCounters,
    ) -> Option<bool> {
        if self.is_blocked || self.outbox.is_due() {
            return None;
        }
        let frame = message.frame(encoding, 0, deflaters);
        // What went wrong is found again when it is flushed.
        let taken = write(&self.transport, &[IoSlice::new(frame)], &mut self.has_written, counters).ok()?;
        if taken == frame.len() {
            self.pending_reply_bytes = 0;
            return Some(false);
        }
        self.outbox.queue_rest(message.clone(), encoding, taken, deflaters);
        self.is_blocked = true;
        Some(true)
    }

    /// Charges one message of the peer.
    pub fn charge(&mut self, rate: Rate, now: u32) -> RateDecision {
        self.bucket.get_or_insert_with(|| TokenBucket::new(rate, now)).charge(rate, now)
    }

    /// Takes back what the last message was charged.
    pub fn refund(&mut self, rate: Rate) {
        if let Some(bucket) = &mut self.bucket {
            bucket.refund(rate);
        }
    }

    /// Brings the shard's count of unwritten bytes up to date.
    pub fn account(&mut self, counters: &ShardCounters) {
        let bytes = self.outbox.bytes();
        let before = std::mem::replace(&mut self.accounted, bytes);
        if before != bytes {
            counters.pending(before, bytes);
        }
    }

    /// Counts a reply: those that the peer has not read yet hold up its further requests.
    pub fn count_reply(&mut self, bytes: usize) {
        let cost = u32::try_from(bytes + REPLY_OVERHEAD).unwrap_or(u32::MAX);
        self.pending_reply_bytes = self.pending_reply_bytes.saturating_add(cost);
    }

    /// Counts a hook. The result cannot be upgraded any more once the connection has stopped listening.
    pub fn hook_started(&mut self) -> Weak<()> {
        // No message is processed while there are as many as there may be, and none starts more than one.
        debug_assert!(self.hooks_in_flight < MAX_HOOKS_IN_FLIGHT, "a hook too many");
        self.hooks_in_flight = self.hooks_in_flight.saturating_add(1);
        Rc::downgrade(self.listening.get_or_insert_default())
    }

    pub fn hook_settled(&mut self) {
        self.hooks_in_flight = self.hooks_in_flight.saturating_sub(1);
        if self.hooks_in_flight == 0 {
            self.listening = None;
        }
    }

    /// The peer's messages are not processed any more: moves to `next` and returns the state before.
    pub fn stop_listening(&mut self, next: State) -> State {
        self.listening = None;
        std::mem::replace(&mut self.state, next)
    }

    pub fn has_hooks_in_flight(&self) -> bool {
        self.hooks_in_flight > 0
    }

    /// Counts an `auth` message that was refused; `true` if there have been enough.
    pub fn auth_failed(&mut self) -> bool {
        self.failed_auths = self.failed_auths.saturating_add(1);
        self.failed_auths >= MAX_FAILED_AUTHS
    }

    pub fn auth_succeeded(&mut self) {
        self.failed_auths = 0;
    }

    /// Whether nothing more of the peer is to be read or processed for now. A connection that is being closed is never paused: it
    /// causes no work.
    pub fn is_paused(&self, level: DegradationLevel) -> bool {
        let most = MAX_UNREAD_REPLIES >> level.backpressure_shift();
        let holds_up = self.is_throttled
            || self.hooks_in_flight >= MAX_HOOKS_IN_FLIGHT
            || (self.pending_reply_bytes as usize > most && self.outbox.is_due());
        holds_up && self.is_listening()
    }

    /// Counts bytes that are read after a close frame was queued; `false` if they are more than `most`.
    pub fn may_still_send(&mut self, count: usize, most: usize) -> bool {
        match &mut self.state {
            State::Anonymous { .. } | State::Open(_) | State::Aborted => true,
            State::Closing { discarded } | State::Finishing { discarded, .. } => {
                *discarded = discarded.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
                *discarded as usize <= most
            }
        }
    }
}

fn write(
    transport: &Transport,
    parts: &[IoSlice<'_>],
    has_written: &mut bool,
    counters: &ShardCounters,
) -> io::Result<usize> {
    let count = transport.try_write(parts)?;
    *has_written = true;
    counters.traffic.add(Traffic::BytesOut, count as u64);
    Ok(count)
}

impl State {
    pub const FINISHING: Self = Self::Finishing { end_sent: false, discarded: 0 };

    /// The state after a close frame for this reason is queued. After a violation the peer's bytes mean nothing
    /// any more; otherwise its close frame completes the handshake (RFC 6455 §7.1.2).
    pub fn after_closing(reason: CloseReason) -> Self {
        match reason {
            CloseReason::InvalidData
            | CloseReason::MessageTooBig
            | CloseReason::ProtocolError
            | CloseReason::TooManyFragments => Self::FINISHING,
            CloseReason::AuthenticationRequired
            | CloseReason::RateLimited
            | CloseReason::Replaced
            | CloseReason::ServiceRestart
            | CloseReason::Shutdown
            | CloseReason::SlowConsumer => Self::Closing { discarded: 0 },
        }
    }
}
