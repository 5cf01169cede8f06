//! Section 7: close frames, and what follows them.

use crate::case::{Case, Closing};
use crate::peer::Event;
use crate::script::{Script, Step, concat};
use crate::wire::{CLOSE, CONTINUATION, Frame, PING};

const HELLO: &str = "Hello World!";

const VALID: [u16; 13] = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
/// The code itself or 1000 comes back.
const VALID_ANSWERS: [&[u16]; 13] = [
    &[1000],
    &[1000, 1001],
    &[1000, 1002],
    &[1000, 1003],
    &[1000, 1007],
    &[1000, 1008],
    &[1000, 1009],
    &[1000, 1010],
    &[1000, 1011],
    &[1000, 3000],
    &[1000, 3999],
    &[1000, 4000],
    &[1000, 4999],
];
const INVALID: [u16; 9] = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999];

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::script("7.1.1", || {
            let closing = Closing::answered(&[1000], true);
            Script { closing, ..Script::answered(&[Frame::text(HELLO)], vec![Event::text(HELLO)]) }
        }),
        Case::script("7.1.2", || normal_close_then(&[Frame::new(CLOSE, "")])),
        Case::script("7.1.3", || normal_close_then(&[Frame::new(PING, "")])),
        Case::script("7.1.4", || normal_close_then(&[Frame::text(HELLO)])),
        Case::script("7.1.5", || {
            let mut script = normal_close_then(&[Frame::new(CONTINUATION, "fragment2")]);
            script.steps.insert(0, Step::Send(Frame::text("fragment1").unfinished().bytes()));
            script
        }),
        Case::script("7.1.6", || {
            let large: Vec<u8> = b"BAsd7&jh23".iter().copied().cycle().take(256 * 1024).collect();
            let mut script = normal_close_then(&[Frame::new(PING, "")]);
            script.steps.insert(0, Step::Send(concat(&[Frame::text(large), Frame::text(HELLO)])));
            Script { is_informational: true, ..script }
        }),
        Case::script("7.3.1", || close(Frame::new(CLOSE, ""), &[1000], true)),
        Case::script("7.3.2", || close(Frame::new(CLOSE, "a"), &[1002], false)),
        Case::script("7.3.3", || close(Frame::close(1000, b""), &[1000], true)),
        Case::script("7.3.4", || close(Frame::close(1000, HELLO.as_bytes()), &[1000], true)),
        Case::script("7.3.5", || close(Frame::close(1000, &[b'*'; 123]), &[1000], true)),
        Case::script("7.3.6", || close(Frame::close(1000, &[b'*'; 124]), &[1002], false)),
        Case::script("7.5.1", || {
            let reason = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited";
            close(Frame::close(1000, reason), &[1002, 1007], false)
        }),
    ];
    for ((code, answers), number) in VALID.into_iter().zip(VALID_ANSWERS).zip(1..) {
        cases.push(Case::script(format!("7.7.{number}"), move || close(Frame::close(code, b""), answers, true)));
    }
    for (code, number) in INVALID.into_iter().zip(1..) {
        cases.push(Case::script(format!("7.9.{number}"), move || close(Frame::close(code, b""), &[1002], false)));
    }
    for (code, number) in [5000, 65_535].into_iter().zip(1..) {
        cases.push(Case::script(format!("7.13.{number}"), move || Script {
            is_informational: true,
            ..close(Frame::close(code, b""), &[1000, 1002], false)
        }));
    }
    cases
}

fn close(frame: Frame, answers: &'static [u16], is_clean: bool) -> Script {
    Script::new(vec![Step::Close(frame)], Vec::new(), Closing::answered(answers, is_clean))
}

/// What follows a close frame is ignored.
fn normal_close_then(frames: &[Frame]) -> Script {
    let mut script = close(Frame::close(1000, b""), &[1000], true);
    script.steps.push(Step::Send(concat(frames)));
    script
}
