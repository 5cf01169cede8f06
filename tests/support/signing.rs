//! Tokens as an application makes them, for tests with a secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

/// A JSON Web Token of these claims, HS256.
pub fn hs256_token(secret: &str, claims: &serde_json::Value) -> String {
    let [header, claims] =
        [r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part));
    let message = format!("{header}.{claims}");
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}
