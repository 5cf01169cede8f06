//! A service whose memory gets scarce: it degrades, rejects_new_connections, closes who does not read, loses nothing for the others,
//! and recovers. The container is a folder with the files of one, so that any machine can run this.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use carillon::application::interface::{Event, EventKind, SlowConsumerPolicy};
use carillon::memory::leak_detector_handler::{Leak, Severity};
use carillon::memory::progressive_degradation::DegradationLevel;
use carillon::shard::outbox::Backpressure;
use carillon::shard::service_options::ServiceOptions;
use carillon::types::BillId;
use serde_json::{Value, json};
use support::client::{request_of, text};
use support::{Client, Service, TestHost, eventually};

const MEBIBYTE: usize = 1024 * 1024;

const FILLER_BYTES: usize = 16 * 1024;

/// What the container holds beside what waits for peers to read.
const BASE_BYTES: usize = 4 * MEBIBYTE;
const LIMIT_BYTES: usize = 8 * MEBIBYTE;

/// The files of a container, gone with it.
struct Container(PathBuf);

impl Container {
    fn new(name: &str) -> Self {
        let container = Self(std::env::temp_dir().join(format!("carillon-{name}-{}", std::process::id())));
        container.write("proc/self/cgroup", "0::/\n");
        container.write("sys/fs/cgroup/memory.max", &LIMIT_BYTES.to_string());
        container.holds(BASE_BYTES);
        container
    }

