use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use gantry_object::Timestamp;

use crate::Error;

/// Signs and checks service-account tokens: JWTs with ES256.
pub struct TokenKey {
    key: EcdsaKeyPair,
    id: String,
    random: SystemRandom,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a service-account token says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// For whom it is meant.
    pub aud: Vec<String>,
    /// When it runs out, in seconds since 1970.
    pub exp: i64,
    /// When it was made.
    pub iat: i64,
    /// Who made it.
    pub iss: String,
    /// Its own id.
    #[serde(default)]
    pub jti: String,
    /// What it is bound to: namespace, service account, and pod, node or secret.
    #[serde(rename = "kubernetes.io")]
    pub bound: Value,
    /// From when it counts.
    pub nbf: i64,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub sub: String,
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not such a token, or not one of ours.
    #[error("invalid bearer token")]
    Invalid,
    /// Its time is over or has not come.
    #[error("service account token has expired")]
    Expired,
}

impl TokenKey {
    /// Draws a new key; gives it with its PKCS#8 bytes to keep.
    ///
    /// # Errors
    /// When the system's randomness fails.
    pub fn generate() -> Result<(Self, Vec<u8>), Error> {
        let random = SystemRandom::new();
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(|_| Error::Malformed("token key"))?;
        Ok((Self::load(document.as_ref())?, document.as_ref().to_vec()))
    }

    /// Takes up a key that was made before.
    ///
    /// # Errors
    /// When the bytes are not such a key.
    pub fn load(pkcs8: &[u8]) -> Result<Self, Error> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random).map_err(|_| Error::Malformed("token key"))?;
        let id = B64.encode(Sha256::digest(key.public_key().as_ref()));
        Ok(Self { key, id, random })
    }

    /// Signs claims.
    ///
    /// # Errors
    /// When the system's randomness fails.
    pub fn sign(&self, claims: &Claims) -> Result<String, Error> {
        let header = json!({"alg": "ES256", "kid": self.id, "typ": "JWT"});
        let claims = serde_json::to_vec(claims).expect("claims have only text keys");
        let text = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims));
        let signature = self.key.sign(&self.random, text.as_bytes()).map_err(|_| Error::Malformed("token"))?;
        Ok(format!("{text}.{}", B64.encode(signature)))
    }

    /// Checks signature and time. Issuer, audience and what it is bound to are the caller's to check.
    ///
    /// # Errors
    /// When the token is not to be taken.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        let (text, signature) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
        let (header, claims) = text.split_once('.').ok_or(TokenError::Invalid)?;
        let decode = |part: &str| B64.decode(part).map_err(|_| TokenError::Invalid);
        let header: Value = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Invalid)?;
        if header["alg"] != "ES256" {
            return Err(TokenError::Invalid);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(text.as_bytes(), &decode(signature)?)
            .map_err(|_| TokenError::Invalid)?;
        let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| TokenError::Invalid)?;
        if now.seconds() >= claims.exp || now.seconds() + 60 < claims.nbf {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }

    /// The public key as a JSON Web Key Set, for those who check tokens elsewhere.
    pub fn key_set(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let (x, y) = (B64.encode(&point[1..33]), B64.encode(&point[33..65]));
        json!({"keys": [{"use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256", "x": x, "y": y}]})
    }
}
