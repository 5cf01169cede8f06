//! Runs one hot path a given number of times, for counting its instructions: `hot_paths NAME COUNT`.
//!
//! What a path needs is prepared before; how much that takes does not matter, as `scripts/instructions.mjs` compares
//! two runs of different counts. Without a name every path runs a few times, to see that it does; `list` lists them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot go on fails")]

mod support;

use std::hint::black_box;
use std::ops::ControlFlow;

use carillon::shard::batch_cache::BatchCache;
use carillon::shard::outbox::Capacity;
use carillon::transport::assembler::Assembler;
use carillon::transport::deflate::{Deflaters, Inflater};
use carillon::transport::encoded_message::EncodedMessage;
use carillon::transport::encoding::Encoding;
use carillon::transport::{handshake, head_reader::HeadReader};

use support::service::{OwnPort, Service};

/// A path prepared, to be run so many times.
type Run = Box<dyn FnMut(usize)>;

struct HotPath {
    name: &'static str,
    /// Whether the work is done by the shard's thread and not by ours.
    on_shard: bool,
    /// How many operations a run is made of: counts are multiples of it.
    per_run: usize,
    prepare: fn() -> Run,
}

const FOLLOWERS: usize = 64;
const BATCH: usize = 10;

const HOT_PATHS: &[HotPath] = &[
    pure("receive text of 128 bytes", receive_text),
    pure("receive 4 KiB in 8 fragments", receive_fragments),
    pure("handle ping", || handle_message(support::PING)),
    pure("handle ping with timestamp", || handle_message(support::TIMED_PING)),
    pure("handle subscribe", || handle_message(support::SUBSCRIBE)),
    pure("look up 1000 subscribers", look_up),
    many("deliver to an outbox", FOLLOWERS, deliver),
    many("deliver to an outbox in batches of 10", FOLLOWERS * BATCH, deliver_batched),
    pure("prepare 512 bytes", prepare),
    pure("deflate 4 KiB", deflate),
    pure("inflate 4 KiB", inflate),
    pure("read and check a handshake", check_handshake),
    pure("verify a token, HS256", verify_token),
    HotPath { name: "service: answer a ping", on_shard: true, per_run: 1, prepare: answer_pings },
    HotPath { name: "service: deliver to a connection", on_shard: true, per_run: FOLLOWERS, prepare: publish_singly },
    HotPath {
        name: "service: deliver to a connection in batches of 10",
        on_shard: true,
        per_run: FOLLOWERS * BATCH,
        prepare: publish_in_batches,
    },
    HotPath { name: "service: accept a client on the own port", on_shard: true, per_run: 1, prepare: accept_clients },
];

const fn pure(name: &'static str, prepare: fn() -> Run) -> HotPath {
    many(name, 1, prepare)
}

const fn many(name: &'static str, per_run: usize, prepare: fn() -> Run) -> HotPath {
    HotPath { name, on_shard: false, per_run, prepare }
}

fn main() {
    // Cargo adds words of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    match arguments.as_slice() {
        [] => HOT_PATHS.iter().for_each(|path| (path.prepare)()(2)),
        [word] if word == "list" => {
            for HotPath { name, on_shard, per_run, .. } in HOT_PATHS {
                println!("{name}\t{}\t{per_run}", if *on_shard { "shard" } else { "caller" });
            }
        }
        [name, count] => {
            let path = HOT_PATHS.iter().find(|path| path.name == name).expect("one of those that `list` lists");
            (path.prepare)()(count.parse().expect("a number"));
        }
        _ => panic!("hot_paths [list | NAME COUNT]"),
    }
}

fn receive_text() -> Run {
    receive(support::text_frame(&support::json_text(128)))
}

fn receive_fragments() -> Run {
    receive(support::fragments(&support::json_text(4096), 512))
}

/// Decodes, unmasks, assembles.
fn receive(mut bytes: Vec<u8>) -> Run {
    let (mut assembler, mut inflater) = (Assembler::new(true), Inflater::default());
    Box::new(move |count| {
        for _ in 0..count {
            let pushed = assembler.push(black_box(&mut bytes), &support::LIMITS, &mut inflater, &mut |message| {
                black_box(message);
                ControlFlow::Continue(())
            });
            assert!(pushed.is_ok());
        }
    })
}

/// Decodes a request and encodes its reply.
fn handle_message(message: &'static str) -> Run {
    Box::new(move |count| {
        for _ in 0..count {
            black_box(support::answer(black_box(message)));
        }
    })
}

