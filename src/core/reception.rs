//! How newcomers on the own port are received: their request read, upgrades admitted, everything else answered.
//!
//! Runs on the shard's thread.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use tracing::debug;

use crate::core::admission::{Applicant, Underway};
use crate::core::shard::Shard;
use crate::monitoring::tally::Refusal;
use crate::transport::Transport;
use crate::transport::handshake::RequestHead;
use crate::transport::head_reader::{HeadFault, HeadReader};
use crate::transport::listener::Newcomer;
use crate::transport::plain_request::{self, Readiness};

/// How long a newcomer may take to send its request, TLS handshake included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What a newcomer turned out to be.
enum Greeting {
    Request(RequestHead, Vec<u8>),
    Fault(HeadFault),
    Gone,
}

impl Shard {
    /// Reads one newcomer's request and answers it.
    pub(super) async fn receive(self: Rc<Self>, newcomer: Newcomer) {
        let _underway = Underway::new(&self);
        let Newcomer { source, peer, place } = newcomer;
        let transport = match Transport::bind(source) {
            Ok(transport) => transport,
            Err(failure) => {
                debug!(%failure, "a connection could not be received");
                return;
            }
        };
        if self.is_draining() {
            return;
        }
        let greeting = tokio::select! {
            greeting = self.listen_to(&transport) => greeting,
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
                self.respond(&transport, fault.response()).await;
            }
            Greeting::Request(head, early) if head.asks_for_upgrade() => {
                self.answer_upgrade(Applicant::Transport(transport), head, early, Some(peer)).await;
            }
            Greeting::Request(head, _body) => {
                let readiness = self.readiness();
                let path = &self.shared.options.handshake.path;
                self.respond(&transport, plain_request::answer(&head, path, readiness)).await;
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

    async fn listen_to(&self, transport: &Transport) -> Greeting {
        let mut reader = HeadReader::default();
        poll_fn(|cx| {
            let mut buffer = self.read_buffer.borrow_mut();
            loop {
                let read = match ready!(transport.poll_read(cx, &mut buffer)) {
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
