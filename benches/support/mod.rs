//! What the benches feed the service with: frames, messages and a request as real clients and publishers send them.
//!
//! Shared by `micro` (times) and `hot_paths` (instructions).
#![allow(dead_code, reason = "each bench uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot go on fails")]

pub mod service;
#[path = "../../tests/support/signing.rs"]
mod signing;

use std::sync::Arc;
use std::time::Duration;

use carillon::application::interface::SlowConsumerPolicy;
use carillon::authenticator::{KeyMaterial, TokenRules, TokenVerifier};
use carillon::hub::Topic;
use carillon::hub::subscription_manager::{LocalSubscriptions, RoutingTable, Transition};
use carillon::protocol::message_handler::{Command, Outcome, Reply, decode, encode};
use carillon::protocol::outgoing;
use carillon::shard::outbox::{Backpressure, Outbox};
use carillon::transport::assembler::Limits;
use carillon::transport::deflate::{self, Deflaters, Negotiated};
use carillon::transport::encoded_message::EncodedMessage;
use carillon::transport::encoding::{Encoding, WindowClass};
use carillon::transport::handshake;
use carillon::types::{BillId, ConnectionKey, ShardId, UserId};
use serde_json::json;

pub const PING: &str = r#"{"type":"ping"}"#;
pub const TIMED_PING: &str = r#"{"type":"ping","timestamp":1700000000000}"#;
pub const SUBSCRIBE: &str = r#"{"type":"subscribe","data":{"bill_id":4711}}"#;
pub const TIMESTAMP: &str = "2026-01-02T03:04:05.678Z";

pub const LIMITS: Limits = Limits { max_message: 100 * 1024, max_fragments: 16_384 };
pub const BACKPRESSURE: Backpressure = Backpressure { max_bytes: 1024 * 1024, policy: SlowConsumerPolicy::Close };

/// The moment of all benches, in Unix seconds.
pub const NOW: Duration = Duration::from_secs(1_700_000_001);

const SECRET: &str = "a secret of the benches alone";

/// What one message is answered, without the change that it asks for.
pub fn answer(message: &str) -> Option<Reply> {
    let request = decode(message, true);
    let outcome = match request.command {
        Ok(Command::Subscribe { given, .. }) => Outcome::Subscribed { bill: given },
        Ok(_) => Outcome::Pong,
        Err(error) => Outcome::Failed(error),
    };
    encode(&outcome, request.message_id, 1.700_000_001e12)
}

/// A masked frame. Its key is 0: unmasking takes what it takes with any key, and the same bytes can be read again.
pub fn masked_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![opcode];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | length as u8),
        length @ ..65_536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

pub fn text_frame(payload: &str) -> Vec<u8> {
    masked_frame(0x81, payload.as_bytes())
}

/// One text message in frames of `size` bytes.
pub fn fragments(payload: &str, size: usize) -> Vec<u8> {
    let chunks: Vec<_> = payload.as_bytes().chunks(size).collect();
    let last = chunks.len() - 1;
    let frame = |(index, chunk): (usize, &&[u8])| {
        let opcode = if index == 0 { 0x01 } else { 0x00 };
        masked_frame(if index == last { opcode | 0x80 } else { opcode }, chunk)
    };
    chunks.iter().enumerate().flat_map(frame).collect()
}

