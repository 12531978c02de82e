//! ConfigMaps, Secrets and service accounts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::{Value, names};

use crate::rules::{PLAIN, Rules};
use crate::tree;

/// How many bytes the values of a ConfigMap or Secret may have together.
const MOST_BYTES: usize = 1 << 20;

pub(crate) const CONFIG_MAP: Rules = Rules { validate: validate_config_map, validate_update: keep_config_map, ..PLAIN };

pub(crate) const SECRET: Rules = Rules {
    defaults: |secret| {
        let Some(Value::Object(texts)) = tree::remove(secret, "stringData") else { return };
        let data = tree::object_mut(secret, "data");
        data.extend(texts.into_iter().map(|(key, text)| (key, STANDARD.encode(text.as_str().unwrap_or_default()).into())));
    },
    validate: validate_secret,
    validate_update: keep_secret,
    ..PLAIN
};

pub(crate) const SERVICE_ACCOUNT: Rules = PLAIN;

fn decoded_len(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    text.trim_end_matches('=').len() * 3 / 4
}

fn check_key(key: &str, path: &Path, errors: &mut ErrorList) {
    errors.extend(names::config_key(key).iter().map(|m| Error::invalid(&path.key(key), key, m)));
}

fn validate_config_map(map: &Value, errors: &mut ErrorList) {
    let mut total = 0;
    for (key, value) in tree::entries(map, "/data") {
        check_key(key, &Path::new("data"), errors);
        total += value.as_str().map_or(0, str::len);
        if tree::at(map, "/binaryData").get(key).is_some() {
            errors.push(Error::invalid(&Path::new("data").key(key), key.as_str(), "duplicate of key present in binaryData"));
        }
    }
    for (key, value) in tree::entries(map, "/binaryData") {
        check_key(key, &Path::new("binaryData"), errors);
        total += decoded_len(value);
    }
    if total > MOST_BYTES {
        errors.push(Error::too_long(&Path::default(), MOST_BYTES));
    }
}

/// What may not change once the object says it is immutable.
fn keep_members(new: &Value, old: &Value, members: &[&str], errors: &mut ErrorList) {
    if old["immutable"] != true {
        return;
    }
    let detail = "field is immutable when `immutable` is set";
    if new["immutable"] != true {
        errors.push(Error::forbidden(&Path::new("immutable"), detail));
    }
    for member in members.iter().filter(|m| new.get(*m) != old.get(*m)) {
        errors.push(Error::forbidden(&Path::new(member), detail));
    }
}

fn keep_config_map(new: &Value, old: &Value, _: Option<&str>, errors: &mut ErrorList) {
    keep_members(new, old, &["data", "binaryData"], errors);
}

fn keep_secret(new: &Value, old: &Value, _: Option<&str>, errors: &mut ErrorList) {
    keep_members(new, old, &["data"], errors);
}

fn validate_secret(secret: &Value, errors: &mut ErrorList) {
    let data = Path::new("data");
    let mut total = 0;
    for (key, value) in tree::entries(secret, "/data") {
        check_key(key, &data, errors);
        total += decoded_len(value);
    }
    if total > MOST_BYTES {
        errors.push(Error::too_long(&data, MOST_BYTES));
    }
    let mut need = |key: &str| {
        if tree::at(secret, "/data").get(key).is_none() {
            errors.push(Error::required(&data.key(key), ""));
        }
    };
    match tree::text(secret, "/type") {
        "kubernetes.io/tls" => ["tls.crt", "tls.key"].into_iter().for_each(&mut need),
        "kubernetes.io/ssh-auth" => need("ssh-privatekey"),
        "kubernetes.io/dockercfg" => need(".dockercfg"),
        "kubernetes.io/dockerconfigjson" => need(".dockerconfigjson"),
        "kubernetes.io/basic-auth" => {
            let given = |key: &str| tree::at(secret, "/data").get(key).is_some();
            if !given("username") && !given("password") {
                errors.push(Error::required(&data.key("username"), ""));
                errors.push(Error::required(&data.key("password"), ""));
            }
        }
        "kubernetes.io/service-account-token" => {
            let name = tree::at(secret, "/metadata/annotations").get("kubernetes.io/service-account.name");
            if name.and_then(Value::as_str).unwrap_or_default().is_empty() {
                let path = Path::new("metadata").child("annotations").key("kubernetes.io/service-account.name");
                errors.push(Error::required(&path, ""));
            }
        }
        _ => {}
    }
}
