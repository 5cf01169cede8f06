//! Connections without a user yet: how many there may be, and how often they may try.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use carillon::shard::service_options::ServiceOptions;
use serde_json::json;
use support::client::request;
use support::{Client, PATIENCE, Service, TestHost, eventually, token};

fn waiting(service: &Service) -> Option<String> {
    let text = service.core.metrics_text(None);
    text.lines().find_map(|line| line.strip_prefix("carillon_connections_anonymous ").map(str::to_owned))
}

async fn start(configure: impl FnOnce(&mut ServiceOptions)) -> Service {
    Service::with(TestHost::new(), |options| {
        options.auth_timeout = Some(PATIENCE * 10);
        configure(options);
    })
    .await
}

async fn anonymous(service: &Service) -> Client {
    let mut client = Client::connect(service.address).await;
    client.send(&request("/ws", "")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    client
}

async fn turned_away(service: &Service) {
    let mut client = Client::connect(service.address).await;
    client.send(&request("/ws", "")).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nRetry-After: 5\r\n"), "{head}");
}

async fn auth(client: &mut Client, token: &str) {
    client.send_json(&json!({ "type": "auth", "data": { "token": token } })).await;
}

#[tokio::test]
async fn connections_without_a_token_are_counted_and_refused_above_their_number() {
    let service = start(|options| options.max_anonymous = 2).await;
    let mut first = anonymous(&service).await;
    let second = anonymous(&service).await;
    assert_eq!(waiting(&service).as_deref(), Some("2"));
    turned_away(&service).await;
    // Tokens are let in as ever.
    service.join("ann").await;
    auth(&mut first, &token("bob")).await;
    assert_eq!(first.json().await["type"], "connected");
    assert_eq!(waiting(&service).as_deref(), Some("1"));
    let third = anonymous(&service).await;
    turned_away(&service).await;
    third.reset();
    drop(second);
    eventually(|| waiting(&service).as_deref() == Some("0")).await;
    anonymous(&service).await;
}

#[tokio::test]
async fn three_refused_tokens_close_a_connection_that_waits_for_one() {
    let service = start(|_| {}).await;
    let mut client = anonymous(&service).await;
    for _ in 0..3 {
        auth(&mut client, "no token").await;
        assert_eq!(client.json().await["message"], "Authentication failed");
    }
    assert_eq!(client.closed().await, (1008, "Authentication required".to_owned()));
    eventually(|| waiting(&service).as_deref() == Some("0")).await;
}

#[tokio::test]
async fn three_refused_tokens_in_one_write_close_a_connection_as_well() {
    let service = start(|options| options.runtime.batch_size = 10).await;
    let mut client = anonymous(&service).await;
    let message = support::client::text(r#"{"type":"auth","data":{"token":"no token"}}"#);
    client.send(&message.repeat(100)).await;
    let mut failures = 0;
    loop {
        let frame = client.frame().await;
        if frame.first == support::client::CLOSE {
            assert_eq!(frame.close_reason().0, 1008);
            break;
        }
        failures += String::from_utf8(frame.payload).unwrap().matches("Authentication failed").count();
    }
    assert_eq!(failures, 3);
}

#[tokio::test]
async fn a_token_that_is_accepted_in_between_starts_the_count_anew() {
    let service = start(|_| {}).await;
    let mut client = anonymous(&service).await;
    for expected in ["connected", "auth_success", "auth_success"] {
        for _ in 0..2 {
            auth(&mut client, "no token").await;
            assert_eq!(client.json().await["message"], "Authentication failed");
        }
        auth(&mut client, &token("ann")).await;
        assert_eq!(client.json().await["type"], expected);
    }
    for _ in 0..3 {
        auth(&mut client, &token("another user")).await;
        assert_eq!(client.json().await["message"], "Authentication failed");
    }
    assert_eq!(client.closed().await.0, 1008);
}

#[tokio::test]
async fn two_tokens_of_one_user_in_one_write_open_a_session_and_renew_it() {
    let service = start(|_| {}).await;
    let mut client = anonymous(&service).await;
    let message = json!({ "type": "auth", "data": { "token": token("ann") } }).to_string();
    client.send(&[support::client::text(&message), support::client::text(&message)].concat()).await;
    let mut replies = Vec::new();
    while replies.len() < 2 {
        match client.json().await["type"].as_str() {
            Some("batch") | None => {}
            Some(kind) => replies.push(kind.to_owned()),
        }
    }
    assert_eq!(replies, ["connected", "auth_success"]);
}
