//! Every table against upstream's recorded encodings, where `GANTRY_K8S_TESTDATA` says they can be read.

use std::path::{Path, PathBuf};

use gantry_object::Value;
use gantry_schema::{Envelope, Schema};

use crate::tables;

/// The directory with the recordings; says so when there is none.
fn recordings() -> Option<PathBuf> {
    let found = std::env::var_os("GANTRY_K8S_TESTDATA").map(PathBuf::from).filter(|p| p.is_dir());
    if found.is_none() {
        println!("skipped: GANTRY_K8S_TESTDATA does not name the testdata directory of kubernetes/api");
    }
    found
}

fn all_tables() -> Schema {
    Schema::parse(tables::SERVED).unwrap()
}

fn read(dir: &Path, stem: &str, extension: &str) -> Option<Vec<u8>> {
    std::fs::read(dir.join(format!("{stem}.{extension}"))).ok()
}

/// Checks one kind's recordings; says what differs. `newer`: they may hold fields the tables do not know yet, which are pruned alike in all encodings.
fn check(schema: &Schema, dir: &Path, stem: &str, newer: bool) -> Result<bool, String> {
    let (Some(json), Some(yaml), Some(pb)) = (read(dir, stem, "json"), read(dir, stem, "yaml"), read(dir, stem, "pb")) else {
        return Ok(false);
    };
    let mut value: Value = serde_json::from_slice(&json).map_err(|e| e.to_string())?;
    let version = value["apiVersion"].as_str().unwrap_or_default().to_owned();
    let kind = value["kind"].as_str().unwrap_or_default().to_owned();
    let gv = gantry_object::GroupVersion::parse(&version).ok_or("apiVersion")?;
    let Some(ty) = schema.kind(&gantry_object::GroupVersionKind::new(&gv.group, &gv.version, &kind)) else { return Ok(false) };
    let same = |what: &str, got: &Value, want: &Value| {
        if got == want { Ok(()) } else { Err(format!("{what}\n got {got}\nwant {want}")) }
    };

    let decoded = schema.decode_json(ty, &json).map_err(|e| e.to_string())?;
    if newer {
        value = decoded.value;
    } else {
        if !decoded.complaints().is_empty() {
            return Err(format!("json: {:?}", decoded.complaints()));
        }
        same("json", &decoded.value, &value)?;
    }
    let from_yaml = schema.decode_yaml(ty, &yaml).map_err(|e| e.to_string())?;
    same("yaml", &from_yaml.value, &value)?;

    let envelope = Envelope::open(&pb).map_err(|e| e.to_string())?;
    if (envelope.api_version.as_str(), envelope.kind.as_str()) != (version.as_str(), kind.as_str()) {
        return Err("envelope".into());
    }
    let raw = schema.encode_protobuf(ty, &value);
    if raw != envelope.raw && !newer {
        let at = raw.iter().zip(&envelope.raw).take_while(|(a, b)| a == b).count();
        return Err(format!("protobuf differs at byte {at} of {} and {}", raw.len(), envelope.raw.len()));
    }
    if Envelope::seal(&version, &kind, &envelope.raw) != pb {
        return Err("sealed envelope".into());
    }
    let back = schema.decode_protobuf(ty, &envelope.raw).map_err(|e| e.to_string())?;
    let members = value.as_object_mut().ok_or("not an object")?;
    members.remove("apiVersion");
    members.remove("kind");
    same("from protobuf", &back, &value)?;
    Ok(true)
}

#[test]
fn every_table_agrees_with_upstreams_recordings() {
    let Some(root) = recordings() else { return };
    let schema = all_tables();
    for version in ["HEAD", "v1.36.0"] {
        let dir = root.join(version);
        let mut checked = 0;
        let mut failures = Vec::new();
        for entry in std::fs::read_dir(&dir).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            // What newer code made of older recordings lies beside them.
            let Some(stem) = name.strip_suffix(".json").filter(|s| !s.ends_with(".after_roundtrip")) else { continue };
            match check(&schema, &dir, stem, version == "HEAD") {
                Ok(true) => checked += 1,
                Ok(false) => {}
                Err(problem) => failures.push(format!("{stem}: {problem}")),
            }
        }
        assert!(failures.is_empty(), "{version}:\n{}", failures.join("\n"));
        assert!(checked > 60, "{version}: only {checked} kinds have recordings");
    }
}

#[test]
fn every_served_kind_has_a_recording() {
    let Some(root) = recordings() else { return };
    let registry = crate::Registry::builtin();
    // Recordings are kept for kubernetes/api alone; definitions of custom resources and API services come from other repositories.
    for kind in registry.kinds().iter().filter(|k| !["apiextensions.k8s.io", "apiregistration.k8s.io"].contains(&k.group.as_str())) {
        let group = if kind.group.is_empty() { "core" } else { &kind.group };
        let stem = format!("{group}.{}.{}", kind.version, kind.kind);
        assert_eq!(check(registry.schema(), &root.join("v1.36.0"), &stem, false), Ok(true), "{stem}");
    }
}
