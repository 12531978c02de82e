//! HTTPS serving and dialling, upgrades, pools.
//!
//! Knows HTTP and TLS, nothing of Kubernetes. Who a peer is gets verified here (certificates) and decided above (identities).

mod body;
mod dial;
mod relay;
mod serve;
mod tls;

pub use body::{Body, Pieces, full, in_pieces, streaming};
pub use dial::{DialError, HttpsClient, Target};
pub use relay::relay;
pub use serve::{Handler, Peer, serve};
pub use tls::{ClientTls, ServerTls, ServingCertificate, TlsError};

/// A request as it arrives.
pub type Request = http::Request<hyper::body::Incoming>;
/// A response as it leaves.
pub type Response = http::Response<Body>;
