//! RFC 6455 and RFC 7692 over real sockets, where public conformance suites do not look: what a client may not send,
//! what it may send in any portions, and how connections end from either side.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use carillon::application::interface::{Event, EventKind};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use support::client::{
    BINARY, CLOSE, Frame, PING, PONG, RSV1, TEXT, binary, close, deflate, frame, ping, request_of, text,
};
use support::{Client, Service, TestHost, patiently, token};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

const PING_MESSAGE: &str = r#"{"type":"ping"}"#;

/// A frame whose length is written in as many bytes as the test wants.
fn with_length(first: u8, marker: u8, length: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | marker], length, &[0, 0, 0, 0]].concat()
}

#[tokio::test]
async fn violations_are_closed_with_1002_and_affect_no_other_connection() {
    let service = Service::start().await;
    let mut bystander = service.join("bystander").await;
    let violations: &[(&str, Vec<u8>)] = &[
        ("an unmasked frame", [&[TEXT, 15], PING_MESSAGE.as_bytes()].concat()),
        ("an unmasked ping", vec![PING, 0]),
        ("16 bits for a length of 7", with_length(TEXT, 126, &[0, 125])),
        ("64 bits for a length of 16", with_length(BINARY, 127, &[0, 0, 0, 0, 0, 0, 0xff, 0xff])),
        ("64 bits for a length of 7", with_length(TEXT, 127, &[0, 0, 0, 0, 0, 0, 0, 1])),
        ("the top bit of the length", with_length(TEXT, 127, &[0x80, 0, 0, 0, 0, 0, 0, 1])),
        ("RSV1 without an extension", frame(TEXT | RSV1, b"x")),
        ("RSV2", frame(TEXT | 0x20, b"x")),
        ("RSV3", frame(TEXT | 0x10, b"x")),
        ("a reserved opcode", frame(0x83, b"")),
        ("a reserved control opcode", frame(0x8b, b"")),
        ("a continuation of nothing", frame(0x80, b"x")),
        ("a message within a message", [frame(0x01, b"x"), text("y")].concat()),
        ("a fragmented ping", frame(0x09, b"")),
        ("a long ping", ping(&[b'x'; 126])),
        ("a long close frame", frame(CLOSE, &[3; 126])),
        ("half a close code", frame(CLOSE, &[3])),
        ("a close code that must not be sent", close(1005, "")),
        ("a close code that does not exist", close(999, "")),
    ];
    for (what, bytes) in violations {
        let mut client = service.join("villain").await;
        client.send(bytes).await;
        let (code, _) = client.closed().await;
        assert_eq!(code, 1002, "{what}");
        client.ends().await;
        // The event comes when the peer has closed its side.
        drop(client);
        assert_eq!(service.host.disconnection().await.0, 1002, "{what}");
    }
    bystander.is_served().await;
    drop(bystander);
    service.empties().await;
}

#[tokio::test]
async fn violations_are_found_byte_by_byte_too() {
    let service = Service::start().await;
    for bytes in [with_length(TEXT, 126, &[0, 125]), with_length(TEXT, 127, &[0x80, 0, 0, 0, 0, 0, 0, 1])] {
        let mut client = service.join("villain").await;
        for byte in bytes {
            // The peer may have seen enough before the last byte.
            let _ = client.try_send(&[byte]).await;
        }
        assert_eq!(client.closed().await.0, 1002);
    }
}

#[tokio::test]
async fn rsv1_belongs_to_the_first_frame_of_a_data_message_alone() {
    let service = Service::start().await;
    let compressed = deflate(PING_MESSAGE.as_bytes());
    let (first, rest) = compressed.split_at(3);
    for (what, bytes) in [
        ("ping", frame(PING | RSV1, b"")),
        ("pong", frame(PONG | RSV1, b"")),
        ("close", frame(CLOSE | RSV1, &[3, 232])),
        ("continuation", [frame(0x01 | RSV1, first), frame(0x80 | RSV1, rest)].concat()),
        ("continuation of plain text", [frame(0x01, b"{}"), frame(0x80 | RSV1, b"")].concat()),
        ("RSV2 beside it", frame(TEXT | RSV1 | 0x20, &compressed)),
    ] {
        let mut client = service.join_deflated("villain").await;
        client.send(&bytes).await;
        assert_eq!(client.closed().await.0, 1002, "{what}");
        client.ends().await;
    }
}

