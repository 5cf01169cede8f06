//! TLS over a socket of our own, for the own port. A taken-over TLS connection stays with Node, see `bridge`.
//!
//! Owns the session and the socket under it. Behaves like the socket: the handshake happens inside the first reads.
//! Every call comes from the shard's thread.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

use super::socket::reactor::{Registry, WatchKey};
use super::socket::{Readiness, Socket};

/// Encrypted bytes that may wait for the socket before a write has to.
const MAX_UNSENT: usize = 64 * 1024;

/// Reads of the socket within one read of the session: records without content must not keep a shard from others.
const RECORDS_PER_READ: usize = 16;

/// What a certificate or key in PEM is not.
#[derive(Debug)]
pub enum TlsError {
    Certificate(Box<dyn std::error::Error + Send + Sync>),
    Key(Box<dyn std::error::Error + Send + Sync>),
}

/// What sessions are made with; shared by all of a listener.
pub fn server_config(certificates: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(certificates).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|fault| TlsError::Certificate(fault.into()))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate("there is no certificate in it".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|fault| TlsError::Key(fault.into()))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|fault| TlsError::Key(fault.into()))?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(|fault| match fault {
        rustls::Error::InvalidCertificate(_) => TlsError::Certificate(fault.into()),
        fault => TlsError::Key(fault.into()),
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

pub struct Tls {
    session: RefCell<ServerConnection>,
    socket: Socket,
    /// The task that reads, which also sends what the socket had no room for.
    task: RefCell<Option<Waker>>,
    /// Whether the last read stopped before the socket was empty.
    is_readable: Cell<bool>,
    /// Whether the socket's own end follows when everything has been sent.
    is_ending: Cell<bool>,
}

impl Tls {
    pub fn new(socket: Socket, config: Arc<ServerConfig>) -> io::Result<Self> {
        let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
        session.set_buffer_limit(Some(MAX_UNSENT));
        Ok(Self {
            session: RefCell::new(session),
            socket,
            task: RefCell::default(),
            is_readable: Cell::new(false),
            is_ending: Cell::new(false),
        })
    }

    pub fn reregister(self, registry: &Registry, key: WatchKey) -> io::Result<Self> {
        Ok(Self { socket: self.socket.reregister(registry, key)?, ..self })
    }

    pub fn on_readiness(&self, readiness: Readiness) {
        self.socket.on_readiness(readiness);
    }

    pub fn deregister(&self, registry: &Registry) {
        self.socket.deregister(registry);
    }

    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.remember(cx.waker());
        let mut session = self.session.borrow_mut();
        self.is_readable.set(false);
        for _ in 0..RECORDS_PER_READ {
            // What the handshake or a key update has to say comes first; a full socket must not keep us from reading.
            if let Poll::Ready(Err(failure)) = self.poll_send(cx, &mut session) {
                return Poll::Ready(Err(failure));
            }
            match session.reader().read(buffer) {
                Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
            match session.read_tls(&mut Plain(&self.socket)) {
                Ok(_) => {
                    if let Err(fault) = session.process_new_packets() {
                        // The alert says why; whether it arrives is the peer's affair.
                        let _ = session.write_tls(&mut Plain(&self.socket));
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault)));
                    }
                }
                Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_readable(cx))?;
                }
                Err(failure) => return Poll::Ready(Err(failure)),
            }
        }
        self.is_readable.set(true);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether the last read was pending with bytes left in the socket.
    pub fn is_readable(&self) -> bool {
        self.is_readable.get()
    }

    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx, &mut self.session.borrow_mut())
    }

    pub fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut session = self.session.borrow_mut();
        if !self.send(&mut session)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = session.writer().write_vectored(parts)?;
        if !self.send(&mut session)? {
            self.wake();
        }
        if taken == 0 && parts.iter().any(|part| !part.is_empty()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(taken)
    }

    pub fn has_ended(&self) -> bool {
        self.socket.has_ended()
    }

    pub fn shutdown_write(&self) {
        let mut session = self.session.borrow_mut();
        session.send_close_notify();
        self.is_ending.set(true);
        // A failed write is found again by the next read.
        if !matches!(self.send(&mut session), Ok(true)) {
            self.wake();
        }
    }

    pub fn has_unread(&self) -> bool {
        self.socket.has_unread()
    }

    pub fn abort(&self) {
        self.socket.abort();
    }

    /// Ready when everything encrypted has been sent.
    fn poll_send(&self, cx: &mut Context<'_>, session: &mut ServerConnection) -> Poll<io::Result<()>> {
        while !self.send(session)? {
            ready!(self.socket.poll_writable(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what the socket takes; whether that was everything.
    fn send(&self, session: &mut ServerConnection) -> io::Result<bool> {
        while session.wants_write() {
            match session.write_tls(&mut Plain(&self.socket)) {
                Ok(_) => {}
                Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(failure) => return Err(failure),
            }
        }
        if self.is_ending.replace(false) {
            self.socket.shutdown_write();
        }
        Ok(true)
    }

    fn remember(&self, waker: &Waker) {
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }
}

/// The socket as the session sees it.
struct Plain<'a>(&'a Socket);

impl Read for Plain<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Plain<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
