//! One connection: its state, and what is known of its transport. Small, since there are very many.
//!
//! Lives on its shard's thread. How it is read and written is in `turn`, what messages mean in `dialogue`, what is sent to
//! many in `fan_out`; all reach it through the shard.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use crate::error::CloseReason;
use crate::hub::anonymous_limit::AnonymousPlace;
use crate::hub::subscription_manager::Topics;
use crate::memory::progressive_degradation::DegradationLevel;
use crate::monitoring::counters::Traffic;
use crate::monitoring::statistics_collector::ShardCounters;
use crate::shard::heartbeat::Liveness;
use crate::shard::outbox::{Flushed, Outbox};
use crate::shard::token_bucket::{Rate, TokenBucket, Verdict};
use crate::transport::Transport;
use crate::transport::assembler::Assembler;
use crate::transport::deflate::Deflaters;
use crate::transport::encoded_message::EncodedMessage;
use crate::transport::encoding::Encoding;
use crate::types::{ConnectionId, ConnectionKey, ConnectionNumber, UserId};

/// A connection that owes its peer more than this in replies is not read from until they are taken.
const MAX_UNREAD_REPLIES: usize = 64 * 1024;

/// What a waiting reply takes beside its payload: without it, empty pongs would be owed without limit.
const REPLY_OVERHEAD: usize = 128;

/// A connection with this many hooks under way is not read from until one has answered.
const MAX_HOOKS_IN_FLIGHT: u8 = 8;

/// A connection whose `auth` messages are refused this often in a row is closed.
const MAX_FAILED_AUTHS: u8 = 3;

pub struct Connection {
    pub number: ConnectionNumber,
    pub key: ConnectionKey,
    pub encoding: Encoding,
    pub(crate) transport: Transport,
    pub(crate) assembler: RefCell<Assembler>,
    pub(crate) state: RefCell<State>,
    pub(crate) outbox: RefCell<Outbox>,
    pub(crate) liveness: Cell<Liveness>,
    /// What replies queued since the outbox was last empty take.
    pub(crate) owed: Cell<u32>,
    hooks_in_flight: Cell<u8>,
    /// `auth` messages in a row that were refused.
    failed_auths: Cell<u8>,
    /// Only while messages are limited.
    bucket: Cell<Option<TokenBucket>>,
    /// Whether the shard has it on the list of those to flush at the end of the turn.
    pub(crate) is_staged: Cell<bool>,
    /// Whether the shard has it on the list of those that get a turn without news of their transport.
    pub(crate) is_roused: Cell<bool>,
    /// Whether it waits in the shard's backlog to go on with its work.
    pub(crate) is_behind: Cell<bool>,
    /// Whether the shard keeps bytes of it that are not dealt with yet.
    pub(crate) has_rest: Cell<bool>,
    /// Whether its last turn read everything there was to read.
    pub(crate) is_caught_up: Cell<bool>,
    /// Whether the socket was full at the last write: until there is news of room, nobody need try again.
    pub(crate) is_blocked: Cell<bool>,
    /// Whether the socket has taken bytes since the last heartbeat.
    pub(crate) has_taken: Cell<bool>,
    /// Whether it is not read from for a while, for want of memory.
    pub(crate) is_resting: Cell<bool>,
    /// The unwritten bytes that the shard's counters know of.
    accounted: Cell<usize>,
}

/// What an idle connection takes of the heap: itself, with the counts of its owners.
pub const CONNECTION_BYTES: usize = size_of::<Connection>() + 2 * size_of::<usize>();

/// Where a connection is in its life. Only `Open` has a user, subscriptions and a place in any table.
pub enum State {
    /// Accepted without a token; waits for `auth`.
    Anonymous {
        remote_address: Box<str>,
        /// None while a connection that has a user already is set up.
        place: Option<AnonymousPlace>,
    },
    Open(Member),
    /// Our close frame is queued or sent; the peer's is awaited.
    Closing {
        discarded: u32,
    },
    /// Nothing but the outbox is written any more and nothing is understood: the end of the stream is awaited.
    Finishing {
        end_sent: bool,
        discarded: u32,
    },
    /// To be cut without another byte.
    Cut,
}