/// A fan-out's way from the bill to its connections.
fn look_up() -> Run {
    let topics = support::topics(100, 1000);
    Box::new(move |count| {
        for _ in 0..count {
            assert_eq!(topics.subscribers(black_box(&support::bill(50))).map(black_box).count(), 1000);
        }
    })
}

/// Room, queue and frame write, without what a shard does around it.
fn deliver() -> Run {
    let message = EncodedMessage::text(support::bill_update(1, 512));
    let (mut outboxes, mut deflaters) = (support::outboxes(FOLLOWERS), Deflaters::default());
    Box::new(move |count| {
        for _ in 0..count {
            for outbox in &mut outboxes {
                let room = outbox.make_room(message.payload().len(), support::BACKPRESSURE);
                assert_eq!(room, Capacity::Fits { dropped: 0 });
                outbox.queue(message.clone(), Encoding::Plain, &mut deflaters);
            }
            outboxes.iter_mut().for_each(|outbox| support::drain(outbox, &mut deflaters));
        }
    })
}

/// Ten messages wait at each outbox, and leave in one envelope that all share.
fn deliver_batched() -> Run {
    let messages = support::batch(BATCH as u64);
    let (mut outboxes, mut deflaters) = (support::outboxes(FOLLOWERS), Deflaters::default());
    let mut envelopes = BatchCache::default();
    Box::new(move |count| {
        for _ in 0..count {
            for message in &messages {
                for outbox in &mut outboxes {
                    let room = outbox.make_room(message.payload().len(), support::BACKPRESSURE);
                    assert_eq!(room, Capacity::Fits { dropped: 0 });
                    outbox.push_batched(message.clone(), 10);
                }
            }
            for outbox in &mut outboxes {
                let batch = outbox.take_batch();
                let envelope = envelopes.join(batch).expect("ten messages");
                outbox.queue(envelope, Encoding::Plain, &mut deflaters);
            }
            outboxes.iter_mut().for_each(|outbox| support::drain(outbox, &mut deflaters));
            envelopes.clear();
        }
    })
}

fn prepare() -> Run {
    let payload = support::bill_update(1, 512);
    Box::new(move |count| {
        for _ in 0..count {
            // The payload is the publisher's own allocation.
            black_box(EncodedMessage::text(black_box(&payload).clone()));
        }
    })
}

fn deflate() -> Run {
    let (payload, window) = (support::json_text(4096), support::window());
    let mut deflaters = Deflaters::default();
    Box::new(move |count| {
        for _ in 0..count {
            assert!(black_box(deflaters.deflate(window, black_box(payload.as_bytes()))).is_some());
        }
    })
}

fn inflate() -> Run {
    let payload = Deflaters::default().deflate(support::window(), support::json_text(4096).as_bytes());
    let (payload, mut inflater) = (payload.expect("compressed"), Inflater::default());
    Box::new(move |count| {
        for _ in 0..count {
            assert!(black_box(inflater.inflate(black_box(&payload), 100 * 1024)).is_ok());
        }
    })
}

/// From the request's bytes to those of the 101.
fn check_handshake() -> Run {
    let (request, policy) = (support::request(), support::policy());
    Box::new(move |count| {
        for _ in 0..count {
            let read = HeadReader::default().push(black_box(&request));
            let (head, _early) = read.expect("in order").expect("complete");
            let upgrade = handshake::check(&head, &policy).expect("acceptable");
            assert!(handshake::token(&head).is_ok());
            black_box(upgrade.response());
        }
    })
}

fn verify_token() -> Run {
    let (token, verifier) = (support::token("17"), support::verifier());
    Box::new(move |count| {
        for _ in 0..count {
            assert!(black_box(verifier.verify(black_box(&token), support::NOW)).is_ok());
        }
    })
}

/// One connection alone, so that each ping wakes the shard.
fn answer_pings() -> Run {
    let mut service = Service::with_followers(1, 1);
    Box::new(move |count| (0..count).for_each(|_| service.exchange_pings()))
}

fn publish_singly() -> Run {
    let mut service = Service::with_followers(FOLLOWERS, 1);
    Box::new(move |count| (0..count).for_each(|_| service.publish(1)))
}

fn publish_in_batches() -> Run {
    let mut service = Service::with_followers(FOLLOWERS, BATCH);
    Box::new(move |count| (0..count).for_each(|_| service.publish(BATCH)))
}

fn accept_clients() -> Run {
    let service = OwnPort::open();
    Box::new(move |count| (0..count).for_each(|_| service.accept_client()))
}
