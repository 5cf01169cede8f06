//! TLS of the own port, by rustls, on its shard's runtime.
//!
//! Owns the descriptor and the session. Boxed by `Transport`, so that a plain connection does not pay for it.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::error::{Error, ErrorKind};

pub struct TlsSocket {
    stream: RefCell<TlsStream<TcpStream>>,
}

/// Reads a certificate chain and its key, both PEM.
///
/// # Errors
/// `ERR_INVALID_ARGUMENT`, naming what is wrong.
pub fn config(certificates: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, Error> {
    let wrong = |what: &'static str| Error::new(ErrorKind::InvalidArgument, what);
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(certificates).collect::<Result<_, _>>().map_err(|cause| {
            wrong("The argument \"options.tls.cert\" is not a certificate in PEM format").caused_by(cause)
        })?;
    if chain.is_empty() {
        return Err(wrong("The argument \"options.tls.cert\" holds no certificate in PEM format"));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|cause| {
        wrong("The argument \"options.tls.key\" is not a private key in PEM format").caused_by(cause)
    })?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|cause| {
            wrong("The arguments \"options.tls.cert\" and \"options.tls.key\" do not fit").caused_by(cause)
        })?;
    Ok(Arc::new(config))
}

impl TlsSocket {
    /// The server's side of the TLS handshake.
    pub async fn accept(socket: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let stream = TlsAcceptor::from(config).accept(socket).await?;
        Ok(Self { stream: RefCell::new(stream) })
    }

    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, &mut buffer) {
            // A peer that ends without TLS's own goodbye has ended all the same: WebSocket has its own.
            Poll::Ready(Err(failure)) if failure.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(0)),
            result => result.map_ok(|()| buffer.filled().len()),
        }
    }

    /// Ready when what was written before has left the session, so that a write may succeed.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_flush(cx)
    }

    /// What is taken may still be in the session: see [`is_flushed`](Self::is_flushed).
    pub fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut stream = self.stream.borrow_mut();
        // Nobody is to be woken: whoever must wait polls for writability.
        let mut cx = Context::from_waker(Waker::noop());
        let mut taken = 0;
        for part in parts {
            match Pin::new(&mut *stream).poll_write(&mut cx, part) {
                Poll::Ready(Ok(count)) => {
                    taken += count;
                    if count < part.len() {
                        break;
                    }
                }
                Poll::Ready(Err(failure)) if taken == 0 => return Err(failure),
                Poll::Pending if taken == 0 => return Err(io::ErrorKind::WouldBlock.into()),
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        Ok(taken)
    }

    /// Whether the session holds nothing that the socket has still to take.
    pub fn is_flushed(&self) -> bool {
        !self.stream.borrow().get_ref().1.wants_write()
    }

    pub fn shutdown_write(&self) {
        // The goodbye goes with what the socket takes now; a peer that does not read is cut by its deadline.
        let mut cx = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(&mut cx);
    }
}
