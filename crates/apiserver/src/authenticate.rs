//! Finding out who is asking: client certificates, service-account tokens, bootstrap tokens, or nobody.

use gantry_object::{Status, Timestamp, Value, meta};
use gantry_pki::{CertificateIdentity, Claims};
use gantry_store::Key;

use crate::server::Server;
use crate::user::{AUTHENTICATED, BOOTSTRAPPERS, User};

pub(crate) const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
pub(crate) const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const NODE_UID: &str = "authentication.kubernetes.io/node-uid";
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

impl Server {
    /// Who is asking, by their certificate (verified by TLS) or their bearer token.
    pub(crate) fn authenticate(&self, certificate: Option<&CertificateIdentity>, bearer: Option<&str>) -> Result<User, Status> {
        if let Some(identity) = certificate {
            if identity.common_name.is_empty() {
                return Err(Status::unauthorized());
            }
            let groups: Vec<&str> = identity.organizations.iter().map(String::as_str).collect();
            return Ok(User::authenticated(&identity.common_name, &groups));
        }
        match bearer {
            Some(token) => self.authenticate_token(token, &[&self.config().issuer]),
            None => Ok(User::anonymous()),
        }
    }

    /// Whose token this is, if it is meant for one of the audiences.
    pub(crate) fn authenticate_token(&self, token: &str, audiences: &[&str]) -> Result<User, Status> {
        let now = self.clock().now();
        if token.contains('.') && token.matches('.').count() == 1 {
            return self.bootstrap_user(token, now).ok_or_else(Status::unauthorized);
        }
        let claims = self.token_key().verify(token, now).map_err(|_| Status::unauthorized())?;
        let meant_for_us = claims.iss == self.config().issuer && claims.aud.iter().any(|a| audiences.contains(&a.as_str()));
        if !meant_for_us {
            return Err(Status::unauthorized());
        }
        self.service_account_user(&claims).ok_or_else(Status::unauthorized)
    }

    fn stored(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        self.store().get(&Key::new(resource, namespace, name))?.decode().ok()
    }

    /// A token counts only while what it is bound to is still there.
    fn service_account_user(&self, claims: &Claims) -> Option<User> {
        let (namespace, name) = claims.sub.strip_prefix("system:serviceaccount:")?.split_once(':')?;
        let account = self.stored("serviceaccounts", namespace, name)?;
        let bound = &claims.bound;
        if bound["serviceaccount"]["uid"].as_str() != Some(meta::uid(&account)) {
            return None;
        }
        let mut user = User::service_account(namespace, name);
        user.uid = meta::uid(&account).into();
        let mut note = |key: &str, value: &str| {
            user.extra.insert(key.into(), vec![value.into()]);
        };
        note(CREDENTIAL_ID, &format!("JTI={}", claims.jti));
        for (member, resource, namespace) in [("pod", "pods", namespace), ("secret", "secrets", namespace), ("node", "nodes", "")] {
            let (Some(name), Some(uid)) = (bound[member]["name"].as_str(), bound[member]["uid"].as_str()) else { continue };
            // A node named beside a pod is a note, not a binding.
            let is_binding = member != "node" || bound.get("pod").is_none();
            if is_binding && self.stored(resource, namespace, name).is_none_or(|o| meta::uid(&o) != uid) {
                return None;
            }
            match member {
                "pod" => {
                    note(POD_NAME, name);
                    note(POD_UID, uid);
                }
                "node" => {
                    note(NODE_NAME, name);
                    note(NODE_UID, uid);
                }
                _ => {}
            }
        }
        Some(user)
    }

    fn bootstrap_user(&self, token: &str, now: Timestamp) -> Option<User> {
        let (id, secret) = token.split_once('.')?;
        let stored = self.stored("secrets", "kube-system", &format!("bootstrap-token-{id}"))?;
        let data = |key: &str| -> Option<String> {
            use base64::Engine;
            let bytes = base64::engine::general_purpose::STANDARD.decode(stored["data"][key].as_str()?).ok()?;
            String::from_utf8(bytes).ok()
        };
        let equal = data("token-secret")?.as_bytes().iter().zip(secret.as_bytes()).fold(0u8, |all, (a, b)| all | (a ^ b)) == 0
            && data("token-secret")?.len() == secret.len();
        let lasts = data("expiration").is_none_or(|at| Timestamp::parse(&at).is_some_and(|at| at > now));
        if data("token-id")? != id {
            return None;
        }
        let right_kind = stored["type"] == "bootstrap.kubernetes.io/token" && data("usage-bootstrap-authentication")? == "true";
        if !(equal && lasts && right_kind && !meta::is_deleting(&stored)) {
            return None;
        }
        let mut groups = vec![BOOTSTRAPPERS.to_owned(), AUTHENTICATED.to_owned()];
        let extra = data("auth-extra-groups").unwrap_or_default();
        // A token that asks for other groups than those of joining nodes is worth nothing: its maker may not be entitled to them.
        for group in extra.split(',').filter(|g| !g.is_empty()) {
            if !is_bootstrap_group(group) {
                return None;
            }
            groups.push(group.to_owned());
        }
        Some(User { name: format!("system:bootstrap:{id}"), groups, ..User::default() })
    }
}

/// Whether a bootstrap token may bring a group with it.
fn is_bootstrap_group(group: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, ':' | '-');
    let rest = group.strip_prefix("system:bootstrappers:").unwrap_or_default();
    rest.len() <= 256 && rest.chars().all(allowed) && rest.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
}
