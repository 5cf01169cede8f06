//! Tells a text that holds a public key, whatever it is wrapped in, from a secret.
//!
//! A secret that others may know lets anyone sign tokens: a public key that was given as the secret is an error of the
//! configuration. Pure. Called when options are read and when JWT_SECRET changes, never per token.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::verification_key::der_value;

/// How keys are wrapped in text: base64 of a text of base64, and no deeper.
const MAX_LAYERS: usize = 3;

/// Shorter ones are no public key: an Ed25519 key in DER has 44 bytes.
const MIN_DER_BYTES: usize = 44;

const SSH_TYPES: [&str; 4] = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"];

/// What kind of key the text holds, as an error message may say it; `None` if it holds none.
pub fn public_key_in(text: &str) -> Option<&'static str> {
    find(text, MAX_LAYERS)
}

fn find(text: &str, layers: usize) -> Option<&'static str> {
    let text = visible(text);
    let letters: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    // Armour of RFC 7468, OpenPGP and RFC 4716, which has a blank between its dashes and BEGIN.
    if contains_ignoring_case(&letters, "----BEGIN") {
        return Some("a PEM key or certificate");
    }
    // JSON, quoted or escaped or not: without its punctuation a key's type follows its name.
    let bare: String = letters.chars().filter(|c| !matches!(c, '"' | '\'' | '`' | '\\')).collect();
    if ["kty:RSA", "kty:EC", "kty:OKP"].iter().any(|kind| contains_ignoring_case(&bare, kind)) {
        return Some("a JSON Web Key");
    }
    let words = || text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ',' | ';'));
    let names_ssh_type = |word: &str| SSH_TYPES.iter().any(|kind| word.starts_with(kind));
    if words().zip(words().skip(1)).any(|(kind, key)| names_ssh_type(kind) && key.starts_with("AAAA")) {
        return Some("an SSH key");
    }
    // Lines of base64 without their armour are one key; a name or a comment may stand beside it.
    std::iter::once(bare.as_str()).chain(words()).find_map(|encoded| key_in_encoded(encoded, layers))
}

fn key_in_encoded(encoded: &str, layers: usize) -> Option<&'static str> {
    let decoded = if encoded.len() >= 2 * MIN_DER_BYTES && encoded.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        decode_hex(encoded)
    } else {
        decode_base64(encoded)?
    };
    if is_public_key_in_der(&decoded) {
        return Some("a public key or certificate in DER");
    }
    // RFC 4253 §6.6: the name of its type with its length.
    if decoded.get(4..).is_some_and(|rest| SSH_TYPES.iter().any(|kind| rest.starts_with(kind.as_bytes())))
        && decoded.starts_with(&[0, 0, 0])
    {
        return Some("an SSH key");
    }
    let text = std::str::from_utf8(&decoded).ok()?;
    find(text, layers.checked_sub(1)?)
}

/// The text without invisible characters, and with the line ends that were written as `\n`.
fn visible(text: &str) -> String {
    let is_invisible = |c: char| {
        matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
            || (c.is_control() && !c.is_whitespace())
    };
    let text: String = text.chars().filter(|c| !is_invisible(*c)).collect();
    ["\\r", "\\n", "\\t"].iter().fold(text, |text, escape| text.replace(escape, "\n"))
}

fn contains_ignoring_case(text: &str, wanted: &str) -> bool {
    text.as_bytes().windows(wanted.len()).any(|part| part.eq_ignore_ascii_case(wanted.as_bytes()))
}

/// `SubjectPublicKeyInfo`, `RSAPublicKey` or `Certificate` (RFC 5280 §4.1, RFC 8017 §A.1.1), and nothing after it.
fn is_public_key_in_der(bytes: &[u8]) -> bool {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    const BIT_STRING: u8 = 0x03;
    const OBJECT_IDENTIFIER: u8 = 0x06;
    let Some((content, [])) = der_value(bytes, SEQUENCE).filter(|_| bytes.len() >= MIN_DER_BYTES) else { return false };
    if let Some((_, after)) = der_value(content, INTEGER) {
        return matches!(der_value(after, INTEGER), Some((_, [])));
    }
    let Some((first, after)) = der_value(content, SEQUENCE) else { return false };
    // A key after its algorithm, or a signature after the certificate's content and its algorithm.
    let is_key = der_value(first, OBJECT_IDENTIFIER).is_some() && matches!(der_value(after, BIT_STRING), Some((_, [])));
    let is_certificate = der_value(after, SEQUENCE)
        .is_some_and(|(_, signature)| matches!(der_value(signature, BIT_STRING), Some((_, []))));
    is_key || is_certificate
}

/// Of either alphabet, padded or not.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    [alphabet::STANDARD, alphabet::URL_SAFE]
        .iter()
        .find_map(|letters| GeneralPurpose::new(letters, config).decode(text).ok())
        .filter(|bytes| !bytes.is_empty())
}

