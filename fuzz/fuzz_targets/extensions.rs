//! Any offer of extensions. What is accepted is answered in terms that parse and keep to the offer.
#![no_main]

use carillon::transport::deflate::{DeflatePolicy, negotiate};
use carillon::transport::extensions;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|header: &str| {
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
