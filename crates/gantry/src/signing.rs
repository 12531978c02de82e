//! The cluster's authority as the certificate controller sees it.

use std::sync::Arc;
use std::time::Duration;

use gantry_controllers::certificates::{Signer, Subject};
use gantry_pki::{Authority, CertificateRequest};
use gantry_ports::{Clock, Random};

/// How long a certificate lasts when the request doesn't say, and at most.
const LIFETIME: Duration = Duration::from_secs(365 * 86400);
/// The shortest lifetime that can be asked for.
const SHORTEST: Duration = Duration::from_secs(600);

/// Signs with the cluster's authority.
pub(crate) struct AuthoritySigner {
    pub(crate) authority: Arc<Authority>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
}

impl Signer for AuthoritySigner {
    fn subject(&self, request: &str) -> Option<Subject> {
        let request = CertificateRequest::parse(request).ok()?;
        Some(Subject {
            common_name: request.common_name,
            organizations: request.organizations,
            dns_names: request.dns_names,
            ip_addresses: request.addresses.iter().map(ToString::to_string).collect(),
            others: request.other_names,
        })
    }

    fn sign(&self, request: &str, _signer: &str, usages: &[String], lifetime: Option<Duration>) -> Result<String, String> {
        let request = CertificateRequest::parse(request).map_err(|e| e.to_string())?;
        let wants = |usage: &str| usages.iter().any(|u| u == usage);
        let lifetime = lifetime.unwrap_or(LIFETIME).clamp(SHORTEST, LIFETIME);
        let signed = self.authority.sign(&request, wants("server auth"), wants("client auth"), lifetime, self.clock.now(), &*self.random);
        signed.map_err(|e| e.to_string())
    }
}
