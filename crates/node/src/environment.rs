//! A container's environment: services, ConfigMaps, Secrets, fields, and references between them.

use std::collections::BTreeMap;

use gantry_volumes::{Facts, Fetched, Need, field, resource};
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};

/// Why an environment cannot be made. The message is what the container's waiting state says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct EnvironmentError(String);

/// What a container's environment needs fetched.
pub(crate) fn needs(container: &Container) -> Vec<Need> {
    let from = container.env_from.iter().flatten().flat_map(|source| {
        let map = source.config_map_ref.iter().map(|r| Need::ConfigMap(r.name.clone()));
        let secret = source.secret_ref.iter().map(|r| Need::Secret(r.name.clone()));
        map.chain(secret).collect::<Vec<_>>()
    });
    let single = container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()).flat_map(|source| {
        let map = source.config_map_key_ref.iter().map(|r| Need::ConfigMap(r.name.clone()));
        let secret = source.secret_key_ref.iter().map(|r| Need::Secret(r.name.clone()));
        map.chain(secret).collect::<Vec<_>>()
    });
    from.chain(single).collect()
}

/// The variables a container sets itself, in order, later ones winning; `base` is what services and the image bring.
///
/// # Errors
/// When an object or key it must have is missing.
pub(crate) fn environment(
    pod: &Pod,
    container: &Container,
    base: BTreeMap<String, String>,
    facts: &Facts,
    fetched: &Fetched,
) -> Result<BTreeMap<String, String>, EnvironmentError> {
    let mut all = base;
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or("");
        if let Some(reference) = &source.config_map_ref {
            let data = config_map(fetched, &reference.name, reference.optional == Some(true))?;
            all.extend(data.into_iter().map(|(k, v)| (format!("{prefix}{k}"), v)));
        }
        if let Some(reference) = &source.secret_ref {
            let data = secret(fetched, &reference.name, reference.optional == Some(true))?;
            all.extend(data.into_iter().map(|(k, v)| (format!("{prefix}{k}"), v)));
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            None => Some(expand(variable.value.as_deref().unwrap_or(""), &all)),
            Some(_) => from_source(pod, container, variable, facts, fetched)?,
        };
        if let Some(value) = value {
            all.insert(variable.name.clone(), value);
        }
    }
    Ok(all)
}

fn missing(kind: &str, name: &str) -> EnvironmentError {
    EnvironmentError(format!("{kind} {name:?} not found"))
}

fn config_map(fetched: &Fetched, name: &str, optional: bool) -> Result<BTreeMap<String, String>, EnvironmentError> {
    match fetched.config_maps.get(name).and_then(Option::as_ref) {
        Some(object) => Ok(object.data.clone().unwrap_or_default()),
        None if optional => Ok(BTreeMap::new()),
        None => Err(missing("configmap", name)),
    }
}

fn secret(fetched: &Fetched, name: &str, optional: bool) -> Result<BTreeMap<String, String>, EnvironmentError> {
    match fetched.secrets.get(name).and_then(Option::as_ref) {
        Some(object) => {
            let data = object.data.iter().flatten();
            Ok(data.map(|(k, v)| (k.clone(), String::from_utf8_lossy(&v.0).into_owned())).collect())
        }
        None if optional => Ok(BTreeMap::new()),
        None => Err(missing("secret", name)),
    }
}

