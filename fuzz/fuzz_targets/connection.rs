//! Any bytes from a peer, through everything that understands them: frames, inflation, messages, replies, outbox.
#![no_main]

use std::io::{self, ErrorKind};
use std::ops::ControlFlow;

use carillon::application::interface::SlowConsumerPolicy;
use carillon::protocol::message_handler::{Command, Outcome, decode, encode};
use carillon::shard::outbox::{Backpressure, Capacity, Outbox};
use carillon::transport::assembler::{Assembler, Limits, Message};
use carillon::transport::deflate::{DeflatePolicy, Deflaters, Inflater, Negotiated, negotiate};
use carillon::transport::encoded_message::EncodedMessage;
use carillon::transport::encoding::Encoding;
use carillon_fuzz::frame;
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { max_message: 16 * 1024, max_fragments: 256 };
const MAX_BYTES: usize = 64 * 1024;

const POLICIES: [SlowConsumerPolicy; 3] =
    [SlowConsumerPolicy::Close, SlowConsumerPolicy::DropOldest, SlowConsumerPolicy::DropNewest];

fuzz_target!(init: every_kind_of_reply_is_reached(), |input: (bool, u8, u16, &[u8])| {
    let (deflate, policy, writes, bytes) = input;
    converse(deflate, POLICIES[usize::from(policy) % POLICIES.len()], writes, bytes);
});

/// What the outbox said of replies that found no room.
#[derive(Debug, Default, PartialEq, Eq)]
struct Refusals {
    refused: bool,
    exhausted: bool,
}

/// Everything that is written in reply to these bytes, to a socket that takes `writes` bytes after each portion.
fn converse(deflate: bool, policy: SlowConsumerPolicy, writes: u16, bytes: &[u8]) -> (Vec<u8>, Refusals) {
    let mut refusals = Refusals::default();
    let negotiated = negotiate("permessage-deflate", &DeflatePolicy::SERVICE).ok().flatten().filter(|_| deflate);
    let encoding = negotiated.as_ref().map_or(Encoding::Plain, Negotiated::encoding);
    let limit = Backpressure { max_bytes: MAX_BYTES, policy };
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
                    vec![close.map_or_else(EncodedMessage::close_empty, |close| {
                        EncodedMessage::close(close.code, close.reason)
                    })]
                }
            };
            for answer in answers {
                let size = answer.frame(encoding, 1024, &mut deflaters).len();
                match outbox.make_room(size, limit) {
                    Capacity::Fits { .. } => outbox.queue(answer, encoding, &mut deflaters),
                    Capacity::Refused { .. } => refusals.refused = true,
                    Capacity::Exhausted => (is_over, refusals.exhausted) = (true, true),
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
    (wire, refusals)
}

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

/// Each kind of message has its reply, compressed replies are, and a peer that does not read meets each policy.
fn every_kind_of_reply_is_reached() {
    let long = format!(r#"{{"type":"{}"}}"#, "x".repeat(2000));
    let messages =
        [r#"{"type":"ping"}"#, r#"{"type":"unsubscribe","data":{"bill_id":7},"messageId":1}"#, &long, "no JSON"];
    let texts: Vec<u8> = messages.iter().flat_map(|message| frame(0x81, message.as_bytes())).collect();
    let binary = frame(0x82, br#"{"type":"update_preferences","data":{"preferences":{}}}"#);
    let conversation = [texts, binary, frame(0x89, b"ping"), frame(0x8a, b""), frame(0x88, b"\x03\xe8")].concat();
    let (wire, refusals) = converse(false, SlowConsumerPolicy::Close, u16::MAX, &conversation);
    assert_eq!(refusals, Refusals::default());
    let text = String::from_utf8_lossy(&wire);
    for reply in
        [r#""pong""#, r#""unsubscribed""#, r#""ack""#, r#""error""#, r#""preferences_updated""#, "\u{fffd}\u{4}ping"]
    {
        assert!(text.contains(reply), "{reply} in {text}");
    }
    assert!(wire.ends_with(&[0x88, 2, 0x03, 0xe8]));
    assert!(
        converse(false, SlowConsumerPolicy::Close, u16::MAX, &frame(0xf1, b"")).0.starts_with(&[0x88]),
        "a violation"
    );
    // More than the outbox may hold: compressible texts, each echoed.
    let given = format!(r#"{{"type":"update_preferences","data":{{"preferences":{{"a":"{}"}}}}}}"#, "x".repeat(4000));
    let many = frame(0x81, given.as_bytes()).repeat(40);
    assert!(
        converse(true, SlowConsumerPolicy::Close, u16::MAX, &many).0.iter().any(|byte| *byte == 0xc1),
        "compressed"
    );
    let refusals = POLICIES.map(|policy| converse(false, policy, 0, &many).1);
    let [close, drop_oldest, drop_newest] = refusals;
    assert!(
        close.exhausted && drop_newest.refused && !drop_oldest.exhausted,
        "{close:?} {drop_oldest:?} {drop_newest:?}"
    );
}
