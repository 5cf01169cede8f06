//! Any bytes as the head of a request: read whole and in two portions with the same outcome, then judged, answered and
//! followed back through its proxies.
#![no_main]

use std::net::IpAddr;

use carillon::transport::deflate;
use carillon::transport::forwarded::{self, TrustProxy};
use carillon::transport::handshake::{self, HandshakePolicy, RequestHead};
use carillon::transport::head_reader::HeadReader;
use carillon::transport::origin::Origins;
use carillon::transport::plain_request::{self, Availability};
use libfuzzer_sys::fuzz_target;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const AVAILABILITIES: [Availability; 3] = [Availability::Serving, Availability::Overloaded, Availability::Stopping];

/// A request that every parser behind the head has something to read in.
const FULL: &str = "GET /ws?token=a.b.c HTTP/1.1\r\nHost: a.example:81\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nOrigin: http://a.example:81\r\n\
    Sec-WebSocket-Protocol: v1, v2\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
    X-Forwarded-For: 192.0.2.1, [2001:db8::1]:80, 127.0.0.1\r\n\r\n";

fuzz_target!(init: every_parser_is_reached(), |bytes: &[u8]| {
    let Some((cut, bytes)) = bytes.split_first_chunk() else { return };
    let cut = usize::from(u16::from_le_bytes(*cut));
    let whole = HeadReader::default().push(bytes);
    let (first, second) = bytes.split_at(cut.min(bytes.len()));
    let mut reader = HeadReader::default();
    let parts = match reader.push(first) {
        Ok(None) => reader.push(second),
        Ok(Some((head, leftover))) => Ok(Some((head, [&leftover, second].concat()))),
        Err(fault) => Err(fault),
    };
    match (&whole, &parts) {
        (Ok(Some((head, leftover))), Ok(Some((other, also)))) => {
            assert!(head == other && leftover == also);
            assert!(bytes.ends_with(leftover));
        }
        (Ok(None), Ok(None)) => {}
        (Err(one), Err(other)) => assert_eq!(one, other),
        _ => panic!("whole and cut at {cut} differ"),
    }
    if let Ok(Some((head, _))) = whole {
        judge(&head);
    }
});

fn policies() -> [HandshakePolicy; 3] {
    [Origins::Any, Origins::SameHost, Origins::List(vec!["https://a.example".into()])].map(|origins| HandshakePolicy {
        path: "/ws".into(),
        deflate: Some(deflate::DeflatePolicy::FULL_RANGE),
        origins,
    })
}

fn trusts() -> [TrustProxy; 4] {
    let everywhere = ["0.0.0.0/0", "::/0"].iter().filter_map(|range| range.parse().ok()).collect();
    [TrustProxy::Hops(0), TrustProxy::Hops(2), TrustProxy::Hops(u32::MAX), TrustProxy::Networks(everywhere)]
}

fn judge(head: &RequestHead) {
    for policy in policies() {
        let response = match handshake::check(head, &policy) {
            Ok(upgrade) => upgrade.response(),
            Err(rejection) => rejection.response(),
        };
        // Nothing a peer sends adds a line.
        let head_end = response.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        let lines = response[..head_end].split(|byte| *byte == b'\n').count();
        assert!(lines <= 7, "{}", String::from_utf8_lossy(&response));
    }
    let _ = handshake::token(head);
    for trust in trusts() {
        let address = forwarded::client_address(head, PEER, &trust);
        // Without trust any peer may write the header.
        assert!(trust != TrustProxy::Hops(0) || address == PEER);
        let IpAddr::V6(address) = address else { continue };
        assert_eq!(address.to_ipv4_mapped(), None, "IPv4 is shown as such");
    }
    for readiness in AVAILABILITIES {
        let answer = plain_request::answer(head, "/ws", readiness);
        assert!(answer.starts_with(b"HTTP/1.1 "));
        assert_eq!(answer.windows(4).filter(|window| window == b"\r\n\r\n").count(), 1);
    }
}

/// The header that was misread once was so because no input came as far as its parser.
fn every_parser_is_reached() {
    let (head, leftover) = HeadReader::default().push(FULL.as_bytes()).expect("in order").expect("whole");
    assert!(leftover.is_empty());
    let [any, same_host, list] = policies();
    let upgrade = handshake::check(&head, &any).expect("an upgrade");
    assert_eq!(upgrade.subprotocol(), Some("v1"));
    assert!(upgrade.deflate().is_some());
    assert!(handshake::check(&head, &same_host).is_ok(), "host and origin are read and compared");
    assert!(handshake::check(&head, &list).is_err(), "the origin is looked up in the list");
    assert_eq!(handshake::token(&head), Ok(Some("a.b.c".to_owned())));
    let addresses = trusts().map(|trust| forwarded::client_address(&head, PEER, &trust).to_string());
    assert_eq!(addresses, ["127.0.0.1", "2001:db8::1", "192.0.2.1", "192.0.2.1"]);
    let health = FULL.replace("/ws?token=a.b.c", "/health");
    let (head, _) = HeadReader::default().push(health.as_bytes()).expect("in order").expect("whole");
    assert!(plain_request::answer(&head, "/ws", Availability::Serving).starts_with(b"HTTP/1.1 200 "));
}
