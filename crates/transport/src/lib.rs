//! HTTPS serving and dialling, upgrades, pools.
//!
//! Knows HTTP, TLS and names of hosts, nothing of Kubernetes. Who a peer is gets verified here (certificates) and decided above (identities).
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod body;
mod dial;
mod origin;
mod relay;
mod resolve;
mod serve;
mod tls;

pub use body::{Body, Pieces, full, in_pieces, streaming};
pub use dial::{DialError, HttpsClient, Target};
pub use origin::Origin;
pub use relay::{forward, relay};
pub use resolve::{resolve, system_authorities};
pub use serve::{Handler, Peer, serve};
pub use tls::{ClientTls, ServerTls, ServingCertificate, TlsError};

/// A request as it arrives.
pub type Request = http::Request<hyper::body::Incoming>;
/// A response as it leaves.
pub type Response = http::Response<Body>;
