//! Any offer of extensions. What is accepted is answered in terms that parse and keep to the offer.
#![no_main]

use carillon::transport::deflate::{DeflatePolicy, negotiate};
use carillon::transport::extensions;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: every_answer_is_reached(), |header: &str| {
    for policy in [DeflatePolicy::SERVICE, DeflatePolicy::FULL_RANGE] {
        let Ok(Some(negotiated)) = negotiate(header, &policy) else { continue };
        let response = negotiated.response();
        assert!(header.contains("permessage-deflate"));
        let answers: Vec<_> = extensions::parse(&response).collect::<Result<_, _>>().expect("our own words parse");
        let [answer] = answers.as_slice() else { panic!("{response}") };
        assert_eq!(answer.name, "permessage-deflate");
        for (name, value) in &answer.parameters {
            if let Some(bits) = value {
                let bits: u8 = bits.parse().expect("a number");
                assert!((8..=15).contains(&bits));
                // RFC 7692 §7.1.2.2: only what the client said it understands.
                assert!(name != &"client_max_window_bits" || header.contains("client_max_window_bits"));
            }
        }
        // As an offer of the same terms it is accepted again.
        assert!(negotiate(&response, &DeflatePolicy::FULL_RANGE).is_ok());
    }
});

/// Offers that are accepted with and without terms, passed over, and no offers at all.
fn every_answer_is_reached() {
    let answer = |header: &str| negotiate(header, &DeflatePolicy::FULL_RANGE).map(|one| one.map(|one| one.response()));
    for (header, response) in [
        ("permessage-deflate", Some(vec![])),
        ("x-other; a=b, permessage-deflate", Some(vec![])),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", Some(vec![])),
        ("permessage-deflate; server_max_window_bits=10", Some(vec!["server_max_window_bits=10"])),
        ("permessage-deflate; server_max_window_bits=\"1\\0\"", Some(vec!["server_max_window_bits=10"])),
        ("permessage-deflate; client_max_window_bits=12", Some(vec!["client_max_window_bits=12"])),
        ("x-other", None),
    ] {
        let answered = answer(header).unwrap_or_else(|_| panic!("it is read: {header}"));
        assert_eq!(answered.is_some(), response.is_some(), "{header}: {answered:?}");
        for term in response.unwrap_or_default() {
            assert!(answered.as_ref().is_some_and(|answered| answered.contains(term)), "{header}: {answered:?}");
        }
    }
    for header in [
        "permessage-deflate; unknown=1",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate;",
        "a b",
        "permessage-deflate; a=\"",
        ";",
    ] {
        assert!(answer(header).is_err(), "{header}");
    }
}
