use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::tests::{LIMITS, assemble, begin, control, frame, more, show, text};
use super::*;
use crate::transport::deflate::Deflaters;
use crate::transport::encoded_message::EncodedMessage;
use crate::transport::encoding::Encoding;

/// Says to each message in turn what it was told to, and records what it is asked and given.
struct Scripted<'s> {
    admissions: &'s mut dyn FnMut(MessageInfo) -> Intake,
    heard: Vec<String>,
}

impl MessageSink for Scripted<'_> {
    fn before_message(&mut self, info: MessageInfo) -> Intake {
        (self.admissions)(info)
    }

    fn on_message(&mut self, message: Message<'_>) -> ControlFlow<()> {
        self.heard.push(show(message));
        ControlFlow::Continue(())
    }
}

const TAKE: Intake = Intake::Take { max_inflated: usize::MAX };

fn compressed(payload: &[u8]) -> Vec<u8> {
    let policy = crate::transport::deflate::DeflatePolicy::SERVICE;
    let negotiated = crate::transport::deflate::negotiate("permessage-deflate", &policy).expect("acceptable");
    let Encoding::Deflate(class) = negotiated.expect("offered").encoding() else { unreachable!("it compresses") };
    Deflaters::default().deflate(class, payload).expect("compressed")
}

/// Gives `bytes` in pieces, and what is left of each again in front of the next, until nothing moves any more.
fn feed(
    bytes: &[u8],
    piece: usize,
    admissions: &mut dyn FnMut(MessageInfo) -> Intake,
) -> (Vec<String>, Result<usize, CloseReason>) {
    let (mut assembler, mut inflater) = (Assembler::new(true), Inflater::default());
    let mut receiver = Scripted { admissions, heard: Vec::new() };
    let mut left = Vec::new();
    for piece in bytes.chunks(piece).chain([&[][..]; 4]) {
        left.extend_from_slice(piece);
        // Far more often than there are messages, each of which is put off twice at most.
        for _ in 0..50 {
            match assembler.advance(&mut left, &LIMITS, &mut inflater, &mut receiver) {
                Ok(taken) => drop(left.drain(..taken)),
                Err(reason) => return (receiver.heard, Err(reason)),
            }
        }
    }
    (receiver.heard, Ok(left.len()))
}

fn everything() -> Vec<u8> {
    let squeezed = compressed(&[b'z'; 500]);
    let (first, second) = squeezed.split_at(squeezed.len() / 2);
    [
        text(b"one"),
        text(b""),
        begin(b"t"),
        control(Control::Ping, b"1"),
        more(b"w", false),
        more(b"o", true),
        frame(OpCode::Data(Data::Text), true, true, &squeezed),
        frame(OpCode::Data(Data::Text), false, true, first),
        more(second, true),
        begin(b""),
        more(b"", true),
        text(&[b'x'; 300]),
        control(Control::Pong, b""),
        control(Control::Close, &[&1000_u16.to_be_bytes()[..], b"bye"].concat()),
    ]
    .concat()
}

#[test]
fn what_is_put_off_comes_later_whole_and_in_order_however_it_is_cut() {
    let bytes = everything();
    let (expected, _) = assemble([bytes.as_slice()], true);
    for piece in [1, 2, 3, 7, 50, bytes.len()] {
        for period in [2, 3] {
            let mut asked = 0;
            let (heard, left) = feed(&bytes, piece, &mut |_| {
                asked += 1;
                if asked % period == 0 { TAKE } else { Intake::Wait }
            });
            assert_eq!((heard, left), (expected.clone(), Ok(0)), "pieces of {piece}, every {period}.");
        }
    }
}

#[test]
fn before_a_message_that_has_to_wait_nothing_of_it_is_taken() {
    let mut bytes = [text(b"one"), text(b"two")].concat();
    let before = bytes.clone();
    let mut assembler = Assembler::new(true);
    let mut receiver = Scripted { admissions: &mut |_| Intake::Wait, heard: Vec::new() };
    for _ in 0..3 {
        let taken = assembler.advance(&mut bytes, &LIMITS, &mut Inflater::default(), &mut receiver);
        assert_eq!((taken, assembler.heap_bytes()), (Ok(0), 0));
    }
    assert_eq!(bytes, before);
}

#[test]
fn what_is_skipped_is_neither_inflated_nor_checked() {
    let corrupt = frame(OpCode::Data(Data::Text), true, true, &[0x06, 0, 0, 0]);
    let fragments = [frame(OpCode::Data(Data::Text), false, true, &[0x06]), more(&[0, 0, 0], true)].concat();
    let bytes = [corrupt, text(b"\xff"), fragments, text(b"heard")].concat();
    for piece in [100, bytes.len()] {
        let mut asked = 0;
        let (heard, left) = feed(&bytes, piece, &mut |_| {
            asked += 1;
            if asked == 4 { TAKE } else { Intake::Skip }
        });
        assert_eq!((heard, left), (vec!["text heard".to_owned()], Ok(0)), "pieces of {piece}");
    }
}

