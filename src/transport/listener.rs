//! The own port: accepts connections and hands them on, unread.
//!
//! Owns the listening sockets: one for each shard where the system deals connections out between several (`SO_REUSEPORT` of
//! Linux), so that none passes from thread to thread; otherwise one. Heads and TLS are the receiving shard's work.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::Source;
use super::socket::Listening;
use crate::error::{Error, ErrorKind, Result};

/// Connections accepted in a row before the loop yields to the connections that exist.
const ACCEPTS_IN_A_ROW: u32 = 32;

/// Node's default.
const BACKLOG: i32 = 511;

/// How long to wait when the system has no more descriptors or memory for a connection.
const SHORTAGE_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// At the limit a shortage recurs with every connection: one is logged per this interval.
const SHORTAGE_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A connection of which nothing has been read.
pub struct Accepted {
    pub source: Source,
    pub peer: IpAddr,
}

/// Where accepted connections go.
pub trait Acceptor {
    /// What a connection occupies until its request is read.
    type Place;

    /// Returns a place for one more connection. Until then connections wait in the system's backlog.
    fn capacity(&self) -> impl Future<Output = Self::Place>;
    fn accepted(&self, accepted: Accepted, place: Self::Place);
    /// Called when the system has no descriptor left; `true` if one was freed.
    fn free_descriptor(&self) -> impl Future<Output = bool>;
}

/// An open port. Dropping it closes it.
pub struct OpenPort {
    /// Nothing is ever sent: dropping it ends every accept loop.
    open: Option<watch::Sender<()>>,
    /// Weak: the system must not assign connections to a socket that has no accept loop any more.
    sockets: Vec<Weak<TcpListener>>,
}

/// One listening socket of a port. Clones share the socket.
#[derive(Clone)]
pub struct ListenerSocket {
    socket: Arc<TcpListener>,
    tls: Option<Arc<rustls::ServerConfig>>,
    /// When a shortage was last logged.
    last_shortage_log: Arc<Mutex<Option<Instant>>>,
    closed: watch::Receiver<()>,
}

/// Binds a port: on every address of the machine, or on the first of the host's. May wait for name resolution.
pub fn bind(host: Option<&str>, port: u16) -> Result<TcpListener> {
    let Some(host) = host else {
        // As Node does: every IPv6 address, which includes those of IPv4; IPv4 alone where there is no IPv6.
        return match bind_to((Ipv6Addr::UNSPECIFIED, port).into()) {
            Err(failure) if failure.kind() != io::ErrorKind::AddrInUse => {
                let address = (Ipv4Addr::UNSPECIFIED, port).into();
                bind_to(address).map_err(|failure| describe(failure, address))
            }
            result => result.map_err(|failure| describe(failure, (Ipv6Addr::UNSPECIFIED, port).into())),
        };
    };
    let unknown = || Error::new(ErrorKind::HostNotFound, format!("listen ENOTFOUND: no address for {host}"));
    let mut addresses = (host, port).to_socket_addrs().map_err(|failure| unknown().caused_by(failure))?;
    let address = addresses.next().ok_or_else(unknown)?;
    bind_to(address).map_err(|failure| describe(failure, address))
}

fn bind_to(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // On Windows it would let other processes take the port over.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn describe(failure: io::Error, address: SocketAddr) -> Error {
    let (kind, what) = match failure.kind() {
        io::ErrorKind::AddrInUse => (ErrorKind::AddressInUse, "address already in use"),
        io::ErrorKind::AddrNotAvailable => (ErrorKind::AddressNotAvailable, "address not available"),
        io::ErrorKind::PermissionDenied => (ErrorKind::PermissionDenied, "permission denied"),
        _ => (ErrorKind::ListenFailed, "the port could not be opened"),
    };
    Error::new(kind, format!("listen {}: {what} {address}", kind.code())).caused_by(failure)
}

/// Opens further sockets on a bound port with `SO_REUSEPORT`, up to `count`: the system distributes connections among them. Only
/// the first socket where the system does not do that.
fn reuseport_sockets(port: TcpListener, count: usize) -> Vec<TcpListener> {
    let mut sockets = vec![port];
    if cfg!(any(target_os = "linux", target_os = "android")) {
        while sockets.len() < count {
            match sockets.first().map_or_else(|| Err(io::ErrorKind::NotFound.into()), open_beside) {
                Ok(socket) => sockets.push(socket),
                Err(failure) => {
                    debug!(%failure, "a port is listened on with fewer sockets");
                    break;
                }
            }
        }
    }
    sockets
}

