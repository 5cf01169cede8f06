//! Frames that round-trip, and bytes that are none.

use proptest::prelude::*;

use super::*;
use crate::broker::position::Epoch;

fn id(node: u64, sequence: u64) -> PublicationId {
    PublicationId { node: NodeId::from_random(node), sequence }
}

fn publication(payload: &[u8]) -> Frame<'_> {
    Frame { kind: FrameKind::Publication, id: id(7, 3), origin: id(7, 2), time: 1_700_000_000_000, payload }
}

fn position() -> Position {
    Position { epoch: Epoch::from_random(5), offset: Offset::new(42), id: id(7, 3) }
}

fn positioned(payload: &[u8]) -> Vec<u8> {
    [position_line(position(), id(9, 1)).as_bytes(), &publication(payload).encode()].concat()
}

#[test]
fn a_frame_is_a_header_of_34_bytes_and_its_payload() {
    let bytes = publication(b"{}").encode();
    assert_eq!(bytes.len(), 36);
    assert_eq!(bytes[..2], [1, 1]);
    assert_eq!(bytes[2..10], 7_u64.to_be_bytes());
    assert_eq!(bytes[10..18], 3_u64.to_be_bytes());
    assert_eq!(bytes[18..26], 2_u64.to_be_bytes());
    assert_eq!(bytes[26..34], 1_700_000_000_000_u64.to_be_bytes());
    assert_eq!(&bytes[34..], b"{}");
}

#[test]
fn every_kind_round_trips_with_any_payload() {
    for kind in FrameKind::ALL {
        for payload in [b"".as_slice(), b"{}", b"\n", &[0xff; 1000]] {
            let frame = Frame { kind, ..publication(payload) };
            assert_eq!(Message::decode(&frame.encode()), Ok(Message::Plain(frame)));
        }
    }
}

#[test]
fn a_positioned_publication_carries_its_own_id_and_that_of_its_predecessor() {
    for payload in [b"".as_slice(), b"a\nb", b"1:2:3-4\n"] {
        let expected = Message::Positioned { frame: publication(payload), position: position(), previous: id(9, 1) };
        assert_eq!(Message::decode(&positioned(payload)), Ok(expected));
    }
}

#[test]
fn other_versions_and_kinds_are_told_apart_from_damage() {
    let with = |place: usize, value: u8| {
        let mut bytes = publication(b"x").encode();
        bytes[place] = value;
        bytes
    };
    for version in (0..=255).filter(|version: &u8| *version != VERSION && !version.is_ascii_alphanumeric()) {
        assert_eq!(Message::decode(&with(0, version)), Err(MalformedMessage::Version));
    }
    for kind in [0, 7, 255] {
        assert_eq!(Message::decode(&with(1, kind)), Err(MalformedMessage::Kind));
    }
    for (sequence, first) in [(0, 0), (1, 0), (1, 2), (0, 1)] {
        let impossible = Frame { id: id(7, sequence), origin: id(7, first), ..publication(b"") };
        assert_eq!(Message::decode(&impossible.encode()), Err(MalformedMessage::Frame));
    }
    assert_eq!(Message::decode(b""), Err(MalformedMessage::Frame));
    // Binary data of something else.
    assert_eq!(Message::decode(&[0xff; 200]), Err(MalformedMessage::Version));
    assert_eq!(Message::decode(&[b'a'; 1 << 20]), Err(MalformedMessage::Position));
}

#[test]
fn a_truncated_message_is_malformed_at_every_length_within_its_header() {
    let plain = publication(b"").encode();
    for length in 0..plain.len() {
        assert_eq!(Message::decode(&plain[..length]), Err(MalformedMessage::Frame), "{length}");
    }
    let positioned = positioned(b"");
    for length in 0..positioned.len() {
        assert!(Message::decode(&positioned[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_position_that_cannot_be_is_malformed() {
    let frame = publication(b"x").encode();
    let with_line = |line: &str| Message::decode(&[line.as_bytes(), &frame].concat()).map(|_| ());
    assert_eq!(with_line("5:42:9-1\n"), Ok(()));
    for line in ["5:0:9-1\n", "5:42:7-3\n", "5:42\n", "5:42:9-1", "5:042:9-1\n", "5:42:9-1\r\n", "a\n", "9\n\n"] {
        assert_eq!(with_line(line), Err(MalformedMessage::Position), "{line:?}");
    }
    let heartbeat = Frame { kind: FrameKind::Heartbeat, ..publication(b"x") }.encode();
    let bytes = [b"5:42:9-1\n".as_slice(), &heartbeat].concat();
    assert_eq!(Message::decode(&bytes), Err(MalformedMessage::Position));
    assert_eq!(Message::decode(b"5:42:9-1\n"), Err(MalformedMessage::Frame));
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Message::Plain(frame)) = Message::decode(&bytes) {
            prop_assert_eq!(frame.encode(), bytes);
        }
    }

    #[test]
    fn what_is_decoded_from_damaged_bytes_is_what_they_say(
        place in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = positioned(b"{\"type\":\"message\"}");
        let place = place.index(bytes.len());
        bytes[place] = value;
        bytes.truncate(cut.index(bytes.len() + 1));
        match Message::decode(&bytes) {
            Ok(Message::Plain(frame)) => prop_assert_eq!(frame.encode(), bytes),
            Ok(Message::Positioned { frame, position, previous }) => {
                let again = [position_line(position, previous).as_bytes(), &frame.encode()].concat();
                prop_assert_eq!(again, bytes);
            }
            Err(_) => (),
        }
    }

    #[test]
    fn frames_of_all_values_round_trip(node: u64, sequence in 1..u64::MAX, time: u64, payload in prop::collection::vec(any::<u8>(), 0..50)) {
        let id = PublicationId { node: NodeId::from_bits(node), sequence };
        let origin = PublicationId { sequence: sequence / 2 + 1, ..id };
        let frame = Frame { kind: FrameKind::Command, id, origin, time, payload: &payload };
        let bytes = frame.encode();
        prop_assert_eq!(Message::decode(&bytes), Ok(Message::Plain(frame)));
    }
}
