//! Connections of an own port: accepted, their request read, and either admitted or answered as plain HTTP.
//!
//! Runs on the shard's thread. What an attached server leaves to Node is done here, and nothing more: no keep-alive, no
//! bodies, no routes.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::rustls::ServerConfig;
use tracing::{debug, error, info};

use crate::core::admission::Underway;
use crate::core::shard::Shard;
use crate::transport::Transport;
use crate::transport::handshake::{RequestHead, path_matches};
use crate::transport::head_reader::{HeadFault, HeadReader};
use crate::transport::listener::Pause;
use crate::transport::tls::TlsSocket;

/// How long a peer may take for TLS and the head of its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a load balancer asks.
const HEALTH_PATH: &str = "/health";

/// A socket to accept from.
pub struct OwnPort {
    pub listener: TcpListener,
    pub tls: Option<Arc<ServerConfig>>,
}

/// What a request on an own port comes to, if it is no upgrade.
enum PlainAnswer {
    Healthy,
    NotFound,
    Unhealthy,
    UpgradeRequired,
}

impl Shard {
    /// Accepts until the shard drains.
    pub(super) async fn accept_from(self: Rc<Self>, port: OwnPort) {
        let listener = match tokio::net::TcpListener::from_std(port.listener) {
            Ok(listener) => listener,
            Err(failure) => return error!(%failure, "the port cannot be listened on"),
        };
        let mut pause = Pause::default();
        while !self.is_draining() {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.draining.notified() => return,
            };
            match accepted {
                Ok((socket, _)) => {
                    pause.end();
                    tokio::task::spawn_local(self.clone().serve(socket, port.tls.clone()));
                }
                Err(failure) if is_of_the_peer(&failure) => {
                    debug!(%failure, "a connection ended before it was accepted")
                }
                Err(failure) => {
                    let (pause, is_first) = pause.lengthen();
                    if is_first {
                        error!(%failure, "connections cannot be accepted; trying again");
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn serve(self: Rc<Self>, socket: TcpStream, tls: Option<Arc<ServerConfig>>) {
        let _underway = Underway::new(&self);
        let peer = socket.peer_addr().ok().map(|address| address.ip().to_canonical());
        let read = async {
            let transport = match tls {
                Some(config) => {
                    let _ = socket.set_nodelay(true);
                    Transport::Tls(Box::new(TlsSocket::accept(socket, config).await?))
                }
                None => Transport::bind(socket.into_std()?.into())?,
            };
            let head = read_head(&transport).await?;
            io::Result::Ok((transport, head))
        };
        let read = tokio::select! {
            read = tokio::time::timeout(HEAD_TIMEOUT, read) => read,
            () = self.draining.notified() => return,
        };
        match read {
            Ok(Ok((transport, Ok((head, early))))) if head.asks_for_upgrade() => {
                self.answer_upgrade(transport, head, early, peer).await;
            }
            Ok(Ok((transport, Ok((head, _))))) => self.respond(&transport, self.plain_answer(&head).response()).await,
            Ok(Ok((transport, Err(fault)))) => self.respond(&transport, fault.response()).await,
            Ok(Err(failure)) => debug!(%failure, "a request was not finished"),
            // The transport went with the future: there is nothing to answer on.
            Err(_elapsed) => info!(reason = HeadFault::TooSlow.reason(), "a request came too slowly"),
        }
    }

    fn plain_answer(&self, head: &RequestHead) -> PlainAnswer {
        let is_reading = matches!(head.method.as_str(), "GET" | "HEAD");
        if path_matches(&head.target, HEALTH_PATH) && is_reading {
            if self.is_draining() { PlainAnswer::Unhealthy } else { PlainAnswer::Healthy }
        } else if path_matches(&head.target, &self.shared.options.handshake.path) {
            PlainAnswer::UpgradeRequired
        } else {
            PlainAnswer::NotFound
        }
    }
}

impl PlainAnswer {
    fn response(&self) -> Vec<u8> {
        let (status, headers, kind, body) = match self {
            Self::Healthy => ("200 OK", "", "application/json", r#"{"status":"healthy"}"#),
            Self::NotFound => ("404 Not Found", "", "text/plain", "Not Found"),
            Self::Unhealthy => ("503 Service Unavailable", "", "application/json", r#"{"status":"unhealthy"}"#),
            Self::UpgradeRequired => {
                ("426 Upgrade Required", "Upgrade: websocket\r\n", "text/plain", "Upgrade Required")
            }
        };
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

/// The head of the request and what came behind it, or what is wrong with it.
async fn read_head(transport: &Transport) -> io::Result<Result<(RequestHead, Vec<u8>), HeadFault>> {
    let mut reader = HeadReader::default();
    loop {
        let mut buffer = [0; 1024];
        let count = std::future::poll_fn(|cx| transport.poll_read(cx, &mut buffer)).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match reader.push(buffer.get(..count).unwrap_or_default()) {
            Ok(Some(head)) => return Ok(Ok(head)),
            Ok(None) => {}
            Err(fault) => return Ok(Err(fault)),
        }
    }
}

fn is_of_the_peer(failure: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(failure.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
