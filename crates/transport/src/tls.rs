use std::sync::{Arc, RwLock};

use gantry_pki::Issued;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key is not PEM, or not of the right kind.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// The library refused.
    #[error("setting up TLS")]
    Rustls(#[source] rustls::Error),
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or(TlsError::Malformed("certificate"))
}

fn roots(pem: &str) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(TlsError::Rustls)?;
    }
    Ok(Arc::new(roots))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certified(issued: &Issued) -> Result<Arc<CertifiedKey>, TlsError> {
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).map_err(|_| TlsError::Malformed("private key"))?;
    let key = provider().key_provider.load_private_key(key).map_err(TlsError::Rustls)?;
    Ok(Arc::new(CertifiedKey::new(certificates(&issued.certificate_pem)?, key)))
}

/// The certificate a server shows, which may be replaced while it serves.
#[derive(Clone, Debug)]
pub struct ServingCertificate {
    current: Arc<RwLock<Arc<CertifiedKey>>>,
}

impl ServingCertificate {
    /// Shows this certificate.
    ///
    /// # Errors
    /// When certificate or key is malformed.
    pub fn new(issued: &Issued) -> Result<Self, TlsError> {
        Ok(Self { current: Arc::new(RwLock::new(certified(issued)?)) })
    }

    /// Shows another one to connections from now on.
    ///
    /// # Errors
    /// When certificate or key is malformed; the old one stays.
    pub fn replace(&self, issued: &Issued) -> Result<(), TlsError> {
        *self.current.write().expect("nothing panics while it holds this lock") = certified(issued)?;
        Ok(())
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().expect("nothing panics while it holds this lock").clone())
    }
}

/// A server's side of TLS.
#[derive(Clone, Debug)]
pub struct ServerTls {
    pub(crate) config: Arc<ServerConfig>,
}

impl ServerTls {
    /// Shows a certificate, and takes clients with a certificate of `client_ca` (PEM) as well as clients without any.
    ///
    /// # Errors
    /// When the authority's certificate is malformed.
    pub fn new(certificate: ServingCertificate, client_ca: &str) -> Result<Self, TlsError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(client_ca)?, provider())
            .allow_unauthenticated()
            .build()
            .map_err(|_| TlsError::Malformed("client authority"))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Rustls)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(certificate));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config) })
    }
}

/// A client's side of TLS.
#[derive(Clone, Debug)]
pub struct ClientTls {
    pub(crate) config: Arc<ClientConfig>,
}

impl ClientTls {
    /// Trusts servers with a certificate of `ca` (PEM), and shows `certificate` if given.
    ///
    /// # Errors
    /// When a certificate or key is malformed.
    pub fn new(ca: &str, certificate: Option<&Issued>) -> Result<Self, TlsError> {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots(ca)?, provider())
            .build()
            .map_err(|_| TlsError::Malformed("server authority"))?;
        Self::with_verifier(verifier, certificate)
    }

    /// Decides by a verifier of the caller's own: a joining node has only the authority's hash.
    ///
    /// # Errors
    /// When a certificate or key is malformed.
    pub fn with_verifier(
        verifier: Arc<dyn rustls::client::danger::ServerCertVerifier>,
        certificate: Option<&Issued>,
    ) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Rustls)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).map_err(|_| TlsError::Malformed("private key"))?;
                builder.with_client_auth_cert(certificates(&issued.certificate_pem)?, key).map_err(TlsError::Rustls)?
            }
        };
        Ok(Self { config: Arc::new(config) })
    }
}

impl ClientTls {
    /// Takes any server for what it says it is: for probes, whose targets have certificates that nobody vouches for.
    ///
    /// # Errors
    /// When the library has no protocol version in common with itself.
    pub fn unverified() -> Result<Self, TlsError> {
        Self::with_verifier(Arc::new(Anyone(provider())), None)
    }

    /// The same, showing a certificate.
    ///
    /// # Errors
    /// When certificate or key is malformed.
    pub fn unverified_showing(certificate: &Issued) -> Result<Self, TlsError> {
        Self::with_verifier(Arc::new(Anyone(provider())), Some(certificate))
    }
}

/// Takes any certificate; the handshake must still be signed with its key.
#[derive(Debug)]
struct Anyone(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        s: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(m, c, s, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        s: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(m, c, s, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
