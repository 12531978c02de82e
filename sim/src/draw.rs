//! What a seed draws before anything happens: the cluster, the deployments, and which faults may strike. Most seeds have only some of the
//! faults, so that each also shows by itself.

use std::collections::BTreeMap;

use gantry_ports::{Random, SeededRandom};
use serde_json::{Value, json};

use crate::audit::Capacity;
use crate::feed::Weather;
use crate::node::Wear;
use crate::process::Storage;

/// How often each fault strikes, as weights among all that may happen next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) power_fails: u64,
    pub(crate) server_dies: u64,
    pub(crate) component_dies: u64,
    pub(crate) agent_dies: u64,
    pub(crate) node_reboots: u64,
    pub(crate) partition: u64,
    pub(crate) container_dies: u64,
    pub(crate) conflict: u64,
    pub(crate) clock_jumps: u64,
    pub(crate) disk_full: u64,
    pub(crate) disk_fails: u64,
    pub(crate) disk_slow: u64,
    pub(crate) long_wait: u64,
    pub(crate) weather: Weather,
    pub(crate) wear: Wear,
}

/// How often the user does what, as weights.
#[derive(Clone, Debug, Default)]
pub(crate) struct Habits {
    pub(crate) scale: u64,
    pub(crate) roll_out: u64,
    pub(crate) roll_back: u64,
    pub(crate) delete: u64,
    pub(crate) orphan: u64,
    pub(crate) drain: u64,
    pub(crate) pause: u64,
    pub(crate) restrategize: u64,
    pub(crate) take_pod: u64,
    pub(crate) release_pod: u64,
}

/// A deployment that the user wants, now and then.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) size: u64,
    /// The largest size that the cluster surely has room for, surge included.
    pub(crate) room: u64,
    cpu: u64,
    strategy: Value,
    min_ready: u64,
    probed: bool,
    selective: bool,
    history: u64,
    patience: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Draw {
    pub(crate) nodes: BTreeMap<String, Capacity>,
    pub(crate) deployments: Vec<Wanted>,
    pub(crate) together: bool,
    pub(crate) storage: Storage,
    pub(crate) faults: Faults,
    pub(crate) habits: Habits,
    pub(crate) steps: usize,
}

/// A weight in about half of the seeds, and nothing in the others.
fn sometimes(chance: &SeededRandom, most: u64) -> u64 {
    if chance.below(2) == 0 { 0 } else { 1 + chance.below(most) }
}

/// A weight in about a fifth of the seeds.
fn seldom(chance: &SeededRandom, most: u64) -> u64 {
    if chance.below(5) > 0 { 0 } else { 1 + chance.below(most) }
}

impl Draw {
    pub(crate) fn of(chance: &SeededRandom) -> Self {
        let nodes = nodes(chance);
        let deployments = deployments(chance, &nodes);
        Self {
            nodes,
            deployments,
            together: chance.below(3) > 0,
            storage: Storage {
                deferred: chance.below(3) == 0,
                history: if chance.below(3) == 0 { 48 } else { 8192 },
                checkpoint_after: if chance.below(3) == 0 { 96 << 10 } else { 8 << 20 },
            },
            faults: faults(chance),
            habits: habits(chance),
            steps: 150 + chance.below(150) as usize,
        }
    }

    /// Whether pods may become unavailable without anybody's will.
    pub(crate) fn summary(&self) -> String {
        let wanted = |d: &Wanted| format!("{} of {} ({}, {}m)", d.size, d.name, strategy_name(&d.strategy), d.cpu);
        let deployments: Vec<String> = self.deployments.iter().map(wanted).collect();
        let storage = self.storage;
        format!("{} nodes; {}; together {}; {storage:?}", self.nodes.len(), deployments.join(", "), self.together)
    }
}

fn nodes(chance: &SeededRandom) -> BTreeMap<String, Capacity> {
    let count = match chance.below(10) {
        0..=5 => 1 + chance.below(4),
        6..=8 => 3 + chance.below(6),
        _ => 9 + chance.below(12),
    };
    let node = |i: u64| {
        let name = format!("node-{i}");
        // The first two are plain, so that there is always room.
        let plain = i < 2;
        let mut labels = BTreeMap::from([("kubernetes.io/hostname".to_owned(), name.clone())]);
        if plain || chance.below(2) == 0 {
            labels.insert("sim/disk".into(), "fast".into());
        }
        let cpu = 1000 * (2 + chance.below(6)) as i64 + if chance.below(3) == 0 { 300 } else { 0 };
        let pods = if plain || chance.below(3) > 0 { 30 } else { 2 + chance.below(4) as usize };
        (name, Capacity { cpu, pods, labels, tainted: !plain && chance.below(5) == 0 })
    };
    (0..count).map(node).collect()
}

