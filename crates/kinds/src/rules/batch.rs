//! Jobs and cron jobs.

use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::labels::Selector;
use gantry_object::{Value, meta};
use serde_json::json;

use crate::rules::{Generation, PLAIN, Rules, pod, schedule};
use crate::{tree, validate};

const PREFIX: &str = "batch.kubernetes.io/";

/// How long a cron job's name may be, so that its jobs can add when they were due.
const LONGEST_CRON_NAME: usize = 52;

pub(crate) const JOB: Rules = Rules {
    defaults: default_job,
    create: select_own_pods,
    validate: validate_job,
    validate_update: keep_job,
    resets_status: true,
    generation: Generation::Spec,
    ..PLAIN
};

pub(crate) const CRON_JOB: Rules = Rules {
    defaults: |cron_job| pod::default_template(cron_job, "/spec/jobTemplate/spec/template"),
    validate: validate_cron_job,
    resets_status: true,
    generation: Generation::Spec,
    ..PLAIN
};

fn validate_job(job: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    validate_work(&job["spec"], &path, errors);
    let selector = tree::at(job, "/spec/selector");
    if selector.is_null() {
        errors.push(Error::required(&path.child("selector"), ""));
        return;
    }
    validate::label_selector(selector, &path.child("selector"), errors);
    let labels = tree::at(job, "/spec/template/metadata/labels");
    if let Ok(Some(wanted)) = Selector::from_label_selector(selector)
        && !wanted.matches_object(&json!({"metadata": {"labels": labels}}))
    {
        let path = path.child("template").child("metadata").child("labels");
        errors.push(Error::invalid(&path, labels.clone(), "`selector` does not match template `labels`"));
    }
}

/// The part of a job that a cron job's template has too.
fn validate_work(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let indexed = spec["completionMode"] == "Indexed";
    if indexed && spec["completions"].is_null() {
        errors.push(Error::required(&path.child("completions"), "when completion mode is Indexed"));
    }
    if !spec["maxFailedIndexes"].is_null() && spec["backoffLimitPerIndex"].is_null() {
        errors.push(Error::required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"));
    }
    for member in ["backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"] {
        if !indexed && !spec[member].is_null() {
            errors.push(Error::invalid(&path.child(member), spec[member].clone(), "requires indexed completion mode"));
        }
    }
    let template = path.child("template");
    validate::pod::template(&spec["template"], &template, errors);
    let path = template.child("spec").child("restartPolicy");
    match tree::text(spec, "/template/spec/restartPolicy") {
        "" | "Always" => errors.push(Error::required(&path, r#"valid values: "OnFailure", "Never""#)),
        "Never" => {}
        "OnFailure" if spec["podFailurePolicy"].is_null() => {}
        "OnFailure" => errors.push(Error::invalid(&path, "OnFailure", r#"only "Never" is supported when podFailurePolicy is specified"#)),
        other => errors.push(Error::not_supported(&path, other, &["OnFailure", "Never"])),
    }
}

fn keep_job(new: &Value, old: &Value, subresource: Option<&str>, errors: &mut ErrorList) {
    if subresource == Some("status") {
        return;
    }
    let path = Path::new("spec");
    let (is, was) = (&new["spec"], &old["spec"]);
    let elastic = is["completionMode"] == "Indexed";
    if !elastic {
        validate::unchanged(is, was, &["completions"], &path, errors);
    } else if is["completions"] != was["completions"] && is["completions"] != is["parallelism"] {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.push(Error::invalid(&path.child("completions"), is["completions"].clone(), detail));
    }
    validate::unchanged(is, was, &["selector"], &path, errors);
    // Where the pods of a job that never ran will go may still be chosen.
    let waiting = was["suspend"] == true && tree::at(old, "/status/startTime").is_null();
    if placeless(&is["template"], waiting) != placeless(&was["template"], waiting) {
        errors.push(Error::invalid(&path.child("template"), is["template"].clone(), "field is immutable"));
    }
    let fixed = ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"];
    validate::unchanged(is, was, &fixed, &path, errors);
}

/// A template of pods, without what says where they may run if that doesn't count.
fn placeless(template: &Value, waiting: bool) -> Value {
    let mut template = template.clone();
    if waiting {
        for (part, members) in
            [("metadata", ["labels", "annotations"].as_slice()), ("spec", &["affinity", "nodeSelector", "tolerations", "schedulingGates"])]
        {
            members.iter().for_each(|member| drop(template.get_mut(part).and_then(|part| tree::remove(part, member))));
        }
    }
    template
}

fn validate_cron_job(cron_job: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&cron_job["spec"], Path::new("spec"));
    let given = tree::text(spec, "/schedule");
    let zone = &spec["timeZone"];
    if !given.is_empty() {
        let path = path.child("schedule");
        errors.extend(schedule::complaint(given).map(|detail| Error::invalid(&path, given, &detail)));
        if given.contains("TZ") {
            let detail = match zone.is_null() {
                true => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
                false => "cannot use both timeZone field and TZ or CRON_TZ in schedule",
            };
            errors.push(Error::invalid(&path, given, detail));
        }
    }
    errors.extend(zone.as_str().and_then(zone_complaint).map(|detail| Error::invalid(&path.child("timeZone"), zone.clone(), &detail)));
    let name = meta::name(cron_job);
    if name.len() > LONGEST_CRON_NAME {
        errors.push(Error::invalid(&Path::new("metadata").child("name"), name, "must be no more than 52 characters"));
    }
    validate_work(tree::at(spec, "/jobTemplate/spec"), &path.child("jobTemplate").child("spec"), errors);
}

/// What is wrong with the form of a time zone's name.
fn zone_complaint(zone: &str) -> Option<String> {
    let well_formed = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
        !matches!(part, "" | "." | "..") && !part.starts_with('-') && part.chars().all(allowed)
    };
    match zone {
        "" => Some("timeZone must be nil or non-empty string".into()),
        _ if !zone.split('/').all(well_formed) => Some(format!("unknown time zone {zone}")),
        _ if zone.eq_ignore_ascii_case("local") => {
            Some("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones".into())
        }
        _ => None,
    }
}

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
