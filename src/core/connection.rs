//! One connection: its state, and the task that reads it and writes what did not fit at once.
//!
//! Lives on its shard's thread. What messages mean is decided in `dialogue`, what is sent to many in `fan_out`;
//! both reach a connection through the shard.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, IoSlice};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tracing::{debug, error};

use crate::core::containment::note_panic;
use crate::core::host::Ending;
use crate::core::outbox::{Flushed, Outbox};
use crate::core::shard::Shard;
use crate::core::token_bucket::{Rate, TokenBucket, Verdict};
use crate::error::CloseReason;
use crate::memory::progressive_degradation::DegradationLevel;
use crate::monitoring::statistics_collector::ShardCounters;
use crate::monitoring::tally::Traffic;
use crate::transport::Transport;
use crate::transport::assembler::{Assembler, Message};
use crate::transport::deflate::Deflaters;
use crate::transport::prepared::Encoding;
use crate::types::{BillId, ConnectionId, ConnectionKey, ConnectionNumber, UserId};

/// A connection that owes its peer more than this in replies is not read from until they are taken.
const MAX_UNREAD_REPLIES: usize = 64 * 1024;

/// Reads of one connection before others get their turn: a peer that sends without a break must not hold up its shard.
const READS_PER_TURN: usize = 4;

/// What a waiting reply takes beside its payload: without it, empty pongs would be owed without limit.
const REPLY_OVERHEAD: usize = 128;

/// A connection with this many hooks under way is not read from until one has answered.
const MAX_HOOKS_IN_FLIGHT: u8 = 8;

pub struct Connection {
    pub number: ConnectionNumber,
    pub key: ConnectionKey,
    pub encoding: Encoding,
    transport: Transport,
    pub(super) state: RefCell<State>,
    pub(super) outbox: RefCell<Outbox>,
    waker: RefCell<Option<Waker>>,
    pub(super) pulse: Cell<Pulse>,
    /// What replies queued since the outbox was last empty take.
    owed: Cell<u32>,
    hooks_in_flight: Cell<u8>,
    /// Only while messages are limited.
    bucket: Cell<Option<TokenBucket>>,
    /// Whether the shard has it on the list of those to flush at the end of the turn.
    pub(super) is_staged: Cell<bool>,
    /// Whether the socket was full at the last write: until its task hears of room, nobody need try again.
    is_blocked: Cell<bool>,
    /// Whether it is not read from for a while, for want of memory.
    is_resting: Cell<bool>,
    /// The unwritten bytes that the shard's counters know of.
    accounted: Cell<usize>,
}

/// What an idle connection takes of the heap: itself with the counts of its owners, and its task with what the
/// runtime keeps beside a future. What the system and the runtime's driver keep for the socket comes on top.
pub const CONNECTION_BYTES: usize = size_of::<Connection>() + size_of::<ConnectionTask>() + OWNER_COUNTS + TASK_HEADER;

const OWNER_COUNTS: usize = 2 * size_of::<usize>();
const TASK_HEADER: usize = 10 * size_of::<usize>();

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

/// The user of an open connection, and what it follows, in the order it came to.
pub struct Member {
    pub user: UserId,
    pub bills: Vec<BillId>,
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
            state: RefCell::new(state),
            outbox: RefCell::default(),
            waker: RefCell::default(),
            pulse: Cell::new(Pulse { last_pong: now, is_awaited: false }),
            owed: Cell::new(0),
            hooks_in_flight: Cell::new(0),
            bucket: Cell::new(None),
            is_staged: Cell::new(false),
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

    /// Lets the task look at the connection again.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Writes what is due without waiting. What does not fit is left to the task, which waits for room.
    pub fn flush(&self, deflaters: &mut Deflaters, counters: &ShardCounters) {
        let mut outbox = self.outbox.borrow_mut();
        if self.is_blocked.get() || !outbox.is_due() {
            return;
        }
        match outbox.flush(deflaters, |parts| self.write(parts, counters)) {
            Ok(Flushed::Everything) => self.owed.set(0),
            // The task waits for room, and finds a failed write again and ends the connection.
            Ok(Flushed::Blocked) | Err(_) => {
                self.is_blocked.set(true);
                self.wake();
            }
        }
    }

    fn write(&self, parts: &[IoSlice<'_>], counters: &ShardCounters) -> io::Result<usize> {
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
        self.wake();
    }

    /// How long bytes were held up on our side at the most, since this was last asked.
    pub fn longest_stall(&self) -> Duration {
        self.transport.longest_stall()
    }

    /// The peer shall see a reset instead of an orderly end.
    pub fn abort(&self) {
        self.transport.abort();
    }

    /// It is read from again.
    pub fn has_rested(&self) {
        self.is_resting.set(false);
        self.wake();
    }

    fn is_paused(&self, level: DegradationLevel) -> bool {
        let patience = MAX_UNREAD_REPLIES >> level.patience_shift();
        self.is_resting.get()
            || self.hooks_in_flight.get() >= MAX_HOOKS_IN_FLIGHT
            || (self.owed.get() as usize > patience && self.outbox.borrow().is_due())
    }

    fn remember(&self, waker: &Waker) {
        let mut remembered = self.waker.borrow_mut();
        if !remembered.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *remembered = Some(waker.clone());
        }
    }
}

