//! The own port: accepts connections and hands them on, unread.
//!
//! Owns the listening socket and a thread that does nothing else, so that connections come in at the same pace
//! whatever a shard is doing, and are dealt out evenly. Heads and TLS are the receiving shard's work.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tokio::runtime::{self, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tracing::{Dispatch, debug, warn};

use super::Source;
use super::socket::Descriptor;
use crate::error::{Error, ErrorKind, Result};

/// Connections whose request has not been read yet. More wait in the system's queue.
const MAX_NEWCOMERS: usize = 4096;

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
    /// To be dropped when its request has been read.
    pub place: OwnedSemaphorePermit,
}

/// An open port. Dropping it closes it.
pub struct Listener {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
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

impl Listener {
    /// Begins to accept. `hand_over` is called on the listener's thread.
    pub fn start(
        port: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        dispatch: Dispatch,
        hand_over: impl FnMut(Newcomer) + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        let acceptor = Acceptor { places: Arc::new(Semaphore::new(MAX_NEWCOMERS)), tls, hand_over };
        let thread = std::thread::Builder::new().name("carillon-listen".into()).spawn(move || {
            let _log = tracing::dispatcher::set_default(&dispatch);
            acceptor.run(&runtime, port, stopped);
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Listener {
    /// The port is closed when this returns.
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take()
            // The last owner may have been the listener's own thread, in the middle of handing over.
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            warn!("the listener ended by a panic");
        }
    }
}

struct Acceptor<F> {
    places: Arc<Semaphore>,
    tls: Option<Arc<rustls::ServerConfig>>,
    hand_over: F,
}

impl<F: FnMut(Newcomer)> Acceptor<F> {
    fn run(mut self, runtime: &Runtime, port: TcpListener, stopped: oneshot::Receiver<()>) {
        runtime.block_on(async {
            match tokio::net::TcpListener::from_std(port) {
                Ok(port) => tokio::select! {
                    // The sender is only ever dropped.
                    _ = stopped => {}
                    () = self.accept(&port) => {}
                },
                Err(failure) => warn!(%failure, "the port could not be listened on"),
            }
        });
    }

    async fn accept(&mut self, port: &tokio::net::TcpListener) {
        let (shortest, longest) = SHORTAGE_PAUSE;
        let mut shortage = None;
        let mut told: Option<Instant> = None;
        // The semaphore is never closed.
        while let Ok(place) = self.places.clone().acquire_owned().await {
            match port.accept().await.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
                Ok((stream, peer)) => {
                    shortage = None;
                    let descriptor = Descriptor::from(stream);
                    let source = match &self.tls {
                        Some(config) => Source::Tls(descriptor, config.clone()),
                        None => Source::Descriptor(descriptor),
                    };
                    (self.hand_over)(Newcomer { source, peer: peer.ip().to_canonical(), place });
                }
                Err(failure) if concerns_one_peer(&failure) => debug!(%failure, "a connection was lost"),
                Err(failure) => {
                    if told.is_none_or(|at| at.elapsed() >= SHORTAGE_TOLD_EVERY) {
                        told = Some(Instant::now());
                        warn!(%failure, "no connection can be accepted for now");
                    }
                    let pause = shortage.map_or(shortest, |pause: Duration| (pause * 2).min(longest));
                    shortage = Some(pause);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// Whether the next connection may be accepted all the same.
fn concerns_one_peer(failure: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, TimedOut};
    matches!(failure.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | TimedOut)
}
