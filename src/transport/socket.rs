//! A TCP or Unix socket, taken over from Node or accepted by ourselves, registered with its shard's reactor.
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
use std::task::{Context, Poll};
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

/// Nothing waits for it but a reactor: small, since there is one for each connection.
pub struct Socket {
    socket: socket2::Socket,
    readiness: Cell<Readiness>,
}

impl Listening {
    pub fn bind(listener: Arc<TcpListener>) -> io::Result<Self> {
        // Linux copies these to accepted sockets, which saves the calls for each.
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
    /// Registers a connected socket: `registry`'s reactor reports under `key` what it is ready for.
    pub fn register(descriptor: Descriptor, registry: &Registry, key: WatchKey) -> io::Result<Self> {
        Self::register_prepared(prepare(descriptor)?, registry, key)
    }

    /// The same for one that [`Listening`] has accepted.
    pub fn register_accepted(descriptor: Descriptor, registry: &Registry, key: WatchKey) -> io::Result<Self> {
        Self::register_prepared(descriptor.into(), registry, key)
    }

    fn register_prepared(socket: socket2::Socket, registry: &Registry, key: WatchKey) -> io::Result<Self> {
        registry.add(socket.as_raw_fd(), key)?;
        // What is there already is reported by the first event.
        let readiness = Cell::new(Readiness { writable: true, ..Readiness::default() });
        Ok(Self { socket, readiness })
    }

    /// Events are reported under `key` from now on, and what is there already is reported again.
    pub fn reregister(self, registry: &Registry, key: WatchKey) -> io::Result<Self> {
        registry.rename(self.socket.as_raw_fd(), key)?;
        Ok(self)
    }

    /// Takes an event of the reactor.
    pub fn on_readiness(&self, readiness: Readiness) {
        let mut known = self.readiness.get();
        known.add(readiness);
        self.readiness.set(known);
    }

    /// To be called before the socket is dropped: its descriptor may live on elsewhere, and must not be reported any more.
    pub fn deregister(&self, registry: &Registry) {
        registry.remove(self.socket.as_raw_fd());
    }

    /// As [`try_read`](Self::try_read). Nothing is woken after `Pending`: the reactor reports an event.
    pub fn poll_read(&self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
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

    /// Ready when a read may succeed.
    pub fn poll_readable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.readiness.get().readable { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Reads without waiting; `WouldBlock` if nothing is there.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
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

    /// Ready when a write may succeed.
    pub fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.readiness.get().writable { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    pub fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
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

    pub fn has_ended(&self) -> bool {
        self.readiness.get().ended || has_ended(&self.socket)
    }

    /// Whether something waits to be read; the end of the stream does not count.
    pub fn has_unread(&self) -> bool {
        self.socket.peek(&mut [MaybeUninit::uninit()]).is_ok_and(|count| count > 0)
    }

    pub fn shutdown_write(&self) {
        // Fails only when the connection is gone, and then there is nothing to shut down.
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
    }

    pub fn abort(&self) {
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
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
