//! Section 9: large messages, whole, in fragments and in small pieces, and many messages one after the other.

use crate::case::{Case, Plan, no_offer};
use crate::dialogue::Dialogue;
use crate::peer::Event;
use crate::script::Script;
use crate::wire::{BINARY, Frame, TEXT, fragments};

const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let kinds = [(TEXT, b"BAsd7&jh23".as_slice()), (BINARY, b"\x00\xfe\x23\xfa\xf0")];
    for (size, number) in [64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB].into_iter().zip(1..) {
        for ((opcode, pattern), section) in kinds.into_iter().zip(1..) {
            cases.push(echo(format!("9.{section}.{number}"), opcode, pattern, size, 0, None));
        }
    }
    for (fragment, number) in [64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB].into_iter().zip(1..)
    {
        for ((opcode, pattern), section) in [(TEXT, b"*"), (BINARY, b"\xfe")].into_iter().zip(3..) {
            cases.push(echo(format!("9.{section}.{number}"), opcode, pattern, 4 * MIB, fragment, None));
        }
    }
    for (piece, number) in [64, 128, 256, 512, KIB, 2 * KIB].into_iter().zip(1..) {
        for ((opcode, pattern), section) in kinds.into_iter().zip(5..) {
            cases.push(echo(format!("9.{section}.{number}"), opcode, pattern, MIB, 0, Some(piece)));
        }
    }
    for (size, number) in [0, 16, 64, 256, KIB, 4 * KIB].into_iter().zip(1..) {
        for ((is_text, byte), section) in [(true, b'*'), (false, 0xfe)].into_iter().zip(7..) {
            let dialogue = move || {
                Plan::Dialogue(Dialogue {
                    is_text,
                    message: Box::new(move |_| vec![byte; size]),
                    fragment: 0,
                    offer: no_offer(),
                })
            };
            cases.push(Case::new(format!("9.{section}.{number}"), dialogue));
        }
    }
    cases.into_iter().map(|case| case.slow(true)).collect()
}

fn echo(id: String, opcode: u8, pattern: &'static [u8], size: usize, fragment: usize, piece: Option<usize>) -> Case {
    Case::script(id, move || {
        let payload: Vec<u8> = pattern.iter().copied().cycle().take(size).collect();
        let frames: Vec<Frame> = fragments(opcode, 0, &payload, fragment);
        let script = Script::answered(&frames, vec![Event::Message { is_text: opcode == TEXT, payload }]);
        match piece {
            Some(piece) => script.in_pieces(piece),
            None => script,
        }
    })
}
