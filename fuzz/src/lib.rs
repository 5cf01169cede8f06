//! What several fuzz targets share: how tokens are checked, and masked frames.

use carillon::authenticator::{KeyMaterial, TokenRules, TokenVerifier};

pub const SECRET: &str = "a secret of the fuzz targets alone, as long as the hash";

/// Checks tokens that are signed with [`SECRET`] and name their user in `user_id`.
pub fn verifier() -> TokenVerifier {
    let rules = TokenRules {
        key: KeyMaterial::Secret(SECRET.into()),
        algorithms: None,
        user_id_claim: "user_id".into(),
        issuer: None,
        audience: None,
    };
    TokenVerifier::new(rules).expect("a verifier")
}

/// A frame of a client whose mask is zero: the first byte, with opcode and flags, and a payload below 64 KiB.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = match payload.len() {
        length @ ..126 => vec![first, 0x80 | length as u8],
        length => {
            let length = u16::try_from(length).expect("a payload below 64 KiB");
            [&[first, 0x80 | 126], length.to_be_bytes().as_slice()].concat()
        }
    };
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}
