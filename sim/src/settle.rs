//! Phase two: no more faults. Everybody does what they have to, and within a bound everything must be as it was asked for.

use std::collections::BTreeSet;
use std::time::Duration;

use gantry_client::Request;
use gantry_object::{Value, meta};
use gantry_ports::Clock;
use gantry_store::Store;

use crate::component::Component;
use crate::facts::{Deployment, Pod, Set, read};
use crate::node::{Node, Wear};
use crate::process::Storage;
use crate::user::{amends, objects, strays};
use crate::world::World;

/// The time within which all must have come right.
const BOUND: Duration = Duration::from_secs(1800);
/// The most that may happen without time passing: more is a circle.
const BUSIEST: usize = 3000;

impl World {
    /// Repairs whatever is broken: disk, network, clock, processes, and what users have left half done.
    pub(crate) async fn heal(&mut self) -> Result<(), String> {
        self.line(format_args!("-- healed --"));
        if let Some(process) = self.net.process() {
            self.look()?;
            self.net.connect(None);
            process.kill();
        }
        // Also if nobody uses it: a fault that was still to come does not come any more.
        self.machinery.disk.kill();
        self.machinery.disk.set_capacity(None);
        self.machinery.disk.fail_syncs(0);
        // No time that anybody has seen may lie in the future.
        self.clock.jump(self.latest.max(self.clock.now()));
        self.revive(Storage { deferred: false, ..self.draw.storage })?;
        for (node, _) in std::mem::take(&mut self.partitions) {
            self.net.cut_off(&self.nodes[node].name, false);
        }
        self.components.iter_mut().for_each(Component::calm);
        self.nodes.iter_mut().for_each(Node::calm);
        self.go_on().await?;
        let store = self.net.process().ok_or("the server is down")?.store.clone();
        self.ask(amends(&store)).await
    }

    /// Users ask for something, one request after another.
    async fn ask(&mut self, requests: Vec<Request>) -> Result<(), String> {
        for request in requests {
            let told = format!("{:?} {} {}", request.verb, request.resource.plural, request.name);
            if let Err(status) = self.net.admin().call(request).await {
                self.line(format_args!("cannot {told}: {}", status.message));
            }
            self.look()?;
        }
        Ok(())
    }

    /// Lets everybody work until nothing is left to do and everything is as asked.
    pub(crate) async fn settle(&mut self) -> Result<(), String> {
        let until = self.now() + BOUND;
        let mut busy = 0;
        loop {
            if self.round().await? {
                busy += 1;
                if busy > BUSIEST {
                    return Err(format!("something goes on for ever: {}", self.waiting_on()));
                }
                continue;
            }
            let store = self.net.process().ok_or("the server is down")?.store.clone();
            let strays = strays(&store);
            if !strays.is_empty() {
                self.ask(strays).await?;
                continue;
            }
            let Some(missing) = self.missing(&store)? else { return Ok(()) };
            if self.now() >= until {
                return Err(format!("not as asked after {} s without faults: {missing}\n{}", BOUND.as_secs(), self.waiting_on()));
            }
            busy = 0;
            let due = self.components.iter().filter_map(Component::next_due).chain(self.nodes.iter().filter_map(Node::next_due)).min();
            let wait = due.map_or(Duration::from_secs(10), |at| at.saturating_sub(self.now()));
            self.pass(wait.clamp(Duration::from_millis(10), Duration::from_secs(10)));
        }
    }

    /// Everybody does everything they can at once; says whether anything happened.
    async fn round(&mut self) -> Result<bool, String> {
        let mut any = self.go_on().await?;
        for i in 0..self.components.len() {
            any |= self.components[i].deliver_all() > 0;
            while self.act(i)? {
                any = true;
                self.go_on().await?;
            }
        }
        for i in 0..self.nodes.len() {
            any |= self.nodes[i].deliver_all() > 0;
            if let Some(what) = self.nodes[i].beat() {
                any = true;
                self.line(format_args!("{what}"));
            }
            while let Some(what) = self.nodes[i].work(&Wear::default(), &self.chance)? {
                any = true;
                self.line(format_args!("{what}"));
                self.go_on().await?;
            }
        }
        any |= self.components.iter().any(Component::is_working) || self.nodes.iter().any(Node::is_working);
        Ok(any | self.go_on().await?)
    }

