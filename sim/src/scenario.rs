//! One run: a deployment that users change while everything dies now and then.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gantry_client::{PatchType, Request};
use gantry_object::Resource;
use gantry_ports::{Clock, Random, SeededRandom, SimulatedClock};
use serde_json::{Value, json};

use crate::checks::{Bounds, deployment, missing, safety};
use crate::node::{self, NODE_NAMES};
use crate::process::{Machinery, Process, clock, fresh_disk};
use crate::trace::Trace;

const DEPLOYMENTS: Resource = Resource::namespaced("apps", "v1", "deployments", "Deployment");
const CONFIG_MAPS: Resource = Resource::namespaced("", "v1", "configmaps", "ConfigMap");
/// Steps with faults.
const STEPS: usize = 160;
/// Rounds in which everything must have come right once there are no faults.
const ROUNDS: usize = 400;

/// A run that went well.
#[derive(Debug)]
pub struct Report {
    /// A hash of the trace.
    pub hash: u64,
    /// How often the control plane died.
    pub crashes: u64,
    /// What happened, in lines.
    pub trace: String,
}

/// A run in which something happened that may not.
#[derive(Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What happened.
    pub what: String,
    /// What led to it, in lines.
    pub trace: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}\nrepeat it: cargo run -p gantry-sim -- --seed {}", self.seed, self.what, self.seed)
    }
}

/// Runs a seed from an empty cluster to convergence.
///
/// # Errors
/// What went wrong, with the trace.
///
/// # Panics
/// When the machine cannot make a single-threaded runtime.
pub fn run(seed: u64) -> Result<Report, Box<Failure>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without I/O needs nothing");
    runtime.block_on(async {
        let mut trace = Trace::default();
        let mut crashes = 0;
        match World::new(seed).await {
            Ok(mut world) => {
                let result = world.play(&mut trace).await;
                crashes = world.crashes;
                result
            }
            Err(what) => Err(what),
        }
        .map_err(|what| (what, std::mem::take(&mut trace)))
        .map_err(|(what, trace)| Box::new(Failure { seed, what, trace: trace.into_text() }))?;
        Ok(Report { hash: trace.hash(), crashes, trace: trace.into_text() })
    })
}

struct World {
    machinery: Machinery,
    process: Process,
    chance: SeededRandom,
    clock: SimulatedClock,
    bounds: Bounds,
    surge: usize,
    unavailable: usize,
    /// Whether the user changes the size too.
    scales: bool,
    ledger: BTreeMap<u64, Entry>,
    written: u64,
    crashes: u64,
}

/// What a user knows of a config map: what was acknowledged, and what was sent without an answer.
#[derive(Clone, Copy, Default)]
struct Entry {
    acknowledged: Option<u64>,
    unanswered: Option<u64>,
}

impl World {
    async fn new(seed: u64) -> Result<Self, String> {
        let chance = SeededRandom::new(seed);
        let machinery = Machinery { disk: fresh_disk().await?, clock: clock(), random: Arc::new(SeededRandom::new(seed ^ 0x5eed)) };
        let surge = chance.below(3) as usize;
        let unavailable = if surge == 0 { 1 } else { chance.below(3) as usize };
        Ok(Self {
            process: Process::start(&machinery)?,
            clock: machinery.clock.clone(),
            machinery,
            bounds: Bounds { most: 0, least: 0 },
            surge,
            unavailable,
            scales: chance.below(2) == 0,
            chance,
            ledger: BTreeMap::new(),
            written: 0,
            crashes: 0,
        })
    }

