//! One test for every class of vulnerability that software of this kind has had, named after the class.
//!
//! What a peer can make the service allocate is in `allocations.rs`, what an idle connection costs in `memory.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::{Duration, Instant};

use carillon::application::interface::EventKind;
use carillon::config::RuntimeValues;
use carillon::protocol::message_handler::{Command, Outcome, decode, encode};
use carillon::transport::handshake::{self, RequestHead};
use carillon::transport::head_reader::{HeadError, HeadReader};
use carillon::transport::origin::Origins;
use carillon::types::BillId;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::client::{BINARY, CLOSE, Frame, PONG, RSV1, TEXT, close, deflate, frame, ping, request, request_of, text};
use support::{Client, Service, TestHost, heap, patiently, token, token_with};

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

const MIB: isize = 1024 * 1024;

fn with_64_bit_length(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0xff], length.to_be_bytes().as_slice(), &[0; 4]].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_from_tiny_parts() {
    let service = Service::start().await;
    for (what, part) in [("empty fragments", &b""[..]), ("fragments of one byte", b"x")] {
        let mut client = service.join("villain").await;
        let parts = frame(0x00, part).repeat(10_000);
        let _ = client.try_send(&frame(0x01, part)).await;
        // A million of them, unless the service has had enough.
        for _ in 0..100 {
            if client.try_send(&parts).await.is_err() {
                break;
            }
        }
        let (code, _) = service.host.disconnection().await;
        assert_eq!(code, 1008, "{what}");
    }
    let mut client = service.join("ann").await;
    for byte in text(r#"{"type":"ping"}"#) {
        client.send(&[byte]).await;
    }
    assert_eq!(client.json().await["type"], "pong");
}

#[tokio::test]
async fn uninitialised_memory_sent_to_the_peer() {
    let service = Service::start().await;
    let mut client = service.join_deflated("ann").await;
    for length in 0..=125_u8 {
        let payload: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(37)).collect();
        client.send(&ping(&payload)).await;
        assert_eq!(client.frame().await, Frame { first: PONG, payload });
    }
    let reason = "r".repeat(123);
    client.send(&close(4321, &reason)).await;
    assert_eq!(client.closed().await, (4321, reason));
}

#[tokio::test]
async fn allocation_by_declared_length() {
    let service = Service::start().await;
    for length in [u64::MAX >> 1, 1 << 40, 1 << 32, 102_401] {
        for first in [TEXT, BINARY, 0x01] {
            let mut client = service.join("villain").await;
            client.send(&with_64_bit_length(first, length)).await;
            client.is_closed_with(1009).await;
        }
    }

    // Within the limit, but never sent: only what came is kept.
    let roomy = Service::with(TestHost::new(), |options| options.base.max_payload = 1 << 30).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = roomy.join("villain").await;
        client.send(&with_64_bit_length(BINARY, 1 << 30)).await;
        client.send(&[0; 1000]).await;
        clients.push(client);
    }
    drop(clients);
    roomy.empties().await;
}

#[tokio::test]
async fn integer_overflow_of_64_bit_lengths() {
    let service = Service::start().await;
    for (length, code) in [
        (1_u64 << 31, 1009),
        ((1 << 31) + 1, 1009),
        (u64::from(u32::MAX), 1009),
        (1 << 32, 1009),
        ((1 << 32) + 1, 1009),
        ((1 << 63) - 1, 1009),
        (1 << 63, 1002),
        (u64::MAX - 13, 1002),
        (u64::MAX, 1002),
    ] {
        let mut client = service.join("villain").await;
        // Something is there already, so that a sum could overflow.
        client.send(&frame(0x02, b"begun")).await;
        client.send(&with_64_bit_length(0x00, length)).await;
        assert_eq!(client.closed().await.0, code, "{length}");
        client.ends().await;
    }
    let roomy = Service::with(TestHost::new(), |options| options.base.max_payload = 1 << 20).await;
    for length in [0, 1, 124, 125, 126, 127, 65_534, 65_535, 65_536, 65_537, 1 << 20] {
        let mut client = roomy.join("ann").await;
        let bytes = frame(BINARY, &vec![b' '; length]);
        client.send(&bytes).await;
        assert_eq!(client.json().await["message"], "Invalid message format", "{length}");
        client.is_served().await;
    }
}

