//! Any bytes from a peer, through everything that understands them: frames, inflation, messages, replies, outbox.
#![no_main]

use std::io::{self, ErrorKind};
use std::ops::ControlFlow;

use carillon::application::interface::SlowConsumerPolicy;
use carillon::protocol::message_handler::{Command, Outcome, decode, encode};
use carillon::shard::outbox::{Backpressure, Outbox, Room};
use carillon::transport::assembler::{Assembler, Limits, Message};
use carillon::transport::deflate::{Deflaters, Inflater, Negotiated, DeflatePolicy, negotiate};
use carillon::transport::encoded_message::EncodedMessage;
use carillon::transport::encoding::Encoding;
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { max_message: 16 * 1024, max_fragments: 256 };
const MAX_BYTES: usize = 64 * 1024;

const POLICIES: [SlowConsumerPolicy; 3] =
    [SlowConsumerPolicy::Close, SlowConsumerPolicy::DropOldest, SlowConsumerPolicy::DropNewest];

fuzz_target!(|input: (bool, u8, u16, &[u8])| {
    let (deflate, policy, writes, bytes) = input;
    let negotiated = negotiate("permessage-deflate", &DeflatePolicy::SERVICE).ok().flatten().filter(|_| deflate);
    let encoding = negotiated.as_ref().map_or(Encoding::Plain, Negotiated::encoding);
    let limit = Backpressure { max_bytes: MAX_BYTES, policy: POLICIES[usize::from(policy) % POLICIES.len()] };
    let mut assembler = Assembler::new(deflate);
    let (mut inflater, mut deflaters, mut outbox) = (Inflater::default(), Deflaters::default(), Outbox::default());
    let mut wire = Vec::new();
    // Taken in portions, and written to a socket that takes a little at a time.
    for part in bytes.chunks(997) {
        let mut is_over = false;
        let result = assembler.push(&mut part.to_vec(), &LIMITS, &mut inflater, &mut |message| {
            let answers = match message {
                Message::Text(text) => answers(text),
                Message::Binary(bytes) => answers(&String::from_utf8_lossy(bytes)),
                Message::Ping(payload) => vec![EncodedMessage::pong(payload)],
                Message::Pong(_) => Vec::new(),
                Message::Close(close) => {
                    is_over = true;
                    vec![close.map_or_else(EncodedMessage::close_empty, |close| EncodedMessage::close(close.code, close.reason))]
                }
            };
            for answer in answers {
                let size = answer.frame(encoding, 1024, &mut deflaters).len();
                match outbox.make_room(size, limit) {
                    Room::Fits { .. } => outbox.queue(answer, encoding, &mut deflaters),
                    Room::Refused { .. } => {}
                    Room::Exhausted => is_over = true,
                }
            }
            if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(assembler.heap_bytes() <= 4 * LIMITS.max_message + 1024);
        assert!(inflater.heap_bytes() <= 4 * LIMITS.max_message + 64 * 1024);
        if let Err(reason) = result {
            outbox.discard();
            outbox.queue(EncodedMessage::close(reason.code(), reason.text()), encoding, &mut deflaters);
            is_over = true;
        }
        let mut room = usize::from(writes);
        drain(&mut outbox, &mut deflaters, &mut wire, &mut room);
        if is_over {
            break;
        }
    }
    let mut room = usize::MAX;
    drain(&mut outbox, &mut deflaters, &mut wire, &mut room);
    assert_eq!(outbox.bytes(), 0);
    frames_are_whole(&wire);
});

fn answers(text: &str) -> Vec<std::sync::Arc<EncodedMessage>> {
    let request = decode(text, true);
    let outcome = match request.command.clone() {
        Ok(Command::Ping) => Outcome::Pong,
        Ok(Command::Unsubscribe { given, .. }) => Outcome::Unsubscribed { bill: given },
        Ok(Command::BatchUnsubscribe { bills }) => Outcome::BatchUnsubscribed { bills },
        Ok(Command::SavePreferences { preferences }) => Outcome::PreferencesSaved { preferences },
        Ok(_) => Outcome::Silent,
        Err(error) => Outcome::Failed(error),
    };
    let replies = request.ack().into_iter().chain(encode(&outcome, request.message_id, 1.7e12));
    replies.map(|reply| EncodedMessage::text(reply.json.into_owned())).collect()
}

fn drain(outbox: &mut Outbox, deflaters: &mut Deflaters, wire: &mut Vec<u8>, room: &mut usize) {
    let written = outbox.flush(deflaters, |parts| {
        let mut taken = 0;
        for part in parts {
            let count = part.len().min(*room);
            wire.extend_from_slice(&part[..count]);
            *room -= count;
            taken += count;
        }
        if taken == 0 && parts.iter().any(|part| !part.is_empty()) {
            return Err(io::Error::from(ErrorKind::WouldBlock));
        }
        Ok(taken)
    });
    assert!(written.is_ok());
}

/// What was written is a row of frames, cut nowhere.
fn frames_are_whole(mut wire: &[u8]) {
    while let [_, second, rest @ ..] = wire {
        assert_eq!(second & 0x80, 0);
        let (length, head) = match second {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), 2),
            127 => (u64::from_be_bytes(rest[..8].try_into().expect("8 bytes")) as usize, 8),
            short => (usize::from(*short), 0),
        };
        wire = &rest[head + length..];
    }
    assert!(wire.is_empty());
}
