//! Section 6: text that is UTF-8, text that is not, and how soon that is found.
//!
//! The sequences are those of Markus Kuhn's "UTF-8 decoder capability and stress test".

use crate::case::{Case, Closing};
use crate::peer::Event;
use crate::script::{Script, Step, concat};
use crate::wire::{CONTINUATION, Frame, TEXT, fragments};

/// The word "κόσμε", with its accent as U+1F79: three bytes, after one and before three of two.
const GREEK: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5";
const MIXED: &str = "Hello-µ@ßöäüàá-UTF-8!!";
const EDITED: &[u8] = b"edited";
const SURROGATE: &[u8] = b"\xed\xa0\x80";
/// U+110000, which does not exist. The second byte shows it.
const TOO_HIGH: &[u8] = b"\xf4\x90\x80\x80";

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::script("6.1.1", || Script::answered(&[Frame::text("")], vec![Event::text("")])),
        Case::script("6.1.2", || in_fragments(&["", "", ""])),
        Case::script("6.1.3", || in_fragments(&["", "middle frame payload", ""])),
        Case::script("6.2.1", || in_fragments(&[MIXED])),
        Case::script("6.2.2", || in_fragments(&["Hello-µ@ßöä", "üàá-UTF-8!!"])),
        Case::script("6.2.3", || byte_by_byte(MIXED.as_bytes())),
        Case::script("6.2.4", || byte_by_byte(GREEK)),
        Case::script("6.3.1", || refused(&[Frame::text([GREEK, SURROGATE, EDITED].concat())])),
        Case::script("6.3.2", || refused(&fragments(TEXT, 0, &[GREEK, SURROGATE, EDITED].concat(), 1))),
        Case::script("6.4.1", || found_at_once(frames_of([GREEK, TOO_HIGH, EDITED]))),
        Case::script("6.4.2", || found_at_once(frames_of(parts_to_the_byte()))),
        Case::script("6.4.3", || found_at_once(pieces_of([GREEK, TOO_HIGH, EDITED]))),
        Case::script("6.4.4", || found_at_once(pieces_of(parts_to_the_byte()))),
    ];
    for (sequences, subsection) in sequences().into_iter().zip(5..) {
        for (sequence, number) in sequences.into_iter().zip(1..) {
            cases.push(Case::script(format!("6.{subsection}.{number}"), move || {
                let frame = Frame::text(sequence.clone());
                match std::str::from_utf8(&sequence) {
                    Ok(text) => Script::answered(&[frame], vec![Event::text(text)]),
                    Err(_) => refused(&[frame]),
                }
            }));
        }
    }
    cases
}

fn in_fragments(parts: &[&str]) -> Script {
    let mut frames: Vec<_> = parts.iter().map(|part| Frame::new(CONTINUATION, *part).unfinished()).collect();
    if let Some(first) = frames.first_mut() {
        first.opcode = TEXT;
    }
    if let Some(last) = frames.last_mut() {
        last.is_final = true;
    }
    Script::answered(&frames, vec![Event::text(parts.concat())])
}

fn byte_by_byte(text: &[u8]) -> Script {
    Script::answered(&fragments(TEXT, 0, text, 1), vec![Event::text(text)])
}

fn refused(frames: &[Frame]) -> Script {
    Script::new(vec![Step::Send(concat(frames))], Vec::new(), Closing::INVALID_DATA)
}

/// The first part is in order; the second is not, and nothing more is needed to know it.
fn found_at_once([first, second, third]: [Vec<u8>; 3]) -> Script {
    let steps = vec![Step::Send(first), Step::Pause('A'), Step::Send(second), Step::LastPause('B'), Step::Send(third)];
    Script::new(steps, vec![Event::Pause('A')], Closing::INVALID_DATA)
        .or_non_strict(vec![Event::Pause('A'), Event::Pause('B')])
}

