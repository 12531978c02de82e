//! What a URL path asks for.

use std::borrow::Cow;

use gantry_client::{PatchType, Verb};

/// What a request is about, as far as its path and method tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A resource or an object.
    Resource(ResourcePath),
    /// Anything else: discovery, health, version.
    Other,
}

/// The parts of a resource's path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
    /// What follows the subresource: the path that a proxy passes on.
    pub(crate) rest: String,
    /// The old way to ask for a watch: `/api/v1/watch/…`.
    pub(crate) watch: bool,
}

/// Takes a path apart.
pub(crate) fn parse(path: &str) -> Target {
    let segments: Vec<Cow<'_, str>> = path.trim_start_matches('/').split('/').map(decode_path).collect();
    let mut segments: &[Cow<'_, str>] = match segments.last() {
        Some(last) if last.is_empty() => &segments[..segments.len() - 1],
        _ => &segments,
    };
    let mut found = ResourcePath::default();
    match segments {
        [api, version, rest @ ..] if api == "api" && !rest.is_empty() => {
            found.version = version.to_string();
            segments = rest;
        }
        [apis, group, version, rest @ ..] if apis == "apis" && !rest.is_empty() => {
            found.group = group.to_string();
            found.version = version.to_string();
            segments = rest;
        }
        _ => return Target::Other,
    }
    if let [watch, rest @ ..] = segments
        && watch == "watch"
        && !rest.is_empty()
    {
        found.watch = true;
        segments = rest;
    }
    // /namespaces/NS/RESOURCE… is a resource in a namespace, unless RESOURCE is a subresource of namespaces themselves.
    if let [namespaces, namespace, rest @ ..] = segments
        && namespaces == "namespaces"
        && !rest.is_empty()
        && !(matches!(rest, [only] if only == "status" || only == "finalize"))
    {
        found.namespace = namespace.to_string();
        segments = rest;
    }
    let mut parts = segments.iter().map(|part| part.to_string());
    found.resource = parts.next().unwrap_or_default();
    found.name = parts.next().unwrap_or_default();
    found.subresource = parts.next().unwrap_or_default();
    found.rest = parts.collect::<Vec<_>>().join("/");
    Target::Resource(found)
}

/// The same without a copy where nothing is encoded, as in almost every path.
fn decode_path(text: &str) -> Cow<'_, str> {
    if text.contains('%') { decode(text).into() } else { text.into() }
}

/// Undoes percent-encoding. What is not valid stays as it is.
pub(crate) fn decode(text: &str) -> String {
    decode_with(text, false)
}

fn decode_with(text: &str, plus_is_space: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = (bytes[i] == b'%').then(|| text.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok())).flatten();
        match hex {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(if plus_is_space && bytes[i] == b'+' { b' ' } else { bytes[i] });
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A query, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decode_with(key, true), decode_with(value, true))
        };
        Self(text.split('&').filter(|p| !p.is_empty()).map(pair).collect())
    }

    /// The first value of a parameter, empty when it isn't given.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v)
    }

    /// Every value of a parameter.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// Whether a parameter says yes, as Go's ParseBool reads it.
    pub(crate) fn is_true(&self, key: &str) -> bool {
        matches!(self.get(key), "1" | "t" | "T" | "true" | "TRUE" | "True")
    }
}

/// What a method does with this path, before a `watch` in the query is looked at. `None`: nothing.
pub(crate) fn verb(method: &::http::Method, path: &ResourcePath, patch: Option<PatchType>) -> Option<Verb> {
    use ::http::Method;
    let one = !path.name.is_empty();
    match *method {
        Method::GET | Method::HEAD if one => Some(Verb::Get),
        Method::GET | Method::HEAD => Some(Verb::List),
        Method::POST => Some(Verb::Create),
        Method::PUT => Some(Verb::Update),
        Method::PATCH => patch.map(Verb::Patch),
        Method::DELETE if one => Some(Verb::Delete),
        Method::DELETE => Some(Verb::DeleteCollection),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(path: &str) -> [String; 7] {
        match parse(path) {
            Target::Resource(p) => [p.group, p.version, p.namespace, p.resource, p.name, p.subresource, p.rest],
            Target::Other => panic!("{path} is not a resource path"),
        }
    }

    #[test]
    fn paths_are_taken_apart() {
        assert_eq!(parts("/api/v1/pods"), ["", "v1", "", "pods", "", "", ""]);
        assert_eq!(parts("/api/v1/namespaces/a/pods/p/log"), ["", "v1", "a", "pods", "p", "log", ""]);
        assert_eq!(parts("/api/v1/namespaces/a"), ["", "v1", "", "namespaces", "a", "", ""]);
        assert_eq!(parts("/api/v1/namespaces/a/status"), ["", "v1", "", "namespaces", "a", "status", ""]);
        assert_eq!(parts("/apis/apps/v1/namespaces/a/deployments/d/scale"), ["apps", "v1", "a", "deployments", "d", "scale", ""]);
        assert_eq!(parts("/api/v1/nodes/n/proxy/a/b"), ["", "v1", "", "nodes", "n", "proxy", "a/b"]);
        assert_eq!(parts("/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode")[4], "system:node");
        assert!(matches!(parse("/api/v1/watch/pods"), Target::Resource(p) if p.watch && p.resource == "pods"));
        for other in ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/openapi/v3"] {
            assert_eq!(parse(other), Target::Other, "{other}");
        }
    }

    #[test]
    fn queries_are_taken_apart() {
        let query = Query::parse("labelSelector=a%3Db%2Cc&watch=true&x=1&x=2&plus=a+b");
        assert_eq!((query.get("labelSelector"), query.is_true("watch"), query.get("plus")), ("a=b,c", true, "a b"));
        assert_eq!(query.all("x").collect::<Vec<_>>(), ["1", "2"]);
    }
}
