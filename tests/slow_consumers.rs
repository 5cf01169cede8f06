//! Connections that do not read: their memory is bounded, what is dropped is counted, and no other connection waits for them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use carillon::application::interface::{Event, EventKind, SlowConsumerPolicy};
use carillon::shard::outbox::Backpressure;
use carillon::types::BillId;
use serde_json::{Value, json};
use support::client::{CLOSE, text};
use support::{Client, PATIENCE, Service, TestHost, patiently};
use tokio::io::AsyncWriteExt;

const MAX_BYTES: usize = 256 * 1024;

/// More than the system buffers for a client that does not read.
const PUBLISHES: u64 = 800;

const FILLER_BYTES: usize = 16 * 1024;

async fn service_with(policy: SlowConsumerPolicy) -> Service {
    Service::with(TestHost::new(), |options| {
        options.backpressure = Backpressure { max_bytes: MAX_BYTES, policy };
        options.base.shutdown_grace_period = PATIENCE;
    })
    .await
}

async fn stuck_follower(service: &Service, user: &str) -> Client {
    let mut client = Client::connect_narrow(service.address).await.enter(user, "").await;
    client.subscribe(1).await;
    client
}

fn publish(service: &Service, number: u64) {
    let update = json!({ "number": number, "filler": "x".repeat(FILLER_BYTES) }).to_string();
    service.core.broadcast_bill_update(BillId::new(1).unwrap(), &update, "now");
}

/// Publishes everything, each as soon as the one before has reached the steady client.
async fn publish_all(service: &Service, steady: &mut Client) {
    for number in 0..PUBLISHES {
        publish(service, number);
        assert_eq!(steady.json().await["update"]["number"], number);
        let pending = service.core.sizes().buffers;
        assert!(pending <= MAX_BYTES + 2 * FILLER_BYTES, "{pending} bytes wait");
    }
}

/// The numbers of the updates and the types of the other messages that come before the close frame.
async fn read_to_close(client: &mut Client) -> (Vec<u64>, Vec<String>, (u16, String)) {
    let (mut numbers, mut others) = (Vec::new(), Vec::new());
    loop {
        let frame = client.frame().await;
        if frame.first == CLOSE {
            return (numbers, others, frame.close_reason());
        }
        let message: Value = serde_json::from_slice(&frame.payload).expect("frames stay whole");
        match message["update"]["number"].as_u64() {
            Some(number) => numbers.push(number),
            None => others.push(message["type"].as_str().unwrap().to_owned()),
        }
    }
}

