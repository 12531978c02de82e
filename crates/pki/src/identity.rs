use gantry_object::Timestamp;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::Error;

/// Whom a client certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateIdentity {
    /// The common name: the user.
    pub common_name: String,
    /// The organizations: the groups.
    pub organizations: Vec<String>,
}

impl CertificateIdentity {
    /// Reads the subject of a certificate whose chain was verified before.
    ///
    /// # Errors
    /// When it is not a certificate.
    pub fn of(der: &[u8]) -> Result<Self, Error> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Error::Malformed("client certificate"))?;
        let subject = certificate.subject();
        let common_name = subject.iter_common_name().next().and_then(|a| a.as_str().ok()).unwrap_or_default().to_owned();
        let organizations = subject.iter_organization().filter_map(|a| a.as_str().ok()).map(str::to_owned).collect();
        Ok(Self { common_name, organizations })
    }
}

/// When a certificate in PEM was made and when it runs out.
///
/// # Errors
/// When it is not a certificate.
pub fn expiry(pem: &str) -> Result<(Timestamp, Timestamp), Error> {
    let malformed = || Error::Malformed("certificate");
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| malformed())?;
    let (_, certificate) = X509Certificate::from_der(&block.contents).map_err(|_| malformed())?;
    let validity = certificate.validity();
    Ok((Timestamp::from_seconds(validity.not_before.timestamp()), Timestamp::from_seconds(validity.not_after.timestamp())))
}
