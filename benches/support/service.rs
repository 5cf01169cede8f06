//! A whole service whose connections end in memory: bridges instead of sockets, so that no system call is part of what
//! is measured.
//!
//! The shard runs on its own thread as always. The calling thread plays publisher, Node and peers, and waits for the
//! shard between rounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use carillon::config::{RuntimeConfig, RuntimeKey, RuntimeValues};
use carillon::core::Arrival;
use carillon::core::host::{Answer, Event, EventKind, Host};
use carillon::core::service_options::ServiceOptions;
use carillon::core::websocket_service::WebSocketService;
use carillon::transport::Source;
use carillon::transport::bridge::{Bridge, Pipe, Signal};
use carillon::transport::handshake::RequestHead;
use carillon::types::UserId;
use serde_json::{Map, Value};
use tracing::Dispatch;

use super::{TIMESTAMP, bill, text_frame, token, update, verifier};

const BILL: u64 = 4711;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const PATIENCE: Duration = Duration::from_secs(60);

/// Nothing is due while a bench runs but what the bench itself causes.
const NEVER_MS: f64 = 60_000.0;

pub struct Service {
    core: Arc<WebSocketService>,
    pipes: Vec<Arc<Pipe>>,
    signals: Arc<Signals>,
    /// How much reported work was taken.
    taken: usize,
    published: u64,
}

/// A pipe reports once until its work is taken, so every piece of work taken has been reported or will be at once.
struct Signals {
    reported: AtomicUsize,
    /// At how many reports the waiting thread goes on.
    awaited: AtomicUsize,
    waiting: Thread,
}

/// One pipe's.
struct Report(Arc<Signals>);

impl Signal for Report {
    fn signal(&self) {
        let reported = self.0.reported.fetch_add(1, Ordering::AcqRel) + 1;
        if reported >= self.0.awaited.load(Ordering::Acquire) {
            self.0.waiting.unpark();
        }
    }
}

impl Service {
    /// One shard, and connections of as many users that all follow one bill. Messages leave in batches of `batch_size`.
    pub fn with_followers(count: usize, batch_size: usize) -> Self {
        let mut options = ServiceOptions { threads: 1, ..ServiceOptions::default() };
        options.runtime = RuntimeValues { batch_size: 1, dedupe_window: Duration::ZERO, ..options.runtime };
        options.base.heartbeat_interval = DAY;
        let runtime = Arc::new(RuntimeConfig::new(options.runtime));
        let core = WebSocketService::new(Arc::new(Silence), runtime.clone(), 200);
        core.start(options, Arc::new(verifier()), Dispatch::none()).expect("the service starts");
        let signals = Arc::new(Signals {
            reported: AtomicUsize::new(0),
            awaited: AtomicUsize::new(usize::MAX),
            waiting: thread::current(),
        });
        let mut service = Self { core, pipes: Vec::new(), signals, taken: 0, published: 0 };
        (0..count).for_each(|number| service.join(number));
        runtime.set(RuntimeKey::MessageBatchDelay, NEVER_MS).expect("within bounds");
        runtime.set(RuntimeKey::MessageBatchSize, batch_size as f64).expect("within bounds");
        // The new setting is in effect once something that was asked for after it has been answered.
        service.exchange_pings();
        service
    }

    /// Publishes `updates` different updates of 512 bytes and waits until every connection was written to. They fill
    /// whole batches.
    pub fn publish(&mut self, updates: usize) {
        self.await_all();
        for _ in 0..updates {
            self.published += 1;
            self.core.broadcast_bill_update(bill(BILL), &update(self.published, 380), TIMESTAMP);
        }
        self.take_written();
    }

    /// Every connection sends a ping and gets its answer.
    pub fn exchange_pings(&mut self) {
        self.await_all();
        let frame = text_frame(super::PING);
        for pipe in &self.pipes {
            assert!(pipe.receive(&frame), "the shard keeps up");
        }
        self.take_written();
    }

    fn join(&mut self, number: usize) {
        let pipe = Pipe::new(Box::new(Report(self.signals.clone())));
        let head = RequestHead {
            method: "GET".into(),
            target: format!("/ws?token={}", token(&number.to_string())),
            headers: [
                ("host", "bills.example.com"),
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        };
        let early = text_frame(&format!(r#"{{"type":"subscribe","data":{{"bill_id":{BILL}}}}}"#));
        let source = Source::Bridge(Bridge::new(pipe.clone()));
        self.core.accept(Arrival { source, head, early, peer: None });
        let began = Instant::now();
        let mut written = Vec::new();
        while !String::from_utf8_lossy(&written).contains(r#""type":"subscribed""#) {
            assert!(began.elapsed() < PATIENCE, "{}", String::from_utf8_lossy(&written));
            thread::park_timeout(Duration::from_millis(1));
            let work = pipe.take_work();
            self.taken += usize::from(!work.write.is_empty());
            written.extend_from_slice(&work.write);
            pipe.flushed();
        }
        self.pipes.push(pipe);
    }

    fn await_all(&self) {
        self.signals.awaited.store(self.taken + self.pipes.len(), Ordering::Release);
    }

    /// Waits until every pipe has reported, and empties them all.
    fn take_written(&mut self) {
        let began = Instant::now();
        let awaited = self.taken + self.pipes.len();
        while self.signals.reported.load(Ordering::Acquire) < awaited {
            assert!(began.elapsed() < PATIENCE, "every connection is written to");
            thread::park_timeout(PATIENCE);
        }
        for pipe in &self.pipes {
            assert!(!pipe.take_work().write.is_empty(), "a report means work");
            pipe.flushed();
        }
        self.taken = awaited;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.core.stop();
    }
}

/// An application that listens to nothing.
struct Silence;

impl Host for Silence {
    fn listens(&self, _: EventKind) -> bool {
        false
    }

    fn emit(&self, _: Event) {}

    fn lookup_user(&self, _: &UserId, _: &Map<String, Value>, _: Answer<bool>) {}

    fn load_preferences(&self, _: &UserId, _: Answer<Value>) {}

    fn save_preferences(&self, _: &UserId, _: &Map<String, Value>, _: Answer<()>) {}
}
