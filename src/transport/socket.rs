//! A TCP or Unix socket, taken over from Node or accepted by ourselves, first on a runtime, then under its shard's reactor.
//!
//! Owns the descriptor. Every call comes from the shard's thread.
#![allow(unsafe_code, reason = "registering descriptors; each use says why it is sound")]

pub mod reactor;
mod readiness;

use std::cell::Cell;
use std::io::{self, IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use self::reactor::{Registry, WatchKey};
pub use self::readiness::Readiness;

/// Probing an idle peer is the heartbeat's work; this is the second line, for a heartbeat set very long.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(60);

/// Writing to a socket the peer has reset must not raise SIGPIPE in the host process.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
const SEND_FLAGS: i32 = 0x4000;
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
const SEND_FLAGS: i32 = 0;

/// A connected socket that nothing waits for yet.
pub type Descriptor = OwnedFd;

/// A listening socket, awaited by tasks of one thread's runtime.
pub struct Listening(AsyncFd<Arc<TcpListener>>);

pub struct Socket(Mode);

enum Mode {
    /// Whoever polls is woken by the runtime: for the time until a connection is open, and where there is no shard.
    Awaited(Box<AsyncFd<socket2::Socket>>),
    /// Watched by a shard's [`Reactor`](reactor::Reactor), which tells what it is ready for: small, since there is one per
    /// connection.
    Watched(Watched),
}

struct Watched {
    socket: socket2::Socket,
    readiness: Cell<Readiness>,
}

impl Listening {
    pub fn bind(listener: Arc<TcpListener>) -> io::Result<Self> {
        // Linux hands these on to what is accepted, which saves every newcomer the calls.
        set_options(&SockRef::from(&*listener));
        listener.set_nonblocking(true)?;
        // SAFETY: the listener owns its descriptor, one of its owners is the `AsyncFd`, and it is neither closed nor
        // exchanged before that is dropped.
        let registered = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) };
        Ok(Self(registered.map_err(io::Error::from)?))
    }

    /// A connection, with every option set.
    pub async fn accept(&self) -> io::Result<(Descriptor, SocketAddr)> {
        loop {
            let mut guard = self.0.readable().await?;
            if let Ok(accepted) = guard.try_io(|listener| listener.get_ref().accept()) {
                let (stream, peer) = accepted?;
                stream.set_nonblocking(true)?;
                #[cfg(not(any(target_os = "linux", target_os = "android")))]
                set_options(&SockRef::from(&stream));
                return Ok((stream.into(), peer));
            }
        }
    }
}

impl Socket {
    /// To be polled by tasks of the calling thread's runtime.
    pub fn bind(descriptor: Descriptor) -> io::Result<Self> {
        Self::awaited(prepare(descriptor)?)
    }

    /// To be watched from the start.
    pub fn register(descriptor: Descriptor, registry: &Registry, key: WatchKey) -> io::Result<Self> {
        Self::watch_prepared(prepare(descriptor)?, registry, key)
    }

    /// The same for one that [`Listening`] has accepted.
    pub fn register_accepted(descriptor: Descriptor, registry: &Registry, key: WatchKey) -> io::Result<Self> {
        Self::watch_prepared(descriptor.into(), registry, key)
    }

    /// From now on `registry`'s reactor tells under `key` what the socket is ready for, and no task is woken.
    pub fn reregister(self, registry: &Registry, key: WatchKey) -> io::Result<Self> {
        match self.0 {
            Mode::Awaited(socket) => Self::watch_prepared((*socket).into_inner(), registry, key),
            Mode::Watched(watched) => {
                registry.rename(watched.socket.as_raw_fd(), key)?;
                Ok(Self(Mode::Watched(watched)))
            }
        }
    }

    /// The reactor has news.
    pub fn on_readiness(&self, readiness: Readiness) {
        if let Mode::Watched(watched) = &self.0 {
            watched.on_readiness(readiness);
        }
    }

