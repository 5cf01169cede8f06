//! Connections that go while something is still under way for them: nothing of theirs stays behind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use serde_json::json;
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
