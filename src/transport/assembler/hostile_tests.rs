//! Every fault and every boundary, whole, cut anywhere and byte by byte.

use super::tests::{LIMITS, MASK, assemble, assemble_anyhow, begin, control, fails, frame, more, show, text};
use super::*;
use crate::transport::deflate::{DeflatePolicy, Deflaters, negotiate};
use crate::transport::encoding::Encoding;
use crate::transport::encoding::WindowClass;
use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

/// A head with the length in 64 bits, whatever it is.
fn wide(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0xff][..], &length.to_be_bytes(), &MASK].concat()
}

fn deflated(bits: u8, payload: &[u8]) -> Vec<u8> {
    Deflaters::default().deflate(window(bits), payload).expect("room to write")
}

fn window(bits: u8) -> WindowClass {
    let offer = format!("permessage-deflate; server_max_window_bits={bits}");
    let accepted = negotiate(&offer, &DeflatePolicy::FULL_RANGE).expect("acceptable").expect("offered");
    match accepted.encoding() {
        Encoding::Deflate(class) => class,
        Encoding::Plain => unreachable!("an accepted offer compresses"),
    }
}

#[test]
fn every_fault_has_its_reason_however_it_is_cut() {
    use CloseReason::{InvalidData, MessageTooBig, ProtocolError};
    let binary = |is_final, rsv1, payload: &[u8]| frame(OpCode::Data(Data::Binary), is_final, rsv1, payload);
    for (name, bytes, reason) in [
        ("unmasked", vec![0x81, 0x01, b'x'], ProtocolError),
        ("unmasked and empty", vec![0x82, 0x00], ProtocolError),
        ("unmasked control frame", vec![0x89, 0x00], ProtocolError),
        ("reserved opcode 3", [&[0x83, 0x80][..], &MASK].concat(), ProtocolError),
        ("reserved opcode 15", [&[0x8f, 0x80][..], &MASK].concat(), ProtocolError),
        ("RSV2", [&[0xa1, 0x80][..], &MASK].concat(), ProtocolError),
        ("RSV3", [&[0x92, 0x80][..], &MASK].concat(), ProtocolError),
        ("RSV1 on a ping", frame(OpCode::Control(Control::Ping), true, true, b""), ProtocolError),
        ("RSV1 on a close", frame(OpCode::Control(Control::Close), true, true, b""), ProtocolError),
        (
            "RSV1 on the second frame of a compressed message",
            [binary(false, true, b"x"), frame(OpCode::Data(Data::Continue), true, true, b"x")].concat(),
            ProtocolError,
        ),
        ("fragmented ping", frame(OpCode::Control(Control::Ping), false, false, b""), ProtocolError),
        ("ping of 126 bytes", control(Control::Ping, &[0; 126]), ProtocolError),
        ("close of 126 bytes", control(Control::Close, &[0; 126]), ProtocolError),
        ("0 in 16 bits", [&[0x82, 0xfe, 0, 0][..], &MASK].concat(), ProtocolError),
        ("125 in 16 bits", [&[0x82, 0xfe, 0, 125][..], &MASK].concat(), ProtocolError),
        ("0 in 64 bits", wide(0x82, 0), ProtocolError),
        ("65535 in 64 bits", wide(0x82, 65_535), ProtocolError),
        ("65536", wide(0x82, 65_536), MessageTooBig),
        ("2^31", wide(0x82, 1 << 31), MessageTooBig),
        ("2^32", wide(0x82, 1 << 32), MessageTooBig),
        ("2^63-1", wide(0x82, u64::MAX >> 1), MessageTooBig),
        ("2^63-1, compressed", wide(0xc2, u64::MAX >> 1), MessageTooBig),
        ("2^63", wide(0x82, 1 << 63), ProtocolError),
        ("2^64-1", wide(0x82, u64::MAX), ProtocolError),
        ("adding up to 2^63", [begin(b"x"), wide(0x80, u64::MAX >> 1)].concat(), MessageTooBig),
        ("stray continuation", more(b"", false), ProtocolError),
        ("stray last continuation", more(b"", true), ProtocolError),
        ("new message in a message", [begin(b""), binary(true, false, b"")].concat(), ProtocolError),
        ("close code in one byte", control(Control::Close, b"\x03"), ProtocolError),
        ("close reason cut within a character", control(Control::Close, b"\x03\xe8\xe2\x82"), InvalidData),
        ("surrogate", text(b"\xed\xa0\x80"), InvalidData),
        ("overlong", [begin(b"\xc0"), more(b"\xaf", true)].concat(), InvalidData),
        ("beyond U+10FFFF", text(b"\xf4\x90\x80\x80"), InvalidData),
        ("inflated beyond the limit", binary(true, true, &deflated(10, &[0; 1001])), MessageTooBig),
        ("inflates to no text", frame(OpCode::Data(Data::Text), true, true, &deflated(10, b"\xff")), InvalidData),
        ("reserved block type", binary(true, true, &[0x06]), InvalidData),
        ("distance too far back", binary(true, true, &[0x02, 0x02]), InvalidData),
    ] {
        let (messages, result) = assemble_anyhow(&bytes, true);
        assert_eq!((messages, result), (Vec::new(), Err(reason)), "{name}");
    }
}