#[tokio::test]
async fn compressed_and_plain_messages_mix_in_any_fragments() {
    let service = Service::start().await;
    let mut client = service.join_deflated("ann").await;
    let compressed = deflate(PING_MESSAGE.as_bytes());
    let (first, rest) = compressed.split_at(4);
    for bytes in [
        text(PING_MESSAGE),
        frame(TEXT | RSV1, &compressed),
        frame(BINARY | RSV1, &compressed),
        [frame(0x01 | RSV1, first), frame(0x80, rest)].concat(),
        [frame(0x01 | RSV1, b""), frame(0x00, first), ping(b"between"), frame(0x00, rest), frame(0x80, b"")].concat(),
        [frame(0x01, b"{\"type\""), frame(0x80, b":\"ping\"}")].concat(),
    ] {
        client.send(&bytes).await;
        let mut frame = client.frame().await;
        if frame.first == PONG {
            assert_eq!(frame.payload, b"between");
            frame = client.frame().await;
        }
        assert_eq!(serde_json::from_slice::<Value>(&frame.content()).unwrap()["type"], "pong");
    }
    // Each message stands for itself, also when its stream was ended by a final block.
    let mut final_block = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut final_block, PING_MESSAGE.as_bytes()).unwrap();
    client.send(&frame(TEXT | RSV1, &final_block.finish().unwrap())).await;
    assert_eq!(client.json().await["type"], "pong");
    client.is_served().await;
}

#[tokio::test]
async fn large_replies_go_out_compressed_and_small_ones_plain() {
    let service = Service::start().await;
    let mut client = service.join_deflated("ann").await;
    client.send_json(&json!({ "type": "unsubscribe", "data": { "bill_id": "x".repeat(2000) } })).await;
    let reply = client.frame().await;
    assert_eq!(reply.first, TEXT | RSV1);
    assert!(reply.payload.len() < 200, "{}", reply.payload.len());
    let message: Value = serde_json::from_slice(&reply.content()).unwrap();
    assert_eq!(message["data"]["bill_id"], "x".repeat(2000));
    client.send_json(&json!({ "type": "ping" })).await;
    assert_eq!(client.frame().await.first, TEXT);
}

#[tokio::test]
async fn malformed_deflate_is_closed_with_1007() {
    let service = Service::start().await;
    for (what, payload) in [
        ("a reserved block type", vec![0x06, 0, 0, 0]),
        ("a stored block whose length is wrong", vec![0x00, 0x05, 0x00, 0x05, 0x00, 1, 2, 3, 4, 5]),
        ("a distance before the beginning", vec![0x4b, 0x04, 0xc2, 0xff, 0x00]),
        ("noise", (0..200_u8).map(|byte| byte.wrapping_mul(167) ^ 0x5a).collect()),
        ("compressed bytes that are not UTF-8", deflate(&[b'"', 0xff, 0xfe, b'"'])),
    ] {
        let mut client = service.join_deflated("villain").await;
        client.send(&frame(TEXT | RSV1, &payload)).await;
        assert_eq!(client.closed().await.0, 1007, "{what}");
        client.ends().await;
    }
    // The shard's inflater is as good as before.
    let mut client = service.join_deflated("ann").await;
    client.send(&frame(TEXT | RSV1, &deflate(PING_MESSAGE.as_bytes()))).await;
    assert_eq!(client.json().await["type"], "pong");
}

#[tokio::test]
async fn text_that_is_not_utf8_is_closed_with_1007_before_its_message_ends() {
    let service = Service::start().await;
    let mut client = service.join("villain").await;
    client.send(&frame(0x01, b"{\"type\":\"\xc3")).await;
    // Half a letter may be continued; this does not.
    client.send(&frame(0x00, b"(")).await;
    client.is_closed_with(1007).await;
    assert_eq!(service.host.disconnection().await.0, 1007);

    let mut client = service.join("villain").await;
    client.send(&frame(CLOSE, b"\x03\xe8\xff")).await;
    client.is_closed_with(1007).await;
}

