//! Any bytes as a token, and any bytes as the header and the claims of a token that is signed as it ought to be: only what
//! is signed with the key proves anything, and what it proves is in it.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use carillon::authenticator::{TokenError, TokenVerifier};
use carillon_fuzz::SECRET;
use libfuzzer_sys::fuzz_target;
use ring::hmac;
use serde_json::Value;

const NOW: Duration = Duration::from_secs(1_700_000_000);
const HEADER: &[u8] = br#"{"alg":"HS256","typ":"JWT"}"#;

static VERIFIER: LazyLock<TokenVerifier> = LazyLock::new(carillon_fuzz::verifier);

fuzz_target!(init: every_part_is_reached(), |input: &[u8]| {
    let Some((kind, bytes)) = input.split_first() else { return };
    match kind % 3 {
        0 => {
            let token = String::from_utf8_lossy(bytes);
            assert!(VERIFIER.verify(&token, NOW).is_err(), "an unsigned token: {token}");
        }
        1 => proves_what_it_says(HEADER, bytes),
        _ => {
            let (header, claims) = bytes.split_at(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
            proves_what_it_says(header, claims.get(1..).unwrap_or_default());
        }
    }
});

fn signed(header: &[u8], claims: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn proves_what_it_says(header: &[u8], claims: &[u8]) {
    let token = signed(header, claims);
    let Ok(identity) = VERIFIER.verify(&token, NOW) else { return };
    let header: Value = serde_json::from_slice(header).expect("a header is JSON");
    assert_eq!(header["alg"], "HS256");
    assert!(identity.expires_at.is_none_or(|expiry| expiry > NOW.as_secs()));
    assert!(identity.claims.contains_key("user_id"));
    // One bit of the signature decides.
    let mut forged = token.into_bytes();
    if let Some(byte) = forged.iter_mut().rev().nth(5) {
        *byte = if *byte == b'A' { b'B' } else { b'A' };
    }
    let forged = String::from_utf8(forged).expect("ASCII");
    assert!(VERIFIER.verify(&forged, NOW).is_err());
}

fn every_part_is_reached() {
    let verify = |claims: &str| VERIFIER.verify(&signed(HEADER, claims.as_bytes()), NOW);
    let identity = verify(r#"{"user_id":"ann","exp":1800000000}"#).ok().expect("a valid token");
    assert_eq!((identity.user.as_str(), identity.expires_at), ("ann", Some(1_800_000_000)));
    assert_eq!(verify(r#"{"user_id":"ann","exp":1}"#).err(), Some(TokenError::Expired));
    assert_eq!(verify(r#"{"user_id":"ann","nbf":1800000000}"#).err(), Some(TokenError::NotYetValid));
    assert!(matches!(verify("{}").err(), Some(TokenError::Claim(_))));
}
