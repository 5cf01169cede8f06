//! What the options say about the key, read: a key that fits its algorithms, or an error that names the option.
//!
//! Owns nothing. Pure. Called when a service starts and when JWT_SECRET changes.

use std::borrow::Cow;
use std::fmt;

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

use super::public_key_text::public_key_in;
use super::verification_key::{KeyError, VerificationKey};
use crate::error::{Error, ErrorKind};

/// What tokens are signed with.
#[derive(Clone)]
pub enum KeyMaterial {
    Secret(String),
    /// PEM.
    PublicKey(String),
}

/// A secret that is shorter than RFC 7518 §3.2 demands: than the output of the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortSecret {
    pub bytes: usize,
    pub needed: usize,
}

type Read = (VerificationKey, Vec<Algorithm>);

impl KeyMaterial {
    pub(super) fn read(&self, allowed: Option<&[String]>) -> Result<Read, Error> {
        match self {
            Self::Secret(secret) => read_secret(secret, allowed),
            Self::PublicKey(pem) => read_public_key(pem, allowed),
        }
    }

    /// Measured by the largest hash of the algorithms that were named; by SHA-256, the usual one, if none were.
    pub(super) fn short_secret(&self, named: Option<&Vec<Algorithm>>) -> Option<ShortSecret> {
        let Self::Secret(secret) = self else { return None };
        let named = named.into_iter().flatten().map(|algorithm| hash_bytes(*algorithm));
        let needed = named.max().unwrap_or(hash_bytes(Algorithm::HS256));
        (secret.len() < needed).then_some(ShortSecret { bytes: secret.len(), needed })
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

fn hash_bytes(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::HS512 => 64,
        Algorithm::HS384 => 48,
        _ => 32,
    }
}

fn read_secret(secret: &str, allowed: Option<&[String]>) -> Result<Read, Error> {
    if secret.is_empty() {
        return Err(Error::new(ErrorKind::NoJwtSecret, "jwtSecret is empty"));
    }
    // A public key is no secret: anyone who reads it could sign.
    if let Some(kind) = public_key_in(secret) {
        return Err(invalid_option(format!(
            "jwtSecret (or JWT_SECRET) holds {kind}, which others may know; a public key belongs into jwtPublicKey"
        )));
    }
    let algorithms = match allowed {
        Some(names) => parse_algorithms(names)?,
        None => vec![Algorithm::HS256, Algorithm::HS384, Algorithm::HS512],
    };
    if let Some(other) = algorithms.iter().find(|algorithm| algorithm.family() != AlgorithmFamily::Hmac) {
        return Err(invalid_option(format!("jwtAlgorithms: {other:?} needs jwtPublicKey, not a secret")));
    }
    Ok((VerificationKey::from_secret(secret.as_bytes()), algorithms))
}

fn read_public_key(pem: &str, allowed: Option<&[String]>) -> Result<Read, Error> {
    let names = allowed.ok_or_else(|| invalid_option("jwtAlgorithms is required with jwtPublicKey"))?;
    let algorithms = parse_algorithms(names)?;
    // An HMAC keyed with a public text proves nothing.
    if let Some(hmac) = algorithms.iter().find(|algorithm| algorithm.family() == AlgorithmFamily::Hmac) {
        return Err(invalid_option(format!("jwtAlgorithms: {hmac:?} needs a secret, not jwtPublicKey")));
    }
    let pem = pem.as_bytes();
    let key = DecodingKey::from_rsa_pem(pem)
        .or_else(|_| DecodingKey::from_ec_pem(pem))
        .or_else(|_| DecodingKey::from_ed_pem(pem))
        .map_err(|cause| invalid_option("jwtPublicKey is not a public key in PEM format").caused_by(cause))?;
    let key = VerificationKey::from_public(&key).map_err(|fault| {
        invalid_option(match fault {
            KeyError::Invalid => "jwtPublicKey is not a valid public key",
            KeyError::RsaTooShort => "jwtPublicKey: an RSA key needs at least 2048 bits",
            KeyError::RsaTooLong => "jwtPublicKey: an RSA key may have at most 8192 bits",
        })
    })?;
    if let Some(algorithm) = algorithms.iter().find(|algorithm| !key.fits(**algorithm)) {
        return Err(invalid_option(format!("jwtAlgorithms: {algorithm:?} does not fit the key in jwtPublicKey")));
    }
    Ok((key, algorithms))
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
