//! Tokens good and bad. The keys are in `tests/keys`.

use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::EncodingKey;
use proptest::prelude::*;
use serde_json::json;

use super::*;

mod signing;

const NOW: u64 = 1_700_000_000;
const SECRET: &str = "a secret for tests";

macro_rules! key {
    ($name:literal) => {
        include_str!(concat!("../../tests/keys/", $name, ".pem"))
    };
}

fn rules(key: KeyMaterial, algorithms: &[&str]) -> TokenRules {
    let algorithms = (!algorithms.is_empty()).then(|| algorithms.iter().map(|name| (*name).to_owned()).collect());
    TokenRules { key, algorithms, user_id_claim: "user_id".into(), issuer: None, audience: None }
}

fn with_secret(algorithms: &[&str]) -> TokenVerifier {
    TokenVerifier::new(rules(KeyMaterial::Secret(SECRET.into()), algorithms)).unwrap()
}

fn with_public_key(pem: &str, algorithms: &[&str]) -> TokenVerifier {
    TokenVerifier::new(rules(KeyMaterial::PublicKey(pem.into()), algorithms)).unwrap()
}

fn refusal(key: KeyMaterial, algorithms: &[&str]) -> (String, String) {
    let error = TokenVerifier::new(rules(key, algorithms)).unwrap_err();
    (error.code().to_owned(), error.to_string())
}

fn encode(part: &str) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

/// Signs any header and any claims, sensible or not.
fn sign_raw(header: &str, claims: &str, algorithm: Algorithm, key: &EncodingKey) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    format!("{message}.{}", signing::sign(&message, key, algorithm))
}

fn sign(claims: &Value) -> String {
    sign_raw(r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string(), Algorithm::HS256, &secret_key(SECRET))
}

fn secret_key(secret: &str) -> EncodingKey {
    EncodingKey::from_secret(secret.as_bytes())
}

fn verify(verifier: &TokenVerifier, token: &str) -> Result<Identity, TokenError> {
    verifier.verify(token, Duration::from_secs(NOW))
}

/// The user, or the label of the fault.
fn outcome(verifier: &TokenVerifier, token: &str) -> String {
    match verify(verifier, token) {
        Ok(identity) => identity.user.to_string(),
        Err(fault) => fault.label().to_owned(),
    }
}

#[test]
fn a_token_made_by_the_application_proves_its_user() {
    let claims = json!({ "user_id": "ann", "email": "ann@example.com", "iat": NOW - 60, "exp": NOW + 86_340 });
    let identity = verify(&with_secret(&[]), &sign(&claims)).unwrap();
    assert_eq!(identity.user, UserId::new("ann"));
    assert_eq!(identity.expires_at, Some(NOW + 86_340));
    assert_eq!(Value::Object(identity.claims), claims);
}

/// RFC 7515 §A.1: made by others, with another header layout and other claims.
#[test]
fn a_published_token_is_verified() {
    let verifier = TokenVerifier {
        key: VerificationKey::from_secret(
            &STANDARD
                .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ+EstJQLr/T+1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow==")
                .unwrap(),
        ),
        user_id_claim: "iss".into(),
        ..with_secret(&[])
    };
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9\
                 .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
                 .dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let identity = verifier.verify(token, Duration::from_secs(1_300_819_379)).unwrap();
    assert_eq!(identity.user, UserId::new("joe"));
    assert_eq!(verifier.verify(token, Duration::from_secs(1_300_819_380)), Err(TokenError::Expired));
}

