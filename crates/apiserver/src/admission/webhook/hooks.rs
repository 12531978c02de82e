//! The webhooks that configurations name, read once for every change of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gantry_object::labels::Selector;
use gantry_object::{Encoded, Value, meta};

use super::rules::Rule;
use crate::authorize::Follow;
use crate::outside::Callee;

const MUTATING: &str = "mutatingwebhookconfigurations.admissionregistration.k8s.io";
const VALIDATING: &str = "validatingwebhookconfigurations.admissionregistration.k8s.io";
/// How long a webhook may take that names no time, in seconds.
const DEFAULT_SECONDS: u64 = 10;

/// One webhook of a configuration.
#[derive(Debug)]
pub(crate) struct Hook {
    pub(super) name: String,
    /// Tells it from every other, by its configuration, its name and its place among those of the same name.
    pub(super) id: String,
    pub(super) callee: Callee,
    pub(super) rules: Vec<Rule>,
    /// Whether rules for one version of a resource hold for all of them.
    pub(super) equivalent: bool,
    /// `None` selects nothing.
    pub(super) namespaces: Option<Selector>,
    pub(super) objects: Option<Selector>,
    pub(super) conditions: Vec<Value>,
    /// Whether a request goes on when the webhook cannot be asked.
    pub(super) ignores_failure: bool,
    pub(super) timeout: Duration,
    /// Whether it does nothing besides answering, at least to a dry run.
    pub(super) takes_dry_runs: bool,
    /// Whether it wants to see what others make of an object after it.
    pub(super) reinvoked: bool,
    /// The versions of AdmissionReview that it reads, as it prefers them.
    pub(super) versions: Vec<String>,
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// An absent selector selects everything here; a malformed one nothing.
fn selector(value: &Value) -> Option<Selector> {
    if value.is_null() { Some(Selector::default()) } else { Selector::from_label_selector(value).ok().flatten() }
}

impl Hook {
    fn read(configuration: &str, place: usize, hook: &Value) -> Self {
        let text = |member: &str| hook[member].as_str().unwrap_or_default();
        Self {
            name: text("name").into(),
            id: format!("{configuration}/{}/{place}", text("name")),
            callee: Callee::of_client_config(&hook["clientConfig"]),
            rules: hook["rules"].as_array().into_iter().flatten().map(Rule::read).collect(),
            equivalent: text("matchPolicy") != "Exact",
            namespaces: selector(&hook["namespaceSelector"]),
            objects: selector(&hook["objectSelector"]),
            conditions: hook["matchConditions"].as_array().cloned().unwrap_or_default(),
            ignores_failure: text("failurePolicy") == "Ignore",
            timeout: Duration::from_secs(hook["timeoutSeconds"].as_u64().unwrap_or(DEFAULT_SECONDS)),
            takes_dry_runs: matches!(text("sideEffects"), "None" | "NoneOnDryRun"),
            reinvoked: text("reinvocationPolicy") == "IfNeeded",
            versions: texts(&hook["admissionReviewVersions"]),
        }
    }
}

/// Every webhook, in the order in which they are asked: by their configurations' names, then as these list them.
#[derive(Default)]
pub(crate) struct Hooks {
    mutating: Ordered,
    validating: Ordered,
}

#[derive(Default)]
struct Ordered {
    by_configuration: BTreeMap<String, Vec<Arc<Hook>>>,
    all: Arc<[Arc<Hook>]>,
}

impl Ordered {
    fn put(&mut self, name: &str, object: Option<&Encoded>) {
        match object.and_then(|o| o.decode::<Value>().ok()).filter(|_| object.is_some()) {
            Some(configuration) => {
                let name = meta::name(&configuration).to_owned();
                let hooks = configuration["webhooks"].as_array().into_iter().flatten().enumerate();
                let hooks = hooks.map(|(i, hook)| Arc::new(Hook::read(&name, i, hook))).collect();
                self.by_configuration.insert(name, hooks);
            }
            None => drop(self.by_configuration.remove(name)),
        }
        self.all = self.by_configuration.values().flatten().cloned().collect();
    }
}

impl Hooks {
    pub(super) fn mutating(&self) -> &Arc<[Arc<Hook>]> {
        &self.mutating.all
    }

    pub(super) fn validating(&self) -> &Arc<[Arc<Hook>]> {
        &self.validating.all
    }
}

impl Follow for Hooks {
    const RESOURCES: &'static [&'static str] = &[MUTATING, VALIDATING];

    fn apply(&mut self, resource: &str, path: &str, object: Option<&Encoded>) {
        let kind = if resource == MUTATING { &mut self.mutating } else { &mut self.validating };
        kind.put(path, object);
    }
}
