//! How much of what a peer sends is dealt with at once, and that what waits meanwhile is neither lost nor reordered.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use carillon::shard::token_bucket::Rate;
use carillon::transport::Source;
use carillon::transport::bridge::{Bridge, Channel, Notifier, SocketAction};
use carillon::transport::head_reader::HeadReader;
use serde_json::json;
use support::client::{CLOSE, PONG, RSV1, TEXT, close, deflate, frame, ping, request, request_of, text};
use support::{Client, PATIENCE, Service, TestHost, eventually, patiently};
use tokio::io::AsyncWriteExt;

/// Far more than one turn deals with, and than one read takes.
const MANY: u32 = 20_000;

/// Hooks of one connection that may be under way.
const MAX_HOOKS: usize = 8;

fn numbered_pings(count: u32) -> Vec<u8> {
    (0..count).flat_map(|number| ping(&number.to_be_bytes())).collect()
}

async fn pongs_in_order<S: tokio::io::AsyncRead + Unpin>(client: &mut Client<S>, count: u32) {
    for number in 0..count {
        let frame = client.frame().await;
        assert_eq!((frame.first, frame.payload.as_slice()), (PONG, number.to_be_bytes().as_slice()), "{number}");
    }
}

fn get_preferences() -> Vec<u8> {
    text(r#"{"type":"get_preferences"}"#)
}

async fn with_unanswered_hooks() -> Service {
    Service::with(TestHost::without_preferences(), |options| {
        options.hooks.extend(support::PREFERENCES);
        options.lookup_timeout = PATIENCE * 10;
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_has_more_than_eight_hooks_of_a_connection_under_way() {
    let service = with_unanswered_hooks().await;
    let mut client = service.join("ann").await;
    // One write, one read, many more than may be under way at once.
    let count = 1500;
    client.send(&get_preferences().repeat(count)).await;
    // Another connection's requests are dealt with meanwhile: whatever could have been started, has been.
    let mut other = service.join("bob").await;
    for _ in 0..20 {
        other.is_served().await;
    }
    let mut answered = 0;
    while answered < count {
        eventually(|| service.host.unanswered() > 0).await;
        other.is_served().await;
        let under_way = service.host.unanswered();
        assert!(under_way <= MAX_HOOKS, "{under_way} hooks under way");
        answered += service.host.answer_preferences();
    }
    for _ in 0..count {
        assert_eq!(client.json().await["type"], "preferences");
    }
    client.is_served().await;
    assert_eq!(service.host.unanswered(), 0);
}

#[tokio::test]
async fn what_is_read_and_waits_for_a_hook_is_not_lost_when_the_peer_ends_its_side() {
    let service = with_unanswered_hooks().await;
    let (mut reader, mut writer) = service.join("ann").await.split();
    let follow = text(r#"{"type":"subscribe","data":{"bill_id":7}}"#);
    writer.write_all(&[get_preferences().repeat(MAX_HOOKS), follow].concat()).await.unwrap();
    writer.shutdown().await.unwrap();
    eventually(|| service.host.unanswered() == MAX_HOOKS).await;
    assert_eq!(service.core.counts().subscriptions, 0, "it waits behind the hooks");
    service.host.answer_preferences();
    for _ in 0..MAX_HOOKS {
        assert_eq!(reader.json().await["type"], "preferences");
    }
    assert_eq!(reader.json().await["type"], "subscribed");
    reader.ends().await;
}

#[tokio::test]
async fn everything_before_a_close_frame_is_answered_first() {
    let service = Service::start().await;
    let (mut reader, mut writer) = service.join("ann").await.split();
    let sent = tokio::spawn(async move {
        writer.write_all(&[numbered_pings(MANY), close(4000, "enough"), numbered_pings(10)].concat()).await.unwrap();
        writer
    });
    pongs_in_order(&mut reader, MANY).await;
    let frame = reader.frame().await;
    assert_eq!((frame.first, frame.close_reason()), (CLOSE, (4000, "enough".to_owned())));
    // The end of our side; what came after the close frame has no answer.
    let mut writer = sent.await.unwrap();
    let _ = writer.shutdown().await;
    reader.ends().await;
}

#[tokio::test]
async fn everything_before_the_end_of_the_stream_is_answered() {
    let service = Service::start().await;
    let (mut reader, mut writer) = service.join("ann").await.split();
    tokio::spawn(async move {
        writer.write_all(&numbered_pings(MANY)).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    pongs_in_order(&mut reader, MANY).await;
    reader.ends().await;
}

#[tokio::test]
async fn everything_that_came_with_the_request_is_answered() {
    let service = Service::start().await;
    let client = Client::connect(service.address).await;
    let (mut reader, mut writer) = client.split();
    tokio::spawn(async move {
        writer.write_all(&[request_of("ann", ""), numbered_pings(MANY)].concat()).await.unwrap();
        std::future::pending::<()>().await;
        drop(writer);
    });
    assert!(reader.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(reader.json().await["type"], "connected");
    pongs_in_order(&mut reader, MANY).await;
}

#[tokio::test]
async fn messages_of_every_kind_and_size_come_through_in_order() {
    let service = Service::start().await;
    let (mut reader, mut writer) = service.join_deflated("ann").await.split();
    let kinds = 5_u32;
    let count = 400;
    let bytes: Vec<u8> = (0..count)
        .flat_map(|number: u32| {
            let padding = " ".repeat((number as usize * 7919) % 60_000);
            let message = json!({ "type": "subscribe", "data": { "bill_id": number + 1 }, "n": padding }).to_string();
            let (first, second) = message.as_bytes().split_at(message.len() / 3);
            match number % kinds {
                0 => text(&message),
                1 => frame(TEXT | RSV1, &deflate(message.as_bytes())),
                2 => [frame(0x01, first), ping(b"between"), frame(0x80, second)].concat(),
                3 => {
                    let compressed = deflate(message.as_bytes());
                    let (first, second) = compressed.split_at(compressed.len() / 2);
                    [frame(0x01 | RSV1, first), frame(0x80, second)].concat()
                }
                _ => frame(0x82, message.as_bytes()),
            }
        })
        .collect();
    tokio::spawn(async move {
        // In portions that fit nothing.
        for part in bytes.chunks(33_333) {
            writer.write_all(part).await.unwrap();
        }
        std::future::pending::<()>().await;
        drop(writer);
    });
    for number in 0..count {
        let mut frame = reader.frame().await;
        if number % kinds == 2 {
            assert_eq!(frame.first, PONG);
            frame = reader.frame().await;
        }
        let reply: serde_json::Value = serde_json::from_slice(&frame.content()).unwrap();
        assert_eq!(reply["data"]["bill_id"], number + 1, "{reply}");
    }
    assert_eq!(service.core.counts().subscriptions, count as usize);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_what_is_left_of_a_read() {
    let service = with_unanswered_hooks().await;
    let mut client = service.join("ann").await;
    client.send(&[get_preferences().repeat(MAX_HOOKS), numbered_pings(5000)].concat()).await;
    eventually(|| service.host.unanswered() == MAX_HOOKS).await;
    let ended = service.begin_shutdown();
    assert_eq!(client.json().await["type"], "server_shutdown");
    // The close frame of the peer is found behind what is not dealt with any more.
    client.completes_close(1001).await;
    patiently(ended).await.unwrap();
}

#[tokio::test]
async fn the_rate_is_charged_before_a_message_is_inflated() {
    let service = Service::with(TestHost::new(), |options| {
        options.message_rate = Some(Rate { per_second: 0.001, burst: 10.0 });
    })
    .await;
    let mut client = service.join_deflated("ann").await;
    // It cannot be inflated: whether that was tried shows.
    let corrupt = frame(TEXT | RSV1, &[0x06, 0, 0, 0]);
    client.send(&[text(r#"{"type":"ping"}"#).repeat(10), corrupt.clone()].concat()).await;
    for _ in 0..10 {
        assert_eq!(client.json().await["type"], "pong");
    }
    assert_eq!(client.json().await["message"], "Rate limit exceeded");
    client.send(&corrupt.repeat(9)).await;
    for _ in 0..9 {
        assert_eq!(client.json().await["message"], "Rate limit exceeded");
    }
    client.send(&corrupt).await;
    client.is_closed_with(1008).await;
}

#[tokio::test]
async fn a_message_that_is_put_off_is_charged_once() {
    let service = Service::with(TestHost::new(), |options| {
        options.message_rate = Some(Rate { per_second: 0.001, burst: 10.0 });
    })
    .await;
    let mut client = service.join_deflated("ann").await;
    // Larger than what a first turn inflates.
    let large = format!(r#"{{"type":"ping"}}{}"#, " ".repeat(50_000));
    client.send(&frame(TEXT | RSV1, &deflate(large.as_bytes())).repeat(10)).await;
    for _ in 0..10 {
        assert_eq!(client.json().await["type"], "pong");
    }
    client.send(&text(r#"{"type":"ping"}"#)).await;
    assert_eq!(client.json().await["message"], "Rate limit exceeded");
}

#[tokio::test]
async fn a_peer_that_is_limited_is_still_known_to_answer() {
    let service = Service::with(TestHost::new(), |options| {
        options.base.heartbeat_interval = Duration::from_millis(100);
        options.message_rate = Some(Rate { per_second: 0.001, burst: 1.0 });
    })
    .await;
    let mut client = service.join("ann").await;
    client.is_served().await;
    let mut mute = service.join("bob").await;
    // The burst is spent; pongs that are asked for are no messages.
    let mut answered = 0;
    while service.core.statistics().active_connections == 2 {
        let frame = client.frame().await;
        assert_eq!(frame.first, 0x89);
        client.send(&support::client::frame(PONG, b"")).await;
        answered += 1;
    }
    assert!(answered >= 5, "{answered}");
    while mute.next().await.is_some() {}
    assert_eq!(service.core.statistics().active_connections, 1);
}

#[tokio::test]
async fn a_peer_that_goes_on_sending_after_its_close_is_cut() {
    let service = Service::start().await;
    let mut client = service.join("ann").await;
    client.send(&frame(0x83, b"")).await;
    assert_eq!(client.closed().await.0, 1002);
    let block = vec![0; 1024 * 1024];
    let mut sent = 0;
    while client.try_send(&block).await.is_ok() {
        sent += block.len();
        assert!(sent < 256 * block.len(), "it is read without end");
    }
    service.empties().await;
}

struct Silent;

impl Notifier for Silent {
    fn notify(&self) {}
}

#[tokio::test]
async fn at_most_64_kib_are_read_of_a_refused_peer_before_the_reset() {
    let service = Service::start().await;
    let (head, _) = HeadReader::default().push(&request("/ws", "")).unwrap().unwrap();
    let channel = Channel::new(Box::new(Silent));
    let source = Source::Bridge(Bridge::new(channel.clone()));
    service.core.accept(carillon::shard::command::UpgradeRequest { source, head, early: Vec::new(), peer: None });
    let mut answer = Vec::new();
    patiently(async {
        while !answer.ends_with(b"Unauthorized") {
            answer.extend(channel.take_work().write);
            channel.flushed();
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (mut sent, mut is_paused) = (0, false);
    patiently(async {
        loop {
            let work = channel.take_work();
            if work.action == SocketAction::Destroy {
                return;
            }
            is_paused &= !work.resume;
            if !is_paused {
                is_paused = !channel.receive(&[0; 1024]);
                sent += 1024;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    // What it has read, and what a bridge holds unread.
    assert!((64 * 1024..=128 * 1024).contains(&sent), "{sent}");
}