fn deployments(chance: &SeededRandom, nodes: &BTreeMap<String, Capacity>) -> Vec<Wanted> {
    // Room as if every pod asked for a whole CPU and only nodes that take all pods counted.
    let fits =
        |node: &Capacity| if node.tainted || !node.labels.contains_key("sim/disk") { 0 } else { (node.cpu / 1000).min(node.pods as i64) };
    let room = nodes.values().map(fits).sum::<i64>().unsigned_abs();
    let count = (1 + chance.below(3)).min(room / 2).max(1);
    let room = (room / count).clamp(2, 10);
    let deployment = |i: u64| Wanted {
        name: format!("web-{i}"),
        size: 1 + chance.below(room - 1),
        room,
        cpu: [250, 500, 1000][chance.below(3) as usize],
        strategy: strategy(chance, room),
        min_ready: if chance.below(4) == 0 { 1 + chance.below(10) } else { 0 },
        probed: chance.below(2) == 0,
        selective: chance.below(3) == 0,
        history: chance.below(4),
        patience: [5, 20, 60][chance.below(3) as usize],
    };
    (0..count).map(deployment).collect()
}

/// A strategy, with margins that leave at least room for one pod.
pub(crate) fn strategy(chance: &SeededRandom, room: u64) -> Value {
    let margin = |most: u64| -> Value {
        match chance.below(3) {
            0 => json!(["0%", "25%", "30%", "50%", "100%"][chance.below(5) as usize]),
            _ => json!(chance.below(most + 1)),
        }
    };
    if chance.below(5) == 0 {
        return json!({"type": "Recreate"});
    }
    let (surge, mut unavailable) = (margin(room / 2), margin(room / 2));
    let is_none = |v: &Value| *v == json!(0) || *v == json!("0%");
    if is_none(&surge) && is_none(&unavailable) {
        unavailable = json!(1);
    }
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

fn strategy_name(strategy: &Value) -> String {
    let rolling = &strategy["rollingUpdate"];
    if rolling.is_null() { "recreated".into() } else { format!("surge {}, unavailable {}", rolling["maxSurge"], rolling["maxUnavailable"]) }
}

fn faults(chance: &SeededRandom) -> Faults {
    let rough = chance.below(2) == 0;
    let hard = |most: u64| if rough { sometimes(chance, most) } else { 0 };
    Faults {
        power_fails: sometimes(chance, 4),
        server_dies: sometimes(chance, 4),
        component_dies: sometimes(chance, 6),
        agent_dies: sometimes(chance, 4),
        node_reboots: hard(2),
        partition: hard(3),
        container_dies: hard(4),
        conflict: sometimes(chance, 10),
        clock_jumps: hard(2),
        disk_full: seldom(chance, 4),
        disk_fails: seldom(chance, 2),
        disk_slow: sometimes(chance, 3),
        long_wait: if rough { sometimes(chance, 6) } else { seldom(chance, 3) },
        weather: Weather {
            delayed: sometimes(chance, 50),
            duplicated: sometimes(chance, 30),
            coalesced: sometimes(chance, 50),
            cut: sometimes(chance, 8),
            stale: sometimes(chance, 10),
        },
        wear: Wear { no_sandbox: hard(30), no_start: sometimes(chance, 40), not_ready: sometimes(chance, 70) },
    }
}

fn habits(chance: &SeededRandom) -> Habits {
    Habits {
        scale: sometimes(chance, 10),
        roll_out: 1 + chance.below(10),
        roll_back: sometimes(chance, 5),
        delete: sometimes(chance, 2),
        orphan: seldom(chance, 2),
        drain: seldom(chance, 5),
        pause: sometimes(chance, 4),
        restrategize: sometimes(chance, 3),
        take_pod: seldom(chance, 4),
        release_pod: seldom(chance, 3),
    }
}

impl Wanted {
    /// The deployment as the user first applies it.
    pub(crate) fn object(&self) -> Value {
        let away = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": self.patience});
        let mut container = json!({"name": "c", "image": "v0", "resources": {"requests": {"cpu": format!("{}m", self.cpu)}}});
        if self.probed {
            container["readinessProbe"] = json!({"exec": {"command": ["true"]}});
        }
        let mut spec = json!({
            "containers": [container], "terminationGracePeriodSeconds": 5,
            "tolerations": [away("node.kubernetes.io/not-ready"), away("node.kubernetes.io/unreachable")],
        });
        if self.selective {
            spec["nodeSelector"] = json!({"sim/disk": "fast"});
        }
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": self.name, "namespace": "default"},
            "spec": {
                "replicas": self.size, "selector": {"matchLabels": {"app": self.name}}, "strategy": self.strategy,
                "minReadySeconds": self.min_ready, "revisionHistoryLimit": self.history, "progressDeadlineSeconds": 600,
                "template": {"metadata": {"labels": {"app": self.name}}, "spec": spec},
            },
        })
    }

    /// The service before its pods.
    pub(crate) fn service(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": self.name, "namespace": "default"},
            "spec": {"selector": {"app": self.name}, "ports": [{"port": 80, "targetPort": 8080}]},
        })
    }
}
