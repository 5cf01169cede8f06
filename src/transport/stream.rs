//! A TCP connection where sockets are not files (Windows); stands in for `socket` there, with the same methods.
//!
//! Owns the connection. Every call comes from the shard's thread.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

/// Probing an idle peer is the heartbeat's work; this is the second line, for a heartbeat set very long.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(60);

/// A connected socket that no runtime knows yet.
pub type Descriptor = std::os::windows::io::OwnedSocket;

/// A listening socket, awaited by tasks of one thread's runtime.
pub struct Listening(tokio::net::TcpListener);

pub struct Socket(TcpStream);

pub use reactor::Readiness;

/// Whether the next read would find the end of the stream, or an error. Takes nothing out; the socket does not block.
pub(super) fn has_ended(socket: &socket2::Socket) -> bool {
    match socket.peek(&mut [MaybeUninit::uninit()]) {
        Ok(count) => count == 0,
        Err(failure) => !matches!(failure.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
    }
}

/// Nothing is registered here: the runtime wakes the task that polls a socket.
pub mod reactor {
    use std::io;
    use std::task::{Context, Poll};

    pub type WatchKey = u32;

    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Readiness {
        pub readable: bool,
        pub writable: bool,
        pub ended: bool,
    }

    impl Readiness {
        pub fn add(&mut self, _: Self) {}
    }

    pub struct Reactor;

    pub struct Registry;

    impl Reactor {
        pub fn new() -> io::Result<(Self, Registry)> {
            Ok((Self, Registry))
        }

        pub fn poll_events(&mut self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }

        pub fn take_events(&mut self, _: impl FnMut(WatchKey, Readiness)) {}
    }
}

impl Listening {
    pub fn bind(listener: Arc<TcpListener>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener.try_clone()?).map(Self)
    }

    pub async fn accept(&self) -> io::Result<(Descriptor, SocketAddr)> {
        let (stream, peer) = self.0.accept().await?;
        Ok((stream.into_std()?.into(), peer))
    }
}

impl Socket {
    fn bind(descriptor: Descriptor) -> io::Result<Self> {
        let stream = std::net::TcpStream::from(descriptor);
        stream.set_nonblocking(true)?;
        // A peer that is gone already shows at the first read.
        let _ = stream.set_nodelay(true);
        let keep_alive = socket2::TcpKeepalive::new().with_time(KEEP_ALIVE_AFTER);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keep_alive);
        TcpStream::from_std(stream).map(Self)
    }

    pub fn register(descriptor: Descriptor, _: &reactor::Registry, _: reactor::WatchKey) -> io::Result<Self> {
        Self::bind(descriptor)
    }

    pub fn register_accepted(descriptor: Descriptor, _: &reactor::Registry, _: reactor::WatchKey) -> io::Result<Self> {
        Self::bind(descriptor)
    }

    pub fn reregister(self, _: &reactor::Registry, _: reactor::WatchKey) -> io::Result<Self> {
        Ok(self)
    }

    pub fn on_readiness(&self, _: Readiness) {}

    pub fn deregister(&self, _: &reactor::Registry) {}

    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.0.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_read_ready(cx))?,
                result => return Poll::Ready(result),
            }
        }
    }

    /// Ready when a read may succeed.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_ready(cx)
    }

    /// Reads without waiting; `WouldBlock` if nothing is there.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }

    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_write_ready(cx)
    }

    pub fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }

    pub fn has_ended(&self) -> bool {
        has_ended(&SockRef::from(&self.0))
    }

    /// Whether something waits to be read, which is not known here without reading it.
    pub fn has_unread(&self) -> bool {
        false
    }

    pub fn shutdown_write(&self) {
        // Fails only when the connection is gone, and then no peer is left.
        let _ = SockRef::from(&self.0).shutdown(std::net::Shutdown::Write);
    }

    pub fn abort(&self) {
        let _ = SockRef::from(&self.0).set_linger(Some(Duration::ZERO));
    }
}
