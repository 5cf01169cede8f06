//! Signs with every algorithm, as an issuer of tokens would. `ring` signs too; that others' signatures are verified is shown by
//! published tokens here, and by npm's `jsonwebtoken` in the tests of the built addon.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use ring::{hmac, rsa};

/// The signature in base64.
pub fn sign(message: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let (message, random) = (message.as_bytes(), SystemRandom::new());
    let by_secret = |hash| hmac::sign(&hmac::Key::new(hash, key.as_bytes()), message).as_ref().to_vec();
    let by_curve = |curve| {
        let pair = EcdsaKeyPair::from_pkcs8(curve, key.as_bytes(), &random).unwrap();
        pair.sign(&random, message).unwrap().as_ref().to_vec()
    };
    let by_rsa = |padding: &'static dyn signature::RsaEncoding| {
        let pair: rsa::KeyPair = RsaKeyPair::from_der(key.as_bytes()).unwrap();
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(padding, &random, message, &mut signature).unwrap();
        signature
    };
    URL_SAFE_NO_PAD.encode(match algorithm {
        Algorithm::HS256 => by_secret(hmac::HMAC_SHA256),
        Algorithm::HS384 => by_secret(hmac::HMAC_SHA384),
        Algorithm::HS512 => by_secret(hmac::HMAC_SHA512),
        Algorithm::ES256 => by_curve(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::ES384 => by_curve(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        Algorithm::RS256 => by_rsa(&signature::RSA_PKCS1_SHA256),
        Algorithm::RS384 => by_rsa(&signature::RSA_PKCS1_SHA384),
        Algorithm::RS512 => by_rsa(&signature::RSA_PKCS1_SHA512),
        Algorithm::PS256 => by_rsa(&signature::RSA_PSS_SHA256),
        Algorithm::PS384 => by_rsa(&signature::RSA_PSS_SHA384),
        Algorithm::PS512 => by_rsa(&signature::RSA_PSS_SHA512),
        Algorithm::EdDSA => {
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.as_bytes()).unwrap().sign(message).as_ref().to_vec()
        }
        other => panic!("{other:?}"),
    })
}
