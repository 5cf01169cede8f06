//! How newcomers on the own port are received: their request read, upgrades admitted, everything else answered.
//!
//! Runs on the shard's thread.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use tracing::debug;

use crate::core::admission::{Applicant, Underway};
use crate::core::containment::contained;
use crate::core::shard::Shard;
use crate::core::visitor::Visitor;
use crate::monitoring::tally::Refusal;
use crate::transport::handshake::RequestHead;
use crate::transport::head_reader::{HeadFault, HeadReader};
use crate::transport::listener::{Door, Newcomer};
use crate::transport::plain_request::{self, Readiness};

/// How long a newcomer may take to send its request, TLS handshake included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What a newcomer turned out to be.
enum Greeting {
    Request(RequestHead, Vec<u8>),
    Fault(HeadFault),
    Gone,
}

/// A door of the own port, and where those who come through it are received.
#[derive(Clone)]
pub struct Entrance {
    pub door: Door,
    pub reception: Reception,
}

#[derive(Clone)]
pub enum Reception {
    /// By the shard that accepts: there is a door for each.
    Here,
    /// By whichever shard's turn it is.
    Dealt(Arc<dyn Fn(Newcomer) + Send + Sync>),
}

impl Shard {
    /// Accepts at the shard's entrance, if it has one, until the port is closed.
    pub(super) fn attend(self: &Rc<Self>) {
        let Some(Entrance { door, reception }) = self.entrance.borrow().clone() else { return };
        let shard = self.clone();
        let attending = async move {
            door.accept_each(|newcomer| match &reception {
                Reception::Here => shard.welcome(newcomer),
                Reception::Dealt(deal) => deal(newcomer),
            })
            .await;
            shard.entrance.take();
        };
        let keeper = tokio::task::spawn_local(contained("a door", attending));
        self.door_keeper.replace(Some(keeper.abort_handle()));
    }

    /// Accepts nobody any more. Whoever comes waits before the door for the next shard.
    pub(super) fn leave_door(&self) {
        if let Some(keeper) = self.door_keeper.take() {
            keeper.abort();
        }
    }

    pub(super) fn welcome(self: &Rc<Self>, newcomer: Newcomer) {
        tokio::task::spawn_local(contained("a request", self.clone().receive(newcomer)));
    }

    /// Reads one newcomer's request and answers it.
    async fn receive(self: Rc<Self>, newcomer: Newcomer) {
        let _underway = Underway::new(&self);
        let Newcomer { source, peer, place } = newcomer;
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
            greeting = self.listen_to(&visitor) => greeting,
            () = tokio::time::sleep(HEAD_TIMEOUT) => Greeting::Fault(HeadFault::TooSlow),
            // Nothing has been asked yet, so nothing is owed.
            () = self.draining.notified() => Greeting::Gone,
        };
        drop(place);
        match greeting {
            Greeting::Gone => {}
            Greeting::Fault(fault) => {
                debug!(reason = fault.reason(), "a request could not be read");
                self.counters.tally.rejections.add(Refusal::from(fault), 1);
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

    fn readiness(&self) -> Readiness {
        if self.is_draining() {
            Readiness::Stopping
        } else if self.shared.level.get().sheds() {
            Readiness::Shedding
        } else {
            Readiness::Serving
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
