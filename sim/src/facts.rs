//! What the checks read of objects: few members, in a form of their own, so that a mistake of the components' is not repeated here.

use std::collections::BTreeMap;

use gantry_object::{Encoded, Quantity};
use serde::Deserialize;
use serde_json::Value;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Meta {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) generation: i64,
    pub(crate) deletion_timestamp: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    owner_references: Vec<Owner>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Owner {
    uid: String,
    controller: bool,
}

impl Meta {
    /// The uids of those who say that they manage it: one at most, if all is well.
    pub(crate) fn controllers(&self) -> Vec<&str> {
        self.owner_references.iter().filter(|o| o.controller).map(|o| o.uid.as_str()).collect()
    }

    pub(crate) fn is_managed_by(&self, uid: &str) -> bool {
        self.controllers().contains(&uid)
    }

    pub(crate) fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    pub(crate) metadata: Meta,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: String,
    node_selector: BTreeMap<String, String>,
    containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    image: String,
    resources: Resources,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Resources {
    requests: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
}

impl Pod {
    pub(crate) fn node(&self) -> &str {
        &self.spec.node_name
    }

    pub(crate) fn selector(&self) -> &BTreeMap<String, String> {
        &self.spec.node_selector
    }

    pub(crate) fn phase(&self) -> &str {
        &self.status.phase
    }

    pub(crate) fn ip(&self) -> &str {
        &self.status.pod_ip
    }

    pub(crate) fn image(&self) -> &str {
        self.spec.containers.first().map_or("", |c| &c.image)
    }

    /// Thousandths of a CPU.
    pub(crate) fn cpu(&self) -> i64 {
        let asked = self.spec.containers.iter().filter_map(|c| c.resources.requests.get("cpu")?.parse::<Quantity>().ok());
        asked.map(Quantity::milli_value).sum()
    }

    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(|c| c.r#type == "Ready" && c.status == "True")
    }

    /// Whether it counts for its replica set.
    pub(crate) fn is_alive(&self) -> bool {
        !self.metadata.is_deleting() && !self.is_finished()
    }

    pub(crate) fn is_available(&self) -> bool {
        self.is_alive() && self.is_ready()
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Set {
    pub(crate) metadata: Meta,
    spec: Sized,
    pub(crate) status: SetStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Sized {
    replicas: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SetStatus {
    pub(crate) replicas: i64,
    pub(crate) available_replicas: i64,
    pub(crate) ready_replicas: i64,
    pub(crate) updated_replicas: i64,
    pub(crate) observed_generation: i64,
}

impl Set {
    pub(crate) fn size(&self) -> i64 {
        self.spec.replicas.unwrap_or(1)
    }

    pub(crate) fn is_observed(&self) -> bool {
        self.status.observed_generation >= self.metadata.generation
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Deployment {
    pub(crate) metadata: Meta,
    pub(crate) spec: DeploymentSpec,
    pub(crate) status: SetStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DeploymentSpec {
    replicas: Option<i64>,
    pub(crate) paused: bool,
    strategy: Strategy,
    pub(crate) template: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Strategy {
    r#type: String,
    rolling_update: Option<Rolling>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rolling {
    max_surge: Value,
    max_unavailable: Value,
}

impl Deployment {
    pub(crate) fn size(&self) -> i64 {
        self.spec.replicas.unwrap_or(1)
    }

    pub(crate) fn recreates(&self) -> bool {
        self.spec.strategy.r#type == "Recreate"
    }

    /// The most pods there may be.
    pub(crate) fn most(&self) -> i64 {
        let (surge, _) = self.margins();
        if self.size() == 0 { 0 } else { self.size() + surge }
    }

    /// The fewest pods that may be available once all were.
    pub(crate) fn least(&self) -> i64 {
        if self.recreates() { 0 } else { (self.size() - self.margins().1).max(0) }
    }

    /// How many too many and too few there may be. One of them is at least one.
    fn margins(&self) -> (i64, i64) {
        let Some(rolling) = self.spec.strategy.rolling_update.as_ref().filter(|_| !self.recreates()) else { return (0, 0) };
        let surge = amount(&rolling.max_surge, self.size(), 99);
        let unavailable = amount(&rolling.max_unavailable, self.size(), 0);
        if (surge, unavailable) == (0, 0) { (0, 1) } else { (surge, unavailable) }
    }
}

fn amount(value: &Value, of: i64, rounding: i64) -> i64 {
    let percent = value.as_str().and_then(|t| t.strip_suffix('%')).and_then(|t| t.parse::<i64>().ok());
    percent.map_or(value.as_i64().unwrap_or(0), |percent| (of * percent + rounding) / 100)
}

/// Reads an object that the store or a cache holds.
pub(crate) fn read<T: Default + for<'a> Deserialize<'a>>(object: &Encoded) -> Result<T, String> {
    serde_json::from_slice(&object.body).map_err(|e| format!("an object that cannot be read: {e}: {object:?}"))
}
