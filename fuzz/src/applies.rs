//! Applies: a kind, an object, a line feed, a configuration, which is applied to it; another line feed and managed fields may follow.

use gantry_schema::ownership::{Managed, Operation, Tracker, Version, Versions};
use gantry_schema::parse_document;
use serde_json::Value;

use crate::bodies::kind_of;

struct OneVersion;

impl Versions for OneVersion {
    fn version(&self, _: &str) -> Option<Version> {
        None
    }

    fn convert(&self, _: &Value, _: &str) -> Option<Value> {
        None
    }
}

pub(crate) fn apply(data: &[u8]) {
    let Some((kind, rest)) = kind_of(data) else { return };
    let mut parts = rest.splitn(3, |b| *b == b'\n');
    let (Some(object), Some(config)) = (parts.next(), parts.next()) else { return };
    let Ok(live) = kind.decode_json(object).map(|decoded| decoded.value) else { return };
    let Ok((config, _)) = parse_document(config) else { return };
    let api_version = kind.api_version();
    let scope = kind.scope("");
    let tracker = Tracker { version: kind.ownership_version(), api_version: &api_version, scope, versions: &OneVersion };
    let given = parts.next().and_then(|m| serde_json::from_slice::<Value>(m).ok()).and_then(|m| Managed::decode(&m).ok());
    let blank = kind.blank();
    let by = Operation::Update.by("u", &api_version, "");
    let managed = tracker.update(&blank, &live, tracker.compare(&blank, &live), given.unwrap_or_default(), &by, "t1");
    let applier = Operation::Apply.by("a", &api_version, "");
    let _ = tracker.apply(&live, &config, managed.clone(), &applier, false, "t2");
    let Ok(applied) = tracker.apply(&live, &config, managed, &applier, true, "t2") else { return };
    let object = applied.object.unwrap_or(live);
    let again = tracker.apply(&object, &config, applied.managed.clone(), &applier, false, "t3").expect("nothing is left to conflict with");
    assert_eq!(again.object, None, "an apply changes nothing the second time: {object}");
    assert_eq!(again.managed.clone().encode(), applied.managed.encode());
    let encoded = again.managed.encode();
    assert_eq!(Managed::decode(&encoded).expect("what the server wrote can be read").encode(), encoded);
}