/// Drives one connection until its stream has ended. Small, since there is one per connection: large buffers are
/// the shard's.
pub(super) struct ConnectionTask {
    shard: Rc<Shard>,
    connection: Rc<Connection>,
    assembler: Assembler,
    /// What came in the packet of the upgrade request.
    early: Vec<u8>,
}

impl ConnectionTask {
    pub fn new(shard: Rc<Shard>, connection: Rc<Connection>, early: Vec<u8>) -> Self {
        let assembler = Assembler::new(connection.encoding != Encoding::Plain);
        Self { shard, connection, assembler, early }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        self.connection.remember(cx.waker());
        if !self.early.is_empty() {
            let mut early = std::mem::take(&mut self.early);
            self.understand(&mut early);
        }
        for _ in 0..READS_PER_TURN {
            let written = self.poll_write(cx);
            self.connection.account(&self.shard.counters);
            if let Poll::Ready(ending) = written {
                return Poll::Ready(ending);
            }
            let level = self.shard.shared.level.get();
            if self.connection.is_paused(level) {
                return Poll::Pending;
            }
            let shard = self.shard.clone();
            let mut buffer = shard.read_buffer.borrow_mut();
            match self.connection.transport.poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Ending::Lost),
                Poll::Ready(Ok(count)) => {
                    shard.counters.tally.traffic.add(Traffic::BytesIn, count as u64);
                    self.understand(buffer.get_mut(..count).unwrap_or_default());
                }
                Poll::Ready(Err(failure)) => return Poll::Ready(lost(&failure)),
            }
            if let Some(pause) = level.read_pause() {
                self.connection.is_resting.set(true);
                shard.timers.rest_for(pause, self.connection.key, self.connection.number);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes until nothing is due or the socket is full. `Pending` means: carry on.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        let connection = &self.connection;
        if matches!(&*connection.state.borrow(), State::Cut) {
            return Poll::Ready(Ending::Lost);
        }
        while connection.outbox.borrow().is_due() {
            match connection.transport.poll_writable(cx) {
                Poll::Pending => {
                    connection.is_blocked.set(true);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(failure)) => return Poll::Ready(lost(&failure)),
            }
            let mut deflaters = self.shard.deflaters.borrow_mut();
            let flushed = connection
                .outbox
                .borrow_mut()
                .flush(&mut deflaters, |parts| connection.write(parts, &self.shard.counters));
            match flushed {
                Ok(Flushed::Everything) => connection.owed.set(0),
                Ok(Flushed::Blocked) => {}
                Err(failure) => return Poll::Ready(lost(&failure)),
            }
        }
        connection.is_blocked.set(false);
        if let State::Finishing { end_sent } = &mut *connection.state.borrow_mut()
            && !std::mem::replace(end_sent, true)
        {
            connection.transport.shutdown_write();
        }
        Poll::Pending
    }

    fn understand(&mut self, bytes: &mut [u8]) {
        if matches!(&*self.connection.state.borrow(), State::Finishing { .. } | State::Cut) {
            return;
        }
        let (shard, connection) = (&self.shard, &self.connection);
        let limits = shard.limits;
        let result =
            self.assembler.push(bytes, &limits, &mut shard.inflater.borrow_mut(), &mut |message| match message {
                Message::Close(close) => {
                    shard.peer_closed(connection, close);
                    ControlFlow::Break(())
                }
                message => {
                    if connection.is_listening() {
                        shard.hear(connection, message);
                    }
                    // After our own close frame only the peer's is waited for.
                    ControlFlow::Continue(())
                }
            });
        if let Err(reason) = result {
            self.shard.fault(&self.connection, reason);
        }
    }
}

impl Future for ConnectionTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // A panic costs this connection and no other: state shared with others is only changed by code that
        // leaves it whole, and what this connection holds is taken out of every table below.
        let ending = match catch_unwind(AssertUnwindSafe(|| self.turn(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(ending)) => ending,
            Err(_panic) => {
                note_panic();
                error!(connection = self.connection.number.0, "a connection was ended by a panic");
                Ending::Lost
            }
        };
        self.shard.retire(&self.connection, ending);
        Poll::Ready(())
    }
}

fn lost(failure: &io::Error) -> Ending {
    debug!(%failure, "a connection was lost");
    Ending::Lost
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
