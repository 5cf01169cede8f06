//! Turns a token into the identity it proves.
//!
//! Owns the key and the rules a token is judged by. Pure: the time comes in. Called for each handshake and each
//! `auth` message, on any thread; a verifier is made once and shared.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

mod key_material;
mod public_key_text;
mod verification_key;

pub use key_material::{KeyMaterial, ShortSecret};
use verification_key::VerificationKey;

use crate::error::{Error, ErrorKind};
use crate::protocol::lone_surrogates;
use crate::types::UserId;

/// What a token must be to be believed, as the options say it.
#[derive(Clone, Debug)]
pub struct TokenRules {
    pub key: KeyMaterial,
    /// `None`: every HMAC algorithm with a secret. A public key needs its algorithms named.
    pub algorithms: Option<Vec<String>>,
    pub user_id_claim: String,
    pub issuer: Option<String>,
    pub audience: Option<String>,
}

/// Rules whose key was read and found to fit its algorithms.
pub struct TokenVerifier {
    key: VerificationKey,
    algorithms: Vec<Algorithm>,
    short_secret: Option<ShortSecret>,
    user_id_claim: String,
    issuer: Option<String>,
    audience: Option<String>,
}

/// What a valid token says.
#[derive(Clone, PartialEq)]
pub struct Identity {
    pub user: UserId,
    pub claims: Map<String, Value>,
    /// The first Unix second at which the token is no longer valid.
    pub expires_at: Option<u64>,
}

/// Why a token proves nothing. Holds no part of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenError {
    /// Longer than any honest token, and not looked at.
    TooLong,
    /// Not a JSON Web Signature in compact form that carries claims.
    Malformed,
    /// Not one of the algorithms allowed.
    Algorithm,
    Signature,
    NotYetValid,
    Expired,
    Claim(Claim),
}

/// A claim that is missing, of the wrong kind or for another audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    Audience,
    Expiry,
    Issuer,
    NotBefore,
    User,
}

impl TokenVerifier {
    pub fn new(rules: TokenRules) -> Result<Self, Error> {
        if rules.user_id_claim.is_empty() {
            return Err(Error::new(ErrorKind::InvalidOption, "jwtUserIdClaim must not be empty"));
        }
        let (key, algorithms) = rules.key.read(rules.algorithms.as_deref())?;
        let short_secret = rules.key.short_secret(rules.algorithms.is_some().then_some(&algorithms));
        Ok(Self {
            key,
            algorithms,
            short_secret,
            user_id_claim: rules.user_id_claim,
            issuer: rules.issuer,
            audience: rules.audience,
        })
    }

    /// Whether the secret is shorter than it should be. It is used all the same; the log should say so.
    pub fn short_secret(&self) -> Option<ShortSecret> {
        self.short_secret
    }

    /// Nothing a token claims is read before its signature was found to be right.
    pub fn verify(&self, token: &str, now_unix: Duration) -> Result<Identity, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
        let algorithm = self.algorithm_of(&decode(header)?)?;
        if !self.key.verifies(algorithm, message.as_bytes(), &decode(signature)?) {
            return Err(TokenError::Signature);
        }
        let claims = self.read_claims(&decode(claims)?)?;
        self.judge(claims, now_unix)
    }

    /// Reads a lone surrogate as U+FFFD, as JavaScript does when it writes one. Not in the user's id, where two users would
    /// become one.
    fn read_claims(&self, json: &[u8]) -> Result<Map<String, Value>, TokenError> {
        if let Ok(claims) = serde_json::from_slice(json) {
            return Ok(claims);
        }
        let read_with = |character| {
            let text = lone_surrogates::replaced(json, character).ok_or(TokenError::Malformed)?;
            serde_json::from_slice::<Map<String, Value>>(&text).map_err(|_| TokenError::Malformed)
        };
        let (claims, other) = (read_with('\u{fffd}')?, read_with('\u{1}')?);
        let is_whole = claims.get(&self.user_id_claim) == other.get(&self.user_id_claim);
        if is_whole { Ok(claims) } else { Err(TokenError::Malformed) }
    }

    /// The header only chooses among the algorithms that were allowed, all of which fit the key.
    fn algorithm_of(&self, header: &[u8]) -> Result<Algorithm, TokenError> {
        let header: Header = serde_json::from_slice(header).map_err(|_| TokenError::Malformed)?;
        // RFC 7515 §4.1.11: an extension that must be understood is not.
        if header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        let named: Algorithm = header.alg.parse().map_err(|_| TokenError::Algorithm)?;
        if self.algorithms.contains(&named) { Ok(named) } else { Err(TokenError::Algorithm) }
    }

    /// In the order of npm's `jsonwebtoken`, and as it does without leeway, in whole seconds.
    fn judge(&self, claims: Map<String, Value>, now_unix: Duration) -> Result<Identity, TokenError> {
        let now = now_unix.as_secs() as f64;
        if number(&claims, "nbf", Claim::NotBefore)?.is_some_and(|start| start > now) {
            return Err(TokenError::NotYetValid);
        }
        let expiry = number(&claims, "exp", Claim::Expiry)?;
        if expiry.is_some_and(|end| now >= end) {
            return Err(TokenError::Expired);
        }
        if let Some(audience) = &self.audience
            && !holds(claims.get("aud"), audience)
        {
            return Err(TokenError::Claim(Claim::Audience));
        }
        if let Some(issuer) = &self.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(TokenError::Claim(Claim::Issuer));
        }
        let user = claims.get(&self.user_id_claim).and_then(user_id).ok_or(TokenError::Claim(Claim::User))?;
        // A whole second is past a fraction exactly when it is past the next whole one.
        let expires_at = expiry.map(|end| end.ceil() as u64);
        Ok(Identity { user, claims, expires_at })
    }
}

/// Shows no key.
impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVerifier")
            .field("algorithms", &self.algorithms)
            .field("user_id_claim", &self.user_id_claim)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// Shows no claim: they may be personal.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("user", &self.user)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl TokenError {
    /// One of a fixed set, for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Signature => "signature",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::Claim(Claim::Audience) => "claim_audience",
            Self::Claim(Claim::Expiry) => "claim_expiry",
            Self::Claim(Claim::Issuer) => "claim_issuer",
            Self::Claim(Claim::NotBefore) => "claim_not_before",
            Self::Claim(Claim::User) => "claim_user",
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl std::error::Error for TokenError {}

const MAX_TOKEN_BYTES: usize = 16 * 1024;

#[derive(Deserialize)]
struct Header {
    alg: String,
    crit: Option<IgnoredAny>,
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

fn number(claims: &Map<String, Value>, name: &str, claim: Claim) -> Result<Option<f64>, TokenError> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(TokenError::Claim(claim)),
    }
}

/// `aud` is one audience or a list of them (RFC 7519 §4.1.3).
fn holds(claim: Option<&Value>, audience: &str) -> bool {
    match claim {
        Some(Value::Array(audiences)) => audiences.iter().any(|value| value.as_str() == Some(audience)),
        Some(value) => value.as_str() == Some(audience),
        None => false,
    }
}

/// A string, or a whole number as its decimal digits.
fn user_id(claim: &Value) -> Option<UserId> {
    const MAX_SAFE: f64 = ((1_u64 << 53) - 1) as f64;
    match claim {
        Value::String(name) if !name.is_empty() => Some(UserId::new(name)),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(UserId::new(&number.to_string())),
        // `42.0` and `4.2e1` are 42 to the issuer of the token.
        Value::Number(number) => {
            let number = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() <= MAX_SAFE)?;
            Some(UserId::new(&(number as i64).to_string()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
