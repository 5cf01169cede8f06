//! A byte channel between a shard and Node, for sockets that have no descriptor to take over: TLS, Windows.
//!
//! Node pumps bytes, everything else happens on the shard. The [`Bridge`] is the shard's end and behaves like a socket;
//! the [`Channel`] is what Node's end works with, on Node's thread. The lock between them covers copying bytes.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Bytes from the peer that may wait for the shard before Node stops reading.
const MAX_INBOUND: usize = 64 * 1024;

/// Bytes for the peer that Node may hold unflushed before the shard has to wait.
const MAX_OUTBOUND: usize = 256 * 1024;

/// Tells Node's thread that a channel has [`Work`]. Called on the shard's thread, at most once until the work is taken.
pub trait Notifier: Send + Sync {
    fn notify(&self);
}

/// What Node's end is asked to do with its socket, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Work {
    pub write: Vec<u8>,
    pub resume: bool,
    pub action: SocketAction,
}

/// What becomes of Node's socket after the bytes of a [`Work`] have been written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SocketAction {
    #[default]
    Keep,
    /// Nothing more will be written; the peer may still send.
    End,
    /// Both sides have said all: close when everything has been flushed.
    Close,
    /// At once, with whatever is unflushed.
    Destroy,
}

pub struct Channel {
    state: Mutex<State>,
    node: Box<dyn Notifier>,
}

#[derive(Default)]
struct State {
    inbound: VecDeque<u8>,
    peer: Peer,
    is_paused: bool,
    reader: Option<Waker>,
    /// Written by the shard, not taken by Node yet.
    outbound: Vec<u8>,
    /// Taken by Node, not flushed yet.
    unflushed: usize,
    writer: Option<Waker>,
    shard: ShardEnd,
    /// Since when Node has been asked to take work.
    signalled: Option<Instant>,
    /// The longest that Node has let work wait, since the last call.
    longest_wait: Duration,
    probe: Probe,
}

/// Two rounds through Node's event loop: after the first it runs, after the second it has read its sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Probe {
    #[default]
    Idle,
    Asked {
        round: u8,
    },
    Answered {
        round: u8,
    },
}

