//! Sections 1 to 5 and 10: frames of every length, pings and pongs, reserved bits, opcodes, fragments.

use crate::case::{Case, Closing};
use crate::peer::Event;
use crate::script::{Script, Step, concat};
use crate::wire::{BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, TEXT, fragments};

const HELLO: &str = "Hello, world!";
const OCTETS: &[u8] = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff";

pub fn cases() -> Vec<Case> {
    let mut cases = lengths();
    cases.extend(pings());
    cases.extend(reserved_bits());
    cases.extend(opcodes());
    cases.extend(fragmentation());
    cases.push(Case::script("10.1.1", || {
        let payload = vec![b'*'; 65_536];
        Script::answered(&fragments(TEXT, 0, &payload, 1300), vec![Event::text(payload)])
    }));
    cases
}

fn lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    for (opcode, byte, section) in [(TEXT, b'*', 1), (BINARY, 0xfe, 2)] {
        let sizes = [0, 125, 126, 127, 128, 65_535, 65_536, 65_536];
        for (size, number) in sizes.into_iter().zip(1..) {
            cases.push(Case::script(format!("1.{section}.{number}"), move || {
                let payload = vec![byte; size];
                let event = Event::Message { is_text: opcode == TEXT, payload: payload.clone() };
                let script = Script::answered(&[Frame::new(opcode, payload)], vec![event]);
                if number == 8 { script.in_pieces(997) } else { script }
            }));
        }
    }
    cases
}

fn ping_pong(payload: &[u8]) -> Script {
    Script::answered(&[Frame::new(PING, payload)], vec![Event::Pong(payload.to_vec())])
}

/// Pongs that no ping asked for are ignored; the client closes without waiting for anything.
fn unasked_pong(payload: &str) -> Script {
    let steps = vec![Step::Send(Frame::new(PONG, payload).bytes()), Step::Close(Frame::close(1000, b""))];
    Script::new(steps, Vec::new(), Closing::NORMAL)
}

fn ten_pings() -> Script {
    let payloads: Vec<_> = (0..10).map(|number| format!("payload-{number}").into_bytes()).collect();
    let frames: Vec<_> = payloads.iter().map(|payload| Frame::new(PING, payload.as_slice())).collect();
    Script::answered(&frames, payloads.into_iter().map(Event::Pong).collect())
}

fn pings() -> Vec<Case> {
    vec![
        Case::script("2.1", || ping_pong(b"")),
        Case::script("2.2", || ping_pong(HELLO.as_bytes())),
        Case::script("2.3", || ping_pong(OCTETS)),
        Case::script("2.4", || ping_pong(&[0xfe; 125])),
        Case::script("2.5", || Script::refused(&[Frame::new(PING, [0xfe; 126])])),
        Case::script("2.6", || ping_pong(&[0xfe; 125]).in_pieces(1)),
        Case::script("2.7", || unasked_pong("")),
        Case::script("2.8", || unasked_pong("unsolicited pong payload")),
        Case::script("2.9", || {
            let frames = [Frame::new(PONG, "unsolicited pong payload"), Frame::new(PING, "ping payload")];
            Script::answered(&frames, vec![Event::Pong(b"ping payload".to_vec())])
        }),
        Case::script("2.10", ten_pings),
        Case::script("2.11", || ten_pings().in_pieces(1)),
    ]
}

/// A message, then what is not allowed, then a ping: the message may come back, the pong may not.
fn refused_after_message(frame: Frame) -> Script {
    let frames = [Frame::text(HELLO), frame, Frame::new(PING, "")];
    Script::new(vec![Step::Send(concat(&frames))], vec![Event::text(HELLO)], Closing::PROTOCOL_ERROR)
        .or_non_strict(Vec::new())
}

/// The same, a write to each frame.
fn frame_by_frame(frames: &[Frame]) -> Vec<Step> {
    frames.iter().map(|frame| Step::Send(frame.bytes())).collect()
}

fn reserved_bits() -> Vec<Case> {
    vec![
        Case::script("3.1", || Script::refused(&[Frame::text(HELLO).reserved(1)])),
        Case::script("3.2", || refused_after_message(Frame::text(HELLO).reserved(2))),
        Case::script("3.3", || {
            let frames = [Frame::text(HELLO), Frame::text(HELLO).reserved(3), Frame::new(PING, "")];
            Script { steps: frame_by_frame(&frames), ..refused_after_message(Frame::text(HELLO)) }
        }),
        Case::script("3.4", || refused_after_message(Frame::text(HELLO).reserved(4)).in_pieces(1)),
        Case::script("3.5", || Script::refused(&[Frame::new(BINARY, OCTETS).reserved(5)])),
        // The suite calls this a ping, and sends a message.
        Case::script("3.6", || Script::refused(&[Frame::new(BINARY, HELLO).reserved(6)])),
        Case::script("3.7", || Script::refused(&[Frame::new(CLOSE, "").reserved(7)])),
    ]
}

