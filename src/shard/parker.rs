//! Waits for work of a shard: a notification, news of its sockets, or the next deadline.
//!
//! The futures are kept from turn to turn: building them again would cost more than most turns do.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Sleep;

use crate::transport::socket::reactor::Reactor;

/// Stands for "no deadline"; a wake-up now and then does no harm.
const FAR: Duration = Duration::from_secs(3600);

pub struct Parker<'n> {
    notify: &'n Notify,
    notified: Pin<Box<Notified<'n>>>,
    sleep: Pin<Box<Sleep>>,
    armed: Option<Instant>,
}

impl<'n> Parker<'n> {
    pub fn new(notify: &'n Notify) -> Self {
        let sleep = Box::pin(tokio::time::sleep(FAR));
        Self { notify, notified: Box::pin(notify.notified()), sleep, armed: None }
    }

    /// Returns at a notification, at news of the reactor or at `due`; `true` if that took waiting.
    pub async fn wait(&mut self, due: Option<Instant>, reactor: &mut Reactor) -> bool {
        if due != self.armed {
            self.armed = due;
            self.sleep.as_mut().reset(due.map_or_else(|| tokio::time::Instant::now() + FAR, Into::into));
        }
        let mut has_waited = false;
        poll_fn(|cx| {
            let has_news = reactor.poll_events(cx).is_ready();
            let is_notified = self.notified.as_mut().poll(cx).is_ready();
            if is_notified {
                self.notified.set(self.notify.notified());
            }
            let is_due = self.sleep.as_mut().poll(cx).is_ready();
            if is_due {
                // A sleep that has ended is not polled again.
                self.armed = None;
                self.sleep.as_mut().reset(tokio::time::Instant::now() + FAR);
            }
            if has_news || is_notified || is_due {
                return Poll::Ready(());
            }
            has_waited = true;
            Poll::Pending
        })
        .await;
        has_waited
    }
}