/// The user of an open connection, and what it follows.
pub struct Member {
    pub user: UserId,
    pub bills: Topics,
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
            assembler: RefCell::new(Assembler::new(encoding != Encoding::Plain)),
            state: RefCell::new(state),
            outbox: RefCell::default(),
            liveness: Cell::default(),
            owed: Cell::new(0),
            hooks_in_flight: Cell::new(0),
            failed_auths: Cell::new(0),
            bucket: Cell::new(None),
            is_staged: Cell::new(false),
            is_roused: Cell::new(false),
            is_behind: Cell::new(false),
            has_rest: Cell::new(false),
            is_caught_up: Cell::new(false),
            is_blocked: Cell::new(false),
            has_taken: Cell::new(false),
            is_resting: Cell::new(false),
            accounted: Cell::new(0),
        }
    }

    /// The user, while the connection is open.
    pub fn user(&self) -> Option<UserId> {
        match &*self.state.borrow() {
            State::Open(member) => Some(member.user.clone()),
            _ => None,
        }
    }

    pub fn id(&self) -> Option<ConnectionId> {
        self.user().map(|user| ConnectionId { user, number: self.number })
    }

    pub fn is_open(&self) -> bool {
        matches!(&*self.state.borrow(), State::Open(_))
    }

    /// Whether what the peer says is still understood.
    pub fn is_listening(&self) -> bool {
        matches!(&*self.state.borrow(), State::Anonymous { .. } | State::Open(_))
    }

    /// Whether a write would be in vain: a peer that does not read must not cost an attempt per message.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked.get()
    }

    /// Writes what is due without waiting. What does not fit is left until there is news of room. `false` if the
    /// connection has to be given a turn: to ask for that news, or to find a failed write again and end.
    #[must_use]
    pub fn flush(&self, deflaters: &mut Deflaters, counters: &ShardCounters) -> bool {
        let mut outbox = self.outbox.borrow_mut();
        if self.is_blocked.get() || !outbox.is_due() {
            return true;
        }
        match outbox.flush(deflaters, |parts| self.write(parts, counters)) {
            Ok(Flushed::Everything) => {
                self.owed.set(0);
                true
            }
            Ok(Flushed::Blocked) | Err(_) => {
                self.is_blocked.set(true);
                false
            }
        }
    }

    /// Writes a message that nothing is due before, without queueing it. `None` if that is not possible now; otherwise
    /// whether the connection has to be given a turn, as after [`flush`](Self::flush).
    pub fn write_through(
        &self,
        message: &Arc<EncodedMessage>,
        encoding: Encoding,
        deflaters: &mut Deflaters,
        counters: &ShardCounters,
    ) -> Option<bool> {
        let mut outbox = self.outbox.borrow_mut();
        if self.is_blocked.get() || outbox.is_due() {
            return None;
        }
        let frame = message.frame(encoding, 0, deflaters);
        // What went wrong is found again when it is flushed.
        let taken = self.write(&[IoSlice::new(frame)], counters).ok()?;
        if taken == frame.len() {
            self.owed.set(0);
            return Some(false);
        }
        outbox.queue_rest(message.clone(), encoding, taken, deflaters);
        self.is_blocked.set(true);
        Some(true)
    }

    pub(crate) fn write(&self, parts: &[IoSlice<'_>], counters: &ShardCounters) -> io::Result<usize> {
        let count = self.transport.try_write(parts)?;
        self.has_taken.set(true);
        counters.traffic.add(Traffic::BytesOut, count as u64);
        Ok(count)
    }

    /// Charges one message of the peer.
    pub fn charge(&self, rate: Rate, now: u32) -> Verdict {
        let mut bucket = self.bucket.get().unwrap_or_else(|| TokenBucket::new(rate, now));
        let verdict = bucket.charge(rate, now);
        self.bucket.set(Some(bucket));
        verdict
    }

    /// Takes back what the last message was charged.
    pub fn refund(&self, rate: Rate) {
        if let Some(mut bucket) = self.bucket.get() {
            bucket.refund(rate);
            self.bucket.set(Some(bucket));
        }
    }

    /// Brings the shard's count of unwritten bytes up to date.
    pub fn account(&self, counters: &ShardCounters) {
        let bytes = self.outbox.borrow().bytes();
        let before = self.accounted.replace(bytes);
        if before != bytes {
            counters.pending(before, bytes);
        }
    }

    /// Replies the peer has asked for and not taken yet hold up its further requests.
    pub fn owe(&self, bytes: usize) {
        let cost = u32::try_from(bytes + REPLY_OVERHEAD).unwrap_or(u32::MAX);
        self.owed.set(self.owed.get().saturating_add(cost));
    }

    pub fn hook_started(&self) {
        // No message is looked at while there are as many as there may be, and none starts more than one.
        debug_assert!(self.hooks_in_flight.get() < MAX_HOOKS_IN_FLIGHT, "a hook too many");
        self.hooks_in_flight.set(self.hooks_in_flight.get().saturating_add(1));
    }

    /// Counts an `auth` message that was refused; `true` if there have been enough.
    pub fn auth_failed(&self) -> bool {
        self.failed_auths.set(self.failed_auths.get().saturating_add(1));
        self.failed_auths.get() >= MAX_FAILED_AUTHS
    }

    pub fn auth_succeeded(&self) {
        self.failed_auths.set(0);
    }

    pub fn has_hooks_in_flight(&self) -> bool {
        self.hooks_in_flight.get() > 0
    }

    pub fn hook_settled(&self) {
        self.hooks_in_flight.set(self.hooks_in_flight.get().saturating_sub(1));
    }

    /// How long bytes were held up on our side at the most, since this was last asked.
    pub fn max_wait(&self) -> Duration {
        self.transport.max_wait()
    }

    /// The peer shall see a reset instead of an orderly end.
    pub fn abort(&self) {
        self.transport.abort();
    }

    /// Whether nothing more of the peer is to be read or understood for now. One that is being closed is never paused: it
    /// causes no work.
    pub(crate) fn is_paused(&self, level: DegradationLevel) -> bool {
        let patience = MAX_UNREAD_REPLIES >> level.backpressure_shift();
        let holds_up = self.is_resting.get()
            || self.hooks_in_flight.get() >= MAX_HOOKS_IN_FLIGHT
            || (self.owed.get() as usize > patience && self.outbox.borrow().is_due());
        holds_up && self.is_listening()
    }

    /// Counts bytes that are read after a close frame was queued; `false` if they are more than `most`.
    pub(crate) fn may_still_send(&self, count: usize, most: usize) -> bool {
        match &mut *self.state.borrow_mut() {
            State::Anonymous { .. } | State::Open(_) | State::Cut => true,
            State::Closing { discarded } | State::Finishing { discarded, .. } => {
                *discarded = discarded.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
                *discarded as usize <= most
            }
        }
    }
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
