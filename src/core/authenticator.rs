//! Turns a token into the identity it proves.
//!
//! Owns the key and the rules a token is judged by. Pure: the time comes in. Called for each handshake and each
//! `auth` message, on any thread; a verifier is made once and shared.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind};
use crate::types::UserId;

/// What tokens are signed with.
#[derive(Clone)]
pub enum KeyMaterial {
    Secret(String),
    /// PEM.
    PublicKey(String),
}

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
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
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
pub enum TokenFault {
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

/// A claim that is missing, of the wrong kind or for somebody else.
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
            return Err(invalid_option("jwtUserIdClaim must not be empty"));
        }
        let (key, algorithms) = match &rules.key {
            KeyMaterial::Secret(secret) => read_secret(secret, rules.algorithms.as_deref())?,
            KeyMaterial::PublicKey(pem) => read_public_key(pem, rules.algorithms.as_deref())?,
        };
        Ok(Self { key, algorithms, user_id_claim: rules.user_id_claim, issuer: rules.issuer, audience: rules.audience })
    }

    /// Nothing a token claims is read before its signature was found to be right.
    pub fn verify(&self, token: &str, now_unix: Duration) -> Result<Identity, TokenFault> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenFault::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenFault::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenFault::Malformed)?;
        let algorithm = self.algorithm_of(&decode(header)?)?;
        self.verify_signature(algorithm, message, decode(signature)?)?;
        let claims: Map<String, Value> = serde_json::from_slice(&decode(claims)?).map_err(|_| TokenFault::Malformed)?;
        self.judge(claims, now_unix)
    }

    /// The header only chooses among the algorithms that were allowed, all of which fit the key.
    fn algorithm_of(&self, header: &[u8]) -> Result<Algorithm, TokenFault> {
        let header: Header = serde_json::from_slice(header).map_err(|_| TokenFault::Malformed)?;
        // RFC 7515 §4.1.11: an extension that must be understood is not.
        if header.crit.is_some() {
            return Err(TokenFault::Malformed);
        }
        let named: Algorithm = header.alg.parse().map_err(|_| TokenFault::Algorithm)?;
        if self.algorithms.contains(&named) { Ok(named) } else { Err(TokenFault::Algorithm) }
    }

    fn verify_signature(&self, algorithm: Algorithm, message: &str, signature: Vec<u8>) -> Result<(), TokenFault> {
        let verifier = (DEFAULT_PROVIDER.verifier_factory)(&algorithm, &self.key).map_err(|_| TokenFault::Signature)?;
        verifier.verify(message.as_bytes(), &signature).map_err(|_| TokenFault::Signature)
    }

    /// In the order of npm's `jsonwebtoken`, and as it does without leeway, in whole seconds.
    fn judge(&self, claims: Map<String, Value>, now_unix: Duration) -> Result<Identity, TokenFault> {
        let now = now_unix.as_secs() as f64;
        if number(&claims, "nbf", Claim::NotBefore)?.is_some_and(|start| start > now) {
            return Err(TokenFault::NotYetValid);
        }
        let expiry = number(&claims, "exp", Claim::Expiry)?;
        if expiry.is_some_and(|end| now >= end) {
            return Err(TokenFault::Expired);
        }
        if let Some(audience) = &self.audience
            && !holds(claims.get("aud"), audience)
        {
            return Err(TokenFault::Claim(Claim::Audience));
        }
        if let Some(issuer) = &self.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(TokenFault::Claim(Claim::Issuer));
        }
        let user = claims.get(&self.user_id_claim).and_then(user_id).ok_or(TokenFault::Claim(Claim::User))?;
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

/// Shows no key.
impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(_) => f.write_str("Secret(..)"),
            Self::PublicKey(_) => f.write_str("PublicKey(..)"),
        }
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

impl TokenFault {
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

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl std::error::Error for TokenFault {}

const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// RFC 7518 §3.3.
const MIN_RSA_BYTES: usize = 2048 / 8;

#[derive(Deserialize)]
struct Header {
    alg: String,
    crit: Option<IgnoredAny>,
}

fn decode(part: &str) -> Result<Vec<u8>, TokenFault> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Malformed)
}

