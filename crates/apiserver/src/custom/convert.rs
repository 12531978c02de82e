//! Conversion between the versions of a custom resource by the webhook that its definition names.
//!
//! Objects lie in the store in whatever version was the stored one when they were written. Here they become those of the version that is
//! asked for, before anything else looks at them, and become stored ones again after everything else has.

use std::sync::Arc;
use std::time::Duration;

use gantry_kinds::Kind;
use gantry_object::field::Path;
use gantry_object::{Encoded, GroupVersion, Reason, Revision, Status, Value, meta, names};
use serde::{Deserialize, Serialize};

use crate::outside::{Callee, Post};
use crate::server::Server;
use crate::verbs::tree;

/// How long a conversion may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most that is read of an answer, in bytes. Whole lists are converted in one call.
const LARGEST_ANSWER: usize = 256 << 20;

/// The webhook of one definition.
#[derive(Debug)]
pub(crate) struct Converter {
    callee: Callee,
    /// The versions of ConversionReview that it reads, as it prefers them.
    versions: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    kind: &'a str,
    api_version: String,
    request: Request<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: &'a str,
    #[serde(rename = "desiredAPIVersion")]
    desired_api_version: &'a str,
    objects: &'a [Value],
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Answered {
    api_version: String,
    kind: String,
    response: Option<Response>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Response {
    uid: String,
    result: Value,
    converted_objects: Option<Vec<Value>>,
}

impl Converter {
    /// That of a definition, if it has one.
    pub(super) fn of(crd: &Value) -> Option<Self> {
        let conversion = &crd["spec"]["conversion"];
        let webhook = &conversion["webhook"];
        let versions = webhook["conversionReviewVersions"].as_array().into_iter().flatten();
        (conversion["strategy"] == "Webhook").then(|| Self {
            callee: Callee::of_client_config(&webhook["clientConfig"]),
            versions: versions.filter_map(|v| v.as_str().map(str::to_owned)).collect(),
        })
    }

    /// Has objects converted, all in one call. Errors are in upstream's words, without its beginning.
    async fn call(&self, server: &Server, objects: &[Value], wanted: &str) -> Result<Vec<Value>, String> {
        let version = self.versions.iter().find(|v| matches!(v.as_str(), "v1" | "v1beta1"));
        let version = version.ok_or("failed: no supported conversion review versions")?;
        let uid = server.random().uuid();
        let review = Review {
            kind: "ConversionReview",
            api_version: format!("apiextensions.k8s.io/{version}"),
            request: Request { uid: &uid, desired_api_version: wanted, objects },
        };
        let body = serde_json::to_vec(&review).expect("a review has only text keys").into();
        let post = Post { callee: &self.callee, body, timeout: PATIENCE, largest_answer: LARGEST_ANSWER };
        let answer = server.post(post).await.map_err(|e| format!("failed: {e}"))?;
        let converted = read(&answer, &uid, version).map_err(|why| format!("failed: {why}"))?;
        if converted.len() != objects.len() {
            return Err(format!("returned {} objects, expected {}", converted.len(), objects.len()));
        }
        let checked = objects.iter().zip(converted).enumerate();
        checked.map(|(i, (before, after))| accept(before, after, wanted).map_err(|why| why.at(i))).collect()
    }
}

fn read(answer: &[u8], uid: &str, version: &str) -> Result<Vec<Value>, String> {
    let answered: Answered = serde_json::from_slice(answer).map_err(|e| e.to_string())?;
    let strict = version == "v1";
    if strict && (answered.api_version != "apiextensions.k8s.io/v1" || answered.kind != "ConversionReview") {
        let (api_version, kind) = (&answered.api_version, &answered.kind);
        return Err(format!("expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got {api_version}, Kind={kind}"));
    }
    let response = answered.response.ok_or("no response provided")?;
    if strict && response.uid != uid {
        return Err(format!("expected response.uid={uid:?}, got {:?}", response.uid));
    }
    let status = response.result["status"].as_str().unwrap_or_default();
    if status != "Success" {
        let message = response.result["message"].as_str().filter(|m| !m.is_empty());
        return Err(message.map_or_else(|| format!("response.result.status was '{status}', not 'Success'"), str::to_owned));
    }
    Ok(response.converted_objects.unwrap_or_default())
}

/// What is wrong with a converted object.
enum Wrong {
    Object(String),
    Metadata(String),
}

impl Wrong {
    fn at(self, index: usize) -> String {
        match self {
            Self::Object(why) => format!("returned invalid converted object at index {index}: {why}"),
            Self::Metadata(why) => format!("returned invalid metadata in object at index {index}: {why}"),
        }
    }
}

/// Takes a converted object for the one before: it must be the same object, and of its metadata only labels and annotations may differ.
fn accept(before: &Value, mut after: Value, wanted: &str) -> Result<Value, Wrong> {
    let object = |why: String| Err(Wrong::Object(why));
    let got = after["apiVersion"].as_str().unwrap_or_default();
    if got != wanted {
        return object(format!("invalid groupVersion (expected {wanted}, received {got})"));
    }
    if before["kind"] != after["kind"] {
        let kind = |v: &Value| v["kind"].as_str().unwrap_or_default().to_owned();
        return object(format!("invalid kind (expected {}, received {})", kind(before), kind(&after)));
    }
    for (member, called) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (was, is) = (meta::text(before, member), meta::text(&after, member));
        if was != is {
            return object(format!("must have the same {called}: {was} != {is}"));
        }
    }
    let Some(given) = after.get("metadata") else { return Err(Wrong::Metadata("missing metadata in converted object".into())) };
    let mut metadata = before["metadata"].clone();
    for member in ["labels", "annotations"] {
        let Some(given) = given.get(member).filter(|g| !g.is_null()) else {
            drop(metadata.as_object_mut().and_then(|m| m.remove(member)));
            continue;
        };
        check_texts(member, given).map_err(Wrong::Metadata)?;
        metadata[member] = given.clone();
    }
    after["metadata"] = metadata;
    Ok(after)
}

fn check_texts(member: &str, given: &Value) -> Result<(), String> {
    let Some(pairs) = given.as_object() else { return Err(format!("invalid metadata.{member} in converted object")) };
    let path = Path::new("metadata").child(member);
    for (key, value) in pairs {
        let Some(value) = value.as_str() else { return Err(format!("metadata.{member}[{key}] must be a string in converted object")) };
        let mut wrong = names::qualified_name(key);
        if member == "labels" {
            wrong.extend(names::label_value(value));
        }
        if let Some(why) = wrong.into_iter().next() {
            return Err(format!("{path}: Invalid value: {value:?}: {why}"));
        }
    }
    Ok(())
}

impl Server {
    /// The webhook that converts a kind's objects; `None` for all that need none.
    fn converter(&self, kind: &Kind) -> Option<Arc<Converter>> {
        if !kind.converts_by_webhook() {
            return None;
        }
        self.customs().get().definition(&kind.group, &kind.plural)?.converter()
    }

