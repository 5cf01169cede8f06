//! What a peer can cost: for hostile inputs over each transport, the heap at its peak, the time of the shard, and how long the
//! shard leaves a bystander waiting. The table in ARCHITECTURE.md is what `npm run test:cost` prints.
//!
//! The heap is that of the whole process, hence one test. Times are those in which the shard's thread has run;
//! the best of several runs counts, since what an input costs shows in every one.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod inputs;
mod scene;
#[path = "../support/mod.rs"]
mod support;
mod thread_clock;
mod wire;

use std::io::Write;
use std::time::Duration;

use inputs::{Bound, inputs};
use scene::{Cost, Scene, UNKNOWN};
use support::client::{PING, frame};
use support::heap;
use wire::{Transport, Wire, connect};

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

/// How long the shard may leave a bystander waiting.
const MAX_WAIT: Duration = Duration::from_millis(20);

const RUNS: usize = 10;

/// Without optimisation time says nothing: there is no bystander then, and a tenth of each input is enough to see its heap.
const IS_TIMED: bool = cfg!(optimised);

/// What an input costs over each transport, in the order in which they are measured.
#[derive(Default)]
struct Table(Vec<(String, Bound, Vec<Cost>)>);

impl Table {
    /// Measures until a run is within the bounds.
    fn check(&mut self, scene: &mut Scene, name: &str, bound: Bound, mut measure: impl FnMut(&mut Scene) -> Cost) {
        let mut best = measure(scene);
        for _ in 1..RUNS {
            if bound.faults(&best).is_empty() {
                break;
            }
            let cost = measure(scene);
            best.heap = best.heap.min(cost.heap);
            best.wait = best.wait.min(cost.wait);
            if cost.time_per_byte() < best.time_per_byte() {
                (best.sent, best.time) = (cost.sent, cost.time);
            }
        }
        let faults = bound.faults(&best);
        assert!(faults.is_empty(), "{name} ({:?}): {}", scene.transport, faults.join(", "));
        match self.0.iter_mut().find(|(known, ..)| known == name) {
            Some((.., costs)) => costs.push(best),
            None => self.0.push((name.to_owned(), bound, vec![best])),
        }
    }

    /// The dearest transport of each row, beside what is asserted.
    fn print(&self) {
        println!(
            "| input | bytes | heap | shard's time per byte | bystander waits |\n| --- | ---: | ---: | ---: | ---: |"
        );
        for (name, bound, costs) in &self.0 {
            let sent = costs.iter().map(|cost| cost.sent).max().unwrap();
            let heap = costs.iter().map(|cost| cost.heap).max().unwrap();
            let time = costs.iter().map(Cost::time_per_byte).fold(0.0, f64::max);
            let wait = costs.iter().map(|cost| cost.wait).max().unwrap();
            println!(
                "| {name} | {sent} | {} KiB ({}) | {time:.0} ns ({}) | {:.1} ms ({}) |",
                heap.div_ceil(1024),
                bound.heap / 1024,
                bound.time_per_byte,
                wait.as_secs_f64() * 1e3,
                MAX_WAIT.as_millis(),
            );
        }
    }
}

impl Bound {
    /// In what a cost is beyond the bound.
    fn faults(&self, cost: &Cost) -> Vec<String> {
        let mut faults = Vec::new();
        if cost.heap > self.heap {
            faults.push(format!("{} bytes of heap, not {}", cost.heap, self.heap));
        }
        if IS_TIMED && cost.time_per_byte() > self.time_per_byte {
            faults.push(format!("{:.1} ns per byte, not {}", cost.time_per_byte(), self.time_per_byte));
        }
        if IS_TIMED && cost.wait > MAX_WAIT {
            faults.push(format!("a bystander waits for {:?} of the shard's time", cost.wait));
        }
        faults
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_peer_can_cost_is_bounded_over_every_transport() {
    let mut table = Table::default();
    for transport in [Transport::Plain, Transport::Bridge, Transport::OwnPort, Transport::OwnPortTls] {
        let mut scene = Scene::open(transport).await;
        tokio::task::block_in_place(|| {
            for input in inputs() {
                table.check(&mut scene, input.name, input.bound, |scene| scene.measure(&input));
            }
            check_look_ups(&mut table, &mut scene);
            check_unread_replies(&mut table, &mut scene);
            // Elsewhere Node has the socket until the request is complete.
            if matches!(transport, Transport::OwnPort | Transport::OwnPortTls) {
                check_silence(&mut table, &mut scene);
            }
        });
        scene.service.shutdown().await;
    }
    table.print();
}

/// How many connections hold something at the same time.
const MANY: usize = 200;

fn check_look_ups(table: &mut Table, scene: &mut Scene) {
    let sent = MANY * support::client::request_of(UNKNOWN, "").len();
    let bound = Bound { heap: MANY * 20 * 1024, time_per_byte: 5000.0 };
    table.check(scene, "look-ups that are not answered", bound, |scene| {
        scene.measure_held(sent, |scene| {
            let mut held = Vec::with_capacity(MANY);
            for _ in 0..MANY {
                let wire = Wire::request(&scene.service, scene.transport, &scene.own, UNKNOWN, "");
                held.push(wire.seal(b"").0);
            }
            scene.is_looked_up(MANY);
            held
        })
    });
}

fn check_unread_replies(table: &mut Table, scene: &mut Scene) {
    const VILLAINS: usize = 10;
    let pings = frame(PING, &[b'x'; 100]).repeat(100);
    let bound = Bound { heap: VILLAINS * 250 * 1024, time_per_byte: 20.0 };
    let sent = std::cell::Cell::new(1);
    table.check(scene, "replies that are not read", bound, |scene| {
        let cost = scene.measure_held(1, |scene| {
            sent.set(0);
            let mut held = Vec::with_capacity(VILLAINS);
            for _ in 0..VILLAINS {
                let wire = Wire::request(&scene.service, scene.transport, &scene.own, "villain", "").greeted();
                let (mut wire, sealed) = wire.seal(&pings.repeat(1000));
                sent.set(sent.get() + wire.stuff(&sealed, || scene.is_served()));
                held.push(wire);
            }
            held
        });
        Cost { sent: sent.get(), ..cost }
    });
}

/// Sockets of the own port that have a place and no request. Each counts as one byte.
fn check_silence(table: &mut Table, scene: &mut Scene) {
    let bound = Bound { heap: MANY * 9 * 1024, time_per_byte: 60_000.0 };
    table.check(scene, "silent sockets (each a byte)", bound, |scene| {
        scene.measure_held(MANY, |scene| {
            let mut held = Vec::with_capacity(MANY);
            held.extend((0..MANY).map(|_| connect(scene.own.address)));
            scene.has_accepted_all();
            held
        })
    });
    let request = support::client::request_of("villain", &format!("X-Long: {}\r\n", "x".repeat(8000)));
    let unfinished = &request[..request.len() - 2];
    let bound = Bound { heap: MANY * (20 * 1024 + unfinished.len()), time_per_byte: 150.0 };
    table.check(scene, "handshakes that are not finished", bound, |scene| {
        scene.measure_held(MANY * unfinished.len(), |scene| {
            let mut held = Vec::with_capacity(MANY);
            for _ in 0..MANY {
                let (wire, sealed) = scene.own.connect().seal(unfinished);
                let Wire::Socket(mut stream) = wire else { unreachable!("a port has sockets") };
                stream.write_all(&sealed).unwrap();
                held.push(stream);
            }
            scene.has_accepted_all();
            held
        })
    });
}