fn from_source(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    facts: &Facts,
    fetched: &Fetched,
) -> Result<Option<String>, EnvironmentError> {
    let Some(source) = &variable.value_from else { return Ok(None) };
    let key_missing = |key: &str, kind: &str, name: &str| {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
        EnvironmentError(format!("couldn't find key {key} in {kind} {namespace}/{name}"))
    };
    if let Some(r) = &source.config_map_key_ref {
        let value = config_map(fetched, &r.name, r.optional == Some(true))?.remove(&r.key);
        return match value {
            None if r.optional != Some(true) => Err(key_missing(&r.key, "ConfigMap", &r.name)),
            value => Ok(value),
        };
    }
    if let Some(r) = &source.secret_key_ref {
        let value = secret(fetched, &r.name, r.optional == Some(true))?.remove(&r.key);
        return match value {
            None if r.optional != Some(true) => Err(key_missing(&r.key, "Secret", &r.name)),
            value => Ok(value),
        };
    }
    let unsupported = |what: &str| EnvironmentError(format!("unsupported field {what:?}"));
    if let Some(r) = &source.field_ref {
        return field(pod, facts, &r.field_path).map(Some).ok_or_else(|| unsupported(&r.field_path));
    }
    if let Some(r) = &source.resource_field_ref {
        return resource(pod, facts, &container.name, r).map(Some).ok_or_else(|| unsupported(&r.resource));
    }
    Ok(None)
}

/// Replaces `$(NAME)` by the value of a known variable; `$$` stands for `$`, and unknown names stay as they are.
pub(crate) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix("$(").and_then(|r| r.split_once(')')) {
            match variables.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&rest[..name.len() + 3]),
            }
            rest = after;
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}

/// One service as pods' environments tell it.
#[derive(Clone, Debug)]
pub(crate) struct ServiceLink {
    /// Its name.
    pub name: String,
    /// Its cluster address.
    pub address: String,
    /// Its ports: name, number, protocol.
    pub ports: Vec<(String, i32, String)>,
}

/// The variables by which containers of old found services.
pub(crate) fn service_variables(links: &[ServiceLink]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for link in links {
        let base = link.name.to_uppercase().replace('-', "_");
        let Some((_, first, protocol)) = link.ports.first() else { continue };
        let mut put = |suffix: String, value: String| all.insert(format!("{base}{suffix}"), value);
        put("_SERVICE_HOST".into(), link.address.clone());
        put("_SERVICE_PORT".into(), first.to_string());
        let url = |protocol: &str, port: i32| format!("{}://{}:{port}", protocol.to_lowercase(), link.address);
        put("_PORT".into(), url(protocol, *first));
        for (name, port, protocol) in &link.ports {
            if !name.is_empty() {
                put(format!("_SERVICE_PORT_{}", name.to_uppercase().replace('-', "_")), port.to_string());
            }
            let stem = format!("_PORT_{port}_{}", protocol.to_uppercase());
            put(stem.clone(), url(protocol, *port));
            put(format!("{stem}_PROTO"), protocol.to_lowercase());
            put(format!("{stem}_PORT"), port.to_string());
            put(format!("{stem}_ADDR"), link.address.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_are_expanded_where_they_are_known() {
        let known = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        for (text, expanded) in
            [("$(A)", "1"), ("x$(A)y$(B)", "x1y$(B)"), ("$$(A)", "$(A)"), ("$A $", "$A $"), ("$(A", "$(A"), ("$$$(A)", "$1")]
        {
            assert_eq!(expand(text, &known), expanded, "{text}");
        }
    }

    #[test]
    fn later_sources_win_and_what_is_missing_is_named() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "a"}})).unwrap();
        let container = |env: serde_json::Value| serde_json::from_value::<Container>(env).unwrap();
        let mut fetched = Fetched::default();
        fetched.config_maps.insert("m".into(), serde_json::from_value(json!({"data": {"K": "map", "X": "1"}})).unwrap());
        let c = container(json!({"name": "c", "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}],
            "env": [{"name": "A", "value": "a"}, {"name": "B", "value": "$(A)$(P_X)"}, {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}));
        let made = environment(&pod, &c, BTreeMap::from([("A".into(), "base".into())]), &Facts::default(), &fetched).unwrap();
        let text: Vec<String> = made.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(text, ["A=a", "B=a1", "N=p", "P_K=map", "P_X=1"]);
        let c = container(json!({"name": "c", "env": [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}));
        let error = environment(&pod, &c, BTreeMap::new(), &Facts::default(), &fetched).unwrap_err();
        assert_eq!(error.to_string(), "secret \"s\" not found");
    }
}
