//! Bytes to messages and back, for one connection; knows no users and no topics.
//!
//! `socket` and `bridge` carry bytes, `handshake` answers the upgrade, `frame`, `assembler` and `deflate`
//! read messages out of bytes, `encoded_message` turns a message into bytes once for all its receivers.
//! Who is connected and what a message means does not belong here.

pub mod assembler;
pub mod authority;
pub mod bridge;
pub mod deflate;
pub mod encoded_message;
pub mod encoding;
pub mod extensions;
pub mod forwarded;
pub mod frame;
pub mod handshake;
pub mod head_reader;
pub mod listener;
pub mod origin;
pub mod plain_request;
pub mod rejection;
pub mod request_head;
#[cfg(unix)]
pub mod socket;
#[cfg(not(unix))]
#[path = "stream.rs"]
pub mod socket;
pub mod tls;

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bridge::Bridge;
use forwarded::Peer;
use socket::reactor::{Registry, WatchKey};
use socket::{Descriptor, Readiness, Socket};
use tls::Tls;

/// What carries the bytes of one connection. Used by the thread of its shard alone.
pub enum Transport {
    /// A byte pipe to Node, which has the socket.
    Bridge(Bridge),
    /// A descriptor taken over from Node, or accepted by ourselves.
    Socket(Socket),
    /// A session on a socket accepted by ourselves. Boxed, since it is large.
    Tls(Box<Tls>),
}

/// What a transport is made from. Not registered with a reactor yet, and so movable between threads.
pub enum Source {
    /// Accepted by ourselves, every option set.
    Accepted(Descriptor),
    Bridge(Bridge),
    /// Taken over.
    Descriptor(Descriptor),
    /// Accepted by ourselves, to be encrypted.
    Tls(Descriptor, Arc<rustls::ServerConfig>),
}

impl Source {
    /// Where the peer is, as far as the system says.
    pub fn peer(&self) -> Peer {
        match self {
            Self::Bridge(_) => Peer::Unknown,
            Self::Accepted(descriptor) | Self::Descriptor(descriptor) | Self::Tls(descriptor, _) => {
                match socket2::SockRef::from(descriptor).peer_addr() {
                    Ok(address) if address.is_unix() => Peer::UnixSocket,
                    Ok(address) => address.as_socket().map_or(Peer::Unknown, |address| Peer::from(address.ip())),
                    Err(_) => Peer::Unknown,
                }
            }
        }
    }

    /// Whether the peer has ended the stream already, or is gone.
    pub fn has_ended(&self) -> bool {
        match self {
            Self::Bridge(bridge) => bridge.has_ended(),
            Self::Accepted(descriptor) | Self::Descriptor(descriptor) | Self::Tls(descriptor, _) => {
                socket::has_ended(&socket2::SockRef::from(descriptor))
            }
        }
    }
}

impl Transport {
    /// Events are reported under `key` from now on.
    pub fn reregister(self, registry: &Registry, key: WatchKey) -> io::Result<Self> {
        match self {
            Self::Bridge(bridge) => Ok(Self::Bridge(bridge)),
            Self::Socket(socket) => socket.reregister(registry, key).map(Self::Socket),
            Self::Tls(tls) => tls.reregister(registry, key).map(|tls| Self::Tls(Box::new(tls))),
        }
    }

    /// Registers the source with the reactor, which reports events of it under `key`. A bridge wakes its task instead.
    pub fn register(source: Source, registry: &Registry, key: WatchKey) -> io::Result<Self> {
        match source {
            Source::Accepted(descriptor) => Socket::register_accepted(descriptor, registry, key).map(Self::Socket),
            Source::Bridge(bridge) => Ok(Self::Bridge(bridge)),
            Source::Descriptor(descriptor) => Socket::register(descriptor, registry, key).map(Self::Socket),
            Source::Tls(descriptor, config) => {
                let socket = Socket::register_accepted(descriptor, registry, key)?;
                Ok(Self::Tls(Box::new(Tls::new(socket, config)?)))
            }
        }
    }

