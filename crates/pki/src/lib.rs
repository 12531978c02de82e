//! Certificate authority, certificates, and the tokens that service accounts and joining nodes prove themselves with.
//!
//! Keys are ECDSA P-256. Nothing here does I/O: callers keep the PEM texts where they belong. Time is handed in.

mod authority;
mod csr;
mod identity;
mod join;
mod token;

pub use authority::{Authority, Issued, Profile};
pub use csr::{CertificateRequest, RequestError, new_request};
pub use identity::{CertificateIdentity, expiry};
pub use join::{JoinToken, ca_hash};
pub use token::{Claims, TokenError, TokenKey};

/// Why certificates or keys could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library refused.
    #[error("{act}")]
    Certificate {
        /// What was being done.
        act: &'static str,
        /// The library's reason.
        #[source]
        source: rcgen::Error,
    },
    /// A PEM or DER text is not what it should be.
    #[error("{0} is malformed")]
    Malformed(&'static str),
}

pub(crate) fn failed(act: &'static str) -> impl Fn(rcgen::Error) -> Error {
    move |source| Error::Certificate { act, source }
}