#[tokio::test]
async fn a_message_too_big_is_refused_by_its_head() {
    let service = Service::with(TestHost::new(), |options| options.base.max_payload = 1000).await;
    let mut client = service.join("ann").await;
    client.send(&text(&format!("{:>1000}", PING_MESSAGE))).await;
    assert_eq!(client.json().await["type"], "pong");
    // Only the head is sent.
    client.send(&with_length(TEXT, 126, &1001_u16.to_be_bytes())).await;
    client.is_closed_with(1009).await;
    assert_eq!(service.host.disconnection().await.0, 1009);

    let mut client = service.join("ann").await;
    client.send(&frame(0x01, &[b' '; 600])).await;
    client.send(&with_length(0x80, 126, &401_u16.to_be_bytes())).await;
    client.is_closed_with(1009).await;
}

#[tokio::test]
async fn frames_in_the_packet_of_the_upgrade_request_are_heard() {
    let service = Service::start().await;
    let mut client = Client::connect(service.address).await;
    let subscribe = text(&json!({ "type": "subscribe", "data": { "bill_id": 7 } }).to_string());
    let half = text(PING_MESSAGE);
    let (first, rest) = half.split_at(5);
    client.send(&[&request_of("ann", ""), &subscribe, first].concat()).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.json().await["type"], "connected");
    assert_eq!(client.json().await["type"], "subscribed");
    client.send(rest).await;
    assert_eq!(client.json().await["type"], "pong");
    assert_eq!(service.core.user_subscriptions("ann").len(), 1);
}

#[tokio::test]
async fn a_close_frame_in_the_packet_of_the_upgrade_request_is_answered() {
    let service = Service::start().await;
    let mut client = Client::connect(service.address).await;
    client.send(&[request_of("ann", ""), close(1000, "bye")].concat()).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.closed().await, (1000, "bye".into()));
    client.ends().await;
    service.empties().await;
}

#[tokio::test]
async fn a_peer_that_stops_sending_is_gone() {
    let service = Service::start().await;
    let mut client = service.follow("ann", 1).await;
    client.send_json(&json!({ "type": "ping" })).await;
    client.stream.shutdown().await.unwrap();
    // What it asked before is answered.
    assert_eq!(client.json().await["type"], "pong");
    client.ends().await;
    assert_eq!(service.host.disconnection().await.0, 1006);
    service.empties().await;
}

#[tokio::test]
async fn what_follows_a_close_frame_is_ignored() {
    let service = Service::start().await;
    let mut client = service.join("ann").await;
    let follows = [text(PING_MESSAGE), ping(b"x"), vec![0xff; 300]].concat();
    client.send(&[close(1000, ""), follows].concat()).await;
    assert_eq!(client.frame().await, Frame { first: CLOSE, payload: vec![3, 232] });
    client.ends().await;
    assert_eq!(service.core.statistics().total_messages, 0);
    assert_eq!(service.host.disconnection().await, (1000, String::new()));
}

#[tokio::test]
async fn the_peers_close_frame_is_answered_with_its_code_and_reason() {
    let service = Service::start().await;
    for (sent, answered) in [
        (close(1000, "done"), Some((1000, "done"))),
        (close(1001, ""), Some((1001, ""))),
        (close(4000, "Heartbeat timeout"), Some((4000, "Heartbeat timeout"))),
        (close(4999, &"x".repeat(123)), Some((4999, &*"x".repeat(123)))),
        (frame(CLOSE, b""), None),
    ] {
        let mut client = service.join("ann").await;
        client.send(&sent).await;
        let frame = client.frame().await;
        assert_eq!(frame.first, CLOSE);
        match answered {
            Some((code, reason)) => assert_eq!(frame.close_reason(), (code, reason.to_owned())),
            None => assert_eq!(frame.payload, b""),
        }
        client.ends().await;
        let told = service.host.disconnection().await;
        assert_eq!(told, answered.map_or((1005, String::new()), |(code, reason)| (code, reason.to_owned())));
    }
    service.empties().await;
}

#[tokio::test]
async fn a_close_of_ours_is_completed_by_the_peers() {
    let service = Service::start().await;
    let mut client = service.join("ann").await;
    let ended = service.begin_shutdown();
    assert_eq!(client.closed().await, (1001, "Server shutdown".into()));
    // Until the peer has answered nothing it says is an error, and nothing is answered.
    client.send(&[text(PING_MESSAGE), ping(b"late"), close(1001, "")].concat()).await;
    client.ends().await;
    drop(client);
    patiently(ended).await.unwrap();
}