fn slow_consumer(event: Event) -> (String, usize, SlowConsumerPolicy) {
    match event {
        Event::SlowConsumer { id, pending_bytes, action } => (id.user.as_str().to_owned(), pending_bytes, action),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn by_default_it_is_closed_with_1013() {
    let service = service_with(SlowConsumerPolicy::Close).await;
    let mut steady = service.follow("steady", 1).await;
    let mut stuck = stuck_follower(&service, "stuck").await;
    publish_all(&service, &mut steady).await;
    let (user, pending, action) = slow_consumer(service.host.next(EventKind::SlowConsumer).await);
    assert_eq!((user.as_str(), action), ("stuck", SlowConsumerPolicy::Close));
    assert!(pending > MAX_BYTES / 2 && pending <= MAX_BYTES, "{pending}");
    assert_eq!(service.host.count(EventKind::SlowConsumer), 0, "told once");
    let (numbers, _, reason) = read_to_close(&mut stuck).await;
    assert_eq!(reason, (1013, "Slow consumer".into()));
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "nothing is missing before the end");
    // What came up to the end of the connection was delivered or counted; what came later was not sent to it.
    let dropped = service.core.statistics().dropped_messages;
    assert!(dropped > 0 && numbers.len() as u64 + dropped < PUBLISHES, "{dropped} dropped");
    steady.is_served().await;
    drop(stuck);
    // Told when it has ended, not when it was decided to close it.
    assert_eq!(service.host.disconnection().await, (1013, "Slow consumer".into()));
    drop(steady);
    service.empties().await;
}

#[tokio::test]
async fn drop_newest_keeps_what_came_first_and_counts_the_rest() {
    let service = service_with(SlowConsumerPolicy::DropNewest).await;
    let mut steady = service.follow("steady", 1).await;
    let mut stuck = stuck_follower(&service, "stuck").await;
    publish_all(&service, &mut steady).await;
    assert_eq!(slow_consumer(service.host.next(EventKind::SlowConsumer).await).2, SlowConsumerPolicy::DropNewest);
    assert_eq!(service.host.count(EventKind::SlowConsumer), 0, "told once");
    let numbers = everything_is_accounted_for(&service, steady, &mut stuck).await;
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn drop_oldest_keeps_what_came_last_and_counts_the_rest() {
    let service = service_with(SlowConsumerPolicy::DropOldest).await;
    let mut steady = service.follow("steady", 1).await;
    let mut stuck = stuck_follower(&service, "stuck").await;
    publish_all(&service, &mut steady).await;
    assert_eq!(slow_consumer(service.host.next(EventKind::SlowConsumer).await).2, SlowConsumerPolicy::DropOldest);
    assert_eq!(service.host.count(EventKind::SlowConsumer), 0, "told once");
    let numbers = everything_is_accounted_for(&service, steady, &mut stuck).await;
    assert!(numbers.is_sorted());
    assert_eq!(numbers.last(), Some(&(PUBLISHES - 1)));
}

/// Ends the service and sees that sent = delivered + dropped for the stuck client.
async fn everything_is_accounted_for(service: &Service, mut steady: Client, stuck: &mut Client) -> Vec<u64> {
    let before = service.core.statistics();
    assert_eq!(before.active_connections, 2, "no connection is closed");
    let ended = service.begin_shutdown();
    let (numbers, others, reason) = read_to_close(stuck).await;
    assert_eq!(reason, (1001, "Server shutdown".into()));
    stuck.stream.shutdown().await.unwrap();
    let (_, announced, _) = read_to_close(&mut steady).await;
    assert_eq!(announced, ["server_shutdown"]);
    steady.stream.shutdown().await.unwrap();
    patiently(ended).await.unwrap();
    // The announcement is a message like any other.
    let delivered = numbers.len() as u64 + others.len() as u64;
    assert_eq!(delivered + service.core.statistics().dropped_messages, PUBLISHES + 1);
    numbers
}

#[tokio::test]
async fn whose_requests_outrun_its_reading_is_not_read_from_until_it_catches_up() {
    const REQUESTS: usize = 20_000;
    let service = service_with(SlowConsumerPolicy::Close).await;
    let mut bystander = service.join("bystander").await;
    let client = Client::connect_narrow(service.address).await.enter("greedy", "").await;
    let request = text(&json!({ "type": "x".repeat(600) }).to_string());
    let (mut client, mut writer) = client.split();
    let writing = tokio::spawn(async move {
        for _ in 0..REQUESTS {
            writer.write_all(&request).await.unwrap();
        }
        writer
    });
    support::eventually(|| service.core.sizes().buffers > 0).await;
    bystander.is_served().await;
    let heard = service.core.statistics().total_messages;
    assert!(heard < REQUESTS as u64, "{heard} requests were read from a peer that reads nothing");
    for _ in 0..REQUESTS {
        assert_eq!(client.json().await["type"], "error");
        assert!(service.core.sizes().buffers <= MAX_BYTES);
    }
    drop((patiently(writing).await.unwrap(), client, bystander));
    service.empties().await;
    assert_eq!(service.host.count(EventKind::SlowConsumer), 0);
}

#[tokio::test]
async fn a_crowd_that_does_not_read_holds_its_bound_and_no_more() {
    const CROWD: usize = 20;
    let service = service_with(SlowConsumerPolicy::DropOldest).await;
    let mut crowd = Vec::new();
    for user in 0..CROWD {
        crowd.push(stuck_follower(&service, &user.to_string()).await);
    }
    let mut steady = service.follow("steady", 1).await;
    for number in 0..PUBLISHES / 2 {
        publish(&service, number);
        assert_eq!(steady.json().await["update"]["number"], number);
        let pending = service.core.sizes().buffers;
        assert!(pending <= (CROWD + 1) * (MAX_BYTES + FILLER_BYTES), "{pending} bytes wait");
    }
    let pending = service.core.sizes().buffers;
    assert!(pending > CROWD * MAX_BYTES / 2, "{pending} bytes wait, {:?}", service.core.statistics());
    crowd.into_iter().for_each(Client::reset);
    drop(steady);
    service.empties().await;
}

#[tokio::test]
async fn a_burst_is_no_slowness() {
    let service = service_with(SlowConsumerPolicy::Close).await;
    let mut client = service.follow("ann", 1).await;
    // Eight times the bound at once, to a client that reads.
    let reading = tokio::spawn(async move {
        for number in 0..128_u64 {
            assert_eq!(client.json().await["update"]["number"], number);
        }
        client
    });
    for number in 0..128 {
        publish(&service, number);
    }
    drop(patiently(reading).await.unwrap());
    assert_eq!(service.host.count(EventKind::SlowConsumer), 0);
}