    /// The socket is about to go: its descriptor may live on elsewhere, and news of it must not.
    pub fn deregister(&self, registry: &Registry) {
        if let Mode::Watched(watched) = &self.0 {
            registry.remove(watched.socket.as_raw_fd());
        }
    }

    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match &self.0 {
            Mode::Awaited(socket) => poll_read_awaited(socket, cx, buffer),
            Mode::Watched(watched) => watched.read(buffer),
        }
    }

    /// Ready when a read may succeed.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            Mode::Awaited(socket) => socket.poll_read_ready(cx).map_ok(|_guard| ()),
            Mode::Watched(watched) if watched.readiness.get().readable => Poll::Ready(Ok(())),
            Mode::Watched(_) => Poll::Pending,
        }
    }

    /// Reads without waiting; `WouldBlock` if nothing is there.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.0 {
            Mode::Awaited(socket) => socket.try_io(Interest::READABLE, |socket| read(socket, buffer)),
            Mode::Watched(watched) => watched.try_read(buffer),
        }
    }

    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            Mode::Awaited(socket) => socket.poll_write_ready(cx).map_ok(|_guard| ()),
            Mode::Watched(watched) if watched.readiness.get().writable => Poll::Ready(Ok(())),
            Mode::Watched(_) => Poll::Pending,
        }
    }

    pub fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.0 {
            Mode::Awaited(socket) => socket.try_io(Interest::WRITABLE, |socket| send(socket, parts)),
            Mode::Watched(watched) => watched.try_write(parts),
        }
    }

    pub fn has_ended(&self) -> bool {
        let is_told = matches!(&self.0, Mode::Watched(watched) if watched.readiness.get().ended);
        is_told || has_ended(self.inner())
    }

    /// Whether something waits to be read; the end of the stream does not count.
    pub fn has_unread(&self) -> bool {
        self.inner().peek(&mut [MaybeUninit::uninit()]).is_ok_and(|count| count > 0)
    }

    pub fn shutdown_write(&self) {
        // Fails only when the connection is gone, and then there is nobody to tell.
        let _ = self.inner().shutdown(std::net::Shutdown::Write);
    }

    pub fn abort(&self) {
        let _ = SockRef::from(self.inner()).set_linger(Some(Duration::ZERO));
    }

    fn awaited(socket: socket2::Socket) -> io::Result<Self> {
        // SAFETY: the socket owns its descriptor, is owned by the `AsyncFd`, and is neither closed nor exchanged
        // before that is dropped or has given it back.
        let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE | Interest::WRITABLE) };
        Ok(Self(Mode::Awaited(Box::new(registered.map_err(io::Error::from)?))))
    }

    fn watch_prepared(socket: socket2::Socket, registry: &Registry, key: WatchKey) -> io::Result<Self> {
        registry.add(socket.as_raw_fd(), key)?;
        // What is there already is reported as the first news.
        let readiness = Cell::new(Readiness { writable: true, ..Readiness::default() });
        Ok(Self(Mode::Watched(Watched { socket, readiness })))
    }

    fn inner(&self) -> &socket2::Socket {
        match &self.0 {
            Mode::Awaited(socket) => socket.get_ref(),
            Mode::Watched(watched) => &watched.socket,
        }
    }
}

impl Watched {
    fn on_readiness(&self, readiness: Readiness) {
        let mut known = self.readiness.get();
        known.add(readiness);
        self.readiness.set(known);
    }

    fn read(&self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Ok(count) => {
                let known = self.readiness.get();
                // A short read has emptied the socket, and whatever comes later raises a new edge: saves the read that
                // would only return EAGAIN.
                if count < buffer.len() && !known.ended {
                    self.readiness.set(Readiness { readable: false, ..known });
                }
                Poll::Ready(Ok(count))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let known = self.readiness.get();
        if !known.readable {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let result = read(&self.socket, buffer);
        if would_block(&result) {
            self.readiness.set(Readiness { readable: false, ended: false, ..known });
        }
        result
    }

    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let known = self.readiness.get();
        if !known.writable {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let result = send(&self.socket, parts);
        if would_block(&result) {
            self.readiness.set(Readiness { writable: false, ..known });
        }
        result
    }
}

/// Whether the next read would find the end of the stream, or an error. Takes nothing out; the socket does not block.
pub(super) fn has_ended(socket: &socket2::Socket) -> bool {
    match socket.peek(&mut [MaybeUninit::uninit()]) {
        Ok(count) => count == 0,
        Err(failure) => !matches!(failure.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
    }
}

fn prepare(descriptor: Descriptor) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::from(descriptor);
    socket.set_nonblocking(true)?;
    set_options(&socket);
    Ok(socket)
}

fn set_options(socket: &socket2::Socket) {
    // Neither applies to a Unix socket; a peer that is gone already shows at the first read.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEP_ALIVE_AFTER));
    #[cfg(target_vendor = "apple")]
    let _ = socket.set_nosigpipe(true);
}

fn poll_read_awaited(
    socket: &AsyncFd<socket2::Socket>,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    loop {
        let mut guard = ready!(socket.poll_read_ready(cx))?;
        match guard.try_io(|socket| read(socket.get_ref(), buffer)) {
            Ok(Ok(count)) => {
                // As above.
                if count > 0 && count < buffer.len() {
                    guard.clear_ready();
                }
                return Poll::Ready(Ok(count));
            }
            Ok(Err(error)) => return Poll::Ready(Err(error)),
            Err(_would_block) => {}
        }
    }
}

fn read(mut socket: &socket2::Socket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn send(socket: &socket2::Socket, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    loop {
        let result = match parts {
            [part] => socket.send_with_flags(part, SEND_FLAGS),
            parts => socket.send_vectored_with_flags(parts, SEND_FLAGS),
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn would_block<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
