//! One connection's turn: what is due is written, what has come is read and understood, until it has to wait or the turn's
//! budget is spent.
//!
//! Given by the shard's loop when the transport has news, when somebody asks for it ([`Shard::rouse`]), and out of the
//! backlog. Runs on the shard's thread. Large buffers are the shard's: between two turns an idle connection holds none.

use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tracing::{debug, error};

use crate::application::interface::Ending;
use crate::application::panic_guard::{catch, record_panic};
use crate::monitoring::counters::Traffic;
use crate::shard::connection::{Connection, State};
use crate::shard::event_loop::Shard;
use crate::shard::ingress::{Budget, Rest};
use crate::shard::outbox::Flushed;
use crate::shard::pending::Watched;
use crate::shard::receiver::{MessageReceiver, Stop};
use crate::transport::socket::reactor::Reactor;

/// How long connections of the backlog are served before others get their turn.
const BACKLOG_SLICE: Duration = Duration::from_millis(3);

/// Connections that get a turn without news of their transport, before others get theirs.
const ROUSED_PER_TURN: usize = 64;

/// What a peer may still send after a close frame was queued for it. Room for a message that was under way: a reset would take
/// the close frame from a peer that has not read it yet.
const MAX_DISCARDED: usize = 32 * 1024 * 1024;

impl Shard {
    /// Has the connection given a turn soon, whatever its transport says.
    pub(crate) fn rouse(&self, connection: &Rc<Connection>) {
        if !connection.is_roused.replace(true) {
            self.roused.borrow_mut().push(connection.key);
            self.timers.interrupt();
        }
    }

    /// Gives everybody a turn who has news or was roused.
    pub(crate) fn give_turns(self: &Rc<Self>, reactor: &mut Reactor) {
        reactor.take_events(|key, readiness| match Watched::from_key(key) {
            Watched::Connection(key) => {
                if let Some(connection) = self.connection(key) {
                    connection.transport.on_readiness(readiness);
                    self.give_turn(&connection);
                }
            }
            Watched::Visitor(place) => self.visitors.note(place, readiness),
        });
        for (key, number) in self.knocks.take() {
            if let Some(connection) = self.connection_numbered(key, number) {
                self.rouse(&connection);
            }
        }
        // Whoever is roused by these turns comes next time.
        let mut roused = std::mem::take(&mut *self.roused.borrow_mut());
        let later = roused.split_off(roused.len().min(ROUSED_PER_TURN));
        for key in roused {
            if let Some(connection) = self.connection(key)
                && connection.is_roused.replace(false)
            {
                self.give_turn(&connection);
            }
        }
        if !later.is_empty() {
            self.roused.borrow_mut().splice(..0, later);
        }
        self.work_off_backlog();
    }

    /// Gives turns to those whose last one was too short, each at most one.
    fn work_off_backlog(self: &Rc<Self>) {
        let waiting = self.backlog.borrow().len();
        if waiting == 0 {
            return;
        }
        let began = Instant::now();
        for _ in 0..waiting {
            let Some(key) = self.backlog.borrow_mut().next() else { break };
            if let Some(connection) = self.connection(key)
                && connection.is_behind.replace(false)
            {
                self.guarded(&connection, |waker| {
                    self.turn(&connection, Budget::further(), &mut Context::from_waker(waker))
                });
            }
            if began.elapsed() >= BACKLOG_SLICE {
                break;
            }
        }
    }

    /// Whether somebody is owed a turn at once.
    pub(crate) fn has_roused(&self) -> bool {
        !self.roused.borrow().is_empty() || !self.backlog.borrow().is_empty()
    }

    pub(crate) fn give_turn(self: &Rc<Self>, connection: &Rc<Connection>) {
        // What waits in the backlog goes on from there, and others are not kept waiting for it.
        let budget = if connection.is_behind.get() { Budget::nothing() } else { Budget::first() };
        self.guarded(connection, |waker| self.turn(connection, budget, &mut Context::from_waker(waker)));
    }

    /// The first turn of a new connection, which begins with what came in the packet of its request.
    pub(crate) fn begin(self: &Rc<Self>, connection: &Rc<Connection>, early: Vec<u8>) {
        self.keep_rest(connection, Rest::new(early));
        self.give_turn(connection);
    }

    fn guarded(self: &Rc<Self>, connection: &Rc<Connection>, turn: impl FnOnce(&Waker) -> Poll<Ending>) {
        self.guard(connection, || {
            let knocker = connection.transport.wakes().then(|| self.knocks.waker(connection.key, connection.number));
            if let Poll::Ready(ending) = turn(knocker.as_ref().unwrap_or(Waker::noop())) {
                self.retire(connection, ending);
            }
        });
    }