    /// A stored object in its kind's version.
    pub(crate) async fn shown(&self, kind: &Kind, object: Encoded) -> Result<Encoded, Status> {
        if !kind.converts_by_webhook() {
            return Ok(object);
        }
        let mut all = self.all_shown(kind, vec![object]).await?;
        Ok(all.swap_remove(0))
    }

    /// Stored objects in their kind's version, converted in one call.
    pub(crate) async fn all_shown(&self, kind: &Kind, mut objects: Vec<Encoded>) -> Result<Vec<Encoded>, Status> {
        let Some(converter) = self.converter(kind) else { return Ok(objects) };
        let wanted = kind.api_version();
        let trees: Vec<(usize, Value)> = objects.iter().map(tree).enumerate().filter(|(_, t)| t["apiVersion"] != wanted.as_str()).collect();
        if trees.is_empty() {
            return Ok(objects);
        }
        let (places, trees): (Vec<usize>, Vec<Value>) = trees.into_iter().unzip();
        let from = trees[0]["apiVersion"].as_str().unwrap_or_default().to_owned();
        let converted = converter.call(self, &trees, &wanted).await.map_err(|why| failed(kind, &from, &why))?;
        for (place, tree) in places.into_iter().zip(converted) {
            objects[place] = Encoded::from_value(tree, objects[place].revision);
        }
        Ok(objects)
    }

