use std::net::IpAddr;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use crate::{Error, Issued, Profile, failed};

/// What a certificate request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateRequest {
    /// The request itself.
    pub pem: String,
    /// The common name asked for.
    pub common_name: String,
    /// The organizations asked for.
    pub organizations: Vec<String>,
    /// The server names asked for.
    pub dns_names: Vec<String>,
    /// The server addresses asked for.
    pub addresses: Vec<IpAddr>,
    /// Other names asked for: mail addresses, URIs.
    pub other_names: Vec<String>,
}

/// Why a text is not a certificate request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is not PEM of the right type.
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    NotPem,
    /// Its content does not parse.
    #[error("the certificate request is malformed")]
    Malformed,
    /// Its signature is not by the key in it.
    #[error("the certificate request is not signed by its own key")]
    Signature,
}

impl CertificateRequest {
    /// Reads a request in PEM and checks that whoever made it holds its key.
    ///
    /// # Errors
    /// When it is not a request, or its signature is wrong.
    pub fn parse(pem: &str) -> Result<Self, RequestError> {
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| RequestError::NotPem)?;
        if block.label != "CERTIFICATE REQUEST" && block.label != "NEW CERTIFICATE REQUEST" {
            return Err(RequestError::NotPem);
        }
        let (_, request) = X509CertificationRequest::from_der(&block.contents).map_err(|_| RequestError::Malformed)?;
        rcgen::CertificateSigningRequestParams::from_pem(pem).map_err(|_| RequestError::Malformed)?;
        request.verify_signature().map_err(|_| RequestError::Signature)?;
        let subject = &request.certification_request_info.subject;
        let text = |attributes: Vec<&x509_parser::x509::AttributeTypeAndValue<'_>>| -> Vec<String> {
            attributes.into_iter().filter_map(|a| a.as_str().ok()).map(str::to_owned).collect()
        };
        let mut parsed = Self {
            pem: pem.into(),
            common_name: text(subject.iter_common_name().collect()).pop().unwrap_or_default(),
            organizations: text(subject.iter_organization().collect()),
            ..Self::default()
        };
        for extension in request.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(name) => parsed.dns_names.push((*name).into()),
                    GeneralName::IPAddress(bytes) => parsed.addresses.extend(address(bytes)),
                    other => parsed.other_names.push(other.to_string()),
                }
            }
        }
        Ok(parsed)
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Makes a key and a request for a certificate over it. The `certificate_pem` of the result is the request.
///
/// # Errors
/// When a name cannot stand in a certificate.
pub fn new_request(profile: &Profile) -> Result<Issued, Error> {
    let key = KeyPair::generate().map_err(failed("making a key"))?;
    let mut params = CertificateParams::new(profile.dns_names.clone()).map_err(failed("naming a certificate request"))?;
    params.subject_alt_names.extend(profile.addresses.iter().map(|a| SanType::IpAddress(*a)));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, profile.organization.as_str());
    params.distinguished_name.push(DnType::CommonName, profile.common_name.as_str());
    let request = params.serialize_request(&key).map_err(failed("signing a certificate request"))?;
    let pem = request.pem().map_err(failed("encoding a certificate request"))?;
    Ok(Issued { certificate_pem: pem, key_pem: key.serialize_pem() })
}
