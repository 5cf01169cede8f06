//! A panic while one connection is dealt with costs that connection and nothing else.
//!
//! Panics are brought about by the host, the one part of a service that a test can replace.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use carillon::core::host::{Event, EventKind};
use serde_json::json;
use support::client::{close, request_of, text};
use support::{Client, Service, TestHost};

/// Panics at the events of one kind that concern the user `villain`.
fn fragile(kind: EventKind) -> TestHost {
    TestHost::listening(move |event| {
        let concerns_the_villain = match event {
            Event::Connection { id, .. }
            | Event::Disconnection { id, .. }
            | Event::SlowConsumer { id, .. }
            | Event::Subscription { id, .. } => id.user.as_str() == "villain",
            Event::Error(_) | Event::StateChange(_) => false,
        };
        assert!(event.kind() != kind || !concerns_the_villain, "as the test wants it");
    })
}

async fn everything_works(service: &Service, bystander: &mut Client) {
    bystander.is_served().await;
    let mut newcomer = service.follow("newcomer", 77).await;
    let bill = carillon::types::BillId::new(77).unwrap();
    service.core.broadcast_bill_update(
        bill,
        &json!({ "at": format!("{:?}", std::time::Instant::now()) }).to_string(),
        "now",
    );
    assert_eq!(newcomer.json().await["type"], "bill_update");
    newcomer.send(&close(1000, "")).await;
    newcomer.is_closed_with(1000).await;
}

#[tokio::test]
async fn a_panic_while_a_message_is_handled_costs_its_connection_only() {
    let service = Service::with(fragile(EventKind::Subscription), |_| {}).await;
    let mut bystander = service.join("bystander").await;
    for _ in 0..3 {
        let mut villain = service.join("villain").await;
        villain.send(&text(r#"{"type":"subscribe","data":{"bill_id":1}}"#)).await;
        while villain.next().await.is_some() {}
        everything_works(&service, &mut bystander).await;
    }
    drop(bystander);
    service.empties().await;
    service.shutdown().await;
}

#[tokio::test]
async fn a_panic_while_a_connection_is_let_in_costs_it_only() {
    let service = Service::with(fragile(EventKind::Connection), |_| {}).await;
    let mut bystander = service.join("bystander").await;
    for _ in 0..3 {
        let mut villain = Client::connect(service.address).await;
        villain.send(&[request_of("villain", ""), close(1000, "")].concat()).await;
        while villain.next_byte().await.is_some() {}
        drop(villain);
        everything_works(&service, &mut bystander).await;
    }
    drop(bystander);
    service.empties().await;
    service.shutdown().await;
}

#[tokio::test]
async fn a_panic_while_a_connection_goes_leaves_nothing_of_it() {
    let service = Service::with(fragile(EventKind::Disconnection), |_| {}).await;
    let mut bystander = service.join("bystander").await;
    for ending in 0..3 {
        let mut villain = service.follow("villain", 1).await;
        match ending {
            0 => villain.reset(),
            1 => drop(villain),
            _ => {
                villain.send(&close(1000, "")).await;
                while villain.next().await.is_some() {}
            }
        }
        everything_works(&service, &mut bystander).await;
    }
    drop(bystander);
    service.empties().await;
    service.shutdown().await;
}

#[tokio::test]
async fn a_panic_while_a_shard_says_goodbye_does_not_keep_it_from_ending() {
    let service = Service::with(fragile(EventKind::Disconnection), |options| {
        options.base.shutdown_grace_period = support::PATIENCE * 10;
    })
    .await;
    let mut villain = service.join("villain").await;
    let mut bystander = service.join("bystander").await;
    let ended = service.begin_shutdown();
    bystander.completes_close(1001).await;
    villain.completes_close(1001).await;
    drop((villain, bystander));
    support::patiently(ended).await.unwrap();
}

#[tokio::test]
async fn a_panic_at_a_slow_consumer_ends_no_shard() {
    let service = Service::with(fragile(EventKind::SlowConsumer), |_| {}).await;
    let mut bystander = service.follow("bystander", 1).await;
    let mut villain = Client::connect_narrow(service.address).await.enter("villain", "").await;
    villain.subscribe(1).await;
    let bill = carillon::types::BillId::new(1).unwrap();
    for number in 0..40 {
        let update = json!({ "number": number, "filler": "x".repeat(500_000) }).to_string();
        service.core.broadcast_bill_update(bill, &update, "now");
        assert_eq!(bystander.json().await["update"]["number"], number);
    }
    villain.reset();
    everything_works(&service, &mut bystander).await;
    drop(bystander);
    service.empties().await;
    service.shutdown().await;
}

#[tokio::test]
async fn a_panicking_look_up_refuses_its_handshake_only() {
    let host = TestHost::looking_up(|user, answer| {
        assert!(user.as_str() != "villain", "as the test wants it");
        let _ = answer.send(Ok(true));
    });
    let service = Service::with(host, |_| {}).await;
    let mut bystander = service.join("bystander").await;
    for _ in 0..10 {
        let mut villain = Client::connect(service.address).await;
        villain.send(&request_of("villain", "")).await;
        assert_eq!(villain.refusal().await, 401);
    }
    everything_works(&service, &mut bystander).await;
    drop(bystander);
    service.empties().await;
    service.shutdown().await;
}
