use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::*;
use crate::transport::deflate::Deflaters;
use crate::transport::encoded_message::EncodedMessage;
use crate::transport::encoding::Encoding;

pub(super) const LIMITS: Limits = Limits { max_message: 1000, max_fragments: 100 };
pub(super) const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(super) fn frame(opcode: OpCode, is_final: bool, rsv1: bool, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader { is_final, rsv1, opcode, mask: Some(MASK), ..FrameHeader::default() };
    let mut bytes = Vec::new();
    header.format(payload.len() as u64, &mut bytes).expect("memory");
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

pub(super) fn text(payload: &[u8]) -> Vec<u8> {
    frame(OpCode::Data(Data::Text), true, false, payload)
}

pub(super) fn begin(payload: &[u8]) -> Vec<u8> {
    frame(OpCode::Data(Data::Text), false, false, payload)
}

pub(super) fn more(payload: &[u8], is_final: bool) -> Vec<u8> {
    frame(OpCode::Data(Data::Continue), is_final, false, payload)
}

pub(super) fn control(kind: Control, payload: &[u8]) -> Vec<u8> {
    frame(OpCode::Control(kind), true, false, payload)
}

pub(super) fn show(message: Message<'_>) -> String {
    match message {
        Message::Binary(bytes) => format!("binary {bytes:?}"),
        Message::Close(None) => "close".into(),
        Message::Close(Some(close)) => format!("close {} {}", close.code, close.reason),
        Message::Ping(bytes) => format!("ping {}", bytes.len()),
        Message::Pong(bytes) => format!("pong {}", bytes.len()),
        Message::Text(text) => format!("text {text}"),
    }
}

/// Pushes the pieces one after the other; what came out, and how it ended.
pub(super) fn assemble<'p>(
    pieces: impl IntoIterator<Item = &'p [u8]>,
    deflate: bool,
) -> (Vec<String>, Result<(), CloseReason>) {
    let mut assembler = Assembler::new(deflate);
    let mut inflater = Inflater::default();
    let mut messages = Vec::new();
    for piece in pieces {
        let result = assembler.push(&mut piece.to_vec(), &LIMITS, &mut inflater, &mut |message| {
            messages.push(show(message));
            ControlFlow::Continue(())
        });
        if result.is_err() {
            assert_eq!(assembler.heap_bytes(), 0, "a connection that is closed keeps nothing");
            return (messages, result);
        }
    }
    assert_eq!(assembler.heap_bytes() == 0, assembler.partial.is_none());
    (messages, Ok(()))
}

/// The same whole, cut once at every position, and byte by byte.
pub(super) fn assemble_anyhow(bytes: &[u8], deflate: bool) -> (Vec<String>, Result<(), CloseReason>) {
    let whole = assemble([bytes], deflate);
    for cut in 1..bytes.len() {
        let (first, second) = bytes.split_at(cut);
        assert_eq!(assemble([first, second], deflate), whole, "cut at {cut}");
    }
    assert_eq!(assemble(bytes.chunks(1), deflate), whole, "byte by byte");
    whole
}

pub(super) fn fails(bytes: &[u8], reason: CloseReason) {
    let (messages, result) = assemble_anyhow(bytes, true);
    assert_eq!((messages, result), (Vec::new(), Err(reason)));
}

#[test]
fn an_idle_connection_costs_sixteen_bytes() {
    assert!(size_of::<Assembler>() <= 16);
    assert_eq!(Assembler::new(true).heap_bytes(), 0);
}

#[test]
fn messages_come_out_as_they_went_in() {
    let bytes = [
        text("héllo".as_bytes()),
        frame(OpCode::Data(Data::Binary), true, false, &[1, 2]),
        text(b""),
        control(Control::Ping, b"abc"),
        control(Control::Pong, b""),
        text(&[b'x'; 300]),
        control(Control::Close, &[&1000_u16.to_be_bytes()[..], b"bye"].concat()),
    ]
    .concat();
    let (messages, result) = assemble_anyhow(&bytes, false);
    let long = format!("text {}", "x".repeat(300));
    assert_eq!(messages, ["text héllo", "binary [1, 2]", "text ", "ping 3", "pong 0", &long, "close 1000 bye"]);
    assert_eq!(result, Ok(()));
}