fn number(claims: &Map<String, Value>, name: &str, claim: Claim) -> Result<Option<f64>, TokenFault> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(TokenFault::Claim(claim)),
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
        // `42.0` and `4.2e1` are 42 to whoever made the token.
        Value::Number(number) => {
            let number = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() <= MAX_SAFE)?;
            Some(UserId::new(&(number as i64).to_string()))
        }
        _ => None,
    }
}

fn read_secret(secret: &str, allowed: Option<&[String]>) -> Result<(DecodingKey, Vec<Algorithm>), Error> {
    if secret.is_empty() {
        return Err(Error::new(ErrorKind::NoJwtSecret, "jwtSecret is empty"));
    }
    // A public key is no secret: whoever reads it could sign.
    if secret.trim_start().starts_with("-----BEGIN ") {
        return Err(invalid_option("jwtSecret holds a PEM key; a public key belongs into jwtPublicKey"));
    }
    let algorithms = match allowed {
        Some(names) => parse_algorithms(names)?,
        None => vec![Algorithm::HS256, Algorithm::HS384, Algorithm::HS512],
    };
    if let Some(other) = algorithms.iter().find(|algorithm| algorithm.family() != AlgorithmFamily::Hmac) {
        return Err(invalid_option(format!("jwtAlgorithms: {other:?} needs jwtPublicKey, not a secret")));
    }
    Ok((DecodingKey::from_secret(secret.as_bytes()), algorithms))
}

fn read_public_key(pem: &str, allowed: Option<&[String]>) -> Result<(DecodingKey, Vec<Algorithm>), Error> {
    let names = allowed.ok_or_else(|| invalid_option("jwtAlgorithms is required with jwtPublicKey"))?;
    let algorithms = parse_algorithms(names)?;
    // An HMAC keyed with what everybody may read proves nothing.
    if let Some(hmac) = algorithms.iter().find(|algorithm| algorithm.family() == AlgorithmFamily::Hmac) {
        return Err(invalid_option(format!("jwtAlgorithms: {hmac:?} needs a secret, not jwtPublicKey")));
    }
    let pem = pem.as_bytes();
    let key = DecodingKey::from_rsa_pem(pem)
        .or_else(|_| DecodingKey::from_ec_pem(pem))
        .or_else(|_| DecodingKey::from_ed_pem(pem))
        .map_err(|cause| invalid_option("jwtPublicKey is not a public key in PEM format").caused_by(cause))?;
    check_public_key(&key)?;
    for algorithm in &algorithms {
        let fits = algorithm.family() == key.family() && (DEFAULT_PROVIDER.verifier_factory)(algorithm, &key).is_ok();
        if !fits {
            return Err(invalid_option(format!("jwtAlgorithms: {algorithm:?} does not fit the key in jwtPublicKey")));
        }
    }
    Ok((key, algorithms))
}

/// What the verifiers would only find out at the first token, or not survive.
fn check_public_key(key: &DecodingKey) -> Result<(), Error> {
    let unreadable = || invalid_option("jwtPublicKey is not a valid public key");
    let bytes = key.try_get_as_bytes().map_err(|cause| unreadable().caused_by(cause))?;
    match key.family() {
        AlgorithmFamily::Rsa => {
            let (modulus, _) = (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(bytes)
                .map_err(|cause| unreadable().caused_by(cause))?;
            if modulus.len() < MIN_RSA_BYTES {
                return Err(invalid_option("jwtPublicKey: an RSA key needs at least 2048 bits"));
            }
            Ok(())
        }
        AlgorithmFamily::Ed if bytes.len() != 32 => Err(unreadable()),
        _ => Ok(()),
    }
}

fn parse_algorithms(names: &[String]) -> Result<Vec<Algorithm>, Error> {
    if names.is_empty() {
        return Err(invalid_option("jwtAlgorithms must not be empty"));
    }
    let parse = |name: &String| {
        name.parse().map_err(|_| invalid_option(format!("jwtAlgorithms: {name:?} is not a known algorithm")))
    };
    names.iter().map(parse).collect()
}

fn invalid_option(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOption, message)
}

#[cfg(test)]
mod tests;