    /// Whether a poll that is pending wakes its task. Otherwise the reactor reports an event when there is something to do.
    pub fn wakes(&self) -> bool {
        matches!(self, Self::Bridge(_)) || cfg!(not(unix))
    }

    /// Takes an event of the reactor.
    pub fn on_readiness(&self, readiness: Readiness) {
        match self {
            Self::Bridge(_) => {}
            Self::Socket(socket) => socket.on_readiness(readiness),
            Self::Tls(tls) => tls.on_readiness(readiness),
        }
    }

    /// To be called before the transport is dropped.
    pub fn deregister(&self, registry: &Registry) {
        match self {
            Self::Bridge(_) => {}
            Self::Socket(socket) => socket.deregister(registry),
            Self::Tls(tls) => tls.deregister(registry),
        }
    }

    /// Reads what is there; 0 is the end of the stream. After `Pending` the task is woken, or the reactor reports an event.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Bridge(bridge) => bridge.poll_read(cx, buffer),
            Self::Socket(socket) => socket.poll_read(cx, buffer),
            Self::Tls(tls) => tls.poll_read(cx, buffer),
        }
    }

    /// Whether a read that was pending left bytes behind which no event will report.
    pub fn is_readable(&self) -> bool {
        match self {
            Self::Bridge(_) | Self::Socket(_) => false,
            Self::Tls(tls) => tls.is_readable(),
        }
    }

    /// Ready when a write may succeed. After `Pending` the task is woken, or the reactor reports an event.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Bridge(bridge) => bridge.poll_writable(cx),
            Self::Socket(socket) => socket.poll_writable(cx),
            Self::Tls(tls) => tls.poll_writable(cx),
        }
    }

    /// Writes as much as fits, without waiting; `WouldBlock` if nothing does.
    pub fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Bridge(bridge) => bridge.try_write(parts),
            Self::Socket(socket) => socket.try_write(parts),
            Self::Tls(tls) => tls.try_write(parts),
        }
    }

    /// Whether the peer is known to have ended the stream, or is gone; bytes that it sent before may still wait.
    pub fn has_ended(&self) -> bool {
        match self {
            Self::Bridge(bridge) => bridge.has_ended(),
            Self::Socket(socket) => socket.has_ended(),
            Self::Tls(tls) => tls.has_ended(),
        }
    }

    /// Whether bytes of the peer wait in the system; a bridge does not tell.
    pub fn has_unread(&self) -> bool {
        match self {
            Self::Bridge(_) => false,
            Self::Socket(socket) => socket.has_unread(),
            Self::Tls(tls) => tls.has_unread(),
        }
    }

    /// How long bytes were held up on our side at the most, since this was last asked.
    pub fn max_wait(&self) -> Duration {
        match self {
            Self::Bridge(bridge) => bridge.max_wait(),
            Self::Socket(_) | Self::Tls(_) => Duration::ZERO,
        }
    }

    /// Whether whatever the peer had sent at an earlier call is here by now. `false` if that is not known yet: to be asked
    /// again. Only sockets of a bridge are read by Node.
    pub fn is_attended(&self) -> bool {
        match self {
            Self::Bridge(bridge) => bridge.is_attended(),
            Self::Socket(_) | Self::Tls(_) => true,
        }
    }

    /// Tells the peer that nothing more will come; its own bytes can still be read.
    pub fn shutdown_write(&self) {
        match self {
            Self::Bridge(bridge) => bridge.shutdown_write(),
            Self::Socket(socket) => socket.shutdown_write(),
            Self::Tls(tls) => tls.shutdown_write(),
        }
    }

    /// Makes the coming close abortive: the peer sees a reset and nothing lingers in the system.
    pub fn abort(&self) {
        match self {
            Self::Bridge(bridge) => bridge.abort(),
            Self::Socket(socket) => socket.abort(),
            Self::Tls(tls) => tls.abort(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_connection_pays_for_no_other_kind() {
        assert!(size_of::<Transport>() <= size_of::<Socket>() + 8);
    }
}