#[test]
fn fragments_are_joined_and_control_frames_between_them_are_not_waited_for() {
    let bytes =
        [begin(b"a\xc3"), control(Control::Ping, b"1"), more(b"", false), more(b"\xa9", false), more(b"", true)];
    let (messages, result) = assemble_anyhow(&bytes.concat(), false);
    assert_eq!((messages, result), (vec!["ping 1".into(), "text aé".into()], Ok(())));
}

#[test]
fn order_is_kept_to() {
    fails(&more(b"x", true), CloseReason::ProtocolError);
    fails(&[begin(b"x"), text(b"y")].concat(), CloseReason::ProtocolError);
    fails(&[begin(b"x"), frame(OpCode::Data(Data::Continue), true, true, b"")].concat(), CloseReason::ProtocolError);
}

#[test]
fn bad_utf8_is_found_at_once_wherever_it_is_cut() {
    fails(&text(b"\xff"), CloseReason::InvalidData);
    fails(&text(b"abc\xc3"), CloseReason::InvalidData);
    fails(&[begin(b"\xc3"), more(b"", true)].concat(), CloseReason::InvalidData);
    // The rest of the frame and of the message never comes.
    let unfinished = begin(b"\xce\xba\xf4\x90\x80\x80 and much more");
    let bad = unfinished.get(..6 + 4).expect("long enough");
    assert_eq!(assemble([bad], false).1, Err(CloseReason::InvalidData));
    // Binary is not looked at.
    assert_eq!(assemble([frame(OpCode::Data(Data::Binary), true, false, b"\xff").as_slice()], false).1, Ok(()));
}

#[test]
fn close_frames_are_read_strictly() {
    let close = |payload: &[u8]| control(Control::Close, payload);
    for code in [1000_u16, 1001, 1002, 1003, 1007, 1008, 1011, 1012, 1013, 1014, 3000, 4999] {
        assert_eq!(assemble_anyhow(&close(&code.to_be_bytes()), false).0, [format!("close {code} ")]);
    }
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        fails(&close(&code.to_be_bytes()), CloseReason::ProtocolError);
    }
    fails(&close(b"\x03"), CloseReason::ProtocolError);
    fails(&close(b"\x03\xe8\xff"), CloseReason::InvalidData);
    assert_eq!(assemble_anyhow(&close(b""), false).0, ["close"]);
}

#[test]
fn the_limit_is_on_what_is_announced_and_on_what_adds_up() {
    assert_eq!(assemble([text(&[b'x'; 1000]).as_slice()], false).1, Ok(()));
    fails(&text(&[b'x'; 1001]), CloseReason::MessageTooBig);
    fails(&[begin(&[b'x'; 600]), more(&[b'x'; 401], true)].concat(), CloseReason::MessageTooBig);
    for length in [1001_u64, 1 << 31, 1 << 32, u64::MAX >> 1] {
        let header = FrameHeader { opcode: OpCode::Data(Data::Binary), mask: Some(MASK), ..FrameHeader::default() };
        let mut head = Vec::new();
        header.format(length, &mut head).expect("memory");
        assert_eq!(assemble([head.as_slice()], false).1, Err(CloseReason::MessageTooBig), "{length}");
    }
}

#[test]
fn nothing_is_kept_by_a_claimed_length() {
    let limits = Limits { max_message: usize::MAX / 4, max_fragments: u32::MAX };
    let header = FrameHeader { opcode: OpCode::Data(Data::Binary), mask: Some(MASK), ..FrameHeader::default() };
    let mut bytes = Vec::new();
    header.format(1 << 40, &mut bytes).expect("memory");
    bytes.extend_from_slice(&[0; 100]);
    let mut assembler = Assembler::new(false);
    assembler
        .push(&mut bytes, &limits, &mut Inflater::default(), &mut |_| ControlFlow::Continue(()))
        .expect("in order");
    assert!(assembler.heap_bytes() < 1024, "{}", assembler.heap_bytes());
}

#[test]
fn a_million_empty_fragments_cost_nothing_and_are_too_many() {
    let limits = Limits { max_fragments: 1_000_000, ..LIMITS };
    let mut assembler = Assembler::new(false);
    let mut inflater = Inflater::default();
    let mut push = |bytes: Vec<u8>| {
        let mut bytes = bytes;
        let result = assembler.push(&mut bytes, &limits, &mut inflater, &mut |_| ControlFlow::Continue(()));
        assert!(assembler.heap_bytes() < 1024);
        result
    };
    assert_eq!(push(begin(b"")), Ok(()));
    let thousand = more(b"", false).repeat(1000);
    for _ in 0..999 {
        assert_eq!(push(thousand.clone()), Ok(()));
    }
    assert_eq!(push(thousand), Err(CloseReason::TooManyFragments));
}