/// Rounds of a [`Probe`].
const PROBE_ROUNDS: u8 = 2;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Peer {
    #[default]
    Sending,
    Ended,
    /// Gone after it had ended.
    Closed,
    Gone,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ShardEnd {
    #[default]
    Writing,
    /// Will write no more; Node has still to be told.
    Disconnect,
    Ended,
    /// Has gone after both sides had ended.
    Closed,
    /// Has gone, and what is under way with it.
    Gone,
}

/// The shard's end.
pub struct Bridge(Arc<Channel>);

impl Channel {
    pub fn new(node: Box<dyn Notifier>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), node })
    }

    /// Takes bytes of the peer; `false` if Node shall stop reading until it is asked to resume.
    #[must_use]
    pub fn receive(&self, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        if matches!(state.shard, ShardEnd::Closed | ShardEnd::Gone) {
            return true;
        }
        state.inbound.extend(bytes);
        // Bytes that come in spite of a pause do not end it: the side that paused still waits to be resumed.
        state.is_paused |= state.inbound.len() >= MAX_INBOUND;
        wake(&mut state.reader);
        !state.is_paused
    }

    /// The peer will send no more.
    pub fn peer_ended(&self) {
        self.peer_is(Peer::Ended);
    }

    /// The socket is gone, whatever the reason.
    pub fn peer_closed(&self) {
        self.peer_is(Peer::Gone);
    }

    /// Everything Node took has left it.
    pub fn flushed(&self) {
        let mut state = self.lock();
        state.unflushed = 0;
        wake(&mut state.writer);
    }

    /// What there is to do since the last signal.
    pub fn take_work(&self) -> Work {
        let mut state = self.lock();
        let waited = state.signalled.take().map_or(Duration::ZERO, |since| since.elapsed());
        state.longest_wait = state.longest_wait.max(waited);
        if let Probe::Asked { round } = state.probe {
            state.probe = Probe::Answered { round };
        }
        let write = std::mem::take(&mut state.outbound);
        state.unflushed += write.len();
        let resume = state.is_paused && state.inbound.len() < MAX_INBOUND / 2;
        if resume {
            state.is_paused = false;
        }
        let action = match state.shard {
            ShardEnd::Writing | ShardEnd::Ended => SocketAction::Keep,
            ShardEnd::Disconnect => {
                state.shard = ShardEnd::Ended;
                SocketAction::End
            }
            ShardEnd::Closed => SocketAction::Close,
            ShardEnd::Gone => SocketAction::Destroy,
        };
        Work { write, resume, action }
    }

    fn peer_is(&self, peer: Peer) {
        let mut state = self.lock();
        state.peer = match (state.peer, peer) {
            (Peer::Ended | Peer::Closed, Peer::Gone) => Peer::Closed,
            (Peer::Closed | Peer::Gone, _) => state.peer,
            (Peer::Sending | Peer::Ended, peer) => peer,
        };
        if state.is_dead() {
            state.outbound = Vec::new();
        }
        wake(&mut state.reader);
        wake(&mut state.writer);
    }

    fn notify(&self, mut state: MutexGuard<'_, State>) {
        let is_first = state.signalled.is_none();
        state.signalled.get_or_insert_with(Instant::now);
        drop(state);
        if is_first {
            self.node.notify();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bridge {
    pub fn new(channel: Arc<Channel>) -> Self {
        Self(channel)
    }

    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        if !state.inbound.is_empty() {
            // Reading from memory cannot fail.
            let mut count = state.inbound.read(buffer).unwrap_or_default();
            // The ring's bytes may lie in two pieces.
            count += state.inbound.read(buffer.get_mut(count..).unwrap_or_default()).unwrap_or_default();
            if state.inbound.is_empty() {
                state.inbound = VecDeque::new();
            }
            if state.is_paused && state.inbound.len() < MAX_INBOUND / 2 {
                self.0.notify(state);
            }
            return Poll::Ready(Ok(count));
        }
        match state.peer {
            Peer::Ended | Peer::Closed => Poll::Ready(Ok(0)),
            Peer::Gone => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Peer::Sending => {
                remember(&mut state.reader, cx.waker());
                Poll::Pending
            }
        }
    }

    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        if state.is_dead() || state.room() > 0 {
            return Poll::Ready(Ok(()));
        }
        remember(&mut state.writer, cx.waker());
        Poll::Pending
    }

    pub fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.lock();
        if state.is_dead() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = state.room();
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut taken = 0;
        for part in parts {
            let count = part.len().min(room - taken);
            state.outbound.extend_from_slice(part.get(..count).unwrap_or_default());
            taken += count;
        }
        if taken > 0 {
            self.0.notify(state);
        }
        Ok(taken)
    }

    /// The longest that Node's thread has let work wait since this was last asked: a peer may seem silent for as long.
    pub fn max_wait(&self) -> Duration {
        let mut state = self.0.lock();
        let current = state.signalled.map_or(Duration::ZERO, |since| since.elapsed());
        std::mem::take(&mut state.longest_wait).max(current)
    }

    /// Whether Node has read its sockets since this was first asked, and everything it read has been taken. After a pause
    /// of the whole process the peer's bytes are still in the system, and nothing here tells of them.
    pub fn is_attended(&self) -> bool {
        let mut state = self.0.lock();
        let round = match state.probe {
            Probe::Asked { .. } => return false,
            Probe::Answered { round } if round >= PROBE_ROUNDS => {
                state.probe = Probe::Idle;
                return state.inbound.is_empty();
            }
            Probe::Answered { round } => round + 1,
            Probe::Idle => 1,
        };
        state.probe = Probe::Asked { round };
        self.0.notify(state);
        false
    }

    pub fn has_ended(&self) -> bool {
        self.0.lock().peer != Peer::Sending
    }

    pub fn shutdown_write(&self) {
        let mut state = self.0.lock();
        if state.shard == ShardEnd::Writing {
            state.shard = ShardEnd::Disconnect;
            self.0.notify(state);
        }
    }

    /// Node destroys its socket as soon as it hears of it.
    pub fn abort(&self) {
        let mut state = self.0.lock();
        state.shard = ShardEnd::Gone;
        state.outbound = Vec::new();
        self.0.notify(state);
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        let is_orderly = matches!(state.shard, ShardEnd::Disconnect | ShardEnd::Ended) && state.peer == Peer::Ended;
        if is_orderly {
            state.shard = ShardEnd::Closed;
        } else {
            state.shard = ShardEnd::Gone;
            state.outbound = Vec::new();
        }
        state.inbound = VecDeque::new();
        // No task is left to be woken, and a waker holds its task.
        state.reader = None;
        state.writer = None;
        self.0.notify(state);
    }
}

