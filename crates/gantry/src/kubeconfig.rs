//! Kubeconfig files.

use gantry_pki::Issued;
use serde_json::json;

/// A kubeconfig with one context, `gantry`, and everything inline.
pub(crate) fn render(server: &str, authority_pem: &str, user: &Issued) -> String {
    let encode = |pem: &str| base64_text(pem.as_bytes());
    // JSON is YAML, and every client reads it.
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "gantry",
        "clusters": [{"name": "gantry", "cluster": {"server": server, "certificate-authority-data": encode(authority_pem)}}],
        "users": [{"name": "gantry", "user": {"client-certificate-data": encode(&user.certificate_pem), "client-key-data": encode(&user.key_pem)}}],
        "contexts": [{"name": "gantry", "context": {"cluster": "gantry", "user": "gantry"}}],
    });
    format!("{config:#}\n")
}

fn base64_text(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
