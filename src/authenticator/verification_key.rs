//! The key that signatures are checked with, on `ring`, the crypto library that TLS uses too.
//!
//! Owns the parsed key. Pure. A key is made when the options are read; what cannot verify anything is refused there, so that
//! checking a token only ever fails because of the token. Called on any thread.

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use ring::agreement::{self, EphemeralPrivateKey};
use ring::rand::SystemRandom;
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use ring::{hmac, signature as algorithms};

/// RFC 7518 §3.3.
const MIN_RSA_BYTES: usize = 2048 / 8;

/// The largest key that `ring` verifies with.
const MAX_RSA_BYTES: usize = 8192 / 8;

/// What signatures are checked with.
pub enum VerificationKey {
    /// The secret, prepared for each hash.
    Hmac(Box<HmacKeys>),
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// An uncompressed point (SEC 1 §2.3.3) of P-256 or P-384.
    Ec(Vec<u8>),
    Ed25519(Vec<u8>),
}

pub struct HmacKeys {
    sha256: hmac::Key,
    sha384: hmac::Key,
    sha512: hmac::Key,
}

/// Why a public key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    Invalid,
    RsaTooShort,
    RsaTooLong,
}

impl VerificationKey {
    pub fn from_secret(secret: &[u8]) -> Self {
        Self::Hmac(Box::new(HmacKeys {
            sha256: hmac::Key::new(hmac::HMAC_SHA256, secret),
            sha384: hmac::Key::new(hmac::HMAC_SHA384, secret),
            sha512: hmac::Key::new(hmac::HMAC_SHA512, secret),
        }))
    }

    /// A key whose PEM was read. A point is proven to be one by [`fits`](Self::fits), which knows the curve.
    pub fn from_public(key: &DecodingKey) -> Result<Self, KeyError> {
        let bytes = key.try_get_as_bytes().map_err(|_| KeyError::Invalid)?;
        match key.family() {
            AlgorithmFamily::Rsa => rsa_components(bytes).map(Self::Rsa),
            AlgorithmFamily::Ec => Ok(Self::Ec(bytes.to_vec())),
            AlgorithmFamily::Ed if bytes.len() == 32 => Ok(Self::Ed25519(bytes.to_vec())),
            AlgorithmFamily::Ed | AlgorithmFamily::Hmac => Err(KeyError::Invalid),
        }
    }

    /// Whether signatures of this algorithm can be checked with the key.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        match (self, algorithm) {
            (Self::Ec(point), Algorithm::ES256) => is_point(point, &agreement::ECDH_P256),
            (Self::Ec(point), Algorithm::ES384) => is_point(point, &agreement::ECDH_P384),
            (Self::Hmac(_), _) => algorithm.family() == AlgorithmFamily::Hmac,
            (Self::Rsa(_), _) => algorithm.family() == AlgorithmFamily::Rsa,
            (Self::Ed25519(_), _) => algorithm.family() == AlgorithmFamily::Ed,
            (Self::Ec(_), _) => false,
        }
    }

    /// Whether the signature is the key's, of this message. An algorithm that does not fit verifies nothing.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Hmac(keys) => {
                let key = match algorithm {
                    Algorithm::HS256 => &keys.sha256,
                    Algorithm::HS384 => &keys.sha384,
                    Algorithm::HS512 => &keys.sha512,
                    _ => return false,
                };
                hmac::verify(key, message, signature).is_ok()
            }
            Self::Rsa(key) => {
                rsa_parameters(algorithm).is_some_and(|parameters| key.verify(parameters, message, signature).is_ok())
            }
            Self::Ec(key) => {
                let curve: &dyn VerificationAlgorithm = match algorithm {
                    Algorithm::ES256 => &algorithms::ECDSA_P256_SHA256_FIXED,
                    Algorithm::ES384 => &algorithms::ECDSA_P384_SHA384_FIXED,
                    _ => return false,
                };
                UnparsedPublicKey::new(curve, key).verify(message, signature).is_ok()
            }
            Self::Ed25519(key) => {
                algorithm == Algorithm::EdDSA
                    && UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature).is_ok()
            }
        }
    }
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::RS256 => &algorithms::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &algorithms::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &algorithms::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &algorithms::RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &algorithms::RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &algorithms::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

/// Whether the bytes are an uncompressed point of the curve. `ring` looks at a verification key only together with a
/// signature, but at the peer's key of a key agreement before anything else.
fn is_point(bytes: &[u8], curve: &'static agreement::Algorithm) -> bool {
    EphemeralPrivateKey::generate(curve, &SystemRandom::new()).is_ok_and(|ours| {
        agreement::agree_ephemeral(ours, &agreement::UnparsedPublicKey::new(curve, bytes), |_| ()).is_ok()
    })
}

