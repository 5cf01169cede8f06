//! The greeting: at once, before anything else, in a frame of its own, in one write with the 101.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use carillon::application::interface::{HookFault, SlowConsumerPolicy};
use carillon::shard::outbox::Backpressure;
use carillon::shard::service_options::{Batching, ServiceOptions};
use serde_json::{Value, json};
use support::client::{TEXT, request, request_of, text};
use support::{Client, Service, TestHost, patiently, token};
use tokio::io::AsyncReadExt;

/// Batches that do not leave by themselves within a test.
fn with_long_batches(options: &mut ServiceOptions) {
    options.runtime.batch_size = 100;
    options.runtime.batch_delay = Duration::from_secs(3600);
}

fn message(message: &Value) -> Vec<u8> {
    text(&message.to_string())
}

fn kind(frame: &support::client::Frame) -> String {
    assert_eq!(frame.first, TEXT);
    let message: Value = serde_json::from_slice(&frame.payload).unwrap();
    message["type"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_greeting_leaves_in_one_write_with_the_101_and_before_what_is_immediate() {
    let service = Service::with(TestHost::new(), with_long_batches).await;
    let mut client = Client::connect(service.address).await;
    let early = [json!({ "type": "subscribe", "data": { "bill_id": 1 } }), json!({ "type": "ping" })];
    let early = early.iter().map(message).collect::<Vec<_>>().concat();
    client.send(&[request_of("ann", ""), early].concat()).await;
    let mut bytes = vec![0; 64 * 1024];
    let count = patiently(client.stream.read(&mut bytes)).await.unwrap();
    let first = String::from_utf8_lossy(&bytes[..count]).into_owned();
    // What one read finds came in one write.
    assert!(first.starts_with("HTTP/1.1 101 "), "{first}");
    let greeting = first.find(r#"{"type":"connected","#).expect("the greeting comes with the 101");
    assert!(first.find(r#"{"type":"pong","#).is_none_or(|pong| pong > greeting), "{first}");
    assert!(!first.contains("batch") && !first.contains("subscribed"), "{first}");
}

#[tokio::test]
async fn the_greeting_is_a_frame_of_its_own_whatever_the_batching() {
    for batching in [Batching::Envelope, Batching::Frames] {
        let service = Service::with(TestHost::new(), |options| {
            with_long_batches(options);
            options.batching = batching;
        })
        .await;
        let mut client = Client::connect(service.address).await;
        client
            .send(
                &[request_of("ann", ""), message(&json!({ "type": "unsubscribe", "data": { "bill_id": 1 } }))].concat(),
            )
            .await;
        client.head().await;
        assert_eq!(kind(&client.frame().await), "connected");
        // The reply waits for others.
        client.is_served().await;
    }
}

#[tokio::test]
async fn an_auth_message_is_acknowledged_then_greeted_at_once() {
    let host = TestHost::looking_up(|_, answer| {
        let _ = answer.send(Ok(true));
    });
    let service = Service::with(host, |options| {
        with_long_batches(options);
        options.auth_timeout = Some(Duration::from_secs(3600));
    })
    .await;
    let mut client = Client::connect(service.address).await;
    client.send(&request("/ws", "")).await;
    client.head().await;
    let auth = json!({ "type": "auth", "data": { "token": token("ann") }, "messageId": "a" });
    client.send_json(&auth).await;
    assert_eq!(client.json().await, json!({ "type": "ack", "messageId": "a" }));
    let greeting = client.json().await;
    assert_eq!(greeting["type"], "connected");
    assert_eq!(greeting["data"]["user_id"], "ann");
    assert_eq!(service.core.connected_users().len(), 1);
}

#[tokio::test]
async fn the_greeting_is_not_dropped_for_want_of_room() {
    for policy in [SlowConsumerPolicy::Close, SlowConsumerPolicy::DropNewest, SlowConsumerPolicy::DropOldest] {
        let service = Service::with(TestHost::new(), |options| {
            options.backpressure = Backpressure { max_bytes: 1, policy };
        })
        .await;
        let mut client = service.join("ann").await;
        client.is_served().await;
    }
}

#[tokio::test]
async fn an_auth_message_that_fails_is_acknowledged_and_its_error_names_it() {
    let host = TestHost::looking_up(|user, answer| {
        let _ = match user.as_str() {
            "down" => answer.send(Err(HookFault::TimedOut)),
            user => answer.send(Ok(user == "ann")),
        };
    });
    let service = Service::with(host, |options| options.auth_timeout = Some(Duration::from_secs(3600))).await;
    for wrong in [
        json!({ "token": token("eve") }),
        json!({ "token": token("down") }),
        json!({ "token": "x" }),
        json!({ "token": 7 }),
        json!(null),
    ] {
        let mut client = Client::connect(service.address).await;
        client.send(&request("/ws", "")).await;
        client.head().await;
        client.send_json(&json!({ "type": "auth", "data": wrong, "messageId": [1] })).await;
        assert_eq!(client.json().await, json!({ "type": "ack", "messageId": [1] }));
        let error = json!({ "type": "error", "message": "Authentication failed", "messageId": [1] });
        assert_eq!(client.json().await, error, "{wrong}");
        client.send_json(&json!({ "type": "ping", "messageId": "b" })).await;
        assert_eq!(client.json().await["type"], "ack");
        let error = json!({ "type": "error", "message": "Authentication required", "messageId": "b" });
        assert_eq!(client.json().await, error);
    }
}
