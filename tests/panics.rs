//! A panic while one connection is dealt with costs that connection at most.
//!
//! Panics are brought about by the two parts of a service that a test can replace: its host, and where log lines go.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use carillon::application::interface::{Event, EventKind};
use carillon::shard::command::UpgradeRequest;
use carillon::transport::Source;
use carillon::transport::bridge::{Bridge, Channel, Notifier};
use carillon::transport::head_reader::HeadReader;
use carillon::types::BillId;
use serde_json::json;
use support::client::{PING, close, frame, request, request_of, text};
use support::{Client, PATIENCE, Service, TestHost, patiently};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// Panics at the events of one kind that concern the user `villain`.
fn fragile(kind: EventKind) -> TestHost {
    TestHost::listening(move |event| {
        let concerns_the_villain = match event {
            Event::Connection { id, .. }
            | Event::Disconnection { id, .. }
            | Event::SlowConsumer { id, .. }
            | Event::Subscription { id, .. } => id.user.as_str() == "villain",
            Event::Degradation { .. } | Event::Error(_) | Event::MemoryLeak(_) | Event::StateChange(_) => false,
        };
        assert!(event.kind() != kind || !concerns_the_villain, "as the test wants it");
    })
}

/// Panics where this line is logged: in the middle of the service's own code.
struct Tripwire(&'static str);

impl<S: tracing::Subscriber> Layer<S> for Tripwire {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        event.record(&mut Finder(self.0));
    }
}

struct Finder(&'static str);

/// Whether a log line is wanted is remembered for the whole process: while dispatchers come and go beside each other,
/// the one that trips may be passed over.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Visit for Finder {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        assert!(field.name() != "message" || format!("{value:?}") != self.0, "as the test wants it");
    }
}

async fn with_tripwire(line: &'static str) -> Service {
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(Tripwire(line)));
    Service::logging(TestHost::new(), dispatch, |options| options.base.shutdown_grace_period = PATIENCE * 10).await
}

async fn everything_works(service: &Service, bystander: &mut Client) {
    bystander.is_served().await;
    let mut another = service.follow("another", 77).await;
    let update = json!({ "at": format!("{:?}", Instant::now()) }).to_string();
    service.core.broadcast_bill_update(BillId::new(77).unwrap(), &update, "now");
    assert_eq!(another.json().await["type"], "bill_update");
    another.send(&close(1000, "")).await;
    another.is_closed_with(1000).await;
}

async fn ends_as_ever(service: Service, bystander: Client) {
    drop(bystander);
    service.empties().await;
    service.shutdown().await;
}

/// Lets the outbox of a client that does not read overflow while the bystander gets everything.
async fn overflow(service: &Service, bystander: &mut Client) -> Client {
    let mut villain = Client::connect_narrow(service.address).await.enter("villain", "").await;
    villain.subscribe(1).await;
    bystander.subscribe(1).await;
    for number in 0..40 {
        let update = json!({ "number": number, "filler": "x".repeat(500_000) }).to_string();
        service.core.broadcast_bill_update(BillId::new(1).unwrap(), &update, "now");
        assert_eq!(bystander.json().await["update"]["number"], number);
    }
    villain
}

#[tokio::test]
async fn a_panic_while_a_message_is_handled_costs_its_connection_only() {
    let _alone = ONE_AT_A_TIME.lock().await;
    // Logged by a connection that is closed for what its peer sent.
    let service = with_tripwire("closing").await;
    let mut bystander = service.join("bystander").await;
    for _ in 0..3 {
        let mut villain = service.follow("villain", 1).await;
        villain.send(&frame(0x83, b"")).await;
        villain.ends().await;
        while service.host.disconnection().await.0 != 1006 {}
        everything_works(&service, &mut bystander).await;
    }
    ends_as_ever(service, bystander).await;
}

#[tokio::test]
async fn a_panic_while_a_hook_is_dealt_with_costs_its_reply_only() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(Tripwire("preferences were not loaded")));
    let service =
        Service::logging(TestHost::failing_to_load(), dispatch, |options| options.hooks.extend(support::PREFERENCES))
            .await;
    let mut client = service.join("ann").await;
    // More than may be under way for one connection: each has to be counted as settled. No more than the log takes lines of at once.
    for _ in 0..10 {
        client.send(&text(r#"{"type":"get_preferences"}"#)).await;
    }
    everything_works(&service, &mut client).await;
    ends_as_ever(service, client).await;
}

#[tokio::test]
async fn a_panic_while_a_shard_says_goodbye_does_not_keep_it_from_ending() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let service = with_tripwire("closing").await;
    let mut clients = [service.join("ann").await, service.join("bob").await];
    let ended = service.begin_shutdown();
    for client in &mut clients {
        while client.next().await.is_some() {}
    }
    patiently(ended).await.unwrap();
}

#[tokio::test]
async fn a_panic_while_a_publish_is_carried_out_ends_no_shard() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let service = with_tripwire("slow consumer").await;
    let mut bystander = service.join("bystander").await;
    let villain = overflow(&service, &mut bystander).await;
    everything_works(&service, &mut bystander).await;
    villain.reset();
    ends_as_ever(service, bystander).await;
}

#[tokio::test]
async fn a_panic_while_a_handshake_is_refused_concerns_it_only() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let service = with_tripwire("a handshake was refused").await;
    let mut bystander = service.join("bystander").await;
    for _ in 0..3 {
        let mut villain = Client::connect(service.address).await;
        villain.send(&request("/ws", "")).await;
        assert_eq!(villain.next_byte().await, None);
        everything_works(&service, &mut bystander).await;
    }
    ends_as_ever(service, bystander).await;
}

