//! How a service ends: with its peers' consent, at the deadline without it, and at once when the process goes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use carillon::application::interface::{Event, EventKind, LifecycleState};
use carillon::config::RuntimeValues;
use carillon::types::BillId;
use serde_json::json;
use support::client::{close, request, request_of, text};
use support::host::LookupAnswer;
use support::{Client, PATIENCE, Service, TestHost, patiently};
use tokio::sync::mpsc;

fn bill(number: u64) -> BillId {
    BillId::new(number).unwrap()
}

/// A host whose look-ups are answered by the test, if at all.
fn pending_look_ups() -> (TestHost, mpsc::UnboundedReceiver<LookupAnswer>) {
    let (asked, asking) = mpsc::unbounded_channel();
    let asked = Mutex::new(asked);
    let host = TestHost::looking_up(move |_, answer| {
        let _ = asked.lock().unwrap().send(answer);
    });
    (host, asking)
}

#[tokio::test]
async fn what_was_published_before_is_delivered_before_the_close_frame() {
    for batch_size in [1, 10] {
        let service = Service::with(TestHost::new(), |options| {
            options.threads = 2;
            // Batches would wait for longer than the test.
            options.runtime = RuntimeValues { batch_size, batch_delay: Duration::from_secs(60), ..options.runtime };
            options.batching = carillon::shard::service_options::Batching::Frames;
        })
        .await;
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut client = Client::connect(service.address).await;
            let subscribe = text(r#"{"type":"subscribe","data":{"bill_id":1}}"#);
            client.send(&[request_of("ann", ""), subscribe].concat()).await;
            client.head().await;
            clients.push(client);
        }
        support::eventually(|| service.core.statistics().total_messages == 4).await;
        for number in 0..100 {
            service.core.broadcast_bill_update(bill(1), &json!({ "number": number }).to_string(), "now");
        }
        service.core.broadcast_to_all(r#"{"type":"last"}"#.into());
        let ended = service.begin_shutdown();
        service.core.broadcast_to_all(r#"{"type":"too late"}"#.into());
        for mut client in clients {
            let mut kinds = Vec::new();
            let mut numbers = Vec::new();
            loop {
                let frame = client.frame().await;
                if frame.first == support::client::CLOSE {
                    assert_eq!(frame.close_reason(), (1001, "Server shutdown".into()));
                    break;
                }
                let message: serde_json::Value = serde_json::from_slice(&frame.payload).unwrap();
                if message["type"] == "bill_update" {
                    numbers.push(message["update"]["number"].as_u64().unwrap());
                } else {
                    kinds.push(message["type"].as_str().unwrap().to_owned());
                }
            }
            assert_eq!(numbers, (0..100).collect::<Vec<_>>());
            kinds.sort();
            assert_eq!(kinds, ["connected", "last", "server_shutdown", "subscribed"]);
            client.send(&close(1001, "")).await;
            client.ends().await;
        }
        patiently(ended).await.unwrap();
        assert_eq!(service.core.state(), LifecycleState::Stopped);
    }
}

#[tokio::test]
async fn it_is_over_as_soon_as_the_last_peer_has_gone() {
    let service = Service::with(TestHost::new(), |options| {
        options.base.shutdown_grace_period = PATIENCE * 10;
    })
    .await;
    let mut clients = [service.join("ann").await, service.join("bob").await];
    let ended = service.begin_shutdown();
    for client in &mut clients {
        client.completes_close(1001).await;
    }
    drop(clients);
    patiently(ended).await.unwrap();
    for expected in [LifecycleState::Running, LifecycleState::Stopping, LifecycleState::Stopped] {
        match service.host.next(EventKind::StateChange).await {
            Event::StateChange(state) => assert_eq!(state, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn hung_peers_are_cut_at_the_deadline() {
    let grace = Duration::from_millis(300);
    let service = Service::with(TestHost::new(), |options| options.base.shutdown_grace_period = grace).await;
    let mut silent = service.join("silent").await;
    let mut deaf = Client::connect_narrow(service.address).await.enter("deaf", "").await;
    deaf.subscribe(1).await;
    // More than the system takes for it, so that its close frame cannot even be sent.
    for number in 0..7 {
        let update = json!({ "number": number, "filler": "x".repeat(900_000) }).to_string();
        service.core.broadcast_bill_update(bill(1), &update, "now");
    }
    let started = Instant::now();
    service.shutdown().await;
    let took = started.elapsed();
    assert!(took >= grace && took < grace + Duration::from_secs(3), "{took:?}");
    assert_eq!(silent.closed().await.0, 1001);
    silent.ends().await;
    while deaf.next().await.is_some() {}
}

#[tokio::test]
async fn admissions_under_way_are_answered_with_503() {
    let (host, mut asking) = pending_look_ups();
    let service = Service::with(host, |_| {}).await;
    let mut client = Client::connect(service.address).await;
    client.send(&request_of("ann", "")).await;
    let answer = patiently(asking.recv()).await.unwrap();
    let ended = service.begin_shutdown();
    assert_eq!(client.refusal().await, 503);
    drop(client);
    patiently(ended).await.unwrap();
    // The application's answer has no receiver any more, and is dropped.
    let _ = answer.send(Ok(true));
    assert_eq!(service.core.statistics().total_connections, 0);
}

#[tokio::test]
async fn handshakes_after_the_beginning_of_the_end_are_refused_with_503() {
    let service = Service::start().await;
    let mut lasting = service.join("lasting").await;
    let ended = service.begin_shutdown();
    assert_eq!(lasting.closed().await.0, 1001);
    for _ in 0..3 {
        let mut late = Client::connect(service.address).await;
        late.send(&request_of("late", "")).await;
        assert_eq!(late.refusal().await, 503);
    }
    // What is wrong with a request is still said first.
    let mut wrong = Client::connect(service.address).await;
    wrong.send(&request("/elsewhere", "")).await;
    assert_eq!(wrong.refusal().await, 400);
    lasting.send(&close(1001, "")).await;
    lasting.ends().await;
    drop(lasting);
    patiently(ended).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_waits_for_no_connection() {
    let (host, mut asking) = pending_look_ups();
    let service = Service::with(host, |options| options.threads = 2).await;
    let mut waiting = Vec::new();
    for user in ["ann", "bob", "eve"] {
        let mut client = Client::connect(service.address).await;
        client.send(&request_of(user, "")).await;
        waiting.push((client, patiently(asking.recv()).await.unwrap()));
    }
    let (client, answer) = waiting.pop().unwrap();
    let _ = answer.send(Ok(true));
    let mut open = client;
    assert!(open.head().await.starts_with("HTTP/1.1 101 "));
    // One that is being refused and does not go.
    let mut refused = Client::connect(service.address).await;
    refused.send(&request("/ws", "")).await;
    assert!(refused.head().await.starts_with("HTTP/1.1 401 "));
    let core = service.core.clone();
    let started = Instant::now();
    patiently(tokio::task::spawn_blocking(move || core.stop())).await.unwrap();
    let took = started.elapsed();
    assert!(took < Duration::from_millis(1000), "{took:?}");
    assert_eq!(service.core.state(), LifecycleState::Stopped);
    while open.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_cuts_a_shutdown_short() {
    let service = Service::with(TestHost::new(), |options| {
        options.base.shutdown_grace_period = PATIENCE * 10;
    })
    .await;
    let mut hung = service.join("hung").await;
    let ended = service.begin_shutdown();
    assert_eq!(hung.closed().await.0, 1001);
    let core = service.core.clone();
    patiently(tokio::task::spawn_blocking(move || core.stop())).await.unwrap();
    patiently(ended).await.unwrap();
    hung.ends().await;
}

#[tokio::test]
async fn a_service_starts_anew_after_its_end() {
    let service = Service::start().await;
    drop(service.join("ann").await);
    service.shutdown().await;
    assert_eq!(service.core.counts().users, 0);
    let again = Service::start().await;
    again.join("ann").await.is_served().await;
    // Disconnect what has ended is over at once.
    service.shutdown().await;
    service.core.stop();
}

#[cfg(target_os = "linux")]
#[test]
fn no_thread_is_left() {
    // Threads bear their service's name, so that those of other tests do not count: only this test has nine shards.
    let shards = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.filter(|name| name.trim() == "carillon-8").count()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for round in 0..5 {
            let service = Service::with(TestHost::new(), |options| options.threads = 9).await;
            let client = service.join("ann").await;
            // A thread names itself.
            support::eventually(|| shards() == 1).await;
            if round % 2 == 0 {
                drop(client);
                service.shutdown().await;
            } else {
                service.core.stop();
            }
            assert_eq!(shards(), 0);
        }
    });
}