#[test]
fn without_deflate_rsv1_is_refused_everywhere() {
    for opcode in [0, 1, 2, 8, 9, 10] {
        let (messages, result) = assemble_anyhow(&[&[0xc0 | opcode, 0x80][..], &MASK].concat(), false);
        assert_eq!((messages, result), (Vec::new(), Err(CloseReason::ProtocolError)), "{opcode}");
    }
}

#[test]
fn lengths_at_their_boundaries_come_out_whole() {
    let limits = Limits { max_message: 65_536, max_fragments: 1 };
    for length in [0, 1, 7, 8, 125, 126, 127, 65_535, 65_536_usize] {
        let payload: Vec<u8> = (0..length).map(|index| index as u8).collect();
        let bytes = frame(OpCode::Data(Data::Binary), true, false, &payload);
        for chunk in [1, 13, 14, 4096, bytes.len()] {
            let mut assembler = Assembler::new(false);
            let mut seen = 0;
            for piece in bytes.chunks(chunk) {
                let result = assembler.push(&mut piece.to_vec(), &limits, &mut Inflater::default(), &mut |message| {
                    assert_eq!(message, Message::Binary(&payload));
                    seen += 1;
                    ControlFlow::Continue(())
                });
                assert_eq!(result, Ok(()));
            }
            assert_eq!((seen, assembler.heap_bytes()), (1, 0), "{length} by {chunk}");
        }
    }
}

#[test]
fn without_a_limit_nothing_overflows_and_nothing_is_allocated_ahead() {
    let limits = Limits { max_message: usize::MAX, max_fragments: u32::MAX };
    for first in [0x82, 0xc2] {
        let mut assembler = Assembler::new(true);
        let mut bytes = [wide(first, u64::MAX >> 1), vec![0; 100]].concat();
        let result = assembler.push(&mut bytes, &limits, &mut Inflater::default(), &mut |_| ControlFlow::Continue(()));
        assert_eq!(result, Ok(()));
        assert!(assembler.heap_bytes() < 1024);
    }
}

#[test]
fn a_frame_that_never_ends_holds_no_more_than_twice_what_came() {
    let mut assembler = Assembler::new(false);
    let limits = Limits { max_message: 1 << 20, max_fragments: 1 };
    let mut inflater = Inflater::default();
    let mut push = |bytes: &mut [u8]| {
        let result = assembler.push(bytes, &limits, &mut inflater, &mut |_| ControlFlow::Continue(()));
        assert_eq!(result, Ok(()));
        assembler.heap_bytes()
    };
    push(&mut wide(0x82, 1 << 20));
    for count in 1..=10_000_usize {
        assert!(push(&mut [0]) <= 2 * count + 512, "after {count} bytes");
    }
}

#[test]
fn fragments_are_counted_exactly() {
    let limits = Limits { max_fragments: 3, ..LIMITS };
    let send = |bytes: Vec<u8>| {
        let (mut bytes, mut heard) = (bytes, 0);
        let result = Assembler::new(false).push(&mut bytes, &limits, &mut Inflater::default(), &mut |_| {
            heard += 1;
            ControlFlow::Continue(())
        });
        (heard, result)
    };
    let ping = control(Control::Ping, b"");
    let three = [begin(b"a"), more(b"b", false), ping.clone(), ping, more(b"c", true)].concat();
    assert_eq!(send(three.repeat(2)), (6, Ok(())), "each message anew, and control frames do not count");
    let four = [begin(b"a"), more(b"b", false), more(b"c", false), more(b"d", true)].concat();
    assert_eq!(send(four), (0, Err(CloseReason::TooManyFragments)));
}

