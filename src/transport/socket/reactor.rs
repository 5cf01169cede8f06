//! Reports what a shard's sockets are ready for: one queue of the system for all of them, itself awaited like a socket.
//!
//! Owned by a shard, used on its thread. A socket that is registered with the runtime costs half a kilobyte, for its entry in the
//! driver and for the task to wake; one that is registered here costs a few bytes.

use std::io;
use std::os::fd::RawFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Token};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::readiness::Readiness;

/// What tells the sockets of a reactor apart.
pub type WatchKey = u32;

/// Events taken at once; what is left waits for the shard's next turn.
const EVENTS_PER_TURN: usize = 64;

const INTEREST: mio::Interest = mio::Interest::READABLE.add(mio::Interest::WRITABLE);

pub struct Reactor {
    queue: AsyncFd<mio::Poll>,
    events: Events,
}

/// Adds sockets to a [`Reactor`] and takes them out.
pub struct Registry(mio::Registry);

impl Reactor {
    /// For the runtime of the calling thread.
    pub fn new() -> io::Result<(Self, Registry)> {
        let poll = mio::Poll::new()?;
        let registry = poll.registry().try_clone()?;
        // SAFETY: the queue owns its descriptor, is owned by the `AsyncFd`, and is neither closed nor exchanged before
        // that is dropped.
        let queue = unsafe { AsyncFd::register_with_interest(poll, Interest::READABLE) }.map_err(io::Error::from)?;
        Ok((Self { queue, events: Events::with_capacity(EVENTS_PER_TURN) }, Registry(registry)))
    }

    /// Ready when there are events; otherwise the task is woken by the next.
    pub fn poll_events(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.queue.poll_read_ready_mut(cx)) {
            Ok(mut guard) => {
                guard.retain_ready();
                Poll::Ready(())
            }
            // Only while the runtime shuts down, and its tasks with it.
            Err(_) => Poll::Pending,
        }
    }

    /// Hands over the events there are, without waiting.
    pub fn take_events(&mut self, mut on_event: impl FnMut(WatchKey, Readiness)) {
        let events = &mut self.events;
        // "Would block" makes the next `poll_events` pending: only when nothing was left behind.
        let _ = self.queue.try_io_mut(Interest::READABLE, |queue| {
            queue.poll(events, Some(Duration::ZERO))?;
            if events.iter().count() < EVENTS_PER_TURN { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        for event in &self.events {
            // Only keys of this width are registered.
            let Ok(key) = WatchKey::try_from(event.token().0) else { continue };
            on_event(
                key,
                Readiness {
                    readable: event.is_readable(),
                    writable: event.is_writable(),
                    ended: event.is_read_closed() || event.is_error(),
                },
            );
        }
        self.events.clear();
    }
}

impl Registry {
    pub(super) fn add(&self, descriptor: RawFd, key: WatchKey) -> io::Result<()> {
        self.0.register(&mut SourceFd(&descriptor), Token(key as usize), INTEREST)
    }

    /// Events are reported under `key` from now on, and what is there already is reported again.
    pub(super) fn rename(&self, descriptor: RawFd, key: WatchKey) -> io::Result<()> {
        self.0.reregister(&mut SourceFd(&descriptor), Token(key as usize), INTEREST)
    }

    pub(super) fn remove(&self, descriptor: RawFd) {
        // Fails only if it is not there.
        let _ = self.0.deregister(&mut SourceFd(&descriptor));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use super::super::Socket;
    use super::*;

    async fn events(reactor: &mut Reactor) -> Vec<(WatchKey, Readiness)> {
        let mut taken = Vec::new();
        tokio::time::timeout(Duration::from_secs(10), std::future::poll_fn(|cx| reactor.poll_events(cx)))
            .await
            .expect("events in time");
        reactor.take_events(|key, readiness| taken.push((key, readiness)));
        taken
    }

    fn pair(registry: &Registry, key: WatchKey) -> (UnixStream, Socket) {
        let (peer, ours) = UnixStream::pair().expect("a pair");
        (peer, Socket::register(ours.into(), registry, key).expect("it can be registered"))
    }

    fn read(socket: &Socket) -> Poll<io::Result<usize>> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        socket.poll_read(&mut cx, &mut [0; 100])
    }

    #[tokio::test]
    async fn bytes_and_their_end_are_reported_once() {
        let (mut reactor, registry) = Reactor::new().expect("a reactor");
        let (mut peer, socket) = pair(&registry, 7);
        assert!(read(&socket).is_pending(), "nothing is known yet");
        let first = events(&mut reactor).await;
        assert!(first.iter().all(|(key, readiness)| *key == 7 && readiness.writable && !readiness.readable));
        peer.write_all(b"abc").expect("room");
        let reported = events(&mut reactor).await;
        assert!(matches!(reported[..], [(7, Readiness { readable: true, ended: false, .. })]), "{reported:?}");
        socket.on_readiness(reported[0].1);
        assert!(matches!(read(&socket), Poll::Ready(Ok(3))));
        assert!(read(&socket).is_pending());
        peer.write_all(b"de").expect("room");
        drop(peer);
        for (_, readiness) in events(&mut reactor).await {
            socket.on_readiness(readiness);
        }
        assert!(matches!(read(&socket), Poll::Ready(Ok(2))), "what came before the end");
        assert!(matches!(read(&socket), Poll::Ready(Ok(0))), "the end, without another edge");
    }

    #[tokio::test]
    async fn more_events_than_fit_are_reported_over_several_turns() {
        let (mut reactor, registry) = Reactor::new().expect("a reactor");
        let count = 3 * EVENTS_PER_TURN as u32;
        let mut sockets: Vec<_> = (0..count).map(|key| pair(&registry, key)).collect();
        for (peer, _) in &mut sockets {
            peer.write_all(b"x").expect("room");
        }
        let mut readable = std::collections::HashSet::new();
        while readable.len() < count as usize {
            let reported = events(&mut reactor).await;
            assert!(reported.len() <= EVENTS_PER_TURN);
            readable.extend(reported.into_iter().filter(|(_, readiness)| readiness.readable).map(|(key, _)| key));
        }
    }

    #[tokio::test]
    async fn a_socket_can_be_registered_under_another_key() {
        let (mut reactor, registry) = Reactor::new().expect("a reactor");
        let (mut peer, socket) = pair(&registry, 7);
        peer.write_all(b"early").expect("room");
        assert!(events(&mut reactor).await.iter().all(|(key, _)| *key == 7));
        let socket = socket.reregister(&registry, 3).expect("it can be registered again");
        let reported = events(&mut reactor).await;
        assert!(matches!(reported[..], [(3, Readiness { readable: true, .. })]), "{reported:?}");
        socket.on_readiness(reported[0].1);
        assert!(matches!(read(&socket), Poll::Ready(Ok(5))));
        socket.deregister(&registry);
        peer.write_all(b"unreported").expect("room");
        let (mut other, _kept) = pair(&registry, 4);
        other.write_all(b"x").expect("room");
        assert!(events(&mut reactor).await.iter().all(|(key, _)| *key == 4));
    }
}
