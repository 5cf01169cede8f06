//! How newcomers on the own port are received: their request read, upgrades admitted, everything else answered.
//!
//! Runs on the shard's thread.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use tracing::debug;

use crate::application::panic_guard::catch_task;
use crate::monitoring::counters::RejectionReason;
use crate::shard::event_loop::Shard;
use crate::shard::handshake::{Applicant, Underway};
use crate::shard::pending::Visitor;
use crate::shard::pending_places::{Loss, PendingPlace};
use crate::transport::handshake::RequestHead;
use crate::transport::head_reader::{HeadError, HeadReader};
use crate::transport::listener::{Accepted, Acceptor, ListenerSocket};
use crate::transport::plain_request::{self, Availability};

/// How long to wait when every place is taken by a connection that may not be asked for it yet.
const PLACE_PAUSE: Duration = Duration::from_millis(5);

/// What a newcomer turned out to be.
enum Greeting {
    Request(RequestHead, Vec<u8>),
    Fault(HeadError),
    /// Its place is another's.
    Displaced,
    Gone,
}

/// A door of the own port, and where those who come through it are received.
#[derive(Clone)]
pub struct Entrance {
    pub door: ListenerSocket,
    pub reception: Reception,
}

#[derive(Clone)]
pub enum Reception {
    /// By the shard that accepts: there is a door for each.
    Here,
    /// By whichever shard's turn it is.
    Dealt(Arc<dyn Fn(Accepted) + Send + Sync>),
}

/// What a shard does with what is accepted at its door.
struct ShardAcceptor {
    shard: Rc<Shard>,
    reception: Reception,
}

impl Acceptor for ShardAcceptor {
    async fn capacity(&self) {
        self.shard.pending_place().await;
    }

    fn accepted(&self, newcomer: Accepted) {
        match &self.reception {
            Reception::Here => self.shard.welcome(newcomer),
            Reception::Dealt(deal) => deal(newcomer),
        }
    }

    fn free_descriptor(&self) -> bool {
        self.shard.pending.ask_for_place(Instant::now())
    }
}

impl Shard {
    /// Accepts at the shard's entrance, if it has one, until the port is closed.
    pub(crate) fn attend(self: &Rc<Self>) {
        let Some(Entrance { door, reception }) = self.entrance.borrow().clone() else { return };
        let shard = self.clone();
        let attending = async move {
            door.accept_loop(&ShardAcceptor { shard: shard.clone(), reception }).await;
            shard.entrance.take();
        };
        let keeper = tokio::task::spawn_local(catch_task("a door", attending));
        self.door_keeper.replace(Some(keeper.abort_handle()));
    }

    /// Accepts nobody any more. Whoever comes waits before the door for the next shard.
    pub(crate) fn leave_door(&self) {
        if let Some(keeper) = self.door_keeper.take() {
            keeper.abort();
        }
    }

    /// Receives a connection that was accepted. Where another shard did that, there may be no place for it.
    pub(crate) fn welcome(self: &Rc<Self>, newcomer: Accepted) {
        if self.pending.is_full() && !self.pending.ask_for_place(Instant::now()) {
            self.counters.rejections.add(RejectionReason::Displaced, 1);
            return;
        }
        let place = PendingPlace::new(self, newcomer.peer);
        tokio::task::spawn_local(catch_task("a request", self.clone().receive(newcomer, place)));
    }

    /// Reads one newcomer's request and answers it.
    async fn receive(self: Rc<Self>, newcomer: Accepted, place: PendingPlace) {
        let _underway = Underway::new(&self);
        let Accepted { source, peer } = newcomer;
        let visitor = match Visitor::new(source, &self) {
            Ok(visitor) => visitor,
            Err(failure) => {
                debug!(%failure, "a connection could not be received");
                return;
            }
        };
        if self.is_draining() {
            return;
        }
        let greeting = tokio::select! {
            biased;
            greeting = self.listen_to(&visitor) => greeting,
            loss = place.lost(|| visitor.has_unread()) => match loss {
                Loss::TooSlow => Greeting::Fault(HeadError::TooSlow),
                Loss::Displaced => Greeting::Displaced,
            },
            // Nothing has been asked yet, so nothing is owed.
            () = self.draining.notified() => Greeting::Gone,
        };
        drop(place);
        match greeting {
            Greeting::Gone => {}
            Greeting::Displaced => {
                self.counters.rejections.add(RejectionReason::Displaced, 1);
                // Nothing of it shall linger in the system.
                visitor.abort();
            }
            Greeting::Fault(fault) => {
                debug!(reason = fault.reason(), "a request could not be read");
                self.counters.rejections.add(RejectionReason::from(fault), 1);
                self.respond(&visitor, fault.response()).await;
            }
            Greeting::Request(head, early) if head.asks_for_websocket() => {
                self.answer_upgrade(Applicant::Visitor(visitor), head, early, peer.into()).await;
            }
            Greeting::Request(head, _body) => {
                let readiness = self.readiness();
                let path = &self.shared.options.handshake.path;
                self.respond(&visitor, plain_request::answer(&head, path, readiness)).await;
            }
        }
    }

    /// Returns when a handshake has a place. Asks silent ones for theirs, one at a time.
    async fn pending_place(&self) {
        while self.pending.is_full() {
            if self.pending.ask_for_place(Instant::now()) {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(PLACE_PAUSE).await;
            }
        }
    }

    fn readiness(&self) -> Availability {
        if self.is_draining() {
            Availability::Stopping
        } else if self.shared.level.get().rejects_new_connections() {
            Availability::Overloaded
        } else {
            Availability::Serving
        }
    }

    async fn listen_to(&self, visitor: &Visitor) -> Greeting {
        let mut reader = HeadReader::default();
        poll_fn(|cx| {
            let mut buffer = self.read_buffer.borrow_mut();
            loop {
                let read = match ready!(visitor.poll_read(cx, &mut buffer)) {
                    Ok(0) => return Poll::Ready(Greeting::Gone),
                    Ok(count) => reader.push(buffer.get(..count).unwrap_or_default()),
                    Err(failure) => {
                        debug!(%failure, "a connection was lost before its request");
                        return Poll::Ready(Greeting::Gone);
                    }
                };
                match read {
                    Ok(None) => {}
                    Ok(Some((head, early))) => return Poll::Ready(Greeting::Request(head, early)),
                    Err(fault) => return Poll::Ready(Greeting::Fault(fault)),
                }
            }
        })
        .await
    }
}
