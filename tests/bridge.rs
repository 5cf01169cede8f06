//! Connections over a bridge, with the test in Node's place: bytes both ways, back-pressure, and every kind of end.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;

use carillon::shard::command::UpgradeRequest;
use carillon::transport::Source;
use carillon::transport::bridge::{Bridge, Channel, Notifier, SocketAction, Work};
use carillon::transport::head_reader::HeadReader;
use serde_json::json;
use support::client::{close, ping, request_of, text};
use support::{Service, TestHost, eventually, patiently};
use tokio::sync::Notify;

const MEBIBYTE: usize = 1024 * 1024;

struct Wake(Arc<Notify>);

impl Notifier for Wake {
    fn notify(&self) {
        self.0.notify_one();
    }
}

/// Node's end: a socket that takes everything, as long as the test lets it.
struct NodeEnd {
    channel: Arc<Channel>,
    work: Arc<Notify>,
    received: Vec<u8>,
    has_ended: bool,
    is_destroyed: bool,
    /// The most bytes that came in one piece of work.
    largest: usize,
}

impl NodeEnd {
    /// What Node does with an upgrade request.
    fn upgrade(service: &Service, user: &str, early: &[u8]) -> Self {
        let (head, _) = HeadReader::default().push(&request_of(user, "")).unwrap().expect("a whole head");
        let work = Arc::new(Notify::new());
        let channel = Channel::new(Box::new(Wake(work.clone())));
        let source = Source::Bridge(Bridge::new(channel.clone()));
        service.core.accept(UpgradeRequest { source, head, early: early.to_vec(), peer: None });
        Self { channel, work, received: Vec::new(), has_ended: false, is_destroyed: false, largest: 0 }
    }

    /// Does what the shard asks for, once. Bytes count as flushed if they are to.
    async fn turn(&mut self, flushes: bool) -> Work {
        patiently(self.work.notified()).await;
        let work = self.channel.take_work();
        self.largest = self.largest.max(work.write.len());
        self.received.extend_from_slice(&work.write);
        match work.action {
            SocketAction::Keep => {}
            SocketAction::End => self.has_ended = true,
            SocketAction::Close => (self.has_ended, self.is_destroyed) = (true, true),
            SocketAction::Destroy => self.is_destroyed = true,
        }
        if flushes && !work.write.is_empty() {
            self.channel.flushed();
        }
        work
    }

    async fn until(&mut self, what: &[u8]) {
        while !self.received.windows(what.len()).any(|window| window == what) {
            self.turn(true).await;
        }
    }

    async fn until_destroyed(&mut self) {
        while !self.is_destroyed {
            self.turn(true).await;
        }
    }
}

async fn start() -> Service {
    Service::with(TestHost::new(), |options| options.backpressure.max_bytes = 64 * MEBIBYTE).await
}