fn opcodes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (section, first) in [(1, 3_u8), (2, 11)] {
        cases.extend([
            Case::script(format!("4.{section}.1"), move || Script::refused(&[Frame::new(first, "")])),
            Case::script(format!("4.{section}.2"), move || {
                Script::refused(&[Frame::new(first + 1, "reserved opcode payload")])
            }),
            Case::script(format!("4.{section}.3"), move || refused_after_message(Frame::new(first + 2, ""))),
            Case::script(format!("4.{section}.4"), move || refused_after_message(Frame::new(first + 3, HELLO))),
            Case::script(format!("4.{section}.5"), move || {
                refused_after_message(Frame::new(first + 4, HELLO)).in_pieces(1)
            }),
        ]);
    }
    cases
}

fn first(payload: &str) -> Frame {
    Frame::text(payload).unfinished()
}

fn next(payload: &str) -> Frame {
    Frame::new(CONTINUATION, payload).unfinished()
}

fn last(payload: &str) -> Frame {
    Frame::new(CONTINUATION, payload)
}

fn two_fragments() -> Vec<Frame> {
    vec![first("fragment1"), last("fragment2")]
}

fn both() -> Event {
    Event::text("fragment1fragment2")
}

fn ping_between() -> Vec<Frame> {
    vec![first("fragment1"), Frame::new(PING, "ping payload"), last("fragment2")]
}

fn pong_and_both() -> Vec<Event> {
    vec![Event::Pong(b"ping payload".to_vec()), both()]
}

fn orphan(frame: Frame) -> [Frame; 2] {
    [frame, Frame::text(HELLO)]
}

fn twice(frames: [Frame; 3]) -> Script {
    let bytes = concat(&frames).repeat(2);
    Script { steps: vec![Step::Send(bytes)], ..Script::refused(&[]) }
}

fn fragmentation() -> Vec<Case> {
    let written_apart = |frames: &[Frame]| {
        let steps = frame_by_frame(frames);
        Script { steps, ..Script::refused(&[]) }
    };
    let answered_apart = |frames: &[Frame], events| {
        let steps = frame_by_frame(frames);
        Script { steps, ..Script::answered(&[], events) }
    };
    vec![
        Case::script("5.1", || Script::refused(&[Frame::new(PING, "fragment1").unfinished(), last("fragment2")])),
        Case::script("5.2", || Script::refused(&[Frame::new(PONG, "fragment1").unfinished(), last("fragment2")])),
        Case::script("5.3", || Script::answered(&two_fragments(), vec![both()])),
        Case::script("5.4", move || answered_apart(&two_fragments(), vec![both()])),
        Case::script("5.5", || Script::answered(&two_fragments(), vec![both()]).in_pieces(1)),
        Case::script("5.6", || Script::answered(&ping_between(), pong_and_both())),
        Case::script("5.7", move || answered_apart(&ping_between(), pong_and_both())),
        Case::script("5.8", || Script::answered(&ping_between(), pong_and_both()).in_pieces(1)),
        Case::script("5.9", || Script::refused(&orphan(last("non-continuation payload")))),
        Case::script("5.10", move || written_apart(&orphan(last("non-continuation payload")))),
        Case::script("5.11", || Script::refused(&orphan(last("non-continuation payload"))).in_pieces(1)),
        Case::script("5.12", || Script::refused(&orphan(next("non-continuation payload")))),
        Case::script("5.13", move || written_apart(&orphan(next("non-continuation payload")))),
        Case::script("5.14", || Script::refused(&orphan(next("non-continuation payload"))).in_pieces(1)),
        Case::script("5.15", || {
            let frames = [first("fragment1"), last("fragment2"), next("fragment3"), Frame::text("fragment4")];
            Script::new(vec![Step::Send(concat(&frames))], vec![both()], Closing::PROTOCOL_ERROR)
                .or_non_strict(Vec::new())
        }),
        Case::script("5.16", || twice([next("fragment1"), first("fragment2"), last("fragment3")])),
        Case::script("5.17", || twice([last("fragment1"), first("fragment2"), last("fragment3")])),
        Case::script("5.18", || Script::refused(&[first("fragment1"), Frame::text("fragment2")])),
        Case::script("5.19", || ping_is_answered_at_once(false)),
        Case::script("5.20", || ping_is_answered_at_once(true)),
    ]
}

/// The rest of the message is sent when the pong has come.
fn ping_is_answered_at_once(is_written_apart: bool) -> Script {
    let before = [first("fragment1"), next("fragment2"), Frame::new(PING, "pongme 1!")];
    let after = [next("fragment3"), next("fragment4"), Frame::new(PING, "pongme 2!"), last("fragment5")];
    let send = |frames: &[Frame]| {
        if is_written_apart { frame_by_frame(frames) } else { vec![Step::Send(concat(frames))] }
    };
    let steps = send(&before).into_iter().chain([Step::Await(1)]).chain(send(&after)).collect();
    let events = vec![
        Event::Pong(b"pongme 1!".to_vec()),
        Event::Pong(b"pongme 2!".to_vec()),
        Event::text("fragment1fragment2fragment3fragment4fragment5"),
    ];
    Script::new(steps, events, Closing::NORMAL)
}