    /// An object of one version of a kind as another writes it.
    pub(crate) async fn converted(&self, object: Value, from: &Kind, to: &Kind) -> Result<Value, Status> {
        let converter = self.converter(from).filter(|_| from.version != to.version);
        let mut converted = match converter {
            Some(converter) => {
                let mut all =
                    converter.call(self, &[object], &to.api_version()).await.map_err(|why| failed(from, &from.api_version(), &why))?;
                to.from_storage(all.swap_remove(0))
            }
            None => to.from_storage(from.to_storage(object)),
        };
        converted["apiVersion"] = to.api_version().into();
        Ok(converted)
    }

    /// A changed object in the form it is stored in.
    pub(crate) async fn stored_form(&self, kind: &Kind, object: Value) -> Result<Encoded, Status> {
        let storage = kind.storage.as_ref().map(|gvk| gvk.group_version().to_string()).unwrap_or_default();
        let Some(converter) = self.converter(kind).filter(|_| kind.api_version() != storage) else {
            return Ok(Encoded::from_value(kind.to_storage(object), Revision(0)));
        };
        let mut all = converter.call(self, &[object], &storage).await.map_err(|why| failed(kind, &kind.api_version(), &why))?;
        Ok(Encoded::from_value(all.swap_remove(0), Revision(0)))
    }
}

fn failed(kind: &Kind, from: &str, why: &str) -> Status {
    let gv = GroupVersion::parse(from).map_or_else(|| from.to_owned(), |gv| gv.to_string());
    Status::failure(500, Reason::Unknown, format!("conversion webhook for {gv}, Kind={} {why}", kind.kind))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(version: &str, metadata: Value) -> Value {
        json!({"apiVersion": version, "kind": "Foo", "metadata": metadata})
    }

    #[test]
    fn only_labels_and_annotations_of_metadata_are_converted() {
        let before = object("g/v1", json!({"name": "a", "uid": "u", "generation": 3, "labels": {"x": "y"}}));
        let after = object("g/v2", json!({"name": "a", "uid": "u", "generation": 9, "annotations": {"n/k": "v"}}));
        let accepted = accept(&before, after, "g/v2").ok().unwrap();
        assert_eq!(accepted["metadata"], json!({"name": "a", "uid": "u", "generation": 3, "annotations": {"n/k": "v"}}));
    }

    #[test]
    fn converted_objects_that_are_others_are_refused() {
        let before = object("g/v1", json!({"name": "a", "namespace": "n", "uid": "u"}));
        let wrong = |after: Value| accept(&before, after, "g/v2").err().unwrap().at(0);
        assert!(wrong(object("g/v1", json!({"name": "a"}))).ends_with("invalid groupVersion (expected g/v2, received g/v1)"));
        assert!(wrong(object("g/v2", json!({"name": "b"}))).ends_with("must have the same name: a != b"));
        assert!(wrong(object("g/v2", json!({"name": "a", "namespace": "n", "uid": "x"}))).ends_with("must have the same UID: u != x"));
        let labels = object("g/v2", json!({"name": "a", "namespace": "n", "uid": "u", "labels": {"x": 1}}));
        assert!(wrong(labels).ends_with("metadata.labels[x] must be a string in converted object"));
        let mut kind = object("g/v2", json!({}));
        kind["kind"] = json!("Bar");
        assert!(wrong(kind).ends_with("invalid kind (expected Foo, received Bar)"));
    }

    #[test]
    fn answers_are_read_as_their_version_has_them() {
        let answer = |v: &str, response: Value| {
            json!({"apiVersion": format!("apiextensions.k8s.io/{v}"), "kind": "ConversionReview", "response": response}).to_string()
        };
        let ok = json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{}]});
        assert_eq!(read(answer("v1", ok.clone()).as_bytes(), "u", "v1").unwrap().len(), 1);
        assert_eq!(read(answer("v1", ok.clone()).as_bytes(), "v", "v1").unwrap_err(), "expected response.uid=\"v\", got \"u\"");
        assert!(read(answer("v2", ok.clone()).as_bytes(), "u", "v1").is_err());
        assert!(read(answer("v1beta1", ok).as_bytes(), "v", "v1beta1").is_ok());
        let failed = json!({"uid": "u", "result": {"status": "Failure", "message": "no way"}});
        assert_eq!(read(answer("v1", failed).as_bytes(), "u", "v1").unwrap_err(), "no way");
        assert_eq!(read(answer("v1", Value::Null).as_bytes(), "u", "v1").unwrap_err(), "no response provided");
    }
}