#[test]
fn a_bomb_is_stopped_however_it_is_cut() {
    let bomb = deflated(15, &vec![0; 12_000_000]);
    let limits = Limits { max_message: 102_400, max_fragments: 100 };
    let whole = frame(OpCode::Data(Data::Binary), true, true, &bomb);
    for chunk in [1000, whole.len()] {
        let (mut assembler, mut inflater) = (Assembler::new(true), Inflater::default());
        let result = whole.chunks(chunk).try_for_each(|piece| {
            assembler.push(&mut piece.to_vec(), &limits, &mut inflater, &mut |_| ControlFlow::Continue(()))
        });
        assert_eq!(result, Err(CloseReason::MessageTooBig));
        assert!(assembler.heap_bytes() == 0 && inflater.heap_bytes() <= 64 * 1024);
    }
    // Compressed input that is itself absurd for the limit is refused by its head.
    fails(&wide(0xc2, 65_536), CloseReason::MessageTooBig);
}

#[test]
fn malformed_deflate_at_any_byte_neither_panics_nor_leaves_the_limits() {
    let payload = deflated(10, "{\"type\":\"ping\",\"n\":12345}".repeat(30).as_bytes());
    for position in 0..payload.len() {
        for flip in [0x01, 0x10, 0xff] {
            let mut broken = payload.clone();
            broken[position] ^= flip;
            let bytes = frame(OpCode::Data(Data::Text), true, true, &broken);
            let (messages, result) = assemble([bytes.as_slice()], true);
            assert!(messages.iter().all(|message| message.len() <= LIMITS.max_message + "text ".len()));
            assert!(matches!(result, Ok(()) | Err(CloseReason::InvalidData | CloseReason::MessageTooBig)));
        }
    }
}

/// What a client may send.
#[derive(Clone, Debug)]
enum Sent {
    Data { is_text: bool, content: String, cuts: Vec<usize>, is_compressed: bool, ping_between: bool },
    Ping(Vec<u8>),
}

fn any_sent() -> impl Strategy<Value = Sent> {
    let data = (any::<bool>(), ".{0,60}", prop::collection::vec(0..200_usize, 0..4), any::<bool>(), any::<bool>());
    prop_oneof![
        4 => data.prop_map(|(is_text, content, cuts, is_compressed, ping_between)| {
            Sent::Data { is_text, content, cuts, is_compressed, ping_between }
        }),
        1 => prop::collection::vec(any::<u8>(), 0..=125).prop_map(Sent::Ping),
    ]
}

impl Sent {
    /// The frames as tungstenite's client writes them, and what is to be heard of them.
    fn encode(&self, mask: [u8; 4], bytes: &mut Vec<u8>, expected: &mut Vec<String>) {
        let mut write = |opcode, is_final, rsv1, payload: &[u8]| {
            let header = FrameHeader { is_final, rsv1, opcode, mask: Some(mask), ..FrameHeader::default() };
            Frame::from_payload(header, payload.to_vec().into()).format(bytes).expect("memory");
        };
        match self {
            Self::Ping(payload) => {
                write(OpCode::Control(Control::Ping), true, false, payload);
                expected.push(show(Message::Ping(payload)));
            }
            Self::Data { is_text, content, cuts, is_compressed, ping_between } => {
                let payload =
                    if *is_compressed { deflated(9, content.as_bytes()) } else { content.clone().into_bytes() };
                let mut ends: Vec<usize> = cuts.iter().map(|cut| (*cut).min(payload.len())).collect();
                ends.push(payload.len());
                ends.sort_unstable();
                let mut start = 0;
                for (index, end) in ends.iter().enumerate() {
                    let kind = match (index, is_text) {
                        (0, true) => Data::Text,
                        (0, false) => Data::Binary,
                        _ => Data::Continue,
                    };
                    let is_final = index + 1 == ends.len();
                    write(OpCode::Data(kind), is_final, *is_compressed && index == 0, &payload[start..*end]);
                    if *ping_between && !is_final {
                        write(OpCode::Control(Control::Ping), true, false, b"between");
                        expected.push(show(Message::Ping(b"between")));
                    }
                    start = *end;
                }
                let message = if *is_text { Message::Text(content) } else { Message::Binary(content.as_bytes()) };
                expected.push(show(message));
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_a_client_sends_is_heard_however_it_arrives(
        sent in prop::collection::vec((any_sent(), any::<[u8; 4]>()), 1..10),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (message, mask) in &sent {
            message.encode(*mask, &mut bytes, &mut expected);
        }
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let pieces = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
        prop_assert_eq!(assemble(pieces, true), (expected, Ok(())));
    }
}
