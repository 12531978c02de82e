//! Everything of one run, and how it goes on by itself.

use std::sync::Arc;
use std::time::Duration;

use gantry_client::{Api, PatchType, Request};
use gantry_object::{Status, Timestamp};
use gantry_ports::{Clock, SeededRandom, SimulatedClock};
use gantry_scheduler::NODES;

use crate::audit::Audit;
use crate::component::{Component, SERVICES, names};
use crate::draw::Draw;
use crate::flight::Flight;
use crate::net::Net;
use crate::node::{self, Node};
use crate::process::{Machinery, Process, Storage, clock, fresh_disk};
use crate::trace::{Sort, Trace};
use crate::user::Ledger;
use crate::watcher::Witness;

/// A write into the ledger that waits for its answer: which map, which number.
type Entry = (u64, u64, Flight<Result<(), Status>>);

pub(crate) struct World {
    pub(crate) draw: Draw,
    pub(crate) chance: SeededRandom,
    pub(crate) machinery: Machinery,
    pub(crate) clock: SimulatedClock,
    pub(crate) net: Net,
    pub(crate) components: Vec<Component>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) audit: Audit,
    pub(crate) witness: Witness,
    pub(crate) ledger: Ledger,
    /// What users wait for: what it was, and how it ended.
    pub(crate) wishes: Vec<(String, Flight<Result<(), String>>)>,
    pub(crate) entry: Option<Entry>,
    pub(crate) tasks: gantry_ports::Tasks,
    /// When the server is started again, if it is down.
    pub(crate) down_until: Option<Duration>,
    /// When a disk is healthy again.
    pub(crate) slow_until: Duration,
    pub(crate) full_until: Option<Duration>,
    pub(crate) partitions: Vec<(usize, Duration)>,
    /// The latest that a clock has shown.
    pub(crate) latest: Timestamp,
    pub(crate) trace: Trace,
}

impl World {
    /// The cluster of a seed, with everything started and nothing done.
    pub(crate) async fn new(seed: u64, trace: &Trace) -> Result<Self, String> {
        let chance = SeededRandom::new(seed);
        let draw = Draw::of(&chance);
        let machinery = Machinery { disk: fresh_disk().await?, clock: clock(), random: Arc::new(SeededRandom::new(seed ^ 0x5eed)) };
        let net = Net::new(trace);
        trace.line(format_args!("{}", draw.summary()));
        let process = Arc::new(Process::start(&machinery, Storage { deferred: false, ..draw.storage })?);
        net.connect(Some(process.clone()));
        set_up(&net.admin(), &draw).await?;
        let mut audit = Audit::new(draw.nodes.clone(), trace);
        audit.begin(&process.store)?;
        let witness = Witness::new(net.admin(), audit.seen(), trace);
        let clock = machinery.clock.clone();
        let mut nodes: Vec<Node> = (0..draw.nodes.len()).map(Node::new).collect();
        nodes.iter_mut().for_each(|n| n.start(&net, &clock, trace));
        Ok(Self {
            components: names(draw.together).iter().map(|name| Component::start(name, &net, &clock, trace)).collect(),
            nodes,
            audit,
            witness,
            ledger: Ledger::default(),
            wishes: Vec::new(),
            entry: None,
            tasks: gantry_ports::Tasks::on(tokio::runtime::Handle::current()),
            down_until: None,
            slow_until: Duration::ZERO,
            full_until: None,
            partitions: Vec::new(),
            latest: clock.now(),
            trace: trace.clone(),
            draw,
            chance,
            machinery,
            clock,
            net,
        })
    }

    /// Lets requests under way go on, and looks at everything that came of it.
    pub(crate) async fn go_on(&mut self) -> Result<bool, String> {
        let mut any = false;
        for _ in 0..2 {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            for component in &mut self.components {
                any |= component.pull();
                any |= component.land() > 0;
            }
            for node in &mut self.nodes {
                any |= node.pull();
            }
        }
        any |= self.land()?;
        self.look()?;
        Ok(any)
    }

    /// Looks for anything that may never be.
    pub(crate) fn look(&mut self) -> Result<(), String> {
        if let Some(process) = self.net.process() {
            self.audit.look(&process.store)?;
        }
        self.witness.look(&self.audit.history, self.audit.seen())?;
        self.net.broken_promise().map_or(Ok(()), Err)
    }

    /// Takes note of what users were answered.
    fn land(&mut self) -> Result<bool, String> {
        let before = self.wishes.len();
        let trace = &self.trace;
        self.wishes.retain_mut(|(told, flight)| match flight.take() {
            None => true,
            Some(Ok(())) => false,
            Some(Err(why)) => {
                trace.line(format_args!("failed to {told}: {why}"));
                false
            }
        });
        let mut any = self.wishes.len() < before;
        if let Some((which, number, flight)) = &mut self.entry
            && let Some(answer) = flight.take()
        {
            let (which, number) = (*which, *number);
            self.entry = None;
            any = true;
            match answer {
                Ok(()) => self.ledger.acknowledged(which, number),
                Err(status) => self.ledger.failed(which, number, &status)?,
            }
        }
        Ok(any)
    }

    /// Time passes, also for those who sleep. The disk's time is everybody's.
    pub(crate) fn pass(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(crate) fn line(&self, what: std::fmt::Arguments<'_>) {
        let revision = self.audit.seen();
        self.trace.line(format_args!("{:.3} @{revision}: {what}", self.now().as_secs_f64()));
    }

    pub(crate) fn strike(&self, fault: &'static str) {
        self.trace.count(Sort::Fault, fault);
        self.line(format_args!("-- {fault} --"));
    }

    /// Starts the server again on what its disk holds.
    pub(crate) fn revive(&mut self, storage: Storage) -> Result<(), String> {
        self.down_until = None;
        let mut started = Process::start(&self.machinery, storage);
        while let Err(why) = &started {
            // Only what was simulated excuses a store that does not open, and only once.
            if self.machinery.disk.is_dead() {
                self.strike("power lost during recovery");
                self.machinery.disk.crash(gantry_ports::Random::u64(&self.chance));
            } else if why.contains("simulated failure to sync") {
                self.strike("disk fails to flush during recovery");
                self.machinery.disk.kill();
            } else {
                break;
            }
            started = Process::start(&self.machinery, storage);
        }
        let process = Arc::new(started?);
        self.audit.recovered(&process.store, self.net.acknowledged())?;
        self.ledger.check(&process.store)?;
        self.line(format_args!("the server is up again at {}", process.store.durable_revision()));
        self.net.connect(Some(process));
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.shutdown();
        if let Some(process) = self.net.process() {
            self.net.connect(None);
            process.kill();
        }
    }
}

/// Makes the nodes and services.
async fn set_up(admin: &Arc<dyn Api>, draw: &Draw) -> Result<(), String> {
    for (name, capacity) in &draw.nodes {
        admin.call(Request::create(NODES, "", &node::object(name, capacity))).await.map_err(|s| s.message)?;
        let patch = Request::patch(NODES, "", name, PatchType::Merge, &node::status(capacity)).on("status");
        admin.call(patch).await.map_err(|s| s.message)?;
    }
    for wanted in &draw.deployments {
        admin.call(Request::create(SERVICES, "default", &wanted.service())).await.map_err(|s| s.message)?;
        admin.call(Request::create(crate::component::DEPLOYMENTS, "default", &wanted.object())).await.map_err(|s| s.message)?;
    }
    Ok(())
}
