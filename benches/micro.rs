//! How long the small steps of the hot paths take: `cargo bench --no-default-features --bench micro [-- FILTER]`.
//!
//! One thread, no sockets. For comparing two states of the code on one machine; see `README.md` beside this file.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot go on fails")]

mod support;

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;

use carillon::shard::batch_cache::BatchCache;
use carillon::transport::assembler::Assembler;
use carillon::transport::deflate::{Deflaters, Inflater};
use carillon::transport::encoded_message::EncodedMessage;
use carillon::transport::encoding::Encoding;
use carillon::transport::frame;
use carillon::transport::handshake;
use carillon::transport::head_reader::HeadReader;
use carillon::types::ShardId;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

fn main() {
    divan::main();
}

/// The head of a frame with a payload of so many bytes: 6, 8 and 14 bytes long.
#[divan::bench(args = [100, 4096, 100_000])]
fn decode_head(bencher: Bencher, length: usize) {
    let frame = support::masked_frame(0x81, &vec![b'x'; length]);
    bencher.bench(|| frame::decode(black_box(&frame), true));
}

#[divan::bench(args = [16, 128, 4096, 65_536])]
fn unmask(bencher: Bencher, length: usize) {
    let mut payload = vec![b'x'; length];
    bencher.counter(BytesCount::new(length)).bench_local(|| frame::unmask(black_box(&mut payload), [1, 2, 3, 4], 0));
}

mod assemble {
    use super::*;

    /// One message in one frame.
    #[divan::bench(args = [128, 4096, 65_536])]
    fn whole(bencher: Bencher, length: usize) {
        push(bencher, length, support::text_frame(&support::json_text(length)));
    }

    /// A message of 4 KiB in frames of so many bytes.
    #[divan::bench(args = [64, 512, 2048])]
    fn fragmented(bencher: Bencher, size: usize) {
        push(bencher, 4096, support::fragments(&support::json_text(4096), size));
    }

    /// A message of 4 KiB in one frame that arrives in pieces of so many bytes.
    #[divan::bench(args = [64, 1460])]
    fn piecemeal(bencher: Bencher, size: usize) {
        let mut bytes = support::text_frame(&support::json_text(4096));
        let (mut assembler, mut inflater) = (Assembler::new(true), Inflater::default());
        bencher.counter(BytesCount::new(4096_usize)).bench_local(|| {
            bytes.chunks_mut(size).for_each(|piece| take_in(&mut assembler, &mut inflater, piece));
        });
    }

    fn push(bencher: Bencher, length: usize, mut bytes: Vec<u8>) {
        let (mut assembler, mut inflater) = (Assembler::new(true), Inflater::default());
        bencher.counter(BytesCount::new(length)).bench_local(|| take_in(&mut assembler, &mut inflater, &mut bytes));
    }

    fn take_in(assembler: &mut Assembler, inflater: &mut Inflater, bytes: &mut [u8]) {
        let pushed = assembler.push(black_box(bytes), &support::LIMITS, inflater, &mut |message| {
            black_box(message);
            ControlFlow::Continue(())
        });
        assert!(pushed.is_ok());
    }
}

/// The request decoded and its reply encoded.
#[divan::bench(args = [support::PING, support::TIMED_PING, support::SUBSCRIBE])]
fn handle(bencher: Bencher, message: &str) {
    bencher.bench(|| support::answer(black_box(message)));
}

/// All subscribers of one bill of a hundred.
#[divan::bench(args = [1, 100, 10_000])]
fn look_up_subscribers(bencher: Bencher, count: u32) {
    let topics = support::topics(100, count);
    bencher
        .counter(ItemsCount::new(count))
        .bench(|| topics.subscribers(black_box(&support::bill(50))).map(black_box).count());
}

/// The table that publishers and getters share, with so many bills that one user follows.
mod route {
    use super::*;

