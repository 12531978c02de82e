use std::net::IpAddr;
use std::time::Duration;

use gantry_object::Timestamp;
use gantry_ports::Random;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};

use crate::{CertificateRequest, Error, failed};

/// How far back a certificate's validity starts, so that hosts whose clocks are a little behind take it.
const BACKDATED: Duration = Duration::from_secs(300);

/// A certificate authority: signs what its callers have decided to sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    key_pem: String,
}

/// A certificate with its key, in PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key, PKCS#8.
    pub key_pem: String,
}

/// What a certificate is for.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// The common name: a client's user name.
    pub common_name: String,
    /// The organization: a client's group. One at most.
    pub organization: String,
    /// Names a server answers to.
    pub dns_names: Vec<String>,
    /// Addresses a server answers at.
    pub addresses: Vec<IpAddr>,
    /// For proving oneself as a server.
    pub server: bool,
    /// For proving oneself as a client.
    pub client: bool,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

fn time(t: Timestamp) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(t.seconds()).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

fn serial(random: &dyn Random) -> SerialNumber {
    let mut bytes = [0u8; 16];
    random.fill(&mut bytes);
    bytes[0] = bytes[0] & 0x7f | 0x01;
    SerialNumber::from_slice(&bytes)
}

impl Authority {
    /// Makes a new authority that is valid for ten years.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn generate(common_name: &str, now: Timestamp, random: &dyn Random) -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(failed("making the authority's key"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = time(Timestamp(now.0 - BACKDATED.as_nanos() as i64));
        params.not_after = time(now.plus(Duration::from_secs(10 * 365 * 86400)));
        params.serial_number = Some(serial(random));
        let certificate = params.self_signed(&key).map_err(failed("signing the authority's certificate"))?;
        let (certificate_pem, key_pem) = (certificate.pem(), key.serialize_pem());
        Ok(Self { issuer: Issuer::new(params, key), certificate_pem, key_pem })
    }

    /// Takes up an authority that was made before.
    ///
    /// # Errors
    /// When either text is not what it should be.
    pub fn load(certificate_pem: &str, key_pem: &str) -> Result<Self, Error> {
        let key = KeyPair::from_pem(key_pem).map_err(failed("reading the authority's key"))?;
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, key).map_err(failed("reading the authority's certificate"))?;
        Ok(Self { issuer, certificate_pem: certificate_pem.into(), key_pem: key_pem.into() })
    }

    /// Its certificate in PEM, which others trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its private key in PEM. Keep it to yourself.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Makes a key and a certificate for it.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn issue(&self, profile: &Profile, valid_for: Duration, now: Timestamp, random: &dyn Random) -> Result<Issued, Error> {
        let key = KeyPair::generate().map_err(failed("making a key"))?;
        let mut params = CertificateParams::new(profile.dns_names.clone()).map_err(failed("naming a certificate"))?;
        params.subject_alt_names.extend(profile.addresses.iter().map(|a| SanType::IpAddress(*a)));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, profile.common_name.as_str());
        if !profile.organization.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, profile.organization.as_str());
        }
        constrain(&mut params, profile.server, profile.client, valid_for, now, random);
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed("signing a certificate"))?;
        Ok(Issued { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Signs a request whose subject and names the caller has checked. The key in it stays with who asked.
    ///
    /// # Errors
    /// When the request is malformed.
    pub fn sign(
        &self,
        request: &CertificateRequest,
        server: bool,
        client: bool,
        valid_for: Duration,
        now: Timestamp,
        random: &dyn Random,
    ) -> Result<String, Error> {
        let mut csr = CertificateSigningRequestParams::from_pem(&request.pem).map_err(failed("reading a certificate request"))?;
        constrain(&mut csr.params, server, client, valid_for, now, random);
        Ok(csr.signed_by(&self.issuer).map_err(failed("signing a certificate request"))?.pem())
    }
}

fn constrain(params: &mut CertificateParams, server: bool, client: bool, valid_for: Duration, now: Timestamp, random: &dyn Random) {
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = Vec::new();
    if server {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    if client {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    params.use_authority_key_identifier_extension = true;
    params.not_before = time(Timestamp(now.0 - BACKDATED.as_nanos() as i64));
    params.not_after = time(now.plus(valid_for));
    params.serial_number = Some(serial(random));
}
