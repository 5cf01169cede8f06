//! Connections that go while something is still under way for them: nothing of theirs stays behind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use carillon::application::interface::{Event, EventKind};
use carillon::types::HookKind;
use serde_json::json;
use support::client::{close, request, text};
use support::{Client, PATIENCE, Service, TestHost, eventually, token};
use tokio::io::AsyncWriteExt;

async fn service_that_never_answers() -> Service {
    Service::with(TestHost::without_preferences(), |options| {
        options.hooks.extend(support::PREFERENCES);
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

async fn service_with_preferences(host: TestHost) -> Service {
    Service::with(host, |options| options.hooks.extend(support::PREFERENCES)).await
}

#[tokio::test]
async fn preferences_are_not_loaded_for_a_connection_that_has_gone_before_the_call() {
    let service = service_with_preferences(TestHost::new()).await;
    let get = text(r#"{"type":"get_preferences"}"#);
    let mut client = service.join("ann").await;
    client.send(&get).await;
    assert_eq!(client.json().await["type"], "preferences");
    assert_eq!(service.host.calls(HookKind::LoadPreferences), 1);

    // Handled in one turn, before the calls that wait for its end.
    client.send(&[get.repeat(5), close(1000, "")].concat()).await;
    client.is_closed_with(1000).await;
    service.empties().await;
    // Tasks run in the order in which they were started, and this one's call is behind those.
    let mut other = service.join("bob").await;
    other.send(&get).await;
    assert_eq!(other.json().await["type"], "preferences");
    assert_eq!(service.host.calls(HookKind::LoadPreferences), 2);
}

#[tokio::test]
async fn a_load_that_failed_is_not_repeated_for_a_connection_that_has_gone() {
    let service = service_with_preferences(TestHost::failing_to_load()).await;
    let mut client = service.join("ann").await;
    client.send(&text(r#"{"type":"get_preferences"}"#)).await;
    eventually(|| service.host.calls(HookKind::LoadPreferences) == 1).await;
    client.reset();
    service.empties().await;
    // A call of the same kind that began later has had all its tries.
    let mut other = service.join("bob").await;
    other.send(&text(r#"{"type":"get_preferences"}"#)).await;
    assert_eq!(other.json().await["message"], "Failed to get preferences");
    assert_eq!(service.host.calls(HookKind::LoadPreferences), 1 + 3);
}

#[tokio::test]
async fn preferences_that_were_sent_before_the_end_are_saved() {
    let service = service_with_preferences(TestHost::new()).await;
    let save = text(r#"{"type":"update_preferences","data":{"preferences":{}}}"#);
    let mut client = service.join("ann").await;
    client.send(&[save.repeat(3), close(1000, "")].concat()).await;
    client.is_closed_with(1000).await;
    let mut other = service.join("bob").await;
    other.stream.write_all(&save).await.unwrap();
    other.stream.shutdown().await.unwrap();
    while other.next().await.is_some() {}
    service.empties().await;
    eventually(|| service.host.calls(HookKind::SavePreferences) == 4).await;
}

#[tokio::test]
async fn a_user_is_not_looked_up_for_an_auth_message_of_a_connection_that_has_gone() {
    let host = TestHost::looking_up(|_, answer| answer.send(Ok(true)).unwrap());
    let service = Service::with(host, |options| {
        options.lookup_cache_ttl = Duration::ZERO;
        options.auth_timeout = Some(PATIENCE);
    })
    .await;
    let auth = |user: &str| text(&json!({ "type": "auth", "data": { "token": token(user) } }).to_string());
    let mut known = service.join("ann").await;
    known.send(&auth("ann")).await;
    assert_eq!(known.json().await["type"], "auth_success");
    assert_eq!(service.host.calls(HookKind::LookupUser), 2);
    known.send(&[auth("ann"), close(1000, "")].concat()).await;
    known.is_closed_with(1000).await;

    let mut anonymous = Client::connect(service.address).await;
    anonymous.send(&request("/ws", "")).await;
    assert!(anonymous.head().await.starts_with("HTTP/1.1 101 "));
    anonymous.send(&[auth("bob"), close(1000, "")].concat()).await;
    anonymous.is_closed_with(1000).await;
    service.empties().await;
    service.join("cid").await;
    assert_eq!(service.host.calls(HookKind::LookupUser), 3);
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