    /// One bill followed and left again by a connection of the user.
    #[divan::bench(args = [1, 1000])]
    fn change(bencher: Bencher, bills: u64) {
        let (table, user) = support::routes(bills);
        let change = [(support::bill(bills + 1), support::FIRST_OR_LAST)];
        bencher.bench_local(|| {
            table.subscribe(&user, ShardId(0), black_box(&change));
            table.unsubscribe(&user, ShardId(0), black_box(&change));
        });
    }

    /// Where a publish has to go.
    #[divan::bench(args = [1, 50_000])]
    fn look_up(bencher: Bencher, bills: u64) {
        let (table, _) = support::routes(bills);
        bencher.bench_local(|| table.shards(black_box(&support::bill(1))));
    }
}

mod batch {
    use super::*;

    /// An envelope of so many messages of 512 bytes.
    #[divan::bench(args = [2, 10, 100])]
    fn build(bencher: Bencher, size: u64) {
        let messages = support::batch(size);
        bencher.with_inputs(|| (BatchCache::default(), messages.clone())).bench_local_refs(join);
    }

    /// The same for a connection whose list is that of the one before.
    #[divan::bench(args = [2, 10, 100])]
    fn share(bencher: Bencher, size: u64) {
        let messages = support::batch(size);
        let mut envelopes = BatchCache::default();
        envelopes.join(messages.clone());
        bencher.with_inputs(|| messages.clone()).bench_local_values(|batch| envelopes.join(batch));
    }

    fn join((envelopes, batch): &mut (BatchCache, Vec<Arc<EncodedMessage>>)) -> Option<Arc<EncodedMessage>> {
        envelopes.join(std::mem::take(batch))
    }
}

#[divan::bench(args = [128, 512, 4096])]
fn prepare(bencher: Bencher, length: usize) {
    let payload = support::bill_update(1, length.max(150));
    bencher.with_inputs(|| payload.clone()).bench_values(EncodedMessage::text);
}

/// Queued at one outbox and written to nowhere.
#[divan::bench]
fn deliver(bencher: Bencher) {
    let message = EncodedMessage::text(support::bill_update(1, 512));
    let (mut outbox, mut deflaters) = (carillon::shard::outbox::Outbox::default(), Deflaters::default());
    bencher.bench_local(|| {
        outbox.queue(message.clone(), Encoding::Plain, &mut deflaters);
        support::drain(&mut outbox, &mut deflaters);
    });
}

/// From the request's bytes to those of the 101.
#[divan::bench]
fn answer_handshake(bencher: Bencher) {
    let (request, policy) = (support::request(), support::policy());
    bencher.bench_local(|| {
        let read = HeadReader::default().push(black_box(&request));
        let (head, _early) = read.expect("in order").expect("complete");
        let upgrade = handshake::check(&head, &policy).expect("acceptable");
        assert!(handshake::token(&head).is_ok());
        upgrade.response()
    });
}

#[divan::bench]
fn verify_token(bencher: Bencher) {
    let (token, verifier) = (support::token("17"), support::verifier());
    bencher.bench_local(|| verifier.verify(black_box(&token), support::NOW).is_ok());
}

#[divan::bench(args = [512, 4096, 65_536])]
fn deflate(bencher: Bencher, length: usize) {
    let (payload, window) = (support::json_text(length), support::window());
    let mut deflaters = Deflaters::default();
    bencher.counter(BytesCount::new(length)).bench_local(|| deflaters.deflate(window, black_box(payload.as_bytes())));
}

#[divan::bench(args = [512, 4096, 65_536])]
fn inflate(bencher: Bencher, length: usize) {
    let payload = Deflaters::default().deflate(support::window(), support::json_text(length).as_bytes());
    let (payload, mut inflater) = (payload.expect("compressed"), Inflater::default());
    bencher
        .counter(BytesCount::new(length))
        .bench_local(|| assert!(inflater.inflate(black_box(&payload), 100 * 1024).is_ok()));
}