    fn holds(&self, bytes: usize) {
        self.write("sys/fs/cgroup/memory.current", &bytes.to_string());
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Whole or not at all: the service may be reading.
        let draft = path.with_extension("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, path).unwrap();
    }

    fn options(&self, options: &mut ServiceOptions) {
        options.system_root.clone_from(&self.0);
        // A step of the recovery takes a sixth of this.
        options.base.health_check_interval = Duration::from_millis(60);
        options.base.shutdown_grace_period = Duration::from_secs(30);
        options.backpressure = Backpressure { max_bytes: 64 * MEBIBYTE, policy: SlowConsumerPolicy::Close };
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A client that reads everything, and what it has read.
struct Reader {
    client: Client,
    numbers: Vec<u64>,
    levels: Vec<u64>,
}

impl Reader {
    fn take(&mut self, message: &Value) {
        match message["type"].as_str().unwrap() {
            "bill_update" => self.numbers.push(message["update"]["number"].as_u64().unwrap()),
            "system_status" => self.levels.push(message["data"]["degradationLevel"].as_u64().unwrap()),
            other => panic!("{other}"),
        }
    }

    async fn reads_update(&mut self, number: u64) {
        while self.numbers.last() != Some(&number) {
            let message = self.client.json().await;
            self.take(&message);
        }
    }

    async fn reads_level(&mut self, level: u64) {
        while self.levels.last() != Some(&level) {
            let message = self.client.json().await;
            self.take(&message);
        }
    }
}

fn publish(service: &Service, number: u64) {
    let update = json!({ "number": number, "filler": "x".repeat(FILLER_BYTES) }).to_string();
    service.core.broadcast_bill_update(BillId::new(1).unwrap(), &update, "now");
}

#[tokio::test]
async fn it_degrades_sheds_survives_and_recovers_and_readers_miss_nothing() {
    let container = Container::new("pressure");
    let service = Service::with(TestHost::new(), |options| container.options(options)).await;
    let mut reader = Reader { client: service.follow("reader", 1).await, numbers: Vec::new(), levels: Vec::new() };
    let mut stuck = Client::connect_narrow(service.address).await.enter("stuck", "").await;
    stuck.subscribe(1).await;

    // What `stuck` does not read fills the container.
    let mut number = 0;
    while service.core.degradation_level() != DegradationLevel::Critical {
        assert!(number < 4000, "never critical");
        publish(&service, number);
        reader.reads_update(number).await;
        container.holds(BASE_BYTES + service.core.sizes().buffers);
        number += 1;
    }
    let mut another = Client::connect(service.address).await;
    another.send(&request_of("another", "")).await;
    let refusal = another.head().await;
    assert!(refusal.starts_with("HTTP/1.1 503 ") && refusal.contains("\r\nRetry-After: 30\r\n"), "{refusal}");

    // The one that does not read goes, and with it what the container was full of.
    match service.host.next(EventKind::SlowConsumer).await {
        Event::SlowConsumer { id, pending_bytes, action } => {
            assert_eq!((id.user.as_str(), action), ("stuck", SlowConsumerPolicy::Close));
            assert!(pending_bytes > 2 * MEBIBYTE, "{pending_bytes}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(service.host.disconnection().await, (1013, "Slow consumer".into()));
    // At this price repeats are not remembered; one update may have been published after they were forgotten.
    assert!(service.core.counts().dedupe_entries <= 1, "{}", service.core.counts().dedupe_entries);
    eventually(|| service.core.sizes().buffers < MEBIBYTE).await;

    // Still critical: publishing continues.
    for _ in 0..20 {
        publish(&service, number);
        reader.reads_update(number).await;
        number += 1;
    }
    container.holds(BASE_BYTES + service.core.sizes().buffers);
    reader.reads_level(0).await;
    assert_eq!(service.core.degradation_level(), DegradationLevel::Normal);
    assert_eq!(reader.numbers, (0..number).collect::<Vec<_>>());
    let falling = [4, 3, 2, 1, 0];
    assert!(reader.levels.ends_with(&falling), "{:?}", reader.levels);
    let rising = &reader.levels[..reader.levels.len() - falling.len()];
    assert!(rising.is_sorted_by(|one, other| one < other), "{:?}", reader.levels);
    service.join("another").await;
    reader.client.is_served().await;
    drop(stuck);
    service.shutdown().await;
}

#[tokio::test]
async fn a_flood_under_pressure_is_read_slowly_but_answered_in_full() {
    let container = Container::new("flood");
    let service = Service::with(TestHost::deaf(), |options| container.options(options)).await;
    let mut client = service.join("ann").await;
    service.core.report_memory_pressure(0.92, 0.85);
    assert_eq!(service.core.degradation_level(), DegradationLevel::Severe);
    assert_eq!(client.json().await["data"]["degradationLevel"], 3);
    let filler = "x".repeat(1000);
    for number in 0..1000 {
        let ping = json!({ "type": "ping", "data": { "number": number, "filler": filler } });
        client.send(&text(&ping.to_string())).await;
    }
    let mut pongs = 0;
    while pongs < 1000 {
        pongs += u32::from(client.json().await["type"] == "pong");
    }
    client.is_served().await;
}

#[tokio::test]
async fn a_shutdown_while_critical_is_as_any_other_and_undoes_the_degradation() {
    let container = Container::new("shutdown");
    container.holds(LIMIT_BYTES);
    let service = Service::with(TestHost::new(), |options| container.options(options)).await;
    eventually(|| service.core.degradation_level() == DegradationLevel::Critical).await;
    match service.host.next(EventKind::Degradation).await {
        Event::Degradation { level, previous, pressure } => {
            assert_eq!((level, previous), (DegradationLevel::Critical, DegradationLevel::Normal));
            assert!(pressure >= 1.0, "{pressure}");
        }
        other => panic!("{other:?}"),
    }
    assert!(service.core.memory_pressure().is_some_and(|pressure| pressure.ratio >= 1.0));
    service.shutdown().await;
    assert_eq!(service.core.degradation_level(), DegradationLevel::Normal);
    assert_eq!(service.core.memory_pressure(), None);
    // To a service that does not run, a report is a line in the log.
    service.core.report_memory_pressure(1.0, 0.5);
    assert_eq!(service.core.degradation_level(), DegradationLevel::Normal);
}

#[tokio::test]
async fn a_leak_is_told_to_all_and_halves_what_is_remembered() {
    let container = Container::new("leak");
    let service = Service::with(TestHost::new(), |options| container.options(options)).await;
    let mut client = service.join("ann").await;
    for number in 0..10 {
        publish(&service, number);
    }
    assert_eq!(service.core.counts().dedupe_entries, 10);
    for (severity, left) in [(Severity::Low, 5), (Severity::High, 2), (Severity::Critical, 0)] {
        let leak =
            Leak { severity, recommendations: vec!["look closer".into()], growth_rate: 5.5, retained_increase: 1e8 };
        service.core.report_memory_leak(&leak);
        assert_eq!(service.core.counts().dedupe_entries, left, "{severity:?}");
        let warning = client.json().await;
        assert_eq!(warning["type"], "system_warning");
        assert_eq!(warning["data"]["severity"], severity.as_str());
        match service.host.next(EventKind::MemoryLeak).await {
            Event::MemoryLeak(told) => assert_eq!(told, leak),
            other => panic!("{other:?}"),
        }
    }
    publish(&service, 1);
    publish(&service, 2);
    assert_eq!(service.core.counts().dedupe_entries, 2, "the cache has kept its room");
    client.is_served().await;
}
