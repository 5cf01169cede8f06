//! Section 20: what the Autobahn suite does not look at. Masks, forms of lengths, compression that is wrong or unusual,
//! frames that come with the request.

use crate::case::{Case, Closing};
use crate::peer::{Event, Opening};
use crate::script::{Script, Step, concat};
use crate::wire::{CONTINUATION, Frame, LengthForm, Offer, PING, TEXT};

const HELLO: &str = "Hello, world!";
const DEFLATE: &str = "permessage-deflate";

/// "Hello" in one block that is not the last (RFC 7692 §7.2.3.1).
const HELLO_DEFLATED: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
/// "Hello" in two blocks of which neither is the last (§7.2.3.5).
const HELLO_IN_BLOCKS: [u8; 13] = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
/// "Hello" in a last block, and the byte that §7.2.3.4 wants after it.
const HELLO_FINAL: [u8; 8] = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
/// "Hello" without compression (§7.2.3.3).
const HELLO_STORED: [u8; 11] = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
/// The byte 0xff, stored.
const FF_STORED: [u8; 7] = [0x00, 0x01, 0x00, 0xfe, 0xff, 0xff, 0x00];

pub fn cases() -> Vec<Case> {
    let unmasked = |opcode| Frame { mask: None, ..Frame::new(opcode, HELLO) };
    let of_form = |form, length| Frame { form, ..Frame::text(vec![b'*'; length]) };
    let cases = vec![
        Case::script("20.1", move || Script::refused(&[unmasked(TEXT)])),
        Case::script("20.2", move || Script::refused(&[unmasked(PING)])),
        Case::script("20.3", || {
            let frame = Frame { mask: Some([0; 4]), ..Frame::text(HELLO) };
            Script::answered(&[frame], vec![Event::text(HELLO)])
        }),
        Case::script("20.4", move || Script::refused(&[of_form(LengthForm::Bits16, 125)])),
        Case::script("20.5", move || Script::refused(&[of_form(LengthForm::Bits64, 65_535)])),
        Case::script("20.6", || {
            let head = [&[0x81, 0xff], (1_u64 << 63).to_be_bytes().as_slice(), &[0; 4]].concat();
            Script { steps: vec![Step::Send(head)], ..Script::refused(&[]) }
        }),
        Case::script("20.7", || deflated(Script::refused(&[Frame::new(PING, HELLO).reserved(4)]))),
        Case::script("20.8", || {
            let frames = [deflated_text(&HELLO_DEFLATED[..3]).unfinished(), Frame::new(CONTINUATION, "").reserved(4)];
            deflated(Script::refused(&frames))
        }),
        Case::script("20.9", || deflated(Script::answered(&[Frame::text(HELLO)], vec![Event::text(HELLO)]))),
        Case::script("20.10", || {
            // A block of the kind that does not exist.
            deflated(Script { closing: Closing::INVALID_DATA, ..Script::refused(&[deflated_text(&[0x06, 0x00])]) })
        }),
        Case::script("20.11", || {
            deflated(Script { closing: Closing::INVALID_DATA, ..Script::refused(&[deflated_text(&FF_STORED)]) })
        }),
        Case::script("20.12", || {
            let frames = [
                deflated_text(&HELLO_DEFLATED[..3]).unfinished(),
                Frame::new(PING, "between"),
                Frame::new(CONTINUATION, &HELLO_DEFLATED[3..]),
            ];
            deflated(Script::answered(&frames, vec![Event::Pong(b"between".to_vec()), Event::text("Hello")]))
        }),
        Case::script("20.13", || {
            let forms = [HELLO_DEFLATED.as_slice(), &HELLO_IN_BLOCKS, &HELLO_FINAL, &HELLO_STORED];
            let frames: Vec<_> = forms.into_iter().map(deflated_text).collect();
            deflated(Script::answered(&frames, vec![Event::text("Hello"); forms.len()]))
        }),
        Case::script("20.14", || deflated(Script::answered(&[deflated_text(&[0])], vec![Event::text("")]))),
        Case::script("20.15", || {
            let early = concat(&[Frame::text(HELLO), Frame::new(PING, "early")]);
            let events = vec![Event::text(HELLO), Event::Pong(b"early".to_vec())];
            Script { opening: Opening::WithFrames, early, ..Script::answered(&[], events) }
        }),
        Case::script("20.16", || Script {
            opening: Opening::ByteByByte,
            ..Script::answered(&[Frame::text(HELLO)], vec![Event::text(HELLO)])
        }),
    ];
    cases.into_iter().map(Case::beyond_the_suite).collect()
}

fn deflated(script: Script) -> Script {
    Script { offer: Offer(DEFLATE.into()), ..script }
}

fn deflated_text(payload: &[u8]) -> Frame {
    Frame::text(payload).reserved(4)
}
