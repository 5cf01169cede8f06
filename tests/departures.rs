//! Connections that go while something is still under way for them: nothing of theirs stays behind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use carillon::application::interface::{Event, EventKind};
use serde_json::json;
use support::client::close;
use support::{PATIENCE, Service, TestHost, eventually};
use tokio::io::AsyncWriteExt;

async fn service_that_never_answers() -> Service {
    Service::with(TestHost::without_preferences(), |options| {
        options.has_preferences = true;
        options.lookup_timeout = 10 * PATIENCE;
    })
    .await
}

#[tokio::test]
async fn a_hook_under_way_does_not_keep_the_socket_of_a_peer_that_has_gone() {
    let service = service_that_never_answers().await;
    let mut client = service.join("ann").await;
    client.send_json(&json!({ "type": "get_preferences" })).await;
    eventually(|| service.host.unanswered() == 1).await;
    client.stream.shutdown().await.unwrap();
    client.ends().await;
    service.empties().await;
}

/// The code and reason of the next end, and whether it was clean.
async fn end(service: &Service) -> (u16, String, bool) {
    match service.host.next(EventKind::Disconnection).await {
        Event::Disconnection { code, reason, clean, .. } => (code, reason, clean),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_end_of_a_connection_is_told_when_it_has_ended_though_every_table_forgot_it_before_its_close_frame() {
    let service = Service::with(TestHost::new(), |options| options.base.shutdown_grace_period = 10 * PATIENCE).await;
    let mut polite = service.follow("ann", 7).await;
    let mut rude = service.follow("bob", 7).await;
    let ended = service.begin_shutdown();
    for client in [&mut polite, &mut rude] {
        assert_eq!(client.json().await["type"], "server_shutdown");
        assert_eq!(client.closed().await.0, 1001);
    }
    let counts = service.core.counts();
    assert_eq!((counts.users, counts.bills, counts.subscriptions), (0, 0, 0));
    assert_eq!(service.core.statistics().active_connections, 0);
    assert_eq!(service.host.count(EventKind::Disconnection), 0, "neither peer has answered");

    polite.send(&close(1001, "")).await;
    assert_eq!(end(&service).await, (1001, "Server shutdown".into(), true));
    drop(rude);
    assert_eq!(end(&service).await, (1001, "Server shutdown".into(), false));
    support::patiently(ended).await.unwrap();
    // Everything is told before the service has stopped.
    assert_eq!(service.host.count(EventKind::Disconnection), 0);
}

#[tokio::test]
async fn an_end_is_clean_when_both_sides_have_sent_a_close_frame() {
    let service = Service::start().await;
    let mut client = service.join("ann").await;
    client.send(&close(4000, "Heartbeat timeout")).await;
    assert_eq!(client.closed().await.0, 4000);
    drop(client);
    assert_eq!(end(&service).await, (4000, "Heartbeat timeout".into(), true));

    drop(service.join("ann").await);
    assert_eq!(end(&service).await, (1006, String::new(), false));

    let mut violator = service.join("ann").await;
    violator.send(&[0xf1, 0x80, 0, 0, 0, 0]).await;
    assert_eq!(violator.closed().await.0, 1002);
    drop(violator);
    assert_eq!(end(&service).await, (1002, String::new(), false));
    service.empties().await;
}