    /// A panic costs this connection and no other: state shared with others is only changed by code that leaves it
    /// whole, and what this connection holds is taken out of every table here.
    pub(crate) fn guard(&self, connection: &Rc<Connection>, action: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(action)).is_err() {
            self.end_by_panic(connection);
        }
    }

    pub(crate) fn end_by_panic(&self, connection: &Rc<Connection>) {
        record_panic();
        error!(connection = connection.number.0, "a connection was ended by a panic");
        catch("the end of a connection", || self.retire(connection, Ending::Lost));
    }

    fn turn(self: &Rc<Self>, connection: &Rc<Connection>, mut budget: Budget, cx: &mut Context<'_>) -> Poll<Ending> {
        connection.is_caught_up.set(false);
        loop {
            let written = self.poll_write(connection, cx);
            connection.account(&self.counters);
            if let Poll::Ready(ending) = written {
                return Poll::Ready(ending);
            }
            if connection.is_behind.get() {
                return Poll::Pending;
            }
            let level = self.shared.level.get();
            if connection.is_paused(level) {
                // Bytes a session has encrypted, but the socket has not taken, would otherwise leave with the next read.
                return match connection.transport.poll_writable(cx) {
                    Poll::Ready(Err(failure)) => Poll::Ready(lost(&failure)),
                    _ => Poll::Pending,
                };
            }
            let stop = match self.take_rest(connection) {
                Some(mut rest) => {
                    let (taken, stop) = self.understand(connection, rest.unread(), &mut budget);
                    rest.advance(taken);
                    self.keep_rest(connection, rest);
                    stop
                }
                None => match self.read(connection, &mut budget, cx) {
                    Ok(ControlFlow::Continue(stop)) => stop,
                    Ok(ControlFlow::Break(turn)) => return turn,
                    Err(failure) => return Poll::Ready(lost(&failure)),
                },
            };
            if stop == Some(Stop::Budget) {
                self.fall_behind(connection);
                return Poll::Pending;
            }
        }
    }

    /// Reads once, if the budget allows, and understands that. `Break`: how the turn ends.
    fn read(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        budget: &mut Budget,
        cx: &mut Context<'_>,
    ) -> io::Result<ControlFlow<Poll<Ending>, Option<Stop>>> {
        let mut buffer = self.read_buffer.borrow_mut();
        let Some(room) = budget.take_read().and_then(|most| buffer.get_mut(..most)) else {
            return Ok(ControlFlow::Continue(Some(Stop::Budget)));
        };
        let count = match connection.transport.poll_read(cx, room) {
            Poll::Pending if connection.transport.is_readable() => {
                return Ok(ControlFlow::Continue(Some(Stop::Budget)));
            }
            Poll::Pending => {
                connection.is_caught_up.set(true);
                return Ok(ControlFlow::Break(Poll::Pending));
            }
            Poll::Ready(count) => count?,
        };
        if count == 0 {
            return Ok(ControlFlow::Break(Poll::Ready(Ending::Lost)));
        }
        self.counters.traffic.add(Traffic::BytesIn, count as u64);
        if !connection.may_still_send(count, MAX_DISCARDED) {
            connection.abort();
            return Ok(ControlFlow::Break(Poll::Ready(Ending::Lost)));
        }
        let bytes = room.get_mut(..count).unwrap_or_default();
        let (taken, stop) = self.understand(connection, bytes, budget);
        if let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            self.keep_rest(connection, Rest::new(rest.to_vec()));
        }
        if let Some(pause) = self.shared.level.get().read_pause() {
            connection.is_resting.set(true);
            self.timers.rest_for(pause, connection.key, connection.number);
        }
        Ok(ControlFlow::Continue(stop))
    }

    /// Has the connection go on after everybody else.
    fn fall_behind(&self, connection: &Connection) {
        if !connection.is_behind.replace(true) {
            self.backlog.borrow_mut().enqueue(connection.key);
        }
    }

    fn take_rest(&self, connection: &Connection) -> Option<Rest> {
        connection.has_rest.replace(false).then(|| self.backlog.borrow_mut().take(connection.key)).flatten()
    }

    fn keep_rest(&self, connection: &Connection, rest: Rest) {
        if !rest.is_empty() {
            connection.has_rest.set(true);
            self.backlog.borrow_mut().keep(connection.key, rest);
        }
    }

    /// Writes until nothing is due or the socket is full. `Pending` means: carry on.
    fn poll_write(&self, connection: &Connection, cx: &mut Context<'_>) -> Poll<Ending> {
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
            let mut deflaters = self.deflaters.borrow_mut();
            let flushed =
                connection.outbox.borrow_mut().flush(&mut deflaters, |parts| connection.write(parts, &self.counters));
            match flushed {
                Ok(Flushed::Everything) => connection.owed.set(0),
                Ok(Flushed::Blocked) => {}
                Err(failure) => return Poll::Ready(lost(&failure)),
            }
        }
        connection.is_blocked.set(false);
        if let State::Finishing { end_sent, .. } = &mut *connection.state.borrow_mut()
            && !std::mem::replace(end_sent, true)
        {
            connection.transport.shutdown_write();
        }
        Poll::Pending
    }

    /// Takes in bytes of the peer: how many, and why no more.
    fn understand(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        bytes: &mut [u8],
        budget: &mut Budget,
    ) -> (usize, Option<Stop>) {
        let length = bytes.len();
        let mut assembler = connection.assembler.borrow_mut();
        let taken = match &*connection.state.borrow() {
            State::Anonymous { .. } | State::Open(_) => None,
            // After our own close frame only the peer's is waited for.
            State::Closing { .. } => Some(assembler.skip_to_close(bytes)),
            State::Finishing { .. } | State::Cut => {
                assembler.forget();
                return (length, None);
            }
        };
        let (result, stop) = match taken {
            Some(Ok((taken, is_closed))) => {
                drop(assembler);
                if is_closed {
                    self.peer_closed(connection, None);
                }
                return (taken, None);
            }
            Some(Err(reason)) => (Err(reason), None),
            None => {
                let level = self.shared.level.get();
                let mut receiver = MessageReceiver::new(self, connection, budget, level);
                let result = assembler.advance(bytes, &self.limits, &mut self.inflater.borrow_mut(), &mut receiver);
                let stop = matches!(result, Ok(taken) if taken < length).then(|| receiver.stop());
                (result, stop)
            }
        };
        drop(assembler);
        match result {
            Ok(taken) => (taken, stop),
            Err(reason) => {
                self.fault(connection, reason);
                (length, None)
            }
        }
    }
}

fn lost(failure: &io::Error) -> Ending {
    debug!(%failure, "a connection was lost");
    Ending::Lost
}