#[tokio::test]
async fn decompression_bomb() {
    let service = Service::start().await;
    let bomb = deflate(&vec![0; 64 * 1024 * 1024]);
    assert!(bomb.len() < 70_000, "within the limit as it is sent: {}", bomb.len());
    for bytes in [
        frame(TEXT | RSV1, &bomb),
        frame(BINARY | RSV1, &bomb),
        [frame(0x01 | RSV1, &bomb[..20_000]), frame(0x00, &bomb[20_000..40_000]), frame(0x80, &bomb[40_000..])]
            .concat(),
        frame(TEXT | RSV1, &deflate(&[b' '; 102_401])),
    ] {
        let mut client = service.join_deflated("villain").await;
        client.send(&bytes).await;
        client.is_closed_with(1009).await;
    }
    // The limit itself is within the limit.
    let mut client = service.join_deflated("ann").await;
    let largest = r#"{"type":"ping"}"#.to_owned() + &" ".repeat(102_400 - 15);
    client.send(&frame(TEXT | RSV1, &deflate(largest.as_bytes()))).await;
    assert_eq!(client.json().await["type"], "pong");
}

#[tokio::test]
async fn bad_extension_parameters() {
    let service = Service::start().await;
    for offer in [
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=08",
        "permessage-deflate; server_max_window_bits=4294967306",
        "permessage-deflate; server_max_window_bits=-10",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; client_max_window_bits=0",
        "permessage-deflate; client_max_window_bits=999999999999999999999999",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; unknown",
        "permessage-deflate; client_max_window_bits=\"",
        "permessage-deflate; =",
        "permessage-deflate, , x",
        ";",
        ",",
    ] {
        let mut client = Client::connect(service.address).await;
        client.send(&request_of("ann", &format!("Sec-WebSocket-Extensions: {offer}\r\n"))).await;
        assert_eq!(client.refusal().await, 400, "{offer}");
    }
    // Long values take time in proportion to their length, whatever they are made of.
    for unit in [";", ",", "a,", "a;", "permessage-deflate,", "a; b=\"\\", "x; y=z,", "\"", "= "] {
        let value = unit.repeat(1_000_000 / unit.len());
        for header in ["sec-websocket-extensions", "sec-websocket-protocol"] {
            let started = Instant::now();
            let _ = handshake::check(&head_with(header, &value), &policy(Origins::Any));
            assert!(started.elapsed() < Duration::from_secs(10), "{header}: {unit}");
        }
    }
}

fn policy(origins: Origins) -> handshake::HandshakePolicy {
    handshake::HandshakePolicy {
        path: "/ws".into(),
        deflate: Some(carillon::transport::deflate::DeflatePolicy::SERVICE),
        origins,
    }
}

fn head_with(name: &str, value: &str) -> RequestHead {
    let (head, _) = HeadReader::default().push(&request("/ws", "")).unwrap().unwrap();
    let headers = head.headers.into_iter().chain([(name.to_owned(), value.to_owned())]).collect();
    RequestHead { headers, ..head }
}

