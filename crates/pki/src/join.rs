use std::fmt;
use std::str::FromStr;

use gantry_ports::Random;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::Error;

/// The token a new node joins with: a bootstrap token and the hash of the authority it must find at the server's.
///
/// Its text is `ID.SECRET.HASH`; `ID.SECRET` is upstream's bootstrap token, the hash that of `--discovery-token-ca-cert-hash`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// Six characters that may be shown.
    pub id: String,
    /// Sixteen that may not.
    pub secret: String,
    /// SHA-256 of the authority's public key, in hex.
    pub ca_hash: String,
}

/// SHA-256 of the public key (SubjectPublicKeyInfo) of a certificate in PEM, in hex.
///
/// # Errors
/// When it is not a certificate.
pub fn ca_hash(certificate_pem: &str) -> Result<String, Error> {
    let malformed = || Error::Malformed("authority's certificate");
    let (_, block) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes()).map_err(|_| malformed())?;
    let (_, certificate) = X509Certificate::from_der(&block.contents).map_err(|_| malformed())?;
    let digest = Sha256::digest(certificate.public_key().raw);
    Ok(digest.iter().map(|b| format!("{b:02x}")).collect())
}

impl JoinToken {
    /// Draws a new token.
    pub fn generate(ca_hash: String, random: &dyn Random) -> Self {
        Self { id: random.name_suffix(6), secret: random.name_suffix(16), ca_hash }
    }

    /// The bearer token: id and secret.
    pub fn bearer(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.id, self.secret, self.ca_hash)
    }
}

impl FromStr for JoinToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('.').collect();
        let word = |s: &str, n| s.len() == n && s.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        match parts[..] {
            [id, secret, hash] if word(id, 6) && word(secret, 16) && word(hash, 64) => {
                Ok(Self { id: id.into(), secret: secret.into(), ca_hash: hash.into() })
            }
            _ => Err(Error::Malformed("join token")),
        }
    }
}