impl State {
    /// Whatever is written goes nowhere.
    fn is_dead(&self) -> bool {
        matches!(self.peer, Peer::Closed | Peer::Gone) || self.shard == ShardEnd::Gone
    }

    fn room(&self) -> usize {
        MAX_OUTBOUND.saturating_sub(self.outbound.len() + self.unflushed)
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn remember(place: &mut Option<Waker>, waker: &Waker) {
    if !place.as_ref().is_some_and(|known| known.will_wake(waker)) {
        *place = Some(waker.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Counter {
        fn take(&self) -> usize {
            self.0.swap(0, Ordering::Relaxed)
        }
    }

    impl Notifier for Arc<Counter> {
        fn notify(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Ends {
        channel: Arc<Channel>,
        bridge: Bridge,
        signals: Arc<Counter>,
        wakes: Arc<Counter>,
    }

    fn ends() -> Ends {
        let signals = Arc::new(Counter::default());
        let channel = Channel::new(Box::new(signals.clone()));
        Ends { bridge: Bridge::new(channel.clone()), channel, signals, wakes: Arc::default() }
    }

    impl Ends {
        fn read(&self, room: usize) -> Poll<io::Result<Vec<u8>>> {
            let waker = Waker::from(self.wakes.clone());
            let mut buffer = vec![0; room];
            let read = self.bridge.poll_read(&mut Context::from_waker(&waker), &mut buffer);
            read.map_ok(|count| buffer.into_iter().take(count).collect())
        }

        fn write(&self, bytes: &[u8]) -> io::Result<usize> {
            self.bridge.try_write(&[IoSlice::new(bytes)])
        }

        fn is_writable(&self) -> bool {
            let waker = Waker::from(self.wakes.clone());
            self.bridge.poll_writable(&mut Context::from_waker(&waker)).is_ready()
        }
    }

    #[test]
    fn bytes_come_through_and_wake_whoever_waits() {
        let ends = ends();
        assert!(ends.read(10).is_pending());
        assert!(ends.channel.receive(b"hello"));
        assert_eq!(ends.wakes.take(), 1);
        assert!(matches!(ends.read(3), Poll::Ready(Ok(bytes)) if bytes == b"hel"));
        assert!(matches!(ends.read(3), Poll::Ready(Ok(bytes)) if bytes == b"lo"));
        ends.channel.peer_ended();
        assert!(matches!(ends.read(3), Poll::Ready(Ok(bytes)) if bytes.is_empty()));
    }

    #[test]
    fn node_stops_reading_while_the_shard_does_not_keep_up() {
        let ends = ends();
        assert!(ends.channel.receive(&[0; MAX_INBOUND - 1]));
        assert!(!ends.channel.receive(&[0; 1]));
        assert!(matches!(ends.read(MAX_INBOUND / 4), Poll::Ready(Ok(_))));
        assert_eq!(ends.signals.take(), 0);
        assert!(matches!(ends.read(MAX_INBOUND / 2), Poll::Ready(Ok(_))));
        assert_eq!(ends.signals.take(), 1);
        assert!(!ends.channel.receive(b"read before the pause"));
        assert!(ends.channel.take_work().resume);
        assert!(!ends.channel.take_work().resume);
    }

    #[test]
    fn the_shard_waits_while_node_does_not_keep_up() {
        let ends = ends();
        assert_eq!(ends.write(&vec![1; MAX_OUTBOUND + 5]).ok(), Some(MAX_OUTBOUND));
        assert_eq!(ends.signals.take(), 1);
        assert_eq!(ends.write(b"x").map_err(|failure| failure.kind()), Err(io::ErrorKind::WouldBlock));
        assert!(!ends.is_writable());
        assert_eq!(ends.channel.take_work().write.len(), MAX_OUTBOUND);
        assert!(!ends.is_writable(), "taken is not flushed");
        ends.channel.flushed();
        assert_eq!(ends.wakes.take(), 1);
        assert!(ends.is_writable());
        assert_eq!(ends.write(b"x").ok(), Some(1));
    }

    #[test]
    fn many_writes_are_one_signal_and_one_piece_of_work() {
        let ends = ends();
        for byte in 0..10 {
            assert_eq!(ends.write(&[byte]).ok(), Some(1));
        }
        ends.bridge.shutdown_write();
        assert_eq!(ends.signals.take(), 1);
        let work = Work { write: (0..10).collect(), resume: false, action: SocketAction::End };
        assert_eq!(ends.channel.take_work(), work);
        assert_eq!(ends.channel.take_work(), Work::default());
    }

    #[test]
    fn work_that_waits_tells_of_a_stall_once() {
        let ends = ends();
        assert_eq!(ends.bridge.max_wait(), Duration::ZERO);
        assert_eq!(ends.write(b"ping").ok(), Some(4));
        assert!(ends.bridge.max_wait() > Duration::ZERO, "it still waits");
        ends.channel.take_work();
        assert!(ends.bridge.max_wait() > Duration::ZERO, "it waited until now");
        assert_eq!(ends.bridge.max_wait(), Duration::ZERO);
    }

    #[test]
    fn a_socket_that_is_gone_fails_both_ways_after_what_it_sent_was_read() {
        let ends = ends();
        assert!(ends.channel.receive(b"last words"));
        ends.channel.peer_closed();
        assert!(matches!(ends.read(100), Poll::Ready(Ok(bytes)) if bytes == b"last words"));
        assert!(
            matches!(ends.read(100), Poll::Ready(Err(failure)) if failure.kind() == io::ErrorKind::ConnectionReset)
        );
        assert!(ends.is_writable());
        assert_eq!(ends.write(b"x").map_err(|failure| failure.kind()), Err(io::ErrorKind::BrokenPipe));
    }

    #[test]
    fn a_socket_that_closes_after_its_end_has_ended_all_the_same() {
        let ends = ends();
        ends.channel.peer_ended();
        ends.channel.peer_closed();
        assert!(matches!(ends.read(1), Poll::Ready(Ok(bytes)) if bytes.is_empty()));
        assert!(ends.write(b"x").is_err());
    }

    #[test]
    fn a_shard_that_is_gone_has_the_socket_destroyed_and_keeps_nothing() {
        let Ends { channel, bridge, signals, .. } = ends();
        assert!(channel.receive(b"unread"));
        drop(bridge);
        assert_eq!(signals.take(), 1);
        assert_eq!(channel.take_work().action, SocketAction::Destroy);
        assert!(channel.receive(b"later"));
        assert!(channel.lock().inbound.is_empty());
    }

    #[test]
    fn after_both_ends_have_ended_what_was_written_is_still_flushed() {
        let ends = ends();
        assert_eq!(ends.write(b"goodbye").ok(), Some(7));
        ends.bridge.shutdown_write();
        ends.channel.peer_ended();
        drop(ends.bridge);
        assert_eq!(ends.signals.take(), 1);
        assert_eq!(
            ends.channel.take_work(),
            Work { write: b"goodbye".to_vec(), resume: false, action: SocketAction::Close }
        );
    }

    #[test]
    fn a_shard_that_leaves_before_the_peer_has_ended_takes_what_was_written_along() {
        for shut in [true, false] {
            let ends = ends();
            assert_eq!(ends.write(b"goodbye").ok(), Some(7));
            if shut {
                ends.bridge.shutdown_write();
            } else {
                ends.bridge.abort();
                assert!(ends.write(b"x").is_err());
            }
            drop(ends.bridge);
            assert_eq!(
                ends.channel.take_work(),
                Work { write: Vec::new(), resume: false, action: SocketAction::Destroy }
            );
        }
    }
}
