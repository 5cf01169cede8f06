//! Look-ups of users: whose answer is remembered for whom, and peers that do not wait for it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carillon::application::interface::EventKind;
use serde_json::{Value, json};
use support::client::{request, request_of};
use support::host::LookupAnswer;
use support::{Client, Service, TestHost, eventually, now, token_with};

async fn enter(service: &Service, claims: &Value) -> Client {
    let mut client = Client::connect(service.address).await;
    client.send(&request(&format!("/ws?token={}", token_with(claims)), "")).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client
}

#[tokio::test]
async fn an_answer_is_remembered_for_the_same_claims_only() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = asked.clone();
    let host = TestHost::looking_up(move |_, answer| {
        counting.fetch_add(1, Ordering::Relaxed);
        let _ = answer.send(Ok(true));
    });
    let service = Service::with(host, |options| options.lookup_cache_ttl = Duration::from_secs(3600)).await;
    let expires = now() + 3600;
    let claims =
        |role: &str, tenant: Value| json!({ "user_id": "ann", "role": role, "tenant": tenant, "exp": expires });
    let mut clients = Vec::new();
    for (claims, calls) in [
        (claims("admin", json!(1)), 1),
        (claims("admin", json!(1)), 1),
        (claims("guest", json!(1)), 2),
        (claims("admin", json!([1])), 3),
        (claims("admin", json!("1")), 4),
        (claims("guest", json!(1)), 4),
        (json!({ "user_id": "ann", "role": "admin", "tenant": 1, "exp": expires + 1 }), 5),
    ] {
        clients.push(enter(&service, &claims).await);
        assert_eq!(asked.load(Ordering::Relaxed), calls, "{claims}");
    }
}

/// Leaves answers to the test.
fn waiting_host() -> (TestHost, Arc<Mutex<Vec<LookupAnswer>>>) {
    let waiting: Arc<Mutex<Vec<LookupAnswer>>> = Arc::default();
    let kept = waiting.clone();
    (TestHost::looking_up(move |_, answer| kept.lock().unwrap().push(answer)), waiting)
}

async fn asked(waiting: &Mutex<Vec<LookupAnswer>>) -> LookupAnswer {
    eventually(|| !waiting.lock().unwrap().is_empty()).await;
    waiting.lock().unwrap().remove(0)
}

#[tokio::test]
async fn a_peer_that_leaves_during_its_look_up_is_no_connection() {
    let (host, waiting) = waiting_host();
    let service = Service::with(host, |options| options.runtime.max_connections_per_user = 1).await;
    let mut bystander = Client::connect(service.address).await;
    bystander.send(&request_of("bob", "")).await;
    asked(&waiting).await.send(Ok(true)).unwrap();
    bystander.head().await;
    assert_eq!(bystander.json().await["type"], "connected");
    assert_eq!(service.host.next(EventKind::Connection).await.kind(), EventKind::Connection);

    let mut leaver = Client::connect(service.address).await;
    leaver.send(&request_of("ann", "")).await;
    let answer = asked(&waiting).await;
    drop(leaver);
    // The end of the stream is there before the answer to what was sent after it.
    bystander.send_json(&json!({ "type": "ping" })).await;
    assert_eq!(bystander.json().await["type"], "pong");
    answer.send(Ok(true)).unwrap();

    // After it everything is decided, and the place is free.
    let mut client = Client::connect(service.address).await;
    client.send(&request_of("cid", "")).await;
    asked(&waiting).await.send(Ok(true)).unwrap();
    client.head().await;
    assert_eq!(client.json().await["type"], "connected");
    let statistics = service.core.statistics();
    assert_eq!((statistics.total_connections, statistics.active_connections), (2, 2));
    assert_eq!((service.host.count(EventKind::Connection), service.host.count(EventKind::Disconnection)), (1, 0));
    let mut again = Client::connect(service.address).await;
    again.send(&request_of("ann", "")).await;
    asked(&waiting).await.send(Ok(true)).unwrap();
    assert!(again.head().await.starts_with("HTTP/1.1 101 "));
}