#[tokio::test]
async fn resets_at_any_moment_leave_nothing_behind() {
    let service = Service::start().await;
    let mut bystander = service.follow("bystander", 9).await;
    let script = [
        request_of("ann", "Sec-WebSocket-Extensions: permessage-deflate\r\n"),
        text(r#"{"type":"subscribe","data":{"bill_id":9}}"#),
        frame(0x01 | RSV1, b"\xab"),
        ping(b"12345"),
        close(1000, ""),
    ]
    .concat();
    // Every part of the script, and with and without the time to have heard an answer.
    for cut in (0..=script.len()).step_by(7).chain([script.len()]) {
        for listens in [false, true] {
            let mut client = Client::connect(service.address).await;
            client.send(&script[..cut]).await;
            if listens && cut >= request_of("ann", "Sec-WebSocket-Extensions: permessage-deflate\r\n").len() {
                client.head().await;
            }
            client.reset();
        }
    }
    support::eventually(|| service.core.statistics().active_connections == 1).await;
    support::eventually(|| service.core.counts().users == 1).await;
    assert_eq!(service.core.counts().subscriptions, 1);
    bystander.is_served().await;
    drop(bystander);
    service.empties().await;
}

#[tokio::test]
async fn a_reset_during_a_broadcast_affects_no_other_connection() {
    let service = Service::start().await;
    let mut steady = service.follow("steady", 1).await;
    for round in 0..20 {
        let client = service.follow("fickle", 1).await;
        client.reset();
        let update = json!({ "round": round, "filler": "x".repeat(2000) }).to_string();
        service.core.broadcast_bill_update(carillon::types::BillId::new(1).unwrap(), &update, "now");
        let message = steady.json().await;
        assert_eq!(message["update"]["round"], round);
    }
    drop(steady);
    service.empties().await;
}

#[tokio::test]
async fn handshakes_and_frames_may_come_byte_by_byte() {
    let service = Service::start().await;
    let mut client = Client::connect(service.address).await;
    let compressed = deflate(PING_MESSAGE.as_bytes());
    let script = [
        request_of("ann", "Sec-WebSocket-Extensions: permessage-deflate\r\n"),
        text(PING_MESSAGE),
        frame(0x01 | RSV1, &compressed[..5]),
        ping(b"dribbled"),
        frame(0x80, &compressed[5..]),
        binary(&[b' '; 200]),
        close(1000, "done"),
    ]
    .concat();
    for byte in script {
        client.send(&[byte]).await;
    }
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.json().await["type"], "connected");
    assert_eq!(client.json().await["type"], "pong");
    assert_eq!(client.frame().await, Frame { first: PONG, payload: b"dribbled".to_vec() });
    assert_eq!(client.json().await["type"], "pong");
    assert_eq!(client.json().await["message"], "Invalid message format");
    assert_eq!(client.closed().await, (1000, "done".into()));
    client.ends().await;
}

#[tokio::test]
async fn the_greeting_is_the_first_frame_and_the_connection_is_told_of() {
    let service = Service::start().await;
    let client = service.join("ann").await;
    match service.host.next(EventKind::Connection).await {
        Event::Connection { id, remote_address } => {
            assert_eq!(id.user.as_str(), "ann");
            assert_eq!(remote_address, "127.0.0.1");
        }
        other => panic!("{other:?}"),
    }
    drop(client);
    assert_eq!(service.host.disconnection().await.0, 1006);
}

#[tokio::test]
async fn an_independent_client_is_understood() {
    let service = Service::start().await;
    let url = format!("ws://{}/ws?token={}", service.address, token("ann"));
    let (mut socket, _) = patiently(tokio_tungstenite::connect_async(url)).await.unwrap();
    let greeting = patiently(socket.next()).await.unwrap().unwrap();
    assert!(greeting.to_text().unwrap().starts_with(r#"{"type":"connected""#));
    socket.send(Message::text(PING_MESSAGE)).await.unwrap();
    assert_eq!(
        patiently(socket.next()).await.unwrap().unwrap().to_text().unwrap(),
        r#"{"type":"pong","priority":"immediate"}"#
    );
    socket.send(Message::Ping("hello".into())).await.unwrap();
    assert_eq!(patiently(socket.next()).await.unwrap().unwrap(), Message::Pong("hello".into()));
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "done".into() };
    socket.close(Some(goodbye.clone())).await.unwrap();
    assert_eq!(patiently(socket.next()).await.unwrap().unwrap(), Message::Close(Some(goodbye)));
    assert!(patiently(socket.next()).await.is_none());
    service.empties().await;
}