#[tokio::test]
async fn handshake_cpu_and_headers() {
    let service = Service::start().await;
    for (headers, status) in [
        ("A: b\r\n".repeat(101), 431),
        (format!("A: {}\r\n", "x".repeat(16 * 1024)), 431),
        ("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n".to_owned(), 400),
        ("Sec-WebSocket-Version: 13\r\n".to_owned(), 400),
    ] {
        let mut client = Client::connect(service.address).await;
        client.send(&request_of("ann", &headers)).await;
        assert_eq!(client.refusal().await, status);
    }
    // A head that never ends is looked at once, not again with every byte.
    let started = Instant::now();
    let mut reader = HeadReader::default();
    let fault = request("/ws", &"A: b\r\n".repeat(10_000)).into_iter().find_map(|byte| reader.push(&[byte]).err());
    assert_eq!(fault, Some(HeadError::TooLarge));
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn unbounded_outgoing_buffer() {
    let service = Service::start().await;
    // Every ping is answered with a pong, and the peer reads none.
    for payload in [&b""[..], b"x", &[b'x'; 125]] {
        let mut client = Client::connect_narrow(service.address).await.enter("villain", "").await;
        let pings = ping(payload).repeat(64 * 1024 / (payload.len() + 6));
        let sent = send_until_refused(&mut client, &pings, 64 * MIB as usize).await;
        assert!(sent < 48 * MIB as usize, "{sent} bytes of pings were read from a peer that reads nothing");
        let pending = service.core.sizes().buffers;
        assert!(pending < MIB as usize, "{pending} bytes wait");
        client.reset();
        service.empties().await;
    }
}

/// Sends until the peer has stopped reading, and returns how much it took.
async fn send_until_refused(client: &mut Client, bytes: &[u8], most: usize) -> usize {
    use tokio::io::AsyncWriteExt;
    let mut sent = 0;
    while sent < most {
        // Nothing tells that the peer will never read again; a good second without progress is taken for it.
        match tokio::time::timeout(Duration::from_millis(1500), client.stream.write(&bytes[sent % bytes.len()..])).await
        {
            Ok(Ok(count)) => sent += count,
            Ok(Err(_)) | Err(_) => break,
        }
    }
    sent
}

#[tokio::test]
async fn unhandled_error_kills_the_process() {
    let service = Service::with(TestHost::deaf(), |_| {}).await;
    let mut bystander = service.join("bystander").await;
    for bytes in [
        frame(TEXT, &[0xff]),
        frame(0x83, b""),
        frame(CLOSE, &[0]),
        frame(TEXT | RSV1, &[6]),
        with_64_bit_length(TEXT, u64::MAX),
        vec![0; 1000],
        vec![0xff; 1000],
    ] {
        let mut client = service.join_deflated("villain").await;
        client.send(&bytes).await;
        client.closed().await;
    }
    for bytes in [&b"\r\n\r\n"[..], b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"]
    {
        let mut client = Client::connect(service.address).await;
        client.send(bytes).await;
        assert_eq!(client.refusal().await, 400);
    }
    for target in ["/ws", "/ws?token=", "/ws?token=%", "/ws?token=a.b.c", "/ws?token=%00"] {
        let mut client = Client::connect(service.address).await;
        client.send(&request(target, "")).await;
        assert_eq!(client.refusal().await, 401, "{target}");
    }
    bystander.is_served().await;
    assert!(service.is_running());
}

#[tokio::test]
async fn type_confusion_in_the_protocol() {
    let service = Service::start().await;
    let mut client = service.join("ann").await;
    let deep = format!("{}{}", "[".repeat(40_000), "]".repeat(40_000));
    for message in [
        "null",
        "[]",
        "1e400",
        r#"{"type":{}}"#,
        r#"{"type":["subscribe"],"data":{"bill_id":1}}"#,
        r#"{"type":"__proto__"}"#,
        r#"{"__proto__":{"type":"subscribe"}}"#,
        r#"{"type":"subscribe","type":"constructor","data":{"__proto__":{"bill_id":1}}}"#,
        r#"{"type":"subscribe","data":{"bill_id":{"toString":1}}}"#,
        r#"{"type":"subscribe","data":[1]}"#,
        r#"{"type":"subscribe","data":{"bill_id":1e308}}"#,
        r#"{"type":"subscribe","data":{"bill_id":99999999999999999999999999}}"#,
        r#"{"type":"batch_subscribe","data":{"bill_ids":{"length":1,"0":7}}}"#,
        r#"{"type":"batch_subscribe","data":{"bill_ids":"123"}}"#,
        r#"{"type":"update_preferences","data":{"preferences":0}}"#,
        r#"{"type":"\ud800"}"#,
        &deep,
        &format!(r#"{{"type":"subscribe","data":{{"bill_id":{deep}}}}}"#),
    ] {
        client.send(&text(message)).await;
        let shown = &message[..message.len().min(60)];
        assert_eq!(client.json().await["type"], "error", "{shown}");
    }
    client.is_served().await;
    assert_eq!(service.core.user_subscriptions("ann"), []);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        any::<i64>().prop_map(Value::from),
        prop_oneof!["[0-9]{1,20}", ".{0,8}", "__proto__|constructor|toString"].prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((any_key(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_key() -> impl Strategy<Value = String> {
    prop_oneof!["type|data|bill_id|bill_ids|messageId|timestamp|preferences|token|__proto__", ".{0,6}"]
}

fn any_type() -> impl Strategy<Value = Value> {
    let known = "subscribe|unsubscribe|batch_subscribe|batch_unsubscribe|get_preferences|update_preferences|ping|auth";
    prop_oneof![3 => known.prop_map(Value::from), 1 => any_json()]
}

proptest! {
    #[test]
    fn type_confusion_by_any_json(kind in any_type(), data in any_json(), id in any_json(), authenticated: bool) {
        let message = json!({ "type": kind, "data": data, "messageId": id, "timestamp": id }).to_string();
        let request = decode(&message, authenticated);
        if !authenticated {
            let asks_for_more = request.command.as_ref().is_ok_and(|command| !matches!(command, Command::Authenticate { .. }));
            prop_assert!(!asks_for_more);
        }
        let outcome = match request.command.clone() {
            Ok(Command::Unsubscribe { given, .. }) => Outcome::Unsubscribed { bill: given },
            Ok(Command::BatchUnsubscribe { bills }) => Outcome::BatchUnsubscribed { bills },
            Ok(Command::SavePreferences { preferences }) => Outcome::PreferencesSaved { preferences },
            Ok(_) => Outcome::Silent,
            Err(error) => Outcome::Failed(error),
        };
        for reply in request.ack().into_iter().chain(encode(&outcome, request.message_id, 1e12)) {
            prop_assert!(serde_json::from_slice::<Value>(&reply.json).is_ok());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unbounded_sub_items() {
    let service = Service::with(TestHost::new(), |options| options.base.max_payload = 16 * 1024 * 1024).await;
    let before = heap::reset_peak();
    let mut client = service.join("villain").await;
    let bills: Vec<u64> = (1..=1_000_000).collect();
    client.send_json(&json!({ "type": "batch_subscribe", "data": { "bill_ids": bills } })).await;
    let reply = client.json().await;
    assert_eq!(reply["data"]["subscribed"].as_array().map(Vec::len), Some(1000));
    assert_eq!(reply["data"]["failed"].as_array().map(Vec::len), Some(1_000_000 - 1000));
    client.send_json(&json!({ "type": "subscribe", "data": { "bill_id": 2_000_000 } })).await;
    assert_eq!(client.json().await["message"], "Subscription limit reached");
    assert_eq!(service.core.user_subscriptions("villain").len(), 1000);
    // A million parsed JSON values, their reply and what this client keeps of it.
    assert!(heap::peak() - before < 256 * MIB);
    drop(client);
    service.empties().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn use_after_free_by_closing_during_dispatch() {
    let service = Service::with(TestHost::new(), |options| options.threads = 3).await;
    let update = |round: u32| json!({ "round": round, "filler": "x".repeat(3000) }).to_string();
    let bill = BillId::new(5).unwrap();
    let publisher = {
        let core = service.core.clone();
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let mut round = 0;
            while stopped.try_recv().is_err() {
                core.broadcast_bill_update(bill, &update(round), "now");
                core.send_user_notification("churn", "{}");
                round += 1;
                while core.counts().queue_depth > 50 {
                    tokio::task::yield_now().await;
                }
            }
        });
        (stop, task)
    };
    for round in 0..60 {
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(Client::join(service.address, "churn", "").await);
        }
        for (at, mut client) in clients.into_iter().enumerate() {
            let subscribe = text(r#"{"type":"subscribe","data":{"bill_id":5}}"#);
            let unsubscribe = text(r#"{"type":"unsubscribe","data":{"bill_id":5}}"#);
            let _ = client.try_send(&[subscribe, unsubscribe].concat()[..(at + 1) * 20]).await;
            match (round + at) % 3 {
                0 => client.reset(),
                1 => drop(client),
                _ => {
                    let _ = client.try_send(&close(1000, "")).await;
                }
            }
        }
    }
    publisher.0.send(()).unwrap();
    patiently(publisher.1).await.unwrap();
    service.empties().await;
    assert!(service.is_running());
}

#[tokio::test]
async fn cross_site_hijacking() {
    let list = Origins::List(vec!["https://app.example".into()]);
    let service = Service::with(TestHost::new(), |options| options.handshake.origins = list).await;
    for (origin, admitted) in [
        (Some("https://app.example"), true),
        (None, true),
        (Some("null"), false),
        (Some(""), false),
        (Some("https://app.example.evil.test"), false),
        (Some("https://evil-app.example"), false),
        (Some("https://app.example:444"), false),
        (Some("http://app.example"), false),
        (Some("https://app.example/"), false),
        (Some("https://evil.test/https://app.example"), false),
        (Some("https://app.example@evil.test"), false),
        (Some("https://app.example, https://evil.test"), false),
    ] {
        let header = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
        let mut client = Client::connect(service.address).await;
        client.send(&request_of("ann", &header)).await;
        if admitted {
            assert!(client.head().await.starts_with("HTTP/1.1 101 "), "{origin:?}");
        } else {
            assert_eq!(client.refusal().await, 403, "{origin:?}");
        }
    }
    let same = |origin: &str| handshake::check(&head_with("origin", origin), &policy(Origins::SameHost)).is_ok();
    assert!(same("http://localhost") && same("http://LOCALHOST:80"));
    for foreign in
        ["null", "", "http://localhost.evil.test", "http://localhost:81", "http://localhost@evil.test", "file://"]
    {
        assert!(!same(foreign), "{foreign}");
    }
}

#[tokio::test]
async fn guessable_ids_open_nothing() {
    let service = Service::start().await;
    let mut victim = Client::connect(service.address).await;
    victim.send(&request_of("victim", "")).await;
    victim.head().await;
    let id = victim.json().await["data"]["connectionId"].as_str().unwrap().to_owned();
    // Connection ids are names, not credentials: there is nothing they can be shown to.
    for target in [format!("/ws?token={id}"), format!("/ws?id={id}"), format!("/ws?connectionId={id}")] {
        let mut client = Client::connect(service.address).await;
        client.send(&request(&target, &format!("Cookie: connectionId={id}\r\n"))).await;
        assert_eq!(client.refusal().await, 401, "{target}");
    }
    let mut other = service.join("other").await;
    for kind in ["resume", "connect", "auth"] {
        other.send_json(&json!({ "type": kind, "data": { "connectionId": id, "token": id } })).await;
        assert_eq!(other.json().await["type"], "error", "{kind}");
    }
    victim.is_served().await;
}

#[tokio::test]
async fn authentication_skipped_on_a_side_path() {
    let host = TestHost::looking_up(|user, answer| {
        let _ = answer.send(Ok(user.as_str() != "banned"));
    });
    let service = Service::with(host, |options| options.auth_timeout = Some(Duration::from_secs(60))).await;
    let expired = token_with(&json!({ "user_id": "ann", "exp": 1000 }));
    let unsigned = "eyJhbGciOiJub25lIn0.eyJ1c2VyX2lkIjoiYW5uIn0.";
    // The handshake, with what follows it in the same packet.
    for bad in [expired.as_str(), unsigned, &token("banned"), &token("ann")[1..]] {
        for request in [
            request(&format!("/ws?token={bad}"), ""),
            request("/ws", &format!("Authorization: Bearer {bad}\r\n")),
            request(&format!("/ws?token={bad}"), &format!("Authorization: Bearer {}\r\n", token("ann"))),
        ] {
            let mut client = Client::connect(service.address).await;
            client.send(&[request, text(r#"{"type":"subscribe","data":{"bill_id":1}}"#)].concat()).await;
            assert_eq!(client.refusal().await, 401);
        }
    }
    // A connection that has yet to prove who it is.
    let mut client = Client::connect(service.address).await;
    client.send(&request("/ws", "")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    for kind in
        ["subscribe", "batch_subscribe", "unsubscribe", "get_preferences", "update_preferences", "ping", "resume"]
    {
        client.send_json(&json!({ "type": kind, "data": { "bill_id": 1, "bill_ids": [1], "preferences": {} } })).await;
        assert_eq!(client.json().await["message"], "Authentication required", "{kind}");
    }
    // One less than ends a connection.
    for bad in [unsigned, &token("banned")] {
        client.send_json(&json!({ "type": "auth", "data": { "token": bad } })).await;
        assert_eq!(client.json().await["message"], "Authentication failed");
    }
    assert_eq!(service.core.bill_subscribers(BillId::new(1).unwrap()), []);
    client.send_json(&json!({ "type": "auth", "data": { "token": token("ann") } })).await;
    assert_eq!(client.json().await["type"], "connected");
    // And no connection changes its user afterwards.
    client.send_json(&json!({ "type": "auth", "data": { "token": token("bob") } })).await;
    assert_eq!(client.json().await["message"], "Authentication failed");
    assert_eq!(service.core.connected_users().len(), 1);
    assert_eq!(service.host.count(EventKind::Connection), 1);
}

#[tokio::test]
async fn the_connection_limit_holds_for_handshakes_that_settle_together() {
    let host = TestHost::looking_up(|_, answer| {
        let _ = answer.send(Ok(true));
    });
    let service = Service::with(host, |options| {
        options.threads = 3;
        options.runtime = RuntimeValues { max_connections_per_user: 5, ..options.runtime };
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(service.address).await;
        client.send(&request_of("ann", "")).await;
        clients.push(client);
    }
    let mut admitted = 0;
    for client in &mut clients {
        admitted += usize::from(client.head().await.starts_with("HTTP/1.1 101 "));
    }
    assert_eq!(admitted, 5);
    assert_eq!(service.core.connection_count("ann"), 5);
}

#[tokio::test]
async fn header_injection() {
    let service = Service::start().await;
    for protocol in ["v1\rX: y", "v1\nX: y", "v1\0", "v1 v2", "v\u{e9}", "", "v1,,v2", "a\"b"] {
        let headers = [b"Sec-WebSocket-Protocol: ", protocol.as_bytes(), b"\r\n"].concat();
        let mut client = Client::connect(service.address).await;
        let mut request = request_of("ann", "");
        request.truncate(request.len() - 2);
        client.send(&[request, headers, b"\r\n".to_vec()].concat()).await;
        assert_eq!(client.refusal().await, 400, "{protocol:?}");
    }
    // Heads made by another parser may hold anything.
    for (name, value) in [
        ("sec-websocket-protocol", "v1\r\nX: y"),
        ("sec-websocket-protocol", "v1\r\n\r\n<script>"),
        ("sec-websocket-extensions", "permessage-deflate\r\nX: y"),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits=\"10\r\nX: y\""),
    ] {
        assert!(handshake::check(&head_with(name, value), &policy(Origins::Any)).is_err(), "{value:?}");
    }
    let mut client = Client::connect(service.address).await;
    client.send(&request_of("ann", "Sec-WebSocket-Protocol: v1.bills, v2\r\n")).await;
    assert!(client.head().await.contains("\r\nSec-WebSocket-Protocol: v1.bills\r\n"));
}
