//! The tokens every connection brings, and their check for peers that have no library for it: HS256, `user_id`, `exp`.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const DAY_SECONDS: u64 = 86_400;

pub struct Signer {
    keyed: Hmac<Sha256>,
}

impl Signer {
    pub fn new(secret: &str) -> Self {
        // HMAC takes keys of any length; the error type is shared with constructions that do not.
        Self { keyed: Hmac::new_from_slice(secret.as_bytes()).expect("a key of any length") }
    }

    pub fn token(&self, user: &str) -> String {
        let issued = now();
        let claims = format!(r#"{{"user_id":"{user}","iat":{issued},"exp":{}}}"#, issued + DAY_SECONDS);
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.keyed.clone().chain_update(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The user of a token that is signed with this secret and has not expired.
    pub fn user(&self, token: &str) -> Option<String> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if header.get("alg")? != "HS256" {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.keyed.clone().chain_update(signed).verify_slice(&signature).ok()?;
        let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        (claims.get("exp")?.as_u64()? > now()).then(|| claims.get("user_id")?.as_str().map(str::to_owned))?
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_tokens_are_good() {
        let signer = Signer::new("one");
        let token = signer.token("u-1");
        assert_eq!(signer.user(&token).as_deref(), Some("u-1"));
        assert_eq!(Signer::new("other").user(&token), None);
        assert_eq!(signer.user(&token[..token.len() - 1]), None);
    }
}