#[tokio::test]
async fn a_host_that_panics_harms_nobody() {
    let _alone = ONE_AT_A_TIME.lock().await;
    for kind in [EventKind::Connection, EventKind::Subscription, EventKind::Disconnection] {
        let service = Service::with(fragile(kind), |_| {}).await;
        let mut bystander = service.join("bystander").await;
        for ending in 0..3 {
            let mut villain = service.follow("villain", 1).await;
            villain.is_served().await;
            match ending {
                0 => villain.reset(),
                1 => drop(villain),
                _ => {
                    villain.send(&[text("{"), close(1000, "")].concat()).await;
                    villain.is_closed_with(1000).await;
                }
            }
            everything_works(&service, &mut bystander).await;
        }
        ends_as_ever(service, bystander).await;
    }
}

#[tokio::test]
async fn a_host_that_panics_at_a_slow_consumer_does_not_keep_it() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let service = Service::with(fragile(EventKind::SlowConsumer), |_| {}).await;
    let mut bystander = service.join("bystander").await;
    let mut villain = overflow(&service, &mut bystander).await;
    assert_eq!(service.host.disconnection().await.0, 1013);
    while villain.next().await.is_some() {}
    everything_works(&service, &mut bystander).await;
    ends_as_ever(service, bystander).await;
}

#[tokio::test]
async fn a_panicking_look_up_refuses_its_handshake_only() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let host = TestHost::looking_up(|user, answer| {
        assert!(user.as_str() != "villain", "as the test wants it");
        let _ = answer.send(Ok(true));
    });
    let service = Service::with(host, |_| {}).await;
    let mut bystander = service.join("bystander").await;
    // One more would open the hook's circuit.
    for _ in 0..4 {
        let mut villain = Client::connect(service.address).await;
        villain.send(&request_of("villain", "")).await;
        assert_eq!(villain.refusal().await, 401);
    }
    everything_works(&service, &mut bystander).await;
    ends_as_ever(service, bystander).await;
}

/// Node's end of a bridge. Its signal panics as often as it is told to: in the middle of a write.
struct Fragile(Arc<AtomicU32>);

impl Notifier for Fragile {
    fn notify(&self) {
        let left = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(left.is_err(), "as the test wants it");
    }
}

/// A connection over a bridge that follows bill 1, and panics at its next writes, `panics` of them.
async fn fragile_follower(service: &Service, panics: &Arc<AtomicU32>) -> Arc<Channel> {
    let (head, _) = HeadReader::default().push(&request_of("villain", "")).unwrap().unwrap();
    let channel = Channel::new(Box::new(Fragile(panics.clone())));
    let early = text(r#"{"type":"subscribe","data":{"bill_id":1}}"#);
    service.core.accept(UpgradeRequest {
        source: Source::Bridge(Bridge::new(channel.clone())),
        head,
        early,
        peer: None,
    });
    let mut written = Vec::new();
    // What was written is taken, so that the next write signals again.
    patiently(async {
        while !written.windows(12).any(|window| window == br#""subscribed""#) {
            written.extend(channel.take_work().write);
            tokio::task::yield_now().await;
        }
    })
    .await;
    panics.store(1, Ordering::SeqCst);
    channel
}

#[tokio::test]
async fn a_panic_while_one_connection_is_written_to_leaves_the_others_of_that_turn_alone() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let service = Service::start().await;
    let panics = Arc::new(AtomicU32::new(0));
    let mut before = service.follow("before", 1).await;
    // One publish is written while its subscribers are walked through, several are written at the end of the turn.
    for count in [1, 6] {
        let _villain = fragile_follower(&service, &panics).await;
        let mut after = service.follow("after", 1).await;
        for number in 0..count {
            let update = json!({ "of": count, "number": number }).to_string();
            service.core.broadcast_bill_update(BillId::new(1).unwrap(), &update, "now");
        }
        for client in [&mut before, &mut after] {
            for number in 0..count {
                assert_eq!(client.json().await["update"]["number"], number);
            }
        }
        assert_eq!(panics.load(Ordering::SeqCst), 0, "it has panicked");
        assert_eq!(service.host.disconnection().await.0, 1006);
        after.send(&close(1000, "")).await;
        after.is_closed_with(1000).await;
        assert_eq!(service.host.disconnection().await.0, 1000);
    }
    everything_works(&service, &mut before).await;
    ends_as_ever(service, before).await;
}

#[tokio::test]
async fn a_panic_in_a_heartbeat_costs_its_connection_only() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(Tripwire("no pong in time")));
    let service = Service::logging(TestHost::new(), dispatch, |options| {
        options.base.heartbeat_interval = Duration::from_millis(100);
    })
    .await;
    // Their heartbeats are due in the same turn: each panics, none is lost.
    let mut mute = Vec::new();
    for _ in 0..5 {
        mute.push(service.join("villain").await);
    }
    for villain in &mut mute {
        while villain.next().await.is_some() {}
    }
    for _ in 0..mute.len() {
        assert_eq!(service.host.disconnection().await.0, 1006);
    }
    // New connections are pinged as before.
    let mut another = service.join("another").await;
    assert_eq!(another.frame().await.first, PING);
    ends_as_ever(service, another).await;
}
