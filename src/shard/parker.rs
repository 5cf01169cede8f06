//! How a shard waits for something to do: for its bell, for news of its sockets, for the next deadline.
//!
//! What it waits with is kept from turn to turn: making it anew would cost more than most turns do.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Sleep;

use crate::transport::socket::reactor::Reactor;

/// Rung by whoever has put something where the shard will find it. One ring may stand for several.
pub type Bell = Notify;

/// Stands for "no deadline"; to wake once in a while does no harm.
const FAR: Duration = Duration::from_secs(3600);

pub(crate) struct Waiting<'bell> {
    bell: &'bell Bell,
    rung: Pin<Box<Notified<'bell>>>,
    sleep: Pin<Box<Sleep>>,
    armed: Option<Instant>,
}

impl<'bell> Waiting<'bell> {
    pub fn new(bell: &'bell Bell) -> Self {
        let sleep = Box::pin(tokio::time::sleep(FAR));
        Self { bell, rung: Box::pin(bell.notified()), sleep, armed: None }
    }

    /// Returns when the bell has been rung, the reactor has news or `due` has come; `true` if that took waiting.
    pub async fn until(&mut self, due: Option<Instant>, reactor: &mut Reactor) -> bool {
        if due != self.armed {
            self.armed = due;
            self.sleep.as_mut().reset(due.map_or_else(|| tokio::time::Instant::now() + FAR, Into::into));
        }
        let mut has_waited = false;
        poll_fn(|cx| {
            let has_news = reactor.poll_events(cx).is_ready();
            let is_rung = self.rung.as_mut().poll(cx).is_ready();
            if is_rung {
                self.rung.set(self.bell.notified());
            }
            let is_due = self.sleep.as_mut().poll(cx).is_ready();
            if is_due {
                // A sleep that has ended is not polled again.
                self.armed = None;
                self.sleep.as_mut().reset(tokio::time::Instant::now() + FAR);
            }
            if has_news || is_rung || is_due {
                return Poll::Ready(());
            }
            has_waited = true;
            Poll::Pending
        })
        .await;
        has_waited
    }
}
