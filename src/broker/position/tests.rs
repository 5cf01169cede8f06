//! Positions as hostile text: each text parses to the position that it is the text of, or not at all.

use proptest::prelude::*;

use super::*;

fn position(epoch: u64, offset: u64, node: u64, sequence: u64) -> Position {
    Position { epoch: Epoch(epoch), offset: Offset(offset), id: PublicationId { node: NodeId(node), sequence } }
}

#[test]
fn the_text_form_is_epoch_offset_node_sequence() {
    let text = "hQ3x:1045:a7k2-91";
    let parsed = Position::parse(text).unwrap();
    assert_eq!((parsed.offset, parsed.id.sequence), (Offset(1045), 91));
    assert_eq!(parsed.to_string(), text);
    assert_eq!(position(0, 0, 61, 0).to_string(), "0:0:z-0");
    assert_eq!(position(62, 1, 62 * 62, 2).to_string(), "10:1:100-2");
}

#[test]
fn the_largest_position_has_the_longest_text() {
    let largest = position(u64::MAX, u64::MAX, u64::MAX, u64::MAX);
    let text = largest.to_string();
    assert_eq!(text.len(), Position::MAX_TEXT_LEN);
    assert_eq!(Position::parse(&text), Ok(largest));
}

#[test]
fn a_text_that_is_not_exactly_a_text_form_is_malformed() {
    let huge = "1".repeat(1 << 20);
    let long_epoch = format!("{}:1:a-1", "z".repeat(12));
    for text in [
        "",
        ":",
        "::",
        "::-",
        "a",
        "a:1",
        "a:1:b",
        "a:1:b-",
        "a:1:-1",
        "a::b-1",
        ":1:b-1",
        "a:1:b-1:",
        "a:1:b-1-1",
        "a:1:b:1",
        "a:1:b-1 ",
        " a:1:b-1",
        "a:+1:b-1",
        "a:-1:b-1",
        "a:1.0:b-1",
        "a:1e3:b-1",
        "a:0x1:b-1",
        "a:01:b-1",
        "a:00:b-1",
        "a:1:b-01",
        "0a:1:b-1",
        "a:1:00-1",
        "a:1:b_-1",
        "a:1:b-1\0",
        "a:\u{661}:b-1",
        "\u{e9}:1:b-1",
        // One above 64 bits.
        "a:18446744073709551616:b-1",
        "a:1:b-18446744073709551616",
        "LygHa16AHYG:1:b-1",
        "a:1:LygHa16AHYG-1",
        "zzzzzzzzzzz:1:b-1",
        &long_epoch,
        &huge,
    ] {
        assert_eq!(Position::parse(text), Err(MalformedPosition), "{text:.40?}");
    }
}

#[test]
fn every_proper_prefix_of_a_text_is_malformed_or_another_position() {
    let whole = position(12345, 678, 91011, 1213);
    let text = whole.to_string();
    for length in 0..text.len() {
        assert_ne!(Position::parse(&text[..length]), Ok(whole), "{length}");
    }
}

#[test]
fn random_epochs_and_nodes_have_at_most_eight_digits() {
    for random in [0, 1, u64::MAX, base62::EIGHT_DIGITS, base62::EIGHT_DIGITS - 1] {
        assert!(Epoch::from_random(random).to_string().len() <= 8);
        assert!(NodeId::from_random(random).to_string().len() <= 8);
    }
    assert_eq!(Epoch::from_random(base62::EIGHT_DIGITS - 1).to_string(), "zzzzzzzz");
}

#[test]
fn since_distinguishes_null_a_position_and_everything_else() {
    assert_eq!(Since::parse(None), Since::Start);
    assert_eq!(Since::parse(Some("a:1:b-2")), Since::Position(Position::parse("a:1:b-2").unwrap()));
    assert_eq!(Since::parse(Some("null")), Since::Malformed);
    assert_eq!(Since::parse(Some("")), Since::Malformed);
}

#[test]
fn offsets_are_compared_without_overflow() {
    assert_eq!(Offset(5).since(Offset(3)), Some(2));
    assert_eq!(Offset(3).since(Offset(5)), None);
    assert_eq!(Offset(u64::MAX).since(Offset::ZERO), Some(u64::MAX));
    assert_eq!(Offset(u64::MAX).next(), Offset(u64::MAX));
}

fn any_position() -> impl Strategy<Value = Position> {
    let number = || prop_oneof![0..5_u64, any::<u64>(), Just(u64::MAX)];
    (number(), number(), number(), number()).prop_map(|(e, o, n, s)| position(e, o, n, s))
}

proptest! {
    #[test]
    fn every_position_round_trips(position in any_position()) {
        prop_assert_eq!(Position::parse(&position.to_string()), Ok(position));
    }

    #[test]
    fn two_positions_never_share_a_text(one in any_position(), other in any_position()) {
        prop_assert_eq!(one == other, one.to_string() == other.to_string());
    }

    #[test]
    fn a_text_that_parses_is_the_text_of_its_position(text in "[0-9A-Za-z]{0,12}:[0-9]{0,21}:[0-9A-Za-z]{0,12}-[0-9]{0,21}") {
        if let Ok(position) = Position::parse(&text) {
            prop_assert_eq!(position.to_string(), text);
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in ".{0,100}") {
        if let Ok(position) = Position::parse(&text) {
            prop_assert_eq!(position.to_string(), text);
        }
    }

    #[test]
    fn a_changed_character_never_yields_the_same_position(
        position in any_position(), place in any::<prop::sample::Index>(), character in any::<char>(),
    ) {
        let mut forged: Vec<char> = position.to_string().chars().collect();
        let place = place.index(forged.len());
        prop_assume!(forged[place] != character);
        forged[place] = character;
        let forged: String = forged.into_iter().collect();
        prop_assert_ne!(Position::parse(&forged), Ok(position));
    }
}
