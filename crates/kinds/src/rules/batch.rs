//! Jobs and cron jobs.

use gantry_object::{Value, meta};
use serde_json::json;

use crate::rules::{Generation, PLAIN, Rules, pod};
use crate::tree;

const PREFIX: &str = "batch.kubernetes.io/";

pub(crate) const JOB: Rules =
    Rules { defaults: default_job, create: select_own_pods, resets_status: true, generation: Generation::Spec, ..PLAIN };

pub(crate) const CRON_JOB: Rules = Rules {
    defaults: |cron_job| pod::default_template(cron_job, "/spec/jobTemplate/spec/template"),
    resets_status: true,
    generation: Generation::Spec,
    ..PLAIN
};

fn default_job(job: &mut Value) {
    pod::default_template(job, "/spec/template");
    label_as_template(job);
    let Some(spec) = job.get_mut("spec").filter(|s| s.is_object()) else { return };
    let given = |spec: &Value, member: &str| spec.get(member).is_some_and(|v| !v.is_null());
    let fill = |spec: &mut Value, member: &str, to: Value| {
        if !given(spec, member) {
            tree::set(spec, member, to);
        }
    };
    if !given(spec, "completions") && !given(spec, "parallelism") {
        fill(spec, "completions", json!(1));
    }
    fill(spec, "parallelism", json!(1));
    let limit = if given(spec, "backoffLimitPerIndex") { i32::MAX } else { 6 };
    fill(spec, "backoffLimit", json!(limit));
    fill(spec, "completionMode", json!("NonIndexed"));
    fill(spec, "suspend", json!(false));
    let replacement = if given(spec, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    fill(spec, "podReplacementPolicy", json!(replacement));
    fill(spec, "manualSelector", json!(false));
}

/// A job without labels has those of its pods.
fn label_as_template(job: &mut Value) {
    let labels = tree::at(job, "/spec/template/metadata/labels").clone();
    if labels.is_object() && tree::entries(job, "/metadata/labels").next().is_none() {
        tree::object_mut(job, "metadata").insert("labels".into(), labels);
    }
}

/// Unless its writer chose a selector, a job selects the pods that carry its uid; its template gives them that label.
fn select_own_pods(job: &mut Value) {
    if tree::at(job, "/spec/manualSelector") == true {
        return;
    }
    let (name, uid) = (meta::name(job).to_owned(), meta::text(job, "uid").to_owned());
    let Some(spec) = job.get_mut("spec").filter(|s| s.is_object()) else { return };
    let template = tree::object_mut(spec, "template");
    let metadata = template.entry("metadata").or_insert(Value::Null);
    let labels = tree::object_mut(metadata, "labels");
    for (label, value) in [("controller-uid", &uid), ("job-name", &name)] {
        // A label that the writer chose itself stays, for validation to refuse.
        labels.entry(label).or_insert_with(|| value.as_str().into());
        labels.entry(format!("{PREFIX}{label}")).or_insert_with(|| value.as_str().into());
    }
    spec.as_object_mut().expect("filtered above").entry("selector").or_insert(Value::Null);
    let selector = &mut spec["selector"];
    tree::object_mut(selector, "matchLabels").entry(format!("{PREFIX}controller-uid")).or_insert_with(|| uid.into());
    label_as_template(job);
}