#[test]
fn every_algorithm_verifies_its_own_signature_and_no_other() {
    let claims = json!({ "user_id": "ann" }).to_string();
    let rsa = EncodingKey::from_rsa_pem(key!("rsa-private").as_bytes()).unwrap();
    let p256 = EncodingKey::from_ec_pem(key!("p256-private").as_bytes()).unwrap();
    let p384 = EncodingKey::from_ec_pem(key!("p384-private").as_bytes()).unwrap();
    let ed25519 = EncodingKey::from_ed_pem(key!("ed25519-private").as_bytes()).unwrap();
    let rsa_names = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];

    let mut cases = Vec::new();
    for name in ["HS256", "HS384", "HS512"] {
        cases.push((name, secret_key(SECRET), with_secret(&[])));
    }
    for name in rsa_names {
        cases.push((name, rsa.clone(), with_public_key(key!("rsa-public"), &rsa_names)));
    }
    cases.push(("ES256", p256, with_public_key(key!("p256-public"), &["ES256"])));
    cases.push(("ES384", p384, with_public_key(key!("p384-public"), &["ES384"])));
    cases.push(("EdDSA", ed25519, with_public_key(key!("ed25519-public"), &["EdDSA"])));

    for (name, key, verifier) in &cases {
        let header = format!(r#"{{"alg":"{name}"}}"#);
        let token = sign_raw(&header, &claims, name.parse().unwrap(), key);
        assert_eq!(outcome(verifier, &token), "ann", "{name}");

        let (message, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = message.split_once('.').unwrap();
        let forged = format!("{header}.{}.{signature}", encode(r#"{"user_id":"eve"}"#));
        assert_eq!(outcome(verifier, &forged), "signature", "{name}");

        for (other, _, _) in cases.iter().filter(|(other, ..)| other != name) {
            let relabelled = format!("{}.{}.{signature}", encode(&format!(r#"{{"alg":"{other}"}}"#)), encode(&claims));
            let fault = verify(verifier, &relabelled).unwrap_err();
            let expected = if verifier.algorithms.contains(&other.parse().unwrap()) {
                TokenError::Signature
            } else {
                TokenError::Algorithm
            };
            assert_eq!(fault, expected, "{name} as {other}");
        }
    }
}

#[test]
fn public_keys_come_in_both_common_formats() {
    let rsa = EncodingKey::from_rsa_pem(key!("rsa-private").as_bytes()).unwrap();
    let token = sign_raw(r#"{"alg":"RS256"}"#, r#"{"user_id":"ann"}"#, Algorithm::RS256, &rsa);
    for (pem, expected) in
        [(key!("rsa-public"), "ann"), (key!("rsa-public-pkcs1"), "ann"), (key!("rsa-other-public"), "signature")]
    {
        assert_eq!(outcome(&with_public_key(pem, &["RS256"]), &token), expected);
        let with_line_ends = pem.replace('\n', "\r\n");
        assert_eq!(outcome(&with_public_key(&with_line_ends, &["RS256"]), &token), expected);
    }
}

#[test]
fn only_allowed_algorithms_count() {
    let claims = r#"{"user_id":"ann"}"#;
    let hs384 = sign_raw(r#"{"alg":"HS384"}"#, claims, Algorithm::HS384, &secret_key(SECRET));
    assert_eq!(outcome(&with_secret(&[]), &hs384), "ann");
    assert_eq!(outcome(&with_secret(&["HS384"]), &hs384), "ann");
    assert_eq!(outcome(&with_secret(&["HS256", "HS512"]), &hs384), "algorithm");
}

#[test]
fn unsigned_tokens_are_refused() {
    let claims = encode(r#"{"user_id":"ann"}"#);
    let verifier = with_secret(&[]);
    for name in ["none", "None", "NONE", "nOnE", "", "hs256", "HS256 ", "ES512", "ES256K"] {
        let header = encode(&json!({ "alg": name }).to_string());
        for signature in ["", "AAAA"] {
            assert_eq!(outcome(&verifier, &format!("{header}.{claims}.{signature}")), "algorithm", "{name:?}");
        }
    }
    let header = encode(r#"{"alg":"HS256"}"#);
    assert_eq!(outcome(&verifier, &format!("{header}.{claims}.")), "signature");
    assert_eq!(outcome(&verifier, &format!("{header}.{claims}")), "malformed");
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    let pem = key!("rsa-public");
    let verifier = with_public_key(pem, &["RS256"]);
    for secret in [pem, pem.trim_end(), SECRET, ""] {
        for (name, algorithm) in [("HS256", Algorithm::HS256), ("RS256", Algorithm::HS256)] {
            let header = json!({ "alg": name }).to_string();
            let token = sign_raw(&header, r#"{"user_id":"eve"}"#, algorithm, &secret_key(secret));
            assert!(verify(&verifier, &token).is_err(), "{name}");
        }
    }
    let (code, message) = refusal(KeyMaterial::Secret(pem.into()), &[]);
    assert_eq!(code, "ERR_INVALID_OPTION");
    assert!(message.starts_with("jwtSecret "), "{message}");
}

#[test]
fn a_public_key_in_any_wrapping_is_no_secret() {
    let pem = key!("p256-public");
    for text in [
        format!("\u{feff}{pem}"),
        format!("# issuer\n{pem}"),
        format!("\"{}\"", pem.replace('\n', "\\n")),
        key!("certificate").to_owned(),
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl a".to_owned(),
        r#"{"keys":[{"kty":"EC","crv":"P-256","x":"a","y":"b"}]}"#.to_owned(),
        pem.lines().filter(|line| !line.starts_with('-')).collect(),
    ] {
        let (code, message) = refusal(KeyMaterial::Secret(text), &[]);
        assert_eq!(code, "ERR_INVALID_OPTION");
        assert!(message.starts_with("jwtSecret ") && message.contains("jwtPublicKey"), "{message}");
    }
}

#[test]
fn a_secret_shorter_than_the_hash_is_told() {
    let short = |length: usize, algorithms: &[&str]| {
        let secret = KeyMaterial::Secret("s".repeat(length));
        TokenVerifier::new(rules(secret, algorithms)).unwrap().short_secret().map(|short| (short.bytes, short.needed))
    };
    assert_eq!(short(31, &[]), Some((31, 32)));
    assert_eq!(short(32, &[]), None);
    assert_eq!(short(31, &["HS256"]), Some((31, 32)));
    assert_eq!(short(32, &["HS256", "HS384"]), Some((32, 48)));
    assert_eq!(short(48, &["HS384"]), None);
    assert_eq!(short(63, &["HS256", "HS512"]), Some((63, 64)));
    assert_eq!(short(64, &["HS512", "HS256"]), None);
    assert!(with_public_key(key!("p256-public"), &["ES256"]).short_secret().is_none());
}

#[test]
fn half_characters_in_claims_are_read_as_javascript_writes_them() {
    let verifier = with_secret(&[]);
    let token = |claims: &str| sign_raw(r#"{"alg":"HS256"}"#, claims, Algorithm::HS256, &secret_key(SECRET));
    let claims = r#"{"user_id":"ann","name":"cut \ud83d","deep":[{"\udc00":"\ud800\ud800"}],"whole":"\ud83d\ude00"}"#;
    let identity = verify(&verifier, &token(claims)).unwrap();
    assert_eq!(
        Value::Object(identity.claims),
        json!({ "user_id": "ann", "name": "cut \u{fffd}", "deep": [{ "\u{fffd}": "\u{fffd}\u{fffd}" }], "whole": "😀" })
    );
    // Different users must not become one.
    for claims in [r#"{"user_id":"ann\ud800"}"#, r#"{"user_id":"ann\ud800","name":"\ud800"}"#] {
        assert_eq!(outcome(&verifier, &token(claims)), "malformed", "{claims}");
    }
    assert_eq!(outcome(&verifier, &token(r#"{"user_id":"ann\ufffd","name":"\ud800"}"#)), "ann\u{fffd}");
    assert_eq!(outcome(&verifier, &token(r#"{"user_id":"ann","name":"\ud800""#)), "malformed");
}

#[test]
fn keys_and_algorithms_that_do_not_fit_are_refused_at_once() {
    let secret = || KeyMaterial::Secret(SECRET.into());
    let public = |pem: &str| KeyMaterial::PublicKey(pem.into());
    for (key, algorithms, option) in [
        (secret(), &["HS256", "none"][..], "jwtAlgorithms"),
        (secret(), &["hs256"], "jwtAlgorithms"),
        (secret(), &["RS256"], "jwtAlgorithms"),
        (secret(), &["HS256", "EdDSA"], "jwtAlgorithms"),
        (public(key!("rsa-public")), &[], "jwtAlgorithms"),
        (public(key!("rsa-public")), &["HS256"], "jwtAlgorithms"),
        (public(key!("rsa-public")), &["RS256", "HS256"], "jwtAlgorithms"),
        (public(key!("rsa-public")), &["ES256"], "jwtAlgorithms"),
        (public(key!("rsa-public")), &["RS256", "ES256"], "jwtAlgorithms"),
        (public(key!("p256-public")), &["ES384"], "jwtAlgorithms"),
        (public(key!("p384-public")), &["ES256", "ES384"], "jwtAlgorithms"),
        (public(key!("p256-public")), &["EdDSA"], "jwtAlgorithms"),
        (public(key!("ed25519-public")), &["ES256"], "jwtAlgorithms"),
        (public(key!("secp256k1-public")), &["ES256"], "jwtAlgorithms"),
        (public(key!("p256-public")), &["ES512"], "jwtAlgorithms"),
        (public(key!("rsa-small-public")), &["RS256"], "jwtPublicKey"),
        (public(key!("rsa-large-public")), &["RS256"], "jwtPublicKey: an RSA key may have at most 8192 bits"),
        (public(key!("ed448-public")), &["EdDSA"], "jwtPublicKey"),
        (public(key!("rsa-private")), &["RS256"], "jwtPublicKey"),
        (public(key!("p256-private")), &["ES256"], "jwtPublicKey"),
        (public(key!("ed25519-private")), &["EdDSA"], "jwtPublicKey"),
        (public(""), &["RS256"], "jwtPublicKey"),
        (public("not a key"), &["RS256"], "jwtPublicKey"),
        (public("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), &["RS256"], "jwtPublicKey"),
        // An Ed25519 key of two bytes.
        (
            public("-----BEGIN PUBLIC KEY-----\nMAwwBQYDK2VwAwMAAQI=\n-----END PUBLIC KEY-----\n"),
            &["EdDSA"],
            "jwtPublicKey",
        ),
    ] {
        let (code, message) = refusal(key, algorithms);
        assert_eq!(code, "ERR_INVALID_OPTION", "{message}");
        assert!(message.starts_with(option), "{message}");
    }
    assert_eq!(refusal(KeyMaterial::Secret(String::new()), &[]).0, "ERR_NO_JWT_SECRET");

    let no_algorithms = TokenRules { algorithms: Some(vec![]), ..rules(secret(), &[]) };
    assert!(TokenVerifier::new(no_algorithms).unwrap_err().to_string().starts_with("jwtAlgorithms"));
    let no_claim = TokenRules { user_id_claim: String::new(), ..rules(secret(), &[]) };
    assert!(TokenVerifier::new(no_claim).unwrap_err().to_string().starts_with("jwtUserIdClaim"));
}

#[test]
fn a_public_key_cut_anywhere_is_refused_and_never_panics() {
    for (pem, algorithm) in
        [(key!("rsa-public"), "RS256"), (key!("p256-public"), "ES256"), (key!("ed25519-public"), "EdDSA")]
    {
        for end in 0..pem.trim_end().len() {
            assert!(TokenVerifier::new(rules(KeyMaterial::PublicKey(pem[..end].into()), &[algorithm])).is_err());
        }
    }
}

#[test]
fn times_are_whole_seconds_without_leeway() {
    let verifier = with_secret(&[]);
    let now = NOW as f64;
    for (times, expected) in [
        (json!({}), "ann"),
        (json!({ "exp": NOW + 1 }), "ann"),
        (json!({ "exp": NOW }), "expired"),
        (json!({ "exp": NOW - 1 }), "expired"),
        (json!({ "exp": now + 0.5 }), "ann"),
        (json!({ "exp": now - 0.5 }), "expired"),
        (json!({ "exp": 0 }), "expired"),
        (json!({ "exp": -1 }), "expired"),
        (json!({ "exp": 1e300 }), "ann"),
        (json!({ "exp": u64::MAX }), "ann"),
        (json!({ "exp": null }), "claim_expiry"),
        (json!({ "exp": (NOW + 1).to_string() }), "claim_expiry"),
        (json!({ "exp": true }), "claim_expiry"),
        (json!({ "exp": [NOW + 1] }), "claim_expiry"),
        (json!({ "exp": { "at": NOW + 1 } }), "claim_expiry"),
        (json!({ "nbf": NOW }), "ann"),
        (json!({ "nbf": NOW - 1 }), "ann"),
        (json!({ "nbf": NOW + 1 }), "not_yet_valid"),
        (json!({ "nbf": now + 0.5 }), "not_yet_valid"),
        (json!({ "nbf": -5 }), "ann"),
        (json!({ "nbf": null }), "claim_not_before"),
        (json!({ "nbf": "0" }), "claim_not_before"),
        (json!({ "nbf": NOW + 1, "exp": NOW }), "not_yet_valid"),
        // Neither of these is looked at.
        (json!({ "iat": NOW + 1000 }), "ann"),
        (json!({ "iat": "yesterday", "sub": { "a": 1 }, "iss": [1], "aud": { "b": 2 }, "jti": null }), "ann"),
    ] {
        let mut claims = json!({ "user_id": "ann" });
        claims.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
        let token = sign(&claims);
        assert_eq!(outcome(&verifier, &token), expected, "{times}");

        // The second changes at its start: the fraction of now does not count.
        let late = verifier.verify(&token, Duration::new(NOW, 999_999_999));
        assert_eq!(late, verify(&verifier, &token), "{times}");

        if let Ok(Identity { expires_at: Some(end), .. }) = late
            && end < 1 << 53
        {
            assert!(verifier.verify(&token, Duration::from_secs(end - 1)).is_ok(), "{times}");
            assert_eq!(verifier.verify(&token, Duration::from_secs(end)), Err(TokenError::Expired), "{times}");
        }
    }
}

#[test]
fn issuer_and_audience_are_checked_if_they_are_set() {
    let strict = TokenVerifier::new(TokenRules {
        issuer: Some("app".into()),
        audience: Some("live".into()),
        ..rules(KeyMaterial::Secret(SECRET.into()), &[])
    })
    .unwrap();
    for (iss, aud, expected) in [
        (json!("app"), json!("live"), "ann"),
        (json!("app"), json!(["other", "live"]), "ann"),
        (json!("app"), json!("other"), "claim_audience"),
        (json!("app"), json!("liv"), "claim_audience"),
        (json!("app"), json!([]), "claim_audience"),
        (json!("app"), json!([["live"]]), "claim_audience"),
        (json!("app"), json!({ "live": true }), "claim_audience"),
        (json!("app"), json!(null), "claim_audience"),
        (json!("App"), json!("live"), "claim_issuer"),
        (json!(["app"]), json!("live"), "claim_issuer"),
        (json!(null), json!("live"), "claim_issuer"),
        (json!(""), json!("live"), "claim_issuer"),
    ] {
        let token = sign(&json!({ "user_id": "ann", "iss": iss, "aud": aud }));
        assert_eq!(outcome(&strict, &token), expected, "{iss} {aud}");
    }
    assert_eq!(outcome(&strict, &sign(&json!({ "user_id": "ann", "iss": "app" }))), "claim_audience");
    assert_eq!(outcome(&strict, &sign(&json!({ "user_id": "ann", "aud": "live" }))), "claim_issuer");
}

#[test]
fn a_user_is_a_string_or_a_whole_number() {
    let verifier = with_secret(&[]);
    for (claims, expected) in [
        (r#"{"user_id":"ann"}"#, "ann"),
        (r#"{"user_id":" "}"#, " "),
        (r#"{"user_id":"\u00e9\"\n"}"#, "é\"\n"),
        (r#"{"user_id":42}"#, "42"),
        (r#"{"user_id":42.0}"#, "42"),
        (r#"{"user_id":4.2e1}"#, "42"),
        (r#"{"user_id":0}"#, "0"),
        (r#"{"user_id":-0}"#, "0"),
        (r#"{"user_id":-7}"#, "-7"),
        (r#"{"user_id":18446744073709551615}"#, "18446744073709551615"),
        (r#"{"user_id":"a","user_id":"b"}"#, "b"),
        (r#"{"user_id":4.5}"#, "claim_user"),
        (r#"{"user_id":1e20}"#, "claim_user"),
        (r#"{"user_id":""}"#, "claim_user"),
        (r#"{"user_id":null}"#, "claim_user"),
        (r#"{"user_id":true}"#, "claim_user"),
        (r#"{"user_id":["ann"]}"#, "claim_user"),
        (r#"{"user_id":{"id":"ann"}}"#, "claim_user"),
        (r#"{"userId":"ann"}"#, "claim_user"),
        ("{}", "claim_user"),
        (r#"{"user_id":"\ud800"}"#, "malformed"),
        (r#"["user_id"]"#, "malformed"),
        ("null", "malformed"),
        ("", "malformed"),
        (r#"{"user_id":"ann"} x"#, "malformed"),
    ] {
        let token = sign_raw(r#"{"alg":"HS256"}"#, claims, Algorithm::HS256, &secret_key(SECRET));
        assert_eq!(outcome(&verifier, &token), expected, "{claims}");
    }
    let other_claim = TokenRules { user_id_claim: "sub".into(), ..rules(KeyMaterial::Secret(SECRET.into()), &[]) };
    let verifier = TokenVerifier::new(other_claim).unwrap();
    assert_eq!(outcome(&verifier, &sign(&json!({ "sub": "bob", "user_id": "ann" }))), "bob");
}

#[test]
fn the_header_says_no_more_than_the_algorithm() {
    let verifier = with_secret(&[]);
    let claims = r#"{"user_id":"ann"}"#;
    for (header, expected) in [
        (r#"{"alg":"HS256"}"#, "ann"),
        (r#"{"typ":7,"kid":null,"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"},"x5c":"?"}"#, "ann"),
        (r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, "malformed"),
        (r#"{"alg":"none","alg":"HS256"}"#, "malformed"),
        (r#"{"alg":["HS256"]}"#, "malformed"),
        (r#"{"typ":"JWT"}"#, "malformed"),
        ("[]", "malformed"),
        ("", "malformed"),
    ] {
        let token = sign_raw(header, claims, Algorithm::HS256, &secret_key(SECRET));
        assert_eq!(outcome(&verifier, &token), expected, "{header}");
    }
}

#[test]
fn a_token_signed_with_another_secret_is_refused() {
    for secret in ["", "fallback-secret", &SECRET[1..], &SECRET.to_uppercase()] {
        let token = sign_raw(r#"{"alg":"HS256"}"#, r#"{"user_id":"eve"}"#, Algorithm::HS256, &secret_key(secret));
        assert_eq!(outcome(&with_secret(&[]), &token), "signature", "{secret:?}");
    }
}

#[test]
fn a_token_cut_or_changed_anywhere_is_refused() {
    let verifier = with_secret(&[]);
    let token = sign(&json!({ "user_id": "ann", "exp": NOW + 60 }));
    for end in 0..token.len() {
        assert!(verify(&verifier, &token[..end]).is_err(), "cut at {end}");
        assert!(verify(&verifier, &token[end + 1..]).is_err(), "begun at {end}");
        for byte in ['A', 'B', '.', '=', ' ', '\0', 'é'] {
            let changed = format!("{}{byte}{}", &token[..end], &token[end + 1..]);
            assert!(changed == token || verify(&verifier, &changed).is_err(), "{byte:?} at {end}");
        }
    }
    for changed in [
        format!("{token} "),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{token}="),
        format!("{token}."),
        format!(".{token}"),
        format!("Bearer {token}"),
        format!("{token}{token}"),
        token.replacen('.', "..", 1),
        "..".into(),
        "...".into(),
    ] {
        assert!(verify(&verifier, &changed).is_err(), "{changed}");
    }
}

#[test]
fn a_huge_token_is_not_looked_at() {
    let verifier = with_secret(&[]);
    // Base64 turns 3 bytes into 4; the rest of the claims, the header and the signature take the remainder.
    let fits = sign(&json!({ "user_id": "ann", "more": "x".repeat(12_000) }));
    assert!(fits.len() <= MAX_TOKEN_BYTES);
    assert_eq!(outcome(&verifier, &fits), "ann");
    let exceeds = sign(&json!({ "user_id": "ann", "more": "x".repeat(13_000) }));
    assert!(exceeds.len() > MAX_TOKEN_BYTES);
    assert_eq!(outcome(&verifier, &exceeds), "too_long");
    assert_eq!(outcome(&verifier, &".".repeat(1_000_000)), "too_long");
}

#[test]
fn deep_claims_do_no_harm() {
    for (depth, expected) in [(50, "ann"), (5_000, "malformed")] {
        let claims = format!(r#"{{"user_id":"ann","deep":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        let token = sign_raw(r#"{"alg":"HS256"}"#, &claims, Algorithm::HS256, &secret_key(SECRET));
        assert_eq!(outcome(&with_secret(&[]), &token), expected);
    }
}

#[test]
fn debug_output_holds_no_key_and_no_claim() {
    let identity = verify(&with_secret(&[]), &sign(&json!({ "user_id": "ann", "email": "ann@example.com" }))).unwrap();
    assert!(!format!("{identity:?}").contains("example.com"));
    let rules = rules(KeyMaterial::Secret(SECRET.into()), &[]);
    assert!(!format!("{rules:?}").contains(SECRET));
    assert!(!format!("{:?}", TokenVerifier::new(rules).unwrap()).contains(SECRET));
    assert_eq!(format!("{:?}", KeyMaterial::PublicKey("pem".into())), "PublicKey(..)");
}

proptest! {
    #[test]
    fn no_token_panics(
        token in "[ -~]{0,80}|.{0,40}|[A-Za-z0-9_-]{0,30}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,50}",
        header in ".{0,60}", claims in ".{0,60}",
    ) {
        let verifier = with_secret(&[]);
        prop_assert!(verify(&verifier, &token).is_err());
        let signed = sign_raw(&header, &claims, Algorithm::HS256, &secret_key(SECRET));
        let _ = verify(&verifier, &signed);
        let with_good_header = sign_raw(r#"{"alg":"HS256"}"#, &claims, Algorithm::HS256, &secret_key(SECRET));
        let _ = verify(&verifier, &with_good_header);
    }
}
