//! A TCP or Unix socket, taken over from Node or accepted by ourselves, on its shard's runtime.
//!
//! Owns the descriptor. Every call comes from the shard's thread.
#![allow(unsafe_code, reason = "registering a descriptor; the use says why it is sound")]

use std::io::{self, IoSlice, Read as _};
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Probing an idle peer is the heartbeat's work; this is the second line, for a heartbeat set very long.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(60);

/// Writing to a socket the peer has reset must not raise SIGPIPE in the host process.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
const SEND_FLAGS: i32 = 0x4000;
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
const SEND_FLAGS: i32 = 0;

/// A connected socket that no runtime knows yet.
pub type Descriptor = OwnedFd;

pub struct Socket(AsyncFd<socket2::Socket>);

impl Socket {
    pub fn bind(descriptor: Descriptor) -> io::Result<Self> {
        let socket = socket2::Socket::from(descriptor);
        socket.set_nonblocking(true)?;
        // Neither applies to a Unix socket; a peer that is gone already shows at the first read.
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEP_ALIVE_AFTER));
        #[cfg(target_vendor = "apple")]
        socket.set_nosigpipe(true)?;
        // SAFETY: the socket owns its descriptor, is owned by the `AsyncFd`, and is neither closed nor exchanged
        // before that is dropped.
        let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE | Interest::WRITABLE) };
        registered.map(Self).map_err(io::Error::from)
    }

    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            match guard.try_io(|socket| {
                let mut reader: &socket2::Socket = socket.get_ref();
                reader.read(buffer)
            }) {
                Ok(Ok(count)) => {
                    // Readiness is edge-triggered: a short read has emptied the socket, and whatever comes
                    // later raises a new edge. Saves the read that would only return EAGAIN.
                    if count > 0 && count < buffer.len() {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(count));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }

    /// Ready when a read may succeed.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_ready(cx).map_ok(|_guard| ())
    }

    /// Reads without waiting; `WouldBlock` if nothing is there.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_io(Interest::READABLE, |mut socket| {
            loop {
                match socket.read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => return result,
                }
            }
        })
    }

    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_write_ready(cx).map_ok(|_guard| ())
    }

    pub fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_io(Interest::WRITABLE, |socket| {
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
        })
    }

    pub fn shutdown_write(&self) {
        // Fails only when the connection is gone, and then there is nobody to tell.
        let _ = self.0.get_ref().shutdown(std::net::Shutdown::Write);
    }

    pub fn abort(&self) {
        let _ = SockRef::from(self.0.get_ref()).set_linger(Some(Duration::ZERO));
    }
}
