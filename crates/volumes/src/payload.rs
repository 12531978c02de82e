//! The files of ConfigMap, Secret, downward and projected volumes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, Volume};

use crate::downward::{Facts, field, resource};

/// Something a volume or an environment is made of, to be fetched first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A ConfigMap of the pod's namespace.
    ConfigMap(String),
    /// A Secret of the pod's namespace.
    Secret(String),
    /// A token of the pod's service account.
    Token {
        /// For whom; empty for the API server.
        audience: String,
        /// How long it shall last, in seconds.
        seconds: i64,
    },
}

/// What was fetched. `None`: it does not exist.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// ConfigMaps by name.
    pub config_maps: BTreeMap<String, Option<ConfigMap>>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Option<Secret>>,
    /// Tokens by audience and lifetime.
    pub tokens: BTreeMap<(String, i64), String>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its bytes.
    pub contents: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
}

/// The files of a volume by their paths within it.
pub type Payload = BTreeMap<String, File>;

/// Why a volume's files cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// An object isn't there.
    #[error("{kind} {name:?} not found")]
    Missing {
        /// Its kind, in lower case as upstream has it.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// An object lacks a key.
    #[error("references non-existent {kind} key: {key}")]
    MissingKey {
        /// The object's kind.
        kind: &'static str,
        /// The key.
        key: String,
    },
    /// A path leads out of the volume.
    #[error("path {0:?} must be relative and may not contain '..'")]
    BadPath(String),
    /// A field isn't offered.
    #[error("unsupported field path {0:?}")]
    BadField(String),
}

/// What a volume needs fetched.
pub fn needs(volume: &Volume) -> BTreeSet<Need> {
    let mut all = BTreeSet::new();
    if let Some(source) = &volume.config_map {
        all.insert(Need::ConfigMap(source.name.clone()));
    }
    if let Some(source) = &volume.secret {
        all.insert(Need::Secret(source.secret_name.clone().unwrap_or_default()));
    }
    for source in volume.projected.iter().filter_map(|p| p.sources.as_ref()).flatten() {
        all.extend(source.config_map.iter().map(|s| Need::ConfigMap(s.name.clone())));
        all.extend(source.secret.iter().map(|s| Need::Secret(s.name.clone())));
        all.extend(
            source
                .service_account_token
                .iter()
                .map(|t| Need::Token { audience: t.audience.clone().unwrap_or_default(), seconds: t.expiration_seconds.unwrap_or(3600) }),
        );
    }
    all
}

/// What a volume's files come from.
struct Maker<'a> {
    pod: &'a Pod,
    facts: &'a Facts,
    fetched: &'a Fetched,
    files: Payload,
}

/// The files of a volume; `None` when the volume isn't made of files.
///
/// # Errors
/// When something it must have is missing.
pub fn payload(volume: &Volume, pod: &Pod, facts: &Facts, fetched: &Fetched) -> Result<Option<Payload>, PayloadError> {
    let mut maker = Maker { pod, facts, fetched, files: Payload::new() };
    let mode = |m: Option<i32>| m.unwrap_or(0o644) as u32;
    if let Some(source) = &volume.config_map {
        maker.config_map(&source.name, source.items.as_deref(), source.optional == Some(true), mode(source.default_mode))?;
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.clone().unwrap_or_default();
        maker.secret(&name, source.items.as_deref(), source.optional == Some(true), mode(source.default_mode))?;
    } else if let Some(source) = &volume.downward_api {
        maker.downward(source.items.as_deref().unwrap_or_default(), mode(source.default_mode))?;
    } else if let Some(projected) = &volume.projected {
        let mode = mode(projected.default_mode);
        for source in projected.sources.iter().flatten() {
            if let Some(s) = &source.config_map {
                maker.config_map(&s.name, s.items.as_deref(), s.optional == Some(true), mode)?;
            }
            if let Some(s) = &source.secret {
                maker.secret(&s.name, s.items.as_deref(), s.optional == Some(true), mode)?;
            }
            if let Some(s) = &source.downward_api {
                maker.downward(s.items.as_deref().unwrap_or_default(), mode)?;
            }
            if let Some(s) = &source.service_account_token {
                let key = (s.audience.clone().unwrap_or_default(), s.expiration_seconds.unwrap_or(3600));
                let missing = || PayloadError::Missing { kind: "token", name: s.path.clone() };
                let token = fetched.tokens.get(&key).ok_or_else(missing)?.clone().into_bytes();
                maker.add(&s.path, token, mode)?;
            }
        }
    } else {
        return Ok(None);
    }
    Ok(Some(maker.files))
}