/// The byte that shows the fault stands alone.
fn parts_to_the_byte() -> [&'static [u8]; 3] {
    [b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4", b"\x90", b"\x80\x80edited"]
}

/// A frame to each part.
fn frames_of([first, second, third]: [&[u8]; 3]) -> [Vec<u8>; 3] {
    [
        Frame::text(first).unfinished().bytes(),
        Frame::new(CONTINUATION, second).unfinished().bytes(),
        Frame::new(CONTINUATION, third).bytes(),
    ]
}

/// One frame, sent in parts.
fn pieces_of(parts: [&[u8]; 3]) -> [Vec<u8>; 3] {
    let bytes = Frame::text(parts.concat()).bytes();
    let head = bytes.len() - parts.concat().len();
    let [first, second, _] = parts;
    let (start, rest) = bytes.split_at(head + first.len());
    let (middle, end) = rest.split_at(second.len());
    [start.to_vec(), middle.to_vec(), end.to_vec()]
}

/// By subsection, from 6.5 on.
fn sequences() -> Vec<Vec<Vec<u8>>> {
    vec![
        // Sequences that are valid.
        list(&[b"hello$world", b"hello\xc2\xa2world", b"hello\xe2\x82\xacworld", b"hello\xf0\xa4\xad\xa2world", GREEK]),
        // Every prefix of one.
        (1..=GREEK.len()).map(|end| GREEK.iter().copied().take(end).collect()).collect(),
        // The first of each length, those of 5 and 6 bytes in the next.
        list(&[b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"]),
        list(&[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"]),
        // The last of each length, those beyond U+10FFFF in the next.
        list(&[b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"]),
        list(&[b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"]),
        // Other boundaries.
        list(&[b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf", TOO_HIGH]),
        continuations(),
        lonely_starts(),
        // The last byte missing, one by one and all in a row.
        list(&CUT),
        vec![CUT.concat()],
        // Bytes that never occur.
        list(&[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"]),
        // Overlong: a slash, the largest of each length, and zero.
        list(&[
            b"\xc0\xaf",
            b"\xe0\x80\xaf",
            b"\xf0\x80\x80\xaf",
            b"\xf8\x80\x80\x80\xaf",
            b"\xfc\x80\x80\x80\x80\xaf",
        ]),
        list(&[
            b"\xc1\xbf",
            b"\xe0\x9f\xbf",
            b"\xf0\x8f\xbf\xbf",
            b"\xf8\x87\xbf\xbf\xbf",
            b"\xfc\x83\xbf\xbf\xbf\xbf",
        ]),
        list(&[
            b"\xc0\x80",
            b"\xe0\x80\x80",
            b"\xf0\x80\x80\x80",
            b"\xf8\x80\x80\x80\x80",
            b"\xfc\x80\x80\x80\x80\x80",
        ]),
        single_surrogates(),
        paired_surrogates(),
        noncharacters(),
        // U+FFF9 to U+FFFF.
        (0xb9..=0xbf).map(|last| vec![0xef, 0xbf, last]).collect(),
    ]
}

const CUT: [&[u8]; 10] = [
    b"\xc0",
    b"\xe0\x80",
    b"\xf0\x80\x80",
    b"\xf8\x80\x80\x80",
    b"\xfc\x80\x80\x80\x80",
    b"\xdf",
    b"\xef\xbf",
    b"\xf7\xbf\xbf",
    b"\xfb\xbf\xbf\xbf",
    b"\xfd\xbf\xbf\xbf\xbf",
];

fn list(sequences: &[&[u8]]) -> Vec<Vec<u8>> {
    sequences.iter().map(|sequence| sequence.to_vec()).collect()
}

fn continuations() -> Vec<Vec<u8>> {
    let row = |length| [0x80, 0xbf].into_iter().cycle().take(length).collect();
    [vec![0x80], vec![0xbf]].into_iter().chain((2..=6).map(row)).chain([(0x80..0xbf).collect()]).collect()
}

fn lonely_starts() -> Vec<Vec<u8>> {
    let ranges = [0xc0..0xdf_u8, 0xe0..0xef, 0xf0..0xf7, 0xf8..0xfb, 0xfc..0xfd];
    ranges.into_iter().map(|range| range.flat_map(|start| [start, b' ']).collect()).collect()
}

fn surrogate(low: [u8; 2]) -> Vec<u8> {
    vec![0xed, low[0], low[1]]
}

fn single_surrogates() -> Vec<Vec<u8>> {
    let halves = [[0xa0, 0x80], [0xad, 0xbf], [0xae, 0x80], [0xaf, 0xbf], [0xb0, 0x80], [0xbe, 0x80], [0xbf, 0xbf]];
    halves.into_iter().map(surrogate).collect()
}

fn paired_surrogates() -> Vec<Vec<u8>> {
    let highs = [[0xa0, 0x80], [0xad, 0xbf], [0xae, 0x80], [0xaf, 0xbf]];
    let lows = [[0xb0, 0x80], [0xbf, 0xbf]];
    highs.into_iter().flat_map(|high| lows.map(|low| [surrogate(high), surrogate(low)].concat())).collect()
}

/// Valid in UTF-8: the last two of every plane, U+FFFE and U+FFFF first.
fn noncharacters() -> Vec<Vec<u8>> {
    let planes = (0..=16_u32).flat_map(|plane| [plane << 16 | 0xfffe, plane << 16 | 0xffff]);
    let characters = planes.filter_map(char::from_u32);
    characters.map(|character| character.to_string().into_bytes()).collect()
}