/// JSON of exactly this length, with the redundancy such messages have.
pub fn json_text(length: usize) -> String {
    let mut text = String::from(r#"{"bills":["#);
    for number in 0_u64.. {
        if text.len() + 2 >= length {
            break;
        }
        let votes = number.wrapping_mul(2_654_435_761) % 997;
        let separator = if number == 0 { "" } else { "," };
        text +=
            &format!(r#"{separator}{{"id":{number},"status":"in_committee","votes":{votes},"title":"Bill {number}"}}"#);
    }
    text.truncate(length - 2);
    text + "]}"
}

/// A bill update as it is published; messages with different numbers differ.
pub fn bill_update(number: u64, length: usize) -> Vec<u8> {
    let bill = bill_id(4711);
    let empty = outgoing::bill_update(bill, &update(number, 0), TIMESTAMP).len();
    outgoing::bill_update(bill, &update(number, length - empty), TIMESTAMP)
}

/// The part of a bill update that the publisher gives.
pub fn update(number: u64, padding: usize) -> String {
    format!(r#"{{"status":"passed","version":{number:06},"note":"{}"}}"#, "x".repeat(padding))
}

pub fn bill_id(number: u64) -> BillId {
    BillId::new(number).expect("a bill")
}

pub fn bill(number: u64) -> Topic {
    bill_id(number).into()
}

/// An index of `bills` bills, each followed by the same `connections` connections.
pub fn topics(bills: u64, connections: u32) -> LocalSubscriptions {
    let mut topics = LocalSubscriptions::default();
    for number in 1..=bills {
        (0..connections).for_each(|key| {
            topics.subscribe(&bill(number), ConnectionKey(key));
        });
    }
    topics
}

pub const FIRST_OR_LAST: Transition = Transition::FirstOrLast;

/// A table in which one user follows `bills` bills.
pub fn routes(bills: u64) -> (RoutingTable, UserId) {
    let (table, user) = (RoutingTable::default(), UserId::new("17"));
    let changes: Vec<_> = (1..=bills).map(|number| (bill(number), FIRST_OR_LAST)).collect();
    table.subscribe(&user, ShardId(0), &changes);
    (table, user)
}

pub fn outboxes(count: usize) -> Vec<Outbox> {
    (0..count).map(|_| Outbox::default()).collect()
}

/// Writes everything due to nowhere.
pub fn drain(outbox: &mut Outbox, deflaters: &mut Deflaters) {
    let flushed = outbox.flush(deflaters, |parts| Ok(parts.iter().map(|part| part.len()).sum()));
    flushed.expect("nowhere takes everything");
}

/// The window all clients of the service are given.
pub fn window() -> WindowClass {
    let negotiated = deflate::negotiate("permessage-deflate; client_max_window_bits", &deflate::DeflatePolicy::SERVICE);
    match negotiated.ok().flatten().as_ref().map(Negotiated::encoding) {
        Some(Encoding::Deflate(class)) => class,
        other => panic!("{other:?}"),
    }
}

pub fn batch(size: u64) -> Vec<Arc<EncodedMessage>> {
    (0..size).map(|number| EncodedMessage::text(bill_update(number, 512))).collect()
}

pub fn policy() -> handshake::HandshakePolicy {
    handshake::HandshakePolicy {
        path: "/ws".into(),
        deflate: Some(deflate::DeflatePolicy::SERVICE),
        origins: handshake::Origins::SameHost,
    }
}

/// What a browser sends.
pub fn request() -> Vec<u8> {
    let headers = [
        "Host: bills.example.com",
        "Connection: Upgrade",
        "Pragma: no-cache",
        "Cache-Control: no-cache",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
        "Upgrade: websocket",
        "Origin: https://bills.example.com",
        "Sec-WebSocket-Version: 13",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Accept-Language: en-GB,en;q=0.9",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    ];
    format!("GET /ws?token={} HTTP/1.1\r\n{}\r\n\r\n", token("17"), headers.join("\r\n")).into_bytes()
}

/// HS256, as the application signs them.
pub fn token(user: &str) -> String {
    let claims = json!({
        "user_id": user,
        "email": format!("user{user}@example.com"),
        "role": "member",
        "iat": 1_700_000_000,
        "exp": 4_000_000_000_u64,
    });
    signing::hs256_token(SECRET, &claims)
}

pub fn verifier() -> TokenVerifier {
    TokenVerifier::new(TokenRules {
        key: KeyMaterial::Secret(SECRET.into()),
        algorithms: Some(vec!["HS256".into()]),
        user_id_claim: "user_id".into(),
        issuer: None,
        audience: None,
    })
    .expect("a key")
}