#[tokio::test]
async fn early_bytes_and_every_later_byte_alone_are_understood() {
    let service = start().await;
    let subscribe = text(r#"{"type":"subscribe","data":{"bill_id":1}}"#);
    let (early, rest) = subscribe.split_at(7);
    let mut node = NodeEnd::upgrade(&service, "ann", early);
    node.until(br#""connected""#).await;
    assert!(node.received.starts_with(b"HTTP/1.1 101 "));
    for byte in rest.iter().chain(&ping(b"sign of life")) {
        assert!(node.channel.receive(&[*byte]));
    }
    node.until(b"sign of life").await;
    assert_eq!(service.core.counts().subscriptions, 1);
}

#[tokio::test]
async fn a_flood_from_the_peer_pauses_node_and_resumes_it() {
    let service = start().await;
    let mut node = NodeEnd::upgrade(&service, "ann", b"");
    node.until(br#""connected""#).await;
    // Replies are not flushed, so that the shard stops reading.
    let pings: Vec<u8> = (0..600).flat_map(|_| ping(&[b'p'; 120])).collect();
    let mut sent = 0;
    while node.channel.receive(&pings) {
        sent += pings.len();
        assert!(sent < 16 * MEBIBYTE, "the bridge does not push back");
        tokio::task::yield_now().await;
    }
    let last = text(&json!({ "type": "ping", "messageId": "the last" }).to_string());
    // What Node had read already is taken all the same.
    let _ = node.channel.receive(&last);
    let mut resumed = false;
    while !resumed {
        resumed = node.turn(true).await.resume;
    }
    node.until(br#""pong""#).await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_holds_up_its_own_connection_only() {
    let service = start().await;
    let mut stuck = NodeEnd::upgrade(&service, "ann", b"");
    let mut other = NodeEnd::upgrade(&service, "bob", b"");
    stuck.until(br#""connected""#).await;
    other.until(br#""connected""#).await;
    let content = "@".repeat(4 * MEBIBYTE);
    service.core.broadcast_to_all(json!({ "type": "large", "data": content }).to_string());
    service.core.broadcast_to_all(json!({ "type": "last" }).to_string());
    other.until(br#"{"type":"last"}"#).await;
    let first = stuck.turn(false).await;
    assert!(!first.write.is_empty());
    assert!(service.core.sizes().buffers > 3 * MEBIBYTE, "the rest waits on our side");
    assert_eq!(stuck.channel.take_work().write.len(), 0, "nothing more comes before it is flushed");
    stuck.channel.flushed();
    stuck.until(br#"{"type":"last"}"#).await;
    assert!(stuck.largest <= 256 * 1024 && other.largest <= 256 * 1024);
    assert!(String::from_utf8_lossy(&stuck.received).contains(&content));
    eventually(|| service.core.sizes().buffers == 0).await;
}

#[tokio::test]
async fn a_closing_handshake_of_the_peer_ends_in_order() {
    let service = start().await;
    let mut node = NodeEnd::upgrade(&service, "ann", b"");
    node.until(br#""connected""#).await;
    // Its end is there before our close frame has been taken: that is to be flushed all the same.
    assert!(node.channel.receive(&close(1000, "bye")));
    node.channel.peer_ended();
    service.empties().await;
    node.until_destroyed().await;
    assert!(node.has_ended);
    assert!(node.received.ends_with(b"\x88\x05\x03\xe8bye"));
    assert_eq!(service.host.disconnection().await, (1000, "bye".to_owned()));
}

#[tokio::test]
async fn a_socket_that_is_gone_takes_the_connection_along_whatever_it_was_doing() {
    let service = start().await;
    // During the handshake, idle, and with unread bytes on both sides.
    let during = NodeEnd::upgrade(&service, "ann", b"");
    during.channel.peer_closed();
    let mut idle = NodeEnd::upgrade(&service, "bob", b"");
    idle.until(br#""connected""#).await;
    let mut busy = NodeEnd::upgrade(&service, "cid", b"");
    busy.until(br#""connected""#).await;
    service.core.broadcast_to_all(json!({ "type": "large", "data": "@".repeat(MEBIBYTE) }).to_string());
    let _ = busy.channel.receive(&ping(b"unread"));
    idle.channel.peer_closed();
    busy.channel.peer_closed();
    service.empties().await;
    for mut node in [idle, busy] {
        node.until_destroyed().await;
        assert!(!node.has_ended);
        assert_eq!(node.channel.take_work().write.len(), 0);
    }
}

#[tokio::test]
async fn shutdown_closes_connections_and_destroys_those_that_do_not_answer() {
    let service = Service::with(TestHost::new(), |options| {
        options.base.shutdown_grace_period = std::time::Duration::from_millis(200);
    })
    .await;
    let mut polite = NodeEnd::upgrade(&service, "ann", b"");
    let mut silent = NodeEnd::upgrade(&service, "bob", b"");
    polite.until(br#""connected""#).await;
    silent.until(br#""connected""#).await;
    let ended = service.begin_shutdown();
    polite.until(b"Server shutdown").await;
    silent.until(b"Server shutdown").await;
    assert!(polite.channel.receive(&close(1001, "")));
    while !polite.has_ended {
        polite.turn(true).await;
    }
    polite.channel.peer_ended();
    patiently(ended).await.unwrap();
    polite.until_destroyed().await;
    silent.until_destroyed().await;
    assert!(!silent.has_ended);
}

#[tokio::test]
async fn a_refusal_is_written_and_the_socket_closed() {
    let service = start().await;
    let (mut head, _) = HeadReader::default().push(&request_of("ann", "")).unwrap().expect("a whole head");
    head.target = "/ws".into();
    let work = Arc::new(Notify::new());
    let channel = Channel::new(Box::new(Wake(work.clone())));
    let source = Source::Bridge(Bridge::new(channel.clone()));
    service.core.accept(UpgradeRequest { source, head, early: Vec::new(), peer: None });
    let mut node = NodeEnd { channel, work, received: Vec::new(), has_ended: false, is_destroyed: false, largest: 0 };
    while !node.has_ended {
        node.turn(true).await;
    }
    assert!(node.received.starts_with(b"HTTP/1.1 401 "));
    node.channel.peer_ended();
    node.until_destroyed().await;
}