    /// What everybody says they wait for.
    fn waiting_on(&self) -> String {
        let pods = self.audit.pods().filter(|p| !p.is_available()).map(|pod| {
            let worker = self.nodes.iter().find(|n| n.name == pod.node()).and_then(|n| n.tell_of(&pod.metadata.uid));
            let worker = worker.unwrap_or_else(|| "which knows nothing of it".into());
            let deleting = pod.metadata.deletion_timestamp.as_deref().unwrap_or("not being deleted");
            format!("pod {} ({deleting}): {:?} on {:?}, {worker}", pod.metadata.name, pod.phase(), pod.node())
        });
        let lines: Vec<String> = self.components.iter().flat_map(Component::waiting_on).chain(pods).collect();
        format!("waiting_on:\n  {}", lines.join("\n  "))
    }

    /// What is still missing from what was asked for.
    fn missing(&self, store: &Store) -> Result<Option<String>, String> {
        let snapshot = store.snapshot();
        let mut expected = 0;
        for deployment in snapshot.list("deployments.apps", Some("default"), None) {
            let deployment: Deployment = read(deployment.object)?;
            expected += deployment.size();
            if let Some(why) = self.missing_of(&deployment) {
                return Ok(Some(format!("deployment {}: {why}", deployment.metadata.name)));
            }
        }
        let pods = self.audit.pods().count() as i64;
        if pods != expected {
            let named: Vec<String> = self.audit.pods().map(|p| format!("{} {} on {:?}", p.metadata.name, p.phase(), p.node())).collect();
            return Ok(Some(format!("{pods} pods where {expected} are wanted: {}", named.join(", "))));
        }
        for set in snapshot.list("replicasets.apps", Some("default"), None) {
            let set: Set = read(set.object)?;
            if set.metadata.controllers().is_empty() || set.metadata.is_deleting() {
                return Ok(Some(format!("set {} is nobody's", set.metadata.name)));
            }
        }
        let machines: usize = self.nodes.iter().map(|n| n.machine.running().len()).sum();
        if machines as i64 != expected {
            return Ok(Some(format!("{machines} containers run where {expected} should")));
        }
        Ok(self.missing_endpoints(&objects(&snapshot, "endpointslices.discovery.k8s.io")))
    }

    fn missing_of(&self, deployment: &Deployment) -> Option<String> {
        let (size, status) = (deployment.size(), &deployment.status);
        let numbers = [
            ("replicas", status.replicas),
            ("updatedReplicas", status.updated_replicas),
            ("readyReplicas", status.ready_replicas),
            ("availableReplicas", status.available_replicas),
        ];
        if let Some((member, number)) = numbers.into_iter().find(|(_, n)| *n != size) {
            return Some(format!("status.{member} is {number} of {size}"));
        }
        if status.observed_generation != deployment.metadata.generation || deployment.metadata.is_deleting() {
            return Some("the last change was not observed".into());
        }
        let image = deployment.spec.template["spec"]["containers"][0]["image"].as_str().unwrap_or("");
        let app = deployment.spec.template["metadata"]["labels"]["app"].as_str();
        let own = |p: &&Pod| p.metadata.labels.get("app").map(String::as_str) == app;
        let good = self.audit.pods().filter(own).filter(|p| p.is_available() && p.image() == image).count() as i64;
        (good != size).then(|| format!("{good} good pods where {size} are wanted"))
    }

    /// The addresses behind services are those of the ready pods.
    fn missing_endpoints(&self, slices: &[Value]) -> Option<String> {
        let of_work = |slice: &&Value| meta::label(slice, "kubernetes.io/service-name").is_some_and(|name| name != "kubernetes");
        let endpoints = slices.iter().filter(of_work).flat_map(|s| s["endpoints"].as_array().into_iter().flatten());
        let ready = endpoints.filter(|e| e["conditions"]["ready"] == true).filter_map(|e| e["addresses"][0].as_str());
        let ready: BTreeSet<&str> = ready.collect();
        let wanted: BTreeSet<&str> = self.audit.pods().filter(|p| p.is_available()).map(Pod::ip).collect();
        (ready != wanted).then(|| format!("services lead to {ready:?} where {wanted:?} are ready"))
    }
}