/// Reads an `RSAPublicKey` (RFC 8017 §A.1.1): the modulus and the exponent, and nothing else.
fn rsa_components(der: &[u8]) -> Result<RsaPublicKeyComponents<Vec<u8>>, KeyError> {
    let (sequence, rest) = der_value(der, 0x30).ok_or(KeyError::Invalid)?;
    let (modulus, after_modulus) = der_value(sequence, 0x02).ok_or(KeyError::Invalid)?;
    let (exponent, after_exponent) = der_value(after_modulus, 0x02).ok_or(KeyError::Invalid)?;
    if !rest.is_empty() || !after_exponent.is_empty() {
        return Err(KeyError::Invalid);
    }
    let n = positive(modulus).ok_or(KeyError::Invalid)?;
    let e = positive(exponent).ok_or(KeyError::Invalid)?;
    if n.len() < MIN_RSA_BYTES {
        return Err(KeyError::RsaTooShort);
    }
    if n.len() > MAX_RSA_BYTES {
        return Err(KeyError::RsaTooLong);
    }
    // What `ring` demands besides: both odd, the exponent from 3 to 2^33 - 1.
    let exponent = e.iter().try_fold(0_u64, |value, byte| Some(value.checked_mul(256)? + u64::from(*byte)));
    let has_exponent = exponent.is_some_and(|exponent| (3..1 << 33).contains(&exponent) && exponent % 2 == 1);
    if !has_exponent || n.last().is_none_or(|byte| byte % 2 == 0) {
        return Err(KeyError::Invalid);
    }
    Ok(RsaPublicKeyComponents { n: n.to_vec(), e: e.to_vec() })
}

/// The content of the first value, which must have this tag, and what follows it. Only the definite lengths of DER.
pub(super) fn der_value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        short @ 0..=0x7f => (usize::from(*short), rest),
        // Four bytes of length are more than any key has.
        long @ (0x81..=0x84) => {
            let (length, rest) = rest.split_at_checked(usize::from(long - 0x80))?;
            (length.iter().fold(0, |value, byte| (value << 8) | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    (*first == tag).then(|| rest.split_at_checked(length)).flatten()
}

/// The magnitude of a positive INTEGER, without leading zeros.
fn positive(integer: &[u8]) -> Option<&[u8]> {
    let is_negative = integer.first()? & 0x80 != 0;
    let start = integer.iter().position(|byte| *byte != 0)?;
    integer.get(start..).filter(|_| !is_negative)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integer(bytes: &[u8]) -> Vec<u8> {
        value(0x02, bytes)
    }

    fn value(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], length.as_slice(), content].concat()
    }

    fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<KeyError> {
        let der = value(0x30, &[integer(modulus), integer(exponent)].concat());
        VerificationKey::from_public(&DecodingKey::from_rsa_der(&der)).err()
    }

    fn modulus(bytes: usize) -> Vec<u8> {
        // A leading zero keeps it positive.
        [vec![0], vec![0xc1; bytes]].concat()
    }

    #[test]
    fn rsa_keys_have_2048_to_8192_bits() {
        let exponent = [1, 0, 1];
        assert_eq!(rsa(&modulus(255), &exponent), Some(KeyError::RsaTooShort));
        assert_eq!(rsa(&modulus(256), &exponent), None);
        assert_eq!(rsa(&modulus(1024), &exponent), None);
        assert_eq!(rsa(&modulus(1025), &exponent), Some(KeyError::RsaTooLong));
    }

    #[test]
    fn what_no_signature_could_be_checked_with_is_no_rsa_key() {
        let even = [modulus(255), vec![0x42]].concat();
        let negative = vec![0xc1; 256];
        for (modulus, exponent) in [
            (even.as_slice(), &[3][..]),
            (negative.as_slice(), &[3]),
            (&modulus(256), &[]),
            (&modulus(256), &[0]),
            (&modulus(256), &[1]),
            (&modulus(256), &[2]),
            (&modulus(256), &[0x83]),
            (&modulus(256), &[2, 0, 0, 0, 1]),
            (&modulus(256), &[0x7f; 9]),
            (&[], &[3]),
            (&[0], &[3]),
        ] {
            assert_eq!(rsa(modulus, exponent), Some(KeyError::Invalid), "{exponent:?}");
        }
        assert_eq!(rsa(&modulus(256), &[1, 0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn an_ec_key_is_a_point_of_its_curve() {
        let point = |name: &str| {
            let pem = std::fs::read(format!("{}/tests/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"))).unwrap();
            let key = DecodingKey::from_ec_pem(&pem).unwrap();
            key.try_get_as_bytes().unwrap().to_vec()
        };
        let (p256, p384) = (point("p256-public"), point("p384-public"));
        for (bytes, es256, es384) in [
            (p256.clone(), true, false),
            (p384.clone(), false, true),
            (point("secp256k1-public"), false, false),
            // Right in length, off the curve.
            ([&[4], [7; 64].as_slice()].concat(), false, false),
            ([&p256[..64], &[p256[64] ^ 1]].concat(), false, false),
            // The point at infinity, a compressed point, nothing at all.
            (vec![0], false, false),
            ([&[2 + (p256[64] & 1)], &p256[1..33]].concat(), false, false),
            (vec![], false, false),
        ] {
            let key = VerificationKey::from_public(&DecodingKey::from_ec_der(&bytes)).ok().unwrap();
            assert_eq!((key.fits(Algorithm::ES256), key.fits(Algorithm::ES384)), (es256, es384), "{bytes:?}");
        }
    }

    #[test]
    fn lengths_that_are_no_der_are_refused() {
        assert_eq!(der_value(&[0x30, 2, 1, 2, 3], 0x30), Some((&[1, 2][..], &[3][..])));
        assert_eq!(der_value(&[0x30, 0x81, 1, 9], 0x30), Some((&[9][..], &[][..])));
        for bytes in
            [&[][..], &[0x30], &[0x31, 0], &[0x30, 1], &[0x30, 0x80], &[0x30, 0x85, 0, 0, 0, 0, 0], &[0x30, 0x82, 1]]
        {
            assert_eq!(der_value(bytes, 0x30), None, "{bytes:?}");
        }
    }
}
