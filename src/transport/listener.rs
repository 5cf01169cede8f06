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

/// So many connections are accepted before those that were get their turn.
const ACCEPTS_IN_A_ROW: u32 = 32;

/// Node's default.
const BACKLOG: i32 = 511;

/// How long to wait when the system has no more descriptors or memory for a connection.
const SHORTAGE_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// At the limit shortages come and go with every connection: the log hears of one in this time.
const SHORTAGE_TOLD_EVERY: Duration = Duration::from_secs(60);

/// A connection nothing has been read of.
pub struct Newcomer {
    pub source: Source,
    pub peer: IpAddr,
}

/// Where accepted connections go.
pub trait Acceptor {
    /// Returns when there is a place for one more. What comes meanwhile waits in the system's queue.
    fn place(&self) -> impl Future<Output = ()>;
    fn accepted(&self, newcomer: Newcomer);
    /// The system has no descriptor left: `true` if one will be free in a moment.
    fn frees_a_descriptor(&self) -> bool;
}

/// An open port. Dropping it closes it.
pub struct Listener {
    /// Nothing is ever sent: its end closes the doors.
    open: Option<watch::Sender<()>>,
    /// Each belongs to its door: one that nobody attends any more must not be sent newcomers.
    sockets: Vec<Weak<TcpListener>>,
}

/// One listening socket of a port. Clones are the same door.
#[derive(Clone)]
pub struct Door {
    socket: Arc<TcpListener>,
    tls: Option<Arc<rustls::ServerConfig>>,
    /// When the log last heard of a shortage.
    told: Arc<Mutex<Option<Instant>>>,
    closed: watch::Receiver<()>,
}

/// Takes a port: on every address of the machine, or on the first of the host's. May wait for name resolution.
pub fn bind(host: Option<&str>, port: u16) -> Result<TcpListener> {
    let Some(host) = host else {
        // Like Node: every IPv6 address, which includes those of IPv4, or only these where there is no IPv6.
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
    // Elsewhere it would let others take the port away.
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

/// Opens further sockets on a port that was bound, so that there are `count`, between which the system deals connections out.
/// Fewer where it does not do that.
fn multiply(port: TcpListener, count: usize) -> Vec<TcpListener> {
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

/// The first socket was bound alone, so that a port which somebody else has is told as such: it shares from now on, and with
/// this user's sockets only.
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

impl Listener {
    /// Opens up to `count` doors to a port. Connections wait before them until somebody [accepts](Door::accept_each).
    pub fn open(port: TcpListener, tls: Option<&Arc<rustls::ServerConfig>>, count: usize) -> (Self, Vec<Door>) {
        let (open, closed) = watch::channel(());
        let told = Arc::new(Mutex::new(None));
        let doors: Vec<_> = multiply(port, count)
            .into_iter()
            .map(|socket| Door {
                socket: Arc::new(socket),
                tls: tls.cloned(),
                told: told.clone(),
                closed: closed.clone(),
            })
            .collect();
        let sockets = doors.iter().map(|door| Arc::downgrade(&door.socket)).collect();
        (Self { open: Some(open), sockets }, doors)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // First, so that the doors know why they cannot accept any more.
        self.open.take();
        for socket in self.sockets.iter().filter_map(Weak::upgrade) {
            // Linux refuses newcomers from here on, elsewhere when the doors have noticed.
            let _ = SockRef::from(&*socket).shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Door {
    /// Hands everybody over who comes, until the port is closed.
    pub async fn accept_each(self, acceptor: &impl Acceptor) {
        let mut closed = self.closed.clone();
        tokio::select! {
            biased;
            _ = closed.changed() => {}
            () = self.accept(acceptor) => {}
        }
    }

    async fn accept(&self, acceptor: &impl Acceptor) {
        let mut shortage = Shortage { pause: None, told: &self.told };
        let port = loop {
            match Listening::bind(self.socket.clone()) {
                Ok(port) => break port,
                Err(failure) => shortage.wait_out(failure).await,
            }
        };
        let mut in_a_row = 0_u32;
        loop {
            acceptor.place().await;
            in_a_row = (in_a_row + 1) % ACCEPTS_IN_A_ROW;
            if in_a_row == 0 {
                tokio::task::yield_now().await;
            }
            match port.accept().await {
                Ok((descriptor, peer)) => {
                    shortage.is_over();
                    let source = match &self.tls {
                        Some(config) => Source::Tls(descriptor, config.clone()),
                        None => Source::Accepted(descriptor),
                    };
                    acceptor.accepted(Newcomer { source, peer: peer.ip().to_canonical() });
                }
                Err(failure) if concerns_one_peer(&failure) => debug!(%failure, "a connection was lost"),
                Err(failure) if acceptor.frees_a_descriptor() => {
                    shortage.tell(&failure);
                    tokio::task::yield_now().await;
                }
                Err(failure) => shortage.wait_out(failure).await,
            }
        }
    }
}

/// The system has no descriptors or no memory left for a connection.
struct Shortage<'door> {
    pause: Option<Duration>,
    told: &'door Mutex<Option<Instant>>,
}

impl Shortage<'_> {
    async fn wait_out(&mut self, failure: io::Error) {
        self.tell(&failure);
        let (shortest, longest) = SHORTAGE_PAUSE;
        let pause = self.pause.map_or(shortest, |pause| (pause * 2).min(longest));
        self.pause = Some(pause);
        tokio::time::sleep(pause).await;
    }

    /// Once for all doors.
    fn tell(&self, failure: &io::Error) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| at.elapsed() >= SHORTAGE_TOLD_EVERY) {
            *told = Some(Instant::now());
            warn!(%failure, "no connection can be accepted for now");
        }
    }

    fn is_over(&mut self) {
        self.pause = None;
    }
}

/// Whether the next connection may be accepted all the same.
fn concerns_one_peer(failure: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, TimedOut};
    matches!(failure.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | TimedOut)
}