/// The first socket was bound without sharing, so that a port in use is an error. From here on it shares, with sockets of the same
/// user only.
#[cfg(unix)]
fn open_beside(first: &TcpListener) -> io::Result<TcpListener> {
    let first = SockRef::from(first);
    first.set_reuse_port(true)?;
    let address = first.local_addr()?;
    let socket = Socket::new(address.domain(), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.domain() == Domain::IPV6 {
        socket.set_only_v6(first.only_v6()?)?;
    }
    socket.bind(&address)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(not(unix))]
fn open_beside(_: &TcpListener) -> io::Result<TcpListener> {
    Err(io::ErrorKind::Unsupported.into())
}

impl OpenPort {
    /// Opens up to `count` sockets on a port. Connections wait in the backlog until an [accept loop](ListenerSocket::accept_loop) runs.
    pub fn open(
        port: TcpListener,
        tls: Option<&Arc<rustls::ServerConfig>>,
        count: usize,
    ) -> (Self, Vec<ListenerSocket>) {
        let (open, closed) = watch::channel(());
        let last_shortage_log = Arc::new(Mutex::new(None));
        let listeners: Vec<_> = reuseport_sockets(port, count)
            .into_iter()
            .map(|socket| ListenerSocket {
                socket: Arc::new(socket),
                tls: tls.cloned(),
                last_shortage_log: last_shortage_log.clone(),
                closed: closed.clone(),
            })
            .collect();
        let sockets = listeners.iter().map(|listener| Arc::downgrade(&listener.socket)).collect();
        (Self { open: Some(open), sockets }, listeners)
    }
}

impl Drop for OpenPort {
    fn drop(&mut self) {
        // First, so that the accept loops end before their sockets fail.
        self.open.take();
        for socket in self.sockets.iter().filter_map(Weak::upgrade) {
            // Linux refuses connections from here on; elsewhere this happens when the accept loops have ended.
            let _ = SockRef::from(&*socket).shutdown(std::net::Shutdown::Both);
        }
    }
}

impl ListenerSocket {
    /// Hands every connection to `acceptor` until the port is closed.
    pub async fn accept_loop(self, acceptor: &impl Acceptor) {
        let mut closed = self.closed.clone();
        tokio::select! {
            biased;
            _ = closed.changed() => {}
            () = self.accept(acceptor) => {}
        }
    }

    async fn accept(&self, acceptor: &impl Acceptor) {
        let mut shortage = Shortage { pause: None, last_log: &self.last_shortage_log };
        let port = loop {
            match Listening::bind(self.socket.clone()) {
                Ok(port) => break port,
                Err(failure) => shortage.wait_out(failure).await,
            }
        };
        let mut in_a_row = 0_u32;
        loop {
            let place = acceptor.capacity().await;
            in_a_row = (in_a_row + 1) % ACCEPTS_IN_A_ROW;
            if in_a_row == 0 {
                tokio::task::yield_now().await;
            }
            match port.accept().await {
                Ok((descriptor, peer)) => {
                    shortage.end();
                    let source = match &self.tls {
                        Some(config) => Source::Tls(descriptor, config.clone()),
                        None => Source::Accepted(descriptor),
                    };
                    acceptor.accepted(Accepted { source, peer: peer.ip().to_canonical() }, place);
                }
                Err(failure) if concerns_one_peer(&failure) => debug!(%failure, "a connection was lost"),
                Err(failure) if acceptor.free_descriptor().await => {
                    shortage.log(&failure);
                    tokio::task::yield_now().await;
                }
                Err(failure) => shortage.wait_out(failure).await,
            }
        }
    }
}

/// The system has no descriptors or no memory left for a connection.
struct Shortage<'socket> {
    pause: Option<Duration>,
    last_log: &'socket Mutex<Option<Instant>>,
}

impl Shortage<'_> {
    async fn wait_out(&mut self, failure: io::Error) {
        self.log(&failure);
        let (shortest, longest) = SHORTAGE_PAUSE;
        let pause = self.pause.map_or(shortest, |pause| (pause * 2).min(longest));
        self.pause = Some(pause);
        tokio::time::sleep(pause).await;
    }

    /// At most once per interval, for all sockets of a port.
    fn log(&self, failure: &io::Error) {
        let mut last_log = self.last_log.lock().unwrap_or_else(PoisonError::into_inner);
        if last_log.is_none_or(|at| at.elapsed() >= SHORTAGE_LOG_INTERVAL) {
            *last_log = Some(Instant::now());
            warn!(%failure, "no connection can be accepted for now");
        }
    }

    fn end(&mut self) {
        self.pause = None;
    }
}

/// Whether the failure concerns one connection only, and the next may be accepted.
fn concerns_one_peer(failure: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, TimedOut};
    matches!(failure.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | TimedOut)
}