impl Maker<'_> {
    fn add(&mut self, path: &str, contents: Vec<u8>, mode: u32) -> Result<(), PayloadError> {
        if path.is_empty() || path.starts_with('/') || path.split('/').any(|p| p == "..") {
            return Err(PayloadError::BadPath(path.into()));
        }
        self.files.insert(path.into(), File { contents, mode });
        Ok(())
    }

    fn config_map(&mut self, name: &str, items: Option<&[KeyToPath]>, optional: bool, mode: u32) -> Result<(), PayloadError> {
        let Some(object) = self.fetched.config_maps.get(name).and_then(Option::as_ref) else {
            return if optional { Ok(()) } else { Err(PayloadError::Missing { kind: "configmap", name: name.into() }) };
        };
        let texts = object.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone().into_bytes()));
        let binary = object.binary_data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone()));
        self.keys("configmap", texts.chain(binary).collect(), items, optional, mode)
    }

    fn secret(&mut self, name: &str, items: Option<&[KeyToPath]>, optional: bool, mode: u32) -> Result<(), PayloadError> {
        let Some(object) = self.fetched.secrets.get(name).and_then(Option::as_ref) else {
            return if optional { Ok(()) } else { Err(PayloadError::Missing { kind: "secret", name: name.into() }) };
        };
        let data = object.data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone()));
        self.keys("secret", data.collect(), items, optional, mode)
    }

    fn keys(
        &mut self,
        kind: &'static str,
        mut data: BTreeMap<String, Vec<u8>>,
        items: Option<&[KeyToPath]>,
        optional: bool,
        mode: u32,
    ) -> Result<(), PayloadError> {
        let Some(items) = items.filter(|i| !i.is_empty()) else {
            return data.into_iter().try_for_each(|(key, contents)| self.add(&key, contents, mode));
        };
        for item in items {
            match data.remove(&item.key) {
                Some(contents) => self.add(&item.path, contents, item.mode.map_or(mode, |m| m as u32))?,
                None if optional => {}
                None => return Err(PayloadError::MissingKey { kind, key: item.key.clone() }),
            }
        }
        Ok(())
    }

    fn downward(&mut self, items: &[DownwardAPIVolumeFile], mode: u32) -> Result<(), PayloadError> {
        for item in items {
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(f), _) => field(self.pod, self.facts, &f.field_path).ok_or_else(|| PayloadError::BadField(f.field_path.clone()))?,
                (None, Some(r)) => resource(self.pod, self.facts, "", r).ok_or_else(|| PayloadError::BadField(r.resource.clone()))?,
                (None, None) => continue,
            };
            self.add(&item.path, text.into_bytes(), item.mode.map_or(mode, |m| m as u32))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn make(volume: serde_json::Value) -> Result<Vec<(String, String, u32)>, PayloadError> {
        let volume: Volume = serde_json::from_value(volume).unwrap();
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}})).unwrap();
        let map: ConfigMap = serde_json::from_value(json!({"data": {"a": "1", "b": "2"}})).unwrap();
        let secret: Secret = serde_json::from_value(json!({"data": {"s": "c2VjcmV0"}})).unwrap();
        let mut fetched = Fetched::default();
        fetched.config_maps.insert("m".into(), Some(map));
        fetched.config_maps.insert("none".into(), None);
        fetched.secrets.insert("x".into(), Some(secret));
        fetched.tokens.insert((String::new(), 3607), "tok".into());
        let files = payload(&volume, &pod, &Facts::default(), &fetched)?.unwrap();
        Ok(files.into_iter().map(|(path, f)| (path, String::from_utf8(f.contents).unwrap(), f.mode)).collect())
    }

    #[test]
    fn files_are_made_of_what_was_fetched() {
        let file = |p: &str, c: &str, m: u32| (p.to_owned(), c.to_owned(), m);
        assert_eq!(make(json!({"name": "v", "configMap": {"name": "m"}})), Ok(vec![file("a", "1", 0o644), file("b", "2", 0o644)]));
        let items = json!({"name": "v", "configMap": {"name": "m", "defaultMode": 256, "items": [{"key": "a", "path": "d/x"}, {"key": "b", "path": "y", "mode": 511}]}});
        assert_eq!(make(items), Ok(vec![file("d/x", "1", 0o400), file("y", "2", 0o777)]));
        let projected = json!({"name": "v", "projected": {"sources": [{"secret": {"name": "x"}}, {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}});
        assert_eq!(make(projected), Ok(vec![file("n", "p", 0o644), file("s", "secret", 0o644), file("token", "tok", 0o644)]));
    }

    #[test]
    fn what_is_missing_is_named_unless_it_is_optional() {
        let map = |name: &str, optional: bool| json!({"name": "v", "configMap": {"name": name, "optional": optional}});
        assert_eq!(make(map("none", false)), Err(PayloadError::Missing { kind: "configmap", name: "none".into() }));
        assert_eq!(make(map("none", true)), Ok(vec![]));
        let key = json!({"name": "v", "configMap": {"name": "m", "items": [{"key": "z", "path": "z"}]}});
        assert!(matches!(make(key), Err(PayloadError::MissingKey { .. })));
        let escape = json!({"name": "v", "configMap": {"name": "m", "items": [{"key": "a", "path": "../z"}]}});
        assert!(matches!(make(escape), Err(PayloadError::BadPath(_))));
    }
}
