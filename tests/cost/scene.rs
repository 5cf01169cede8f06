//! A service of one shard, a client that costs as much as it can, and a bystander on the same shard.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use carillon::transport::listener;
use carillon::transport::tls::server_config;

use crate::IS_TIMED;
use crate::inputs::Input;
use crate::support::client::{PING, PONG, frame};
use crate::support::host::LookupAnswer;
use crate::support::{PATIENCE, PREFERENCES, Service, TestHost, heap};
use crate::thread_clock::ThreadClock;
use crate::wire::{DEFLATE, OwnPort, Transport, Wire, identity};

/// The user whose look-up is not answered.
pub const UNKNOWN: &str = "unknown";

/// Room for all of them, so that the test itself takes no heap for them.
const MOST_LOOK_UPS: usize = 8192;

pub struct Scene {
    pub service: Service,
    pub transport: Transport,
    pub own: OwnPort,
    shard: ThreadClock,
    bystander: TcpStream,
    /// Look-ups that have no answer, since the beginning, and how many of them were waited for.
    waiting: Arc<AtomicUsize>,
    look_ups: usize,
}

/// What something has cost, beside the bytes that were sent for it.
#[derive(Clone, Copy)]
pub struct Cost {
    pub sent: usize,
    /// Bytes of heap, at the most.
    pub heap: usize,
    /// How long the shard has run.
    pub time: Duration,
    /// How long the shard has run at the most before the bystander was answered.
    pub wait: Duration,
}

impl Cost {
    pub fn time_per_byte(&self) -> f64 {
        self.time.as_nanos() as f64 / self.sent as f64
    }
}

impl Scene {
    pub async fn open(transport: Transport) -> Self {
        let waiting = Arc::new(AtomicUsize::new(0));
        let (count, held) = (waiting.clone(), Mutex::new(Vec::<LookupAnswer>::with_capacity(MOST_LOOK_UPS)));
        let host = TestHost::deaf_looking_up(move |user, answer| {
            if user.as_str() != UNKNOWN {
                return answer.send(Ok(true)).unwrap();
            }
            held.lock().unwrap().push(answer);
            count.fetch_add(1, Ordering::SeqCst);
        });
        let service = Service::with(host, |options| {
            options.hooks.extend(PREFERENCES);
            options.lookup_timeout = 10 * PATIENCE;
            options.handshake_timeout = 10 * PATIENCE;
            options.base.heartbeat_interval = 100 * PATIENCE;
        })
        .await;
        let port = listener::bind(Some("127.0.0.1"), 0).unwrap();
        let address = port.local_addr().unwrap();
        let (certificate, key, client) = identity();
        let tls = (transport == Transport::OwnPortTls)
            .then(|| server_config(certificate.as_bytes(), key.as_bytes()).unwrap());
        let own = OwnPort { address, tls: tls.is_some().then_some(client) };
        service.core.listen(port, tls).unwrap();
        let Wire::Socket(bystander) = Wire::request(&service, Transport::Plain, &own, "bystander", "").greeted() else {
            unreachable!("a plain socket")
        };
        let shard = ThreadClock::of("carillon-0");
        Self { service, transport, own, shard, bystander, waiting, look_ups: 0 }
    }

    /// What it costs to handle this input, and how long a bystander waits when the same is sent once more.
    pub fn measure(&mut self, input: &Input) -> Cost {
        let (mut wire, sealed) = self.villain(input);
        let before = heap::reset_peak();
        let began = self.shard.now();
        wire.exchange(&sealed);
        let time = self.shard.now() - began;
        let heap = usize::try_from(heap::peak() - before).unwrap();
        drop(wire);
        self.settle();
        let wait = self.longest_wait_during(|scene| {
            let (mut wire, sealed) = scene.villain(input);
            wire.exchange(&sealed);
        });
        Cost { sent: input.bytes.len(), heap, time, wait }
    }

    fn villain(&self, input: &Input) -> (Wire, Vec<u8>) {
        let headers = if input.deflate { DEFLATE } else { "" };
        Wire::request(&self.service, self.transport, &self.own, "villain", headers).greeted().seal(&input.bytes)
    }

    /// What `act` leaves in use, and how long the shard has run for it. `sent` are the bytes it sends.
    pub fn measure_held<T>(&mut self, sent: usize, act: impl Fn(&mut Self) -> T) -> Cost {
        let before = heap::in_use();
        let began = self.shard.now();
        let held = act(self);
        let time = self.shard.now() - began;
        let heap = usize::try_from(heap::in_use() - before).unwrap_or_default();
        drop(held);
        self.settle();
        let wait = self.longest_wait_during(|scene| drop(act(scene)));
        Cost { sent, heap, time, wait }
    }

    /// Round trips of the bystander while `act` runs: how long the shard has run at the most within one of them.
    fn longest_wait_during(&mut self, act: impl FnOnce(&mut Self)) -> Duration {
        if !IS_TIMED {
            return Duration::ZERO;
        }
        let is_over = AtomicBool::new(false);
        let mut bystander = self.bystander.try_clone().unwrap();
        let shard = self.shard.clone();
        let (begun, has_begun) = mpsc::channel();
        let wait = thread::scope(|scope| {
            let watching = scope.spawn(|| {
                let mut longest = Duration::ZERO;
                loop {
                    let is_last = is_over.load(Ordering::SeqCst);
                    let sent = shard.now();
                    round_trip(&mut bystander);
                    longest = longest.max(shard.now() - sent);
                    let _ = begun.send(());
                    if is_last {
                        return longest;
                    }
                }
            });
            has_begun.recv().unwrap();
            act(self);
            is_over.store(true, Ordering::SeqCst);
            watching.join().unwrap()
        });
        self.settle();
        wait
    }

    /// Waits until the service has handled what came before, as far as it will.
    pub fn is_served(&mut self) {
        round_trip(&mut self.bystander);
    }

    /// Waits until so many more look-ups have no answer than before the last call.
    pub fn is_looked_up(&mut self, count: usize) {
        self.look_ups += count;
        let began = Instant::now();
        while self.waiting.load(Ordering::SeqCst) < self.look_ups {
            assert!(began.elapsed() < PATIENCE, "a user is not looked up");
            thread::yield_now();
        }
    }

    /// Waits until the own port has accepted every connection that was made before, and read what they had sent by then.
    pub fn has_accepted_all(&self) {
        drop(Wire::request(&self.service, self.transport, &self.own, "another", "").greeted());
    }

    /// Waits until the bystander is alone.
    fn settle(&self) {
        let is_alone = || {
            let inspection = self.service.core.inspect(0);
            self.service.core.statistics().active_connections == 1
                && inspection.shards.iter().map(|shard| shard.connections).sum::<usize>() == 1
        };
        let began = Instant::now();
        while !is_alone() {
            assert!(began.elapsed() < PATIENCE, "a connection does not go");
            thread::yield_now();
        }
    }
}

fn round_trip(stream: &mut TcpStream) {
    stream.write_all(&frame(PING, b"bystander")).unwrap();
    let mut pong = [0; 11];
    stream.read_exact(&mut pong).unwrap();
    assert_eq!((pong[0], &pong[2..]), (PONG, b"bystander".as_slice()));
}
