//! A whole service with one shard and real sockets, whose peers live on the calling thread.
//!
//! The shard runs on its own thread as always, and rests between rounds, so that each round wakes it once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use carillon::application::interface::{Answer, Application, Event, EventKind, HookCall};
use carillon::config::{RuntimeConfig, RuntimeKey, RuntimeValues};
use carillon::core::websocket_service::WebSocketService;
use carillon::shard::command::UpgradeRequest;
use carillon::shard::service_options::ServiceOptions;
use carillon::transport::Source;
use carillon::transport::handshake::RequestHead;
use carillon::transport::listener;
use tracing::Dispatch;

use super::{PING, TIMESTAMP, bill_id, masked_frame, text_frame, token, update, verifier};

const BILL: u64 = 4711;

/// No batch leaves by its time, only by its size.
const NEVER_MS: f64 = 60_000.0;

/// How long a shard takes at most to come to rest.
const REST: Duration = Duration::from_millis(1);

const PATIENCE: Duration = Duration::from_secs(60);

pub struct Service {
    core: Arc<WebSocketService>,
    peers: Vec<TcpStream>,
    published: u64,
}

impl Service {
    /// One shard, and connections of as many users that all follow one bill. Messages leave in batches of `batch_size`.
    pub fn with_followers(count: usize, batch_size: usize) -> Self {
        let mut options = ServiceOptions { threads: 1, ..ServiceOptions::default() };
        options.runtime = RuntimeValues { batch_size: 1, dedupe_window: Duration::ZERO, ..options.runtime };
        options.base.heartbeat_interval = Duration::from_secs(24 * 60 * 60);
        let runtime = Arc::new(RuntimeConfig::new(options.runtime));
        let core = WebSocketService::new(Arc::new(Silence), runtime.clone(), 200);
        core.start(options, Arc::new(verifier()), Dispatch::none()).expect("the service starts");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let peers = (0..count).map(|number| join(&core, &listener, number)).collect();
        runtime.set(RuntimeKey::MessageBatchDelay, NEVER_MS).expect("within bounds");
        runtime.set(RuntimeKey::MessageBatchSize, batch_size as f64).expect("within bounds");
        let mut service = Self { core, peers, published: 0 };
        // The new setting is in effect once something that was asked for after it has been answered.
        service.exchange_pings();
        service
    }

    /// Publishes `updates` different updates of 512 bytes, one by one, which fill one batch, and waits until all have
    /// come.
    pub fn publish(&mut self, updates: usize) {
        for _ in 0..updates {
            thread::sleep(REST);
            self.published += 1;
            self.core.broadcast_bill_update(bill_id(BILL), &update(self.published, 380), TIMESTAMP);
        }
        self.peers.iter_mut().for_each(|peer| assert!(read_frame(peer).contains("bill_update")));
    }

    /// Every connection sends a ping and gets its answer.
    pub fn exchange_pings(&mut self) {
        thread::sleep(REST);
        let frame = text_frame(PING);
        self.peers.iter_mut().for_each(|peer| peer.write_all(&frame).expect("the shard keeps up"));
        self.peers.iter_mut().for_each(|peer| assert!(read_frame(peer).contains("pong")));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.core.stop();
    }
}

/// A whole service with one shard and a port of its own.
pub struct OwnPort {
    core: Arc<WebSocketService>,
    address: SocketAddr,
    request: Vec<u8>,
}

impl OwnPort {
    pub fn open() -> Self {
        let mut options = ServiceOptions { threads: 1, ..ServiceOptions::default() };
        options.base.heartbeat_interval = Duration::from_secs(24 * 60 * 60);
        let core = WebSocketService::new(Arc::new(Silence), Arc::new(RuntimeConfig::new(options.runtime)), 200);
        core.start(options, Arc::new(verifier()), Dispatch::none()).expect("the service starts");
        let port = listener::bind(Some("127.0.0.1"), 0).expect("a port");
        let address = port.local_addr().expect("an address");
        core.listen(port, None).expect("the port is served");
        let request = format!(
            "GET /ws?token={} HTTP/1.1\r\nHost: bills.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            token("17")
        );
        Self { core, address, request: request.into_bytes() }
    }

    /// A client connects, is greeted, says good-bye and is gone.
    pub fn accept_client(&self) {
        let mut peer = TcpStream::connect(self.address).expect("a connection");
        peer.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        peer.write_all(&self.request).expect("the shard keeps up");
        let mut response = Vec::new();
        while !response.ends_with(b"\r\n\r\n") {
            response.extend_from_slice(&read_exactly::<1>(&mut peer));
        }
        assert!(read_frame(&mut peer).contains(r#""type":"connected""#));
        peer.write_all(&masked_frame(0x88, &1000_u16.to_be_bytes())).expect("the shard keeps up");
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).expect("an orderly end");
    }
}

impl Drop for OwnPort {
    fn drop(&mut self) {
        self.core.stop();
    }
}

/// A connection that follows the bill and has read everything so far.
fn join(core: &WebSocketService, listener: &TcpListener, number: usize) -> TcpStream {
    let mut peer = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    peer.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let (socket, _) = listener.accept().expect("a connection");
    let headers = [
        ("host", "bills.example.com"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let head = RequestHead {
        method: "GET".into(),
        target: format!("/ws?token={}", token(&number.to_string())),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    };
    let early = text_frame(&format!(r#"{{"type":"subscribe","data":{{"bill_id":{BILL}}}}}"#));
    core.accept(UpgradeRequest { source: Source::Descriptor(socket.into()), head, early, peer: None });
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n\r\n") {
        response.extend_from_slice(&read_exactly::<1>(&mut peer));
    }
    while !read_frame(&mut peer).contains(r#""type":"subscribed""#) {}
    peer
}

/// The payload of the next frame, which is a text.
fn read_frame(peer: &mut TcpStream) -> String {
    let [_, length] = read_exactly(peer);
    let length = match length {
        126 => usize::from(u16::from_be_bytes(read_exactly(peer))),
        127 => u64::from_be_bytes(read_exactly(peer)) as usize,
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    peer.read_exact(&mut payload).expect("a payload");
    String::from_utf8(payload).expect("a text")
}

fn read_exactly<const COUNT: usize>(peer: &mut TcpStream) -> [u8; COUNT] {
    let mut bytes = [0; COUNT];
    peer.read_exact(&mut bytes).expect("the service answers");
    bytes
}

/// An application that listens to nothing.
struct Silence;

impl Application for Silence {
    fn listens(&self, _: EventKind) -> bool {
        false
    }

    fn emit(&self, _: Event) {}

    fn call_hook(&self, _: HookCall, _: Answer) {}
}