#[test]
fn compressed_and_plain_messages_mix_and_fragments_of_one_are_inflated_together() {
    let long = "compress me ".repeat(50);
    let message = EncodedMessage::text(long.clone().into_bytes());
    let encoding =
        crate::transport::deflate::negotiate("permessage-deflate", &crate::transport::deflate::DeflatePolicy::SERVICE)
            .expect("acceptable")
            .expect("offered")
            .encoding();
    let mut deflaters = Deflaters::default();
    let wire = message.frame(encoding, 0, &mut deflaters);
    assert_ne!(encoding, Encoding::Plain);
    let payload = wire.get(2..).expect("a short frame");
    let (first, second) = payload.split_at(payload.len() / 2);
    let bytes = [
        frame(OpCode::Data(Data::Text), true, true, payload),
        text(b"plain"),
        frame(OpCode::Data(Data::Text), false, true, first),
        control(Control::Ping, b""),
        more(second, true),
    ]
    .concat();
    let (messages, result) = assemble_anyhow(&bytes, true);
    let long = format!("text {long}");
    assert_eq!((messages, result), (vec![long.clone(), "text plain".into(), "ping 0".into(), long], Ok(())));
    let corrupt = frame(OpCode::Data(Data::Text), true, true, &[0xff, 0xff, 0xff]);
    fails(&corrupt, CloseReason::InvalidData);
    let not_text = Deflaters::default().deflate(window(), b"\xff\xfe").expect("room to write");
    fails(&frame(OpCode::Data(Data::Text), true, true, &not_text), CloseReason::InvalidData);
    let bomb = Deflaters::default().deflate(window(), &[b'x'; 100_000]).expect("room to write");
    fails(&frame(OpCode::Data(Data::Text), true, true, &bomb), CloseReason::MessageTooBig);
}

fn window() -> crate::transport::encoding::WindowClass {
    let accepted =
        crate::transport::deflate::negotiate("permessage-deflate", &crate::transport::deflate::DeflatePolicy::SERVICE);
    match accepted.expect("acceptable").expect("offered").encoding() {
        Encoding::Deflate(class) => class,
        Encoding::Plain => unreachable!("an accepted offer compresses"),
    }
}

#[test]
fn after_a_break_nothing_is_heard() {
    let mut bytes = [control(Control::Close, b""), text(b"late"), begin(b"later")].concat();
    let mut heard = 0;
    let mut assembler = Assembler::new(false);
    let result = assembler.push(&mut bytes, &LIMITS, &mut Inflater::default(), &mut |_| {
        heard += 1;
        ControlFlow::Break(())
    });
    assert_eq!((heard, result, assembler.heap_bytes()), (1, Ok(()), 0));
}

proptest! {
    #[test]
    fn what_a_client_frames_is_what_we_read_however_it_is_cut(
        messages in prop::collection::vec((any::<bool>(), ".{0,40}", 1..4_usize), 1..8),
        chunk in 1..50_usize,
    ) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for (is_ping, content, pieces) in &messages {
            if *is_ping {
                let payload = content.as_bytes().get(..content.len().min(125)).unwrap_or_default();
                bytes.extend(control(Control::Ping, payload));
                expected.push(format!("ping {}", payload.len()));
                continue;
            }
            expected.push(format!("text {content}"));
            let size = content.len().div_ceil(*pieces).max(1);
            let parts: Vec<&[u8]> = if content.is_empty() { vec![b""] } else { content.as_bytes().chunks(size).collect() };
            for (index, part) in parts.iter().enumerate() {
                let opcode = if index == 0 { Data::Text } else { Data::Continue };
                bytes.extend(frame(OpCode::Data(opcode), index + 1 == parts.len(), false, part));
            }
        }
        prop_assert_eq!(assemble(bytes.chunks(chunk), false), (expected, Ok(())));
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..300), deflate: bool, chunk in 1..20_usize) {
        prop_assert_eq!(assemble(bytes.chunks(chunk), deflate), assemble([bytes.as_slice()], deflate));
    }
}