fn decode_hex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks_exact(2);
    pairs.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

    use super::*;

    const PEM: &str = include_str!("../../tests/keys/rsa-public.pem");
    const PKCS1: &str = include_str!("../../tests/keys/rsa-public-pkcs1.pem");
    const P256: &str = include_str!("../../tests/keys/p256-public.pem");
    const ED25519: &str = include_str!("../../tests/keys/ed25519-public.pem");
    const CERTIFICATE: &str = include_str!("../../tests/keys/certificate.pem");
    const SSH: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    fn body(pem: &str) -> String {
        pem.lines().filter(|line| !line.starts_with("-----")).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_pem_is_found_behind_anything() {
        for pem in [PEM, PKCS1, P256, ED25519, CERTIFICATE] {
            let wrapped = [
                pem.to_owned(),
                format!("\u{feff}{pem}"),
                format!("\u{200b}{pem}"),
                pem.replacen("BEGIN", "BE\u{200b}GIN", 1),
                pem.replacen('-', "-\u{2060}", 3),
                format!("\0\u{1}{pem}"),
                format!("# the key of the issuer\n{pem}"),
                format!("Bag Attributes\n    localKeyID: 01 02\nsubject=CN = a\n{pem}"),
                format!("\"{pem}\""),
                format!("'{pem}"),
                format!("JWT_PUBLIC_KEY={pem}"),
                pem.replace('\n', "\\n"),
                format!("\"{}\"", pem.replace('\n', "\\n")),
                pem.replace('\n', "\\r\\n"),
                pem.replace('\n', " "),
                pem.replace('\n', ""),
                pem.replace('\n', "\r"),
                pem.to_lowercase(),
                pem.chars().flat_map(|c| [c, '\0']).collect(),
                STANDARD.encode(pem),
                URL_SAFE_NO_PAD.encode(pem),
                STANDARD.encode(STANDARD.encode(pem)),
                format!("base64 of it: {}", STANDARD.encode(pem)),
            ];
            for text in wrapped {
                assert_eq!(public_key_in(&text), Some("a PEM key or certificate"), "{text:?}");
            }
        }
        assert!(public_key_in("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA").is_some());
        assert!(public_key_in("-----BEGIN PGP PUBLIC KEY BLOCK-----").is_some());
    }

    #[test]
    fn a_key_without_armour_is_found() {
        for pem in [PEM, PKCS1, P256, ED25519, CERTIFICATE] {
            let body = body(pem);
            let der = STANDARD.decode(body.replace('\n', "")).unwrap();
            let hex: String = der.iter().map(|byte| format!("{byte:02x}")).collect();
            for text in [
                body.clone(),
                body.replace('\n', ""),
                body.replace('\n', "\\n"),
                format!("  \"{}\"\n", body.replace('\n', "")),
                format!("key: {}", body.replace('\n', "")),
                STANDARD_NO_PAD.encode(&der),
                URL_SAFE_NO_PAD.encode(&der),
                STANDARD.encode(body.replace('\n', "")),
                hex.clone(),
                hex.to_uppercase(),
            ] {
                assert_eq!(public_key_in(&text), Some("a public key or certificate in DER"), "{text:?}");
            }
        }
    }

    #[test]
    fn an_ssh_key_is_found() {
        for text in [
            format!("ssh-ed25519 {SSH} ann@example.com"),
            format!("no-pty,command=\"x\" ssh-ed25519   {SSH}"),
            "# comment\nssh-rsa AAAAB3NzaC1yc2EAAAADAQAB".to_owned(),
            "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY= a".to_owned(),
            "\u{feff}ecdsa-sha2-nistp384\tAAAAE2VjZHNhLXNoYTItbmlzdHAzODQ".to_owned(),
            "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t".to_owned(),
            SSH.to_owned(),
            format!("\"{SSH}\""),
        ] {
            assert_eq!(public_key_in(&text), Some("an SSH key"), "{text:?}");
        }
    }

    #[test]
    fn a_json_web_key_is_found() {
        let rsa = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbf","e":"AQAB"}"#;
        for text in [
            rsa.to_owned(),
            format!("{{\"keys\": [ {rsa} ]}}"),
            rsa.replace(':', " : ").replace(',', ",\n  "),
            rsa.replace('"', "\\\""),
            rsa.replace('"', "'"),
            rsa.replace('"', ""),
            r#"{"crv":"P-256","x":"a","y":"b","kty":"EC"}"#.to_owned(),
            r#"{"kty":"OKP","crv":"Ed25519","x":"a"}"#.to_owned(),
            STANDARD.encode(rsa),
            format!("\u{feff}{rsa}"),
        ] {
            assert_eq!(public_key_in(&text), Some("a JSON Web Key"), "{text:?}");
        }
    }

    #[test]
    fn secrets_are_left_alone() {
        let random = [0x30, 0x2a, 0x9c, 0x31].into_iter().cycle().take(64).collect::<Vec<u8>>();
        for secret in [
            "",
            "secret",
            "BEGIN",
            "-----",
            "a secret of the tests alone",
            "ssh-rsa",
            "ssh-rsa is no word for a secret",
            "kty",
            "{\"k\":\"c2VjcmV0\",\"kty\":\"oct\"}",
            "AAAA",
            "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A",
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "correct horse battery staple correct horse battery staple correct horse",
            &STANDARD.encode(&random),
            &STANDARD.encode([0xff; 64]),
            &STANDARD.encode("a secret that was encoded, of a good length, for the environment"),
            "\u{1f511}\u{200b}\u{feff}",
        ] {
            assert_eq!(public_key_in(secret), None, "{secret:?}");
        }
    }
}
