//! One connection's turn: what is due is written, what has come is read and understood, until it has to wait.
//!
//! Given by the shard's loop when the transport has news, and when somebody asks for it ([`Shard::rouse`]). Runs on the
//! shard's thread. Large buffers are the shard's: between two turns an idle connection holds none.

use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tracing::{debug, error};

use crate::core::connection::{Connection, State};
use crate::core::containment::{contain, note_panic};
use crate::core::host::Ending;
use crate::core::outbox::Flushed;
use crate::core::shard::{Bell, Shard};
use crate::core::visitor::Watched;
use crate::monitoring::tally::Traffic;
use crate::transport::assembler::Message;
use crate::transport::socket::reactor::Reactor;
use crate::types::{ConnectionKey, ConnectionNumber};

/// Reads of one connection before others get their turn: a peer that sends without a break must not hold up its shard.
const READS_PER_TURN: usize = 4;

/// Connections whose transport wakes from elsewhere: those of a bridge.
pub struct Knocks {
    waiting: Mutex<Vec<(ConnectionKey, ConnectionNumber)>>,
    bell: Arc<Bell>,
}

/// Wakes one connection.
struct Knocker {
    knocks: Arc<Knocks>,
    connection: (ConnectionKey, ConnectionNumber),
}

impl Wake for Knocker {
    fn wake(self: Arc<Self>) {
        let mut waiting = self.knocks.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(self.connection);
        drop(waiting);
        self.knocks.bell.notify_one();
    }
}

impl Knocks {
    pub fn new(bell: Arc<Bell>) -> Self {
        Self { waiting: Mutex::default(), bell }
    }

    fn take(&self) -> Vec<(ConnectionKey, ConnectionNumber)> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shard {
    /// Has the connection given a turn soon, whatever its transport says.
    pub(super) fn rouse(&self, connection: &Rc<Connection>) {
        if !connection.is_roused.replace(true) {
            self.roused.borrow_mut().push(connection.key);
            self.timers.interrupt();
        }
    }

    /// Gives everybody a turn who has news or was roused.
    pub(super) fn give_turns(self: &Rc<Self>, reactor: &mut Reactor) {
        reactor.take_news(|key, readiness| match Watched::from_key(key) {
            Watched::Connection(key) => {
                if let Some(connection) = self.connection(key) {
                    connection.transport.note(readiness);
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
        let roused = std::mem::take(&mut *self.roused.borrow_mut());
        for key in roused {
            if let Some(connection) = self.connection(key)
                && connection.is_roused.replace(false)
            {
                self.give_turn(&connection);
            }
        }
    }

    /// Whether somebody is owed a turn at once.
    pub(super) fn has_roused(&self) -> bool {
        !self.roused.borrow().is_empty()
    }

    pub(super) fn give_turn(self: &Rc<Self>, connection: &Rc<Connection>) {
        self.guarded(connection, |waker| self.turn(connection, &mut Context::from_waker(waker)));
    }

    /// The first turn of a new connection, which begins with what came in the packet of its request.
    pub(super) fn begin(self: &Rc<Self>, connection: &Rc<Connection>, mut early: Vec<u8>) {
        self.guarded(connection, |waker| {
            if !early.is_empty() {
                self.understand(connection, &mut early);
            }
            self.turn(connection, &mut Context::from_waker(waker))
        });
    }

    /// A panic costs this connection and no other: state shared with others is only changed by code that leaves it
    /// whole, and what this connection holds is taken out of every table here.
    fn guarded(self: &Rc<Self>, connection: &Rc<Connection>, turn: impl FnOnce(&Waker) -> Poll<Ending>) {
        let knocker = connection.transport.wakes().then(|| {
            let connection = (connection.key, connection.number);
            Waker::from(Arc::new(Knocker { knocks: self.knocks.clone(), connection }))
        });
        let waker = knocker.as_ref().unwrap_or(Waker::noop());
        let ending = match catch_unwind(AssertUnwindSafe(|| turn(waker))) {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(ending)) => ending,
            Err(_panic) => {
                note_panic();
                error!(connection = connection.number.0, "a connection was ended by a panic");
                Ending::Lost
            }
        };
        contain("the end of a connection", || self.retire(connection, ending));
    }

    fn turn(self: &Rc<Self>, connection: &Rc<Connection>, cx: &mut Context<'_>) -> Poll<Ending> {
        for _ in 0..READS_PER_TURN {
            let written = self.poll_write(connection, cx);
            connection.account(&self.counters);
            if let Poll::Ready(ending) = written {
                return Poll::Ready(ending);
            }
            let level = self.shared.level.get();
            if connection.is_paused(level) {
                // Bytes a session has encrypted, but the socket has not taken, would otherwise leave with the next read.
                return match connection.transport.poll_writable(cx) {
                    Poll::Ready(Err(failure)) => Poll::Ready(lost(&failure)),
                    _ => Poll::Pending,
                };
            }
            let mut buffer = self.read_buffer.borrow_mut();
            match connection.transport.poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Ending::Lost),
                Poll::Ready(Ok(count)) => {
                    self.counters.tally.traffic.add(Traffic::BytesIn, count as u64);
                    self.understand(connection, buffer.get_mut(..count).unwrap_or_default());
                }
                Poll::Ready(Err(failure)) => return Poll::Ready(lost(&failure)),
            }
            if let Some(pause) = level.read_pause() {
                connection.is_resting.set(true);
                self.timers.rest_for(pause, connection.key, connection.number);
            }
        }
        self.rouse(connection);
        Poll::Pending
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
        if let State::Finishing { end_sent } = &mut *connection.state.borrow_mut()
            && !std::mem::replace(end_sent, true)
        {
            connection.transport.shutdown_write();
        }
        Poll::Pending
    }

    fn understand(self: &Rc<Self>, connection: &Rc<Connection>, bytes: &mut [u8]) {
        if matches!(&*connection.state.borrow(), State::Finishing { .. } | State::Cut) {
            return;
        }
        let mut assembler = connection.assembler.borrow_mut();
        let result =
            assembler.push(bytes, &self.limits, &mut self.inflater.borrow_mut(), &mut |message| match message {
                Message::Close(close) => {
                    self.peer_closed(connection, close);
                    ControlFlow::Break(())
                }
                message => {
                    if connection.is_listening() {
                        self.hear(connection, message);
                    }
                    // After our own close frame only the peer's is waited for.
                    ControlFlow::Continue(())
                }
            });
        drop(assembler);
        if let Err(reason) = result {
            self.fault(connection, reason);
        }
    }
}

fn lost(failure: &io::Error) -> Ending {
    debug!(%failure, "a connection was lost");
    Ending::Lost
}
