//! Acting as somebody else, for those who may.

use std::collections::BTreeMap;

use gantry_object::Status;
use gantry_transport::Request;

use crate::authorize::Attributes;
use crate::path::decode;
use crate::server::Server;
use crate::user::{AUTHENTICATED, UNAUTHENTICATED, User};

/// What the names of all headers begin with that ask for this.
const PREFIX: &str = "impersonate-";
const EXTRA: &str = "impersonate-extra-";
const ANONYMOUS: &str = "system:anonymous";

impl Server {
    /// Takes on the identity that the headers name, if the caller may take on every part of it.
    pub(crate) fn impersonate(&self, user: User, request: &Request) -> Result<User, Status> {
        // Almost nobody does.
        if !request.headers().keys().any(|name| name.as_str().starts_with(PREFIX)) {
            return Ok(user);
        }
        let wanted = Wanted::of(request);
        if wanted.name.is_empty() {
            return if wanted.says_nothing() { Ok(user) } else { Err(wanted.without_user()) };
        }
        let may = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
            let what = Attributes {
                verb: "impersonate".into(),
                group: group.into(),
                resource: resource.into(),
                subresource: subresource.into(),
                namespace: namespace.into(),
                name: name.into(),
                ..Attributes::default()
            };
            self.authorizer().check(self.store(), &user, &what)
        };
        let mut groups = wanted.groups.clone();
        match wanted.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
            Some((namespace, account)) => {
                may("", "serviceaccounts", "", namespace, account)?;
                if groups.is_empty() {
                    groups = User::service_account(namespace, account).groups;
                }
            }
            None => may("", "users", "", "", &wanted.name)?,
        }
        for group in &wanted.groups {
            may("", "groups", "", "", group)?;
        }
        for (key, values) in &wanted.extra {
            for value in values {
                may("authentication.k8s.io", "userextras", key, "", value)?;
            }
        }
        if !wanted.uid.is_empty() {
            may("authentication.k8s.io", "uids", "", "", &wanted.uid)?;
        }
        let is_anonymous = wanted.name == ANONYMOUS;
        let says_so = |g: &String| g == UNAUTHENTICATED || (g == AUTHENTICATED && !is_anonymous);
        if !groups.iter().any(says_so) {
            groups.push(if is_anonymous { UNAUTHENTICATED } else { AUTHENTICATED }.into());
        }
        Ok(User { name: wanted.name, uid: wanted.uid, groups, extra: wanted.extra })
    }
}

/// What the headers ask for.
struct Wanted {
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Wanted {
    fn of(request: &Request) -> Self {
        let all = |name: &str| -> Vec<String> {
            request.headers().get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect()
        };
        let one = |name: &str| all(name).into_iter().next().unwrap_or_default();
        let keys = request.headers().keys().filter_map(|k| k.as_str().strip_prefix(EXTRA));
        // Keys are percent-encoded, since header names may not hold everything that keys do.
        let extra = keys.map(|key| (decode(key).to_lowercase(), all(&format!("{EXTRA}{key}")))).collect();
        Self { name: one("impersonate-user"), uid: one("impersonate-uid"), groups: all("impersonate-group"), extra }
    }

    fn says_nothing(&self) -> bool {
        self.groups.is_empty() && self.extra.is_empty() && self.uid.is_empty()
    }

    fn without_user(&self) -> Status {
        let mut parts: Vec<String> = self.groups.iter().map(|g| format!("{{Group    {g}  }}")).collect();
        parts.extend(self.extra.keys().map(|k| format!("{{UserExtra    {k}  }}")));
        parts.extend((!self.uid.is_empty()).then(|| format!("{{UID    {}  }}", self.uid)));
        Status::internal(format!("requested [{}] without impersonating a user", parts.join(" ")))
    }
}