    async fn play(&mut self, trace: &mut Trace) -> Result<(), String> {
        let size = 2 + self.chance.below(4) as usize;
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "replicas": size, "selector": {"matchLabels": {"app": "web"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": self.surge, "maxUnavailable": self.unavailable}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": "v0", "resources": {"requests": {"cpu": "1"}}}]},
                },
            },
        });
        trace.line(format_args!("{size} pods, surge {}, unavailable {}", self.surge, self.unavailable));
        self.process.admin().call(Request::create(DEPLOYMENTS, "default", &object)).await.map_err(|s| s.message)?;
        self.bounds = Bounds { most: size + self.surge, least: 0 };
        self.heal(trace).await?;
        self.bounds.least = size - self.unavailable.min(size);
        for step in 0..STEPS {
            self.step(step, trace).await?;
        }
        trace.line(format_args!("-- healed --"));
        self.heal(trace).await?;
        self.check_ledger().await
    }

    /// Something happens; then everything that must hold is looked at.
    async fn step(&mut self, step: usize, trace: &mut Trace) -> Result<(), String> {
        self.clock.advance(Duration::from_millis(self.chance.below(400)));
        let what = match self.chance.below(100) {
            0..=2 => {
                self.machinery.disk.fail_power_in(self.chance.below(12));
                "power will fail".to_owned()
            }
            3..=6 => {
                self.process.fuse.light(self.chance.below(6), self.chance.below(2) == 0);
                "the process will die".to_owned()
            }
            7 => {
                self.process.restart_components();
                "components restart".to_owned()
            }
            8..=13 => self.user().await,
            14..=30 => self.write_ledger().await,
            31..=50 => match self.process.deliver().await {
                Ok(count) => format!("{count} events"),
                Err(status) => format!("no events: {}", status.message),
            },
            51..=75 => self.process.control().await.unwrap_or_else(|| "controllers idle".into()),
            76..=85 => self.process.schedule().await.unwrap_or_else(|| "scheduler idle".into()),
            _ => self.node().await.unwrap_or_else(|| "node idle".into()),
        };
        trace.line(format_args!("{step} @{}: {what}", self.process.store.durable_revision()));
        if self.process.is_dead(&self.machinery.disk) {
            self.restart(trace).await?;
        }
        safety(&self.process.store, self.bounds)
    }

    async fn node(&mut self) -> Option<String> {
        let name = NODE_NAMES[self.chance.below(NODE_NAMES.len() as u64) as usize];
        node::step(&self.process.agent(name), name, &self.chance, self.clock.now()).await
    }

    async fn restart(&mut self, trace: &mut Trace) -> Result<(), String> {
        self.crashes += 1;
        // A process that dies leaves the page cache to the kernel; only lost power tears.
        if self.machinery.disk.is_dead() {
            self.machinery.disk.crash(self.chance.u64());
            trace.line(format_args!("-- power lost --"));
        } else {
            self.machinery.disk.kill();
            trace.line(format_args!("-- process died --"));
        }
        let before = self.process.store.durable_revision();
        self.process = match Process::start(&self.machinery) {
            Err(_) if self.machinery.disk.is_dead() => {
                trace.line(format_args!("-- power lost during recovery --"));
                self.machinery.disk.crash(self.chance.u64());
                Process::start(&self.machinery)?
            }
            started => started?,
        };
        let after = self.process.store.durable_revision();
        if after < before {
            return Err(format!("revision {before} was visible and {after} is the last after the restart"));
        }
        self.check_ledger().await
    }

    /// The user changes the deployment.
    async fn user(&mut self) -> String {
        let now = deployment(&self.process.store);
        let patch = if self.scales && self.chance.below(2) == 0 {
            let size = 1 + self.chance.below(6) as usize;
            self.bounds.most = self.bounds.most.max(size + self.surge);
            self.bounds.least = self.bounds.least.min(size.saturating_sub(self.unavailable));
            json!({"spec": {"replicas": size}})
        } else {
            let image = format!("v{}", self.chance.below(4));
            let mut container: Value = now["spec"]["template"]["spec"]["containers"][0].clone();
            container["image"] = json!(image);
            json!({"spec": {"template": {"spec": {"containers": [container]}}}})
        };
        let request = Request::patch(DEPLOYMENTS, "default", "web", PatchType::Merge, &patch);
        let result = self.process.admin().call(request).await;
        format!("user: {}{}", short(&patch), result.err().map(|s| format!(", failed: {}", s.message)).unwrap_or_default())
    }

    /// A user writes a number into one of a few config maps and remembers what was acknowledged.
    async fn write_ledger(&mut self) -> String {
        let which = self.chance.below(5);
        self.written += 1;
        let number = self.written;
        let name = format!("ledger-{which}");
        let data = json!({"n": number.to_string()});
        let entry = self.ledger.entry(which).or_default();
        let api = self.process.admin();
        let request = if entry.acknowledged.is_none() && entry.unanswered.is_none() {
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data});
            Request::create(CONFIG_MAPS, "default", &object)
        } else {
            Request::patch(CONFIG_MAPS, "default", &name, PatchType::Merge, &json!({"data": data}))
        };
        match api.call(request).await {
            Ok(_) => {
                *entry = Entry { acknowledged: Some(number), unanswered: None };
                format!("{name} = {number}")
            }
            Err(status) => {
                entry.unanswered = Some(number);
                format!("{name} = {number}, failed: {}", status.message)
            }
        }
    }

    /// Every config map holds what was last acknowledged, or what was sent after it without an answer.
    async fn check_ledger(&mut self) -> Result<(), String> {
        let snapshot = self.process.store.snapshot();
        for (which, entry) in &mut self.ledger {
            let key = gantry_store::Key::new("configmaps", "default", &format!("ledger-{which}"));
            let found = snapshot.get(&key).map(|o| serde_json::from_slice::<Value>(&o.body).expect("the store holds JSON"));
            let number = found.and_then(|o| o["data"]["n"].as_str()?.parse::<u64>().ok());
            if number != entry.acknowledged && (number.is_none() || number != entry.unanswered) {
                return Err(format!(
                    "ledger-{which} holds {number:?}; {:?} was acknowledged, {:?} unanswered",
                    entry.acknowledged, entry.unanswered
                ));
            }
            *entry = Entry { acknowledged: number, unanswered: None };
        }
        Ok(())
    }

    /// No more faults: everybody does what they have to until the deployment is as asked.
    async fn heal(&mut self, trace: &mut Trace) -> Result<(), String> {
        // What was lit goes out with a new process.
        self.machinery.disk.kill();
        self.machinery.disk.crash(self.chance.u64());
        self.process = Process::start(&self.machinery)?;
        for round in 0..ROUNDS {
            self.process.deliver().await.map_err(|s| s.message)?;
            while let Some(what) = self.process.control().await {
                trace.line(format_args!("{what}"));
                safety(&self.process.store, self.bounds)?;
            }
            while let Some(what) = self.process.schedule().await {
                trace.line(format_args!("{what}"));
            }
            for name in NODE_NAMES {
                let what = node::step(&self.process.agent(name), name, &self.chance, self.clock.now()).await;
                what.into_iter().for_each(|what| trace.line(format_args!("{what}")));
            }
            safety(&self.process.store, self.bounds)?;
            self.clock.advance(Duration::from_millis(200));
            if round > 2 && missing(&self.process.store).is_none() {
                return Ok(());
            }
        }
        Err(format!("not as asked after {ROUNDS} rounds without faults: {}", missing(&self.process.store).unwrap_or_default()))
    }
}

fn short(patch: &Value) -> String {
    match patch["spec"]["replicas"].as_u64() {
        Some(size) => format!("{size} pods"),
        None => patch["spec"]["template"]["spec"]["containers"][0]["image"].to_string(),
    }
}
