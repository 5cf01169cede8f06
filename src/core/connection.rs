//! One connection: its state, and what is known of its transport. Small, since there are very many.
//!
//! Lives on its shard's thread. How it is read and written is in `turn`, what messages mean in `dialogue`, what is sent to
//! many in `fan_out`; all reach it through the shard.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use crate::core::outbox::{Flushed, Outbox};
use crate::core::subscription_manager::Topics;
use crate::core::token_bucket::{Rate, TokenBucket, Verdict};
use crate::error::CloseReason;
use crate::memory::progressive_degradation::DegradationLevel;
use crate::monitoring::statistics_collector::ShardCounters;
use crate::monitoring::tally::Traffic;
use crate::transport::Transport;
use crate::transport::assembler::Assembler;
use crate::transport::deflate::Deflaters;
use crate::transport::prepared::{Encoding, Prepared};
use crate::types::{ConnectionId, ConnectionKey, ConnectionNumber, UserId};

/// A connection that owes its peer more than this in replies is not read from until they are taken.
const MAX_UNREAD_REPLIES: usize = 64 * 1024;

/// What a waiting reply takes beside its payload: without it, empty pongs would be owed without limit.
const REPLY_OVERHEAD: usize = 128;

/// A connection with this many hooks under way is not read from until one has answered.
const MAX_HOOKS_IN_FLIGHT: u8 = 8;

pub struct Connection {
    pub number: ConnectionNumber,
    pub key: ConnectionKey,
    pub encoding: Encoding,
    pub(super) transport: Transport,
    pub(super) assembler: RefCell<Assembler>,
    pub(super) state: RefCell<State>,
    pub(super) outbox: RefCell<Outbox>,
    pub(super) pulse: Cell<Pulse>,
    /// What replies queued since the outbox was last empty take.
    pub(super) owed: Cell<u32>,
    hooks_in_flight: Cell<u8>,
    /// Only while messages are limited.
    bucket: Cell<Option<TokenBucket>>,
    /// Whether the shard has it on the list of those to flush at the end of the turn.
    pub(super) is_staged: Cell<bool>,
    /// Whether the shard has it on the list of those that get a turn without news of their transport.
    pub(super) is_roused: Cell<bool>,
    /// Whether the socket was full at the last write: until there is news of room, nobody need try again.
    pub(super) is_blocked: Cell<bool>,
    /// Whether it is not read from for a while, for want of memory.
    pub(super) is_resting: Cell<bool>,
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
    },
    Open(Member),
    /// Our close frame is queued or sent; the peer's is awaited.
    Closing,
    /// Nothing but the outbox is written any more and nothing is understood: the end of the stream is awaited.
    Finishing {
        end_sent: bool,
    },
    /// To be cut without another byte.
    Cut,
}

/// The user of an open connection, and what it follows.
pub struct Member {
    pub user: UserId,
    pub bills: Topics,
}

/// Whether the last ping has been answered, and when the last pong came (milliseconds since the shard began).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    pub last_pong: u32,
    pub is_awaited: bool,
}

impl Connection {
    pub fn new(
        number: ConnectionNumber,
        key: ConnectionKey,
        encoding: Encoding,
        transport: Transport,
        state: State,
        now: u32,
    ) -> Self {
        Self {
            number,
            key,
            encoding,
            transport,
            assembler: RefCell::new(Assembler::new(encoding != Encoding::Plain)),
            state: RefCell::new(state),
            outbox: RefCell::default(),
            pulse: Cell::new(Pulse { last_pong: now, is_awaited: false }),
            owed: Cell::new(0),
            hooks_in_flight: Cell::new(0),
            bucket: Cell::new(None),
            is_staged: Cell::new(false),
            is_roused: Cell::new(false),
            is_blocked: Cell::new(false),
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
        message: &Arc<Prepared>,
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

    pub(super) fn write(&self, parts: &[IoSlice<'_>], counters: &ShardCounters) -> io::Result<usize> {
        let count = self.transport.try_write(parts)?;
        counters.tally.traffic.add(Traffic::BytesOut, count as u64);
        Ok(count)
    }

    /// Charges one message of the peer.
    pub fn charge(&self, rate: Rate, now: u32) -> Verdict {
        let mut bucket = self.bucket.get().unwrap_or_else(|| TokenBucket::new(rate, now));
        let verdict = bucket.charge(rate, now);
        self.bucket.set(Some(bucket));
        verdict
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
        self.hooks_in_flight.set(self.hooks_in_flight.get().saturating_add(1));
    }

    pub fn hook_settled(&self) {
        self.hooks_in_flight.set(self.hooks_in_flight.get().saturating_sub(1));
    }

    /// How long bytes were held up on our side at the most, since this was last asked.
    pub fn longest_stall(&self) -> Duration {
        self.transport.longest_stall()
    }

    /// The peer shall see a reset instead of an orderly end.
    pub fn abort(&self) {
        self.transport.abort();
    }

    pub(super) fn is_paused(&self, level: DegradationLevel) -> bool {
        let patience = MAX_UNREAD_REPLIES >> level.patience_shift();
        self.is_resting.get()
            || self.hooks_in_flight.get() >= MAX_HOOKS_IN_FLIGHT
            || (self.owed.get() as usize > patience && self.outbox.borrow().is_due())
    }
}

impl State {
    /// The state after a close frame for this reason is queued. After a violation the peer's bytes mean nothing
    /// any more; otherwise its close frame completes the handshake (RFC 6455 §7.1.2).
    pub fn after_closing(reason: CloseReason) -> Self {
        match reason {
            CloseReason::InvalidData
            | CloseReason::MessageTooBig
            | CloseReason::ProtocolError
            | CloseReason::TooManyFragments => Self::Finishing { end_sent: false },
            CloseReason::AuthenticationRequired
            | CloseReason::RateLimited
            | CloseReason::ServiceRestart
            | CloseReason::Shutdown
            | CloseReason::SlowConsumer => Self::Closing,
        }
    }
}
