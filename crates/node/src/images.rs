//! Images from the content store, pulled when they are missing.

use std::sync::Arc;

use gantry_images::{Credentials, Error, Reference, Registries, Store, resolve_user};
use gantry_ports::{BoxFuture, Tasks};
use serde_json::Value;

use crate::shared::{ImageError, Images, ReadyImage};
use gantry_object::chain;

/// Images from a content store.
pub struct StoreImages {
    store: Arc<Store>,
    registries: Registries,
    tasks: Tasks,
}

impl StoreImages {
    /// Takes images from a store and pulls what is missing from registries.
    pub fn new(store: Arc<Store>, registries: Registries, tasks: Tasks) -> Self {
        Self { store, registries, tasks }
    }

    /// The image, if the store has it, kept for a container.
    async fn find(&self, holder: &str, name: &str) -> Result<Option<ReadyImage>, Error> {
        let (store, name, holder) = (self.store.clone(), name.to_owned(), holder.to_owned());
        // Held first, so that no collection comes between.
        let look = move || match store.hold(&holder, &name).and_then(|()| store.spec(&name)) {
            Ok(spec) => {
                let user = resolve_user(&spec.lower, &spec.user)?;
                Ok(Some(ReadyImage { spec, user, pulled: false }))
            }
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        };
        self.tasks.blocking(look).await
    }

    async fn pull(&self, reference: &Reference, credentials: &[String]) -> Result<(), String> {
        let given = credentials.iter().find_map(|text| login(text, reference.registry()));
        let pulled = self.registries.pull(&self.store, reference, given.as_ref()).await;
        pulled.map(drop).map_err(|e| chain(&e))
    }
}

/// The login for a registry in a `.dockerconfigjson` text.
fn login(text: &str, registry: &str) -> Option<Credentials> {
    use base64::Engine;
    let config: Value = serde_json::from_str(text).ok()?;
    let host = |key: &str| key.trim_start_matches("https://").trim_start_matches("http://").split('/').next().unwrap_or("").to_owned();
    let same = |key: &str| host(key) == registry || registry == "docker.io" && host(key) == "index.docker.io";
    let (_, entry) = config["auths"].as_object()?.iter().find(|(key, _)| same(key))?;
    let member = |name: &str| entry[name].as_str().filter(|s| !s.is_empty()).map(str::to_owned);
    if let (Some(username), Some(password)) = (member("username"), member("password")) {
        return Some(Credentials { username, password });
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(member("auth")?).ok()?;
    let (username, password) = String::from_utf8(decoded).ok()?.split_once(':').map(|(u, p)| (u.to_owned(), p.to_owned()))?;
    Some(Credentials { username, password })
}

impl Images for StoreImages {
    fn ensure<'a>(
        &'a self,
        holder: &'a str,
        name: &'a str,
        policy: &'a str,
        credentials: &'a [String],
    ) -> BoxFuture<'a, Result<ReadyImage, ImageError>> {
        Box::pin(async move {
            let failed = |reason| move |message: String| ImageError { reason, message };
            let reference = Reference::parse(name).map_err(|e| failed("InvalidImageName")(chain(&e)))?;
            let found = self.find(holder, name).await.map_err(|e| failed("ErrImagePull")(chain(&e)))?;
            // "Always" means as new as can be had: an image that was built or imported here has no registry to be newer in.
            match (found, policy) {
                (Some(image), "IfNotPresent" | "Never") => Ok(image),
                (None, "Never") => {
                    let message = format!("Container image {name:?} is not present with pull policy of Never");
                    Err(failed("ErrImageNeverPull")(message))
                }
                (found, _) => match (self.pull(&reference, credentials).await, found) {
                    (Ok(()), _) => {
                        let image = self.find(holder, name).await.map_err(|e| failed("ErrImagePull")(chain(&e)))?;
                        let gone = || failed("ErrImagePull")("the image was removed right after it was pulled".into());
                        image.map(|i| ReadyImage { pulled: true, ..i }).ok_or_else(gone)
                    }
                    (Err(_), Some(local)) if local.spec.image.repo_digests.is_empty() => Ok(local),
                    (Err(why), _) => Err(failed("ErrImagePull")(why)),
                },
            }
        })
    }

    fn release<'a>(&'a self, pod_uid: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let (store, prefix) = (self.store.clone(), format!("{pod_uid}_"));
            let let_go = move || {
                let ours = store.holders()?.into_iter().filter(|h| h.starts_with(&prefix));
                ours.into_iter().try_for_each(|holder| store.let_go(&holder))
            };
            let released = self.tasks.blocking(let_go).await;
            if let Err(error) = released {
                tracing::warn!(pod = pod_uid, error = chain(&error), "letting go of a pod's images");
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_found_by_registry() {
        let text = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "YTpi"}, "r.example:5000": {"username": "u", "password": "p"}}}"#;
        let found = |registry: &str| login(text, registry).map(|c| (c.username, c.password));
        assert_eq!(found("docker.io"), Some(("a".into(), "b".into())));
        assert_eq!(found("r.example:5000"), Some(("u".into(), "p".into())));
        assert_eq!(found("other"), None);
    }
}