#[test]
fn a_message_that_inflates_to_more_than_fits_is_left_as_it_was() {
    let message = EncodedMessage::text(vec![b'z'; 500]);
    assert_eq!(message.payload().len(), 500);
    let mut bytes = frame(OpCode::Data(Data::Text), true, true, &compressed(message.payload()));
    let before = bytes.clone();
    let mut assembler = Assembler::new(true);
    for (max_inflated, taken) in [(499, 0), (500, bytes.len())] {
        let mut admissions = |info: MessageInfo| {
            assert!(info.is_compressed && !info.is_reassembled);
            Intake::Take { max_inflated }
        };
        let mut receiver = Scripted { admissions: &mut admissions, heard: Vec::new() };
        let result = assembler.advance(&mut bytes, &LIMITS, &mut Inflater::default(), &mut receiver);
        assert_eq!(result, Ok(taken));
        assert_eq!(receiver.heard.len(), usize::from(taken > 0));
        if taken == 0 {
            assert_eq!(bytes, before);
        }
    }
}

#[test]
fn a_message_is_announced_with_all_its_fragments() {
    let mut info = Vec::new();
    let bytes = [begin(b"abc"), control(Control::Ping, b"12"), more(b"de", true), text(b"f")].concat();
    let (heard, _) = feed(&bytes, bytes.len(), &mut |next| {
        info.push((next.kind, next.wire_bytes, next.is_reassembled));
        TAKE
    });
    assert_eq!(heard.len(), 3);
    // The ping stands between two fragments, but is whole itself.
    assert_eq!(info, [(Kind::Ping, 2, false), (Kind::Text, 5, true), (Kind::Text, 1, false)]);
}

/// Skips in pieces; whether a close frame was found, and what was left behind it.
fn skip(bytes: &[u8], piece: usize) -> Result<(bool, usize), CloseReason> {
    let mut assembler = Assembler::new(true);
    let mut read = 0;
    for piece in bytes.chunks(piece) {
        let (taken, is_closed) = assembler.skip_to_close(&mut piece.to_vec())?;
        assert!(assembler.heap_bytes() < 512, "{}", assembler.heap_bytes());
        read += taken;
        if is_closed {
            return Ok((true, bytes.len() - read));
        }
        assert_eq!(taken, piece.len());
    }
    Ok((false, 0))
}

#[test]
fn a_close_frame_is_found_behind_messages_of_which_only_the_heads_are_read() {
    let junk = [
        frame(OpCode::Data(Data::Text), true, true, &[0x06, 0, 0, 0]),
        text(b"\xff"),
        more(b"out of order", false),
        control(Control::Ping, &[b'p'; 125]),
        frame(OpCode::Data(Data::Binary), true, false, &vec![0; 70_000]),
    ]
    .concat();
    let close = control(Control::Close, &[&1000_u16.to_be_bytes()[..], b"bye"].concat());
    for piece in [1, 2, 13, 1000, usize::MAX] {
        assert_eq!(skip(&[junk.clone(), close.clone()].concat(), piece), Ok((true, 0)), "pieces of {piece}");
        assert_eq!(skip(&junk, piece), Ok((false, 0)), "pieces of {piece}");
    }
    assert_eq!(skip(&[close.clone(), junk.clone()].concat(), usize::MAX), Ok((true, junk.len())));
    assert_eq!(skip(&control(Control::Close, b"x"), 1), Err(CloseReason::ProtocolError));
    assert_eq!(skip(&[0x81, 0x00], 1), Err(CloseReason::ProtocolError), "unmasked");
}

#[test]
fn what_had_begun_before_is_skipped_as_well() {
    let close = control(Control::Close, b"");
    for begun in [begin(b"kept"), [begin(b"kept"), more(b"more", true)].concat(), text(b"message"), close.clone()] {
        for cut in 1..begun.len() {
            let (first, rest) = begun.split_at(cut);
            let mut assembler = Assembler::new(true);
            let _ = assembler
                .push(&mut first.to_vec(), &LIMITS, &mut Inflater::default(), &mut |_| ControlFlow::Continue(()));
            let mut rest = [rest, &close].concat();
            let (taken, is_closed) = assembler.skip_to_close(&mut rest).expect("in order");
            let expected = if begun == close { rest.len() - close.len() } else { rest.len() };
            assert_eq!((taken, is_closed), (expected, true), "cut at {cut}");
        }
    }
}

proptest! {
    #[test]
    fn putting_off_changes_nothing_for_any_bytes(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        piece in 1..40_usize,
    ) {
        let (expected, end) = assemble([bytes.as_slice()], true);
        let end = end.err();
        let mut asked = 0;
        let (heard, result) = feed(&bytes, piece, &mut |_| {
            asked += 1;
            if asked % 2 == 0 { TAKE } else { Intake::Wait }
        });
        prop_assert_eq!(heard, expected);
        prop_assert_eq!(result.err(), end);
    }

    #[test]
    fn no_bytes_are_too_strange_to_be_skipped(bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1..20_usize) {
        prop_assert_eq!(skip(&bytes, piece).map_err(|_| ()), skip(&bytes, usize::MAX).map_err(|_| ()));
    }
}
