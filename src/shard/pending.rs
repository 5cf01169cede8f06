//! Somebody at the door: a peer whose transport a task polls, until it is let in or has been sent away.
//!
//! The shard's reactor watches visitors as it watches connections, under keys of their own. Runs on the shard's thread.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::shard::event_loop::Shard;
use crate::transport::socket::Readiness;
use crate::transport::socket::reactor::WatchKey;
use crate::transport::{Source, Transport};
use crate::types::ConnectionKey;

/// Set in the keys of visitors. Connections have the other half.
const VISITOR: WatchKey = 1 << 31;

/// Whom the reactor has news of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    Connection(ConnectionKey),
    Visitor(usize),
}

/// News that the tasks of visitors have not taken yet.
#[derive(Default)]
pub(crate) struct Visitors(RefCell<Slab<Expectation>>);

#[derive(Default)]
struct Expectation {
    news: Readiness,
    task: Option<Waker>,
}

pub(crate) struct Visitor {
    /// Until it is let in.
    transport: Option<Transport>,
    place: usize,
    shard: Rc<Shard>,
}

impl Watched {
    pub fn from_key(key: WatchKey) -> Self {
        if key & VISITOR == 0 { Self::Connection(ConnectionKey(key)) } else { Self::Visitor((key ^ VISITOR) as usize) }
    }
}

/// The key of the connection with this place in its shard's table; `None` past the half that connections have.
pub(crate) fn connection_key(place: usize) -> Option<ConnectionKey> {
    WatchKey::try_from(place).ok().filter(|key| key & VISITOR == 0).map(ConnectionKey)
}

impl Visitors {
    pub fn note(&self, place: usize, news: Readiness) {
        if let Some(expectation) = self.0.borrow_mut().get_mut(place) {
            expectation.news.add(news);
            if let Some(task) = expectation.task.take() {
                task.wake();
            }
        }
    }

    /// What is new at `place`; the task is woken by what comes later.
    fn take(&self, place: usize, cx: &Context<'_>) -> Readiness {
        let mut expectations = self.0.borrow_mut();
        let Some(expectation) = expectations.get_mut(place) else { return Readiness::default() };
        match &mut expectation.task {
            Some(task) => task.clone_from(cx.waker()),
            task => *task = Some(cx.waker().clone()),
        }
        std::mem::take(&mut expectation.news)
    }
}

impl Visitor {
    pub fn new(source: Source, shard: &Rc<Shard>) -> io::Result<Self> {
        let place = shard.visitors.0.borrow_mut().insert(Expectation::default());
        let mut visitor = Self { transport: None, place, shard: shard.clone() };
        // More than half of all keys would need as many descriptors.
        let key = VISITOR | place as WatchKey;
        visitor.transport = Some(Transport::register(source, &shard.registry, key)?);
        Ok(visitor)
    }

    /// What comes from now on is news of a connection.
    pub fn let_in(mut self, key: ConnectionKey) -> io::Result<Transport> {
        let transport = self.transport.take().ok_or(io::ErrorKind::NotConnected)?;
        transport.reregister(&self.shard.registry, key.0)
    }

    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.informed(cx)?.poll_read(cx, buffer)
    }

    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.informed(cx)?.poll_writable(cx)
    }

    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.transport()?.try_write(&[IoSlice::new(bytes)])
    }

    /// Whether the peer has gone, as far as is known.
    pub fn has_ended(&self) -> bool {
        if let Some(expectation) = self.shard.visitors.0.borrow_mut().get_mut(self.place)
            && let Some(transport) = &self.transport
        {
            transport.on_readiness(std::mem::take(&mut expectation.news));
        }
        self.transport.as_ref().is_none_or(Transport::has_ended)
    }

    /// Whether something the peer has sent waits in the system.
    pub fn has_unread(&self) -> bool {
        self.transport.as_ref().is_some_and(Transport::has_unread)
    }

    pub fn shutdown_write(&self) {
        if let Some(transport) = &self.transport {
            transport.shutdown_write();
        }
    }

    /// The peer shall see a reset instead of an orderly end.
    pub fn abort(&self) {
        if let Some(transport) = &self.transport {
            transport.abort();
        }
    }

    fn transport(&self) -> io::Result<&Transport> {
        self.transport.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// The transport, told of everything the reactor knows of it.
    fn informed(&self, cx: &Context<'_>) -> io::Result<&Transport> {
        let transport = self.transport()?;
        transport.on_readiness(self.shard.visitors.take(self.place, cx));
        Ok(transport)
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        if let Some(transport) = &self.transport {
            transport.deregister(&self.shard.registry);
        }
        self.shard.visitors.0.borrow_mut().try_remove(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_visitors_have_different_keys() {
        assert_eq!(Watched::from_key(7), Watched::Connection(ConnectionKey(7)));
        assert_eq!(Watched::from_key(VISITOR | 7), Watched::Visitor(7));
        assert_eq!(connection_key(7), Some(ConnectionKey(7)));
        assert_eq!(connection_key(VISITOR as usize - 1), Some(ConnectionKey(VISITOR - 1)));
        assert_eq!(connection_key(VISITOR as usize), None);
        assert_eq!(connection_key(VISITOR as usize + 7), None);
    }
}
