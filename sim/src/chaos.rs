//! Phase one: whatever the seed says happens next, good or bad.

use std::sync::Arc;
use std::time::Duration;

use gantry_ports::disk::Disk;
use gantry_ports::{Clock, Random};

use crate::component::Component;
use crate::draw::Faults;
use crate::flight::Flight;
use crate::trace::Sort;
use crate::user::{self, pick};
use crate::world::World;

/// The longest that a clock jumps, in seconds.
const JUMP: u64 = 7200;

impl World {
    /// Something happens; then everything that must hold is looked at.
    pub(crate) async fn step(&mut self) -> Result<(), String> {
        self.pass(Duration::from_millis(self.chance.below(300)));
        self.recover()?;
        let faults = self.faults();
        let all: u64 = faults.iter().sum();
        // Faults are drawn among a thousand, and what is left of that is work.
        match pick(&[all, 1000_u64.saturating_sub(all)], &self.chance) {
            Some(0) => self.fault(pick(&faults, &self.chance).unwrap_or_default())?,
            _ => self.work()?,
        }
        let beats: Vec<String> = self.nodes.iter_mut().filter_map(|node| node.beat()).collect();
        beats.iter().for_each(|what| self.line(format_args!("{what}")));
        self.go_on().await?;
        self.bury()
    }

    fn faults(&self) -> [u64; 13] {
        let Faults { power_fails, server_dies, component_dies, agent_dies, node_reboots, partition, .. } = self.draw.faults;
        let Faults { container_dies, conflict, clock_jumps, disk_full, disk_fails, disk_slow, long_wait, .. } = self.draw.faults;
        let each = [
            power_fails,
            server_dies,
            component_dies,
            agent_dies,
            node_reboots,
            partition,
            container_dies,
            conflict,
            clock_jumps,
            disk_full,
            disk_fails,
            disk_slow,
            long_wait,
        ];
        each.map(|weight| weight * 5)
    }

    fn fault(&mut self, which: usize) -> Result<(), String> {
        match which {
            0 => {
                self.machinery.disk.fail_power_in(self.chance.below(12));
                self.line(format_args!("the power will fail"));
            }
            1 => self.server_dies(false),
            2 => self.component_dies(),
            3 => self.agent_dies(),
            4 => {
                self.audit.promises.disrupt();
                let at = self.some_node();
                self.nodes[at].reboot(&self.net, &self.clock, &self.trace);
                self.strike("node reboots");
            }
            5 => self.partition(),
            6 => {
                self.audit.promises.disrupt();
                let (at, now) = (self.some_node(), self.clock.now());
                if let Some(what) = self.nodes[at].lose_container(&self.chance, now) {
                    self.strike("container dies");
                    self.line(format_args!("{what}"));
                }
            }
            7 => {
                let at = self.some_component();
                self.components[at].fuse.meddle();
                self.line(format_args!("somebody will be faster than {}", self.components[at].name));
            }
            8 => self.jump_clock(),
            9 => self.fill_disk()?,
            10 => {
                self.machinery.disk.fail_syncs(1);
                self.strike("disk fails to flush");
            }
            11 => {
                self.slow_until = self.now() + Duration::from_secs(1 + self.chance.below(5));
                self.machinery.disk.set_latency(Duration::from_millis(self.chance.below(400)));
                self.strike("slow disk");
            }
            _ => self.wait_long(),
        }
        Ok(())
    }

    fn some_component(&self) -> usize {
        self.chance.below(self.components.len() as u64) as usize
    }

    fn some_node(&self) -> usize {
        self.chance.below(self.nodes.len() as u64) as usize
    }

    /// Somebody does some of what they have to.
    fn work(&mut self) -> Result<(), String> {
        let times = 1 + self.chance.below(4);
        match self.chance.below(100) {
            0..=5 => self.user(),
            6..=13 => self.write_ledger(),
            14..=34 => {
                for _ in 0..times {
                    let (at, weather) = (self.some_component(), self.draw.faults.weather);
                    let what = self.components[at].deliver(&weather, &self.chance);
                    what.iter().for_each(|what| self.line(format_args!("{what}")));
                }
            }
            35..=62 => {
                for _ in 0..times {
                    let at = self.some_component();
                    self.act(at)?;
                }
            }
            63..=94 => self.nodes_work(2 * times)?,
            _ => self.keep_store(),
        }
        self.flush();
        Ok(())
    }

    /// Begins a decision of a component's.
    pub(crate) fn act(&mut self, at: usize) -> Result<bool, String> {
        let Some(act) = self.components[at].act()? else { return Ok(false) };
        if act.disrupts {
            self.audit.promises.disrupt();
        }
        self.line(format_args!("{}", act.told));
        Ok(true)
    }

    fn nodes_work(&mut self, times: u64) -> Result<(), String> {
        let (weather, wear) = (self.draw.faults.weather, self.draw.faults.wear);
        for _ in 0..times {
            let at = self.some_node();
            let node = &mut self.nodes[at];
            let news = node.deliver(&weather, &self.chance);
            let work = node.work(&wear, &self.chance)?;
            [news, work].iter().flatten().for_each(|what| self.line(format_args!("{what}")));
        }
        Ok(())
    }

    /// Writes are flushed sooner or later; later on a slow disk.
    fn flush(&mut self) {
        let Some(process) = self.net.process() else { return };
        if self.now() >= self.slow_until && self.chance.below(3) > 0 && process.flush() {
            self.trace.count(Sort::Act, "flush");
        }
    }

    fn keep_store(&mut self) {
        let Some(process) = self.net.process() else { return };
        match process.checkpoint() {
            Ok(()) => self.trace.count(Sort::Act, "checkpoint"),
            Err(why) => self.line(format_args!("no checkpoint: {why}")),
        }
    }

    fn user(&mut self) {
        let Some(process) = self.net.process() else { return };
        let Some(wish) = user::draw(&self.draw, &process.store, &self.chance) else { return };
        self.trace.count(Sort::Work, wish.what);
        self.line(format_args!("user: {}", wish.told));
        if wish.disrupts {
            self.audit.promises.disrupt();
        }
        if wish.moves {
            self.audit.promises.forget();
        }
        let (api, request) = (self.net.admin(), wish.request);
        let flight = Flight::launch(&self.tasks, async move { api.call(request).await.map(drop).map_err(|s| s.message) });
        self.wishes.push((wish.told, flight));
    }

    fn write_ledger(&mut self) {
        if self.entry.is_some() {
            return;
        }
        self.trace.count(Sort::Work, "write ledger");
        let (which, number, request) = self.ledger.write(&self.chance);
        let api = self.net.admin();
        self.entry = Some((which, number, Flight::launch(&self.tasks, async move { api.call(request).await.map(drop) })));
        self.line(format_args!("ledger-{which} = {number}"));
    }

    /// The server's process ends, or the power of its machine: only that tears.
    fn server_dies(&mut self, power: bool) {
        let Some(process) = self.net.process() else { return };
        self.net.connect(None);
        process.kill();
        if power {
            self.machinery.disk.crash(self.chance.u64());
        } else {
            self.machinery.disk.kill();
        }
        self.strike(if power { "power lost" } else { "server dies" });
        self.down_until = Some(self.now() + Duration::from_millis(self.chance.below(4000)));
    }

    /// A component is killed now, or in the middle of what it does next.
    fn component_dies(&mut self) {
        let at = self.some_component();
        match self.chance.below(3) {
            0 => self.restart(at),
            _ => self.components[at].fuse.light(self.chance.below(6), self.chance.below(2) == 0),
        }
    }

    fn restart(&mut self, at: usize) {
        let name = self.components[at].name;
        self.strike(if name == "scheduler" { "scheduler dies" } else { "controller dies" });
        self.line(format_args!("{name} restarts"));
        self.components[at] = Component::start(name, &self.net, &self.clock, &self.trace);
    }

    fn agent_dies(&mut self) {
        let at = self.some_node();
        match &self.nodes[at].agent {
            Some(agent) if self.chance.below(2) == 0 => agent.fuse.light(self.chance.below(6), self.chance.below(2) == 0),
            _ => self.restart_agent(at),
        }
    }

    fn restart_agent(&mut self, at: usize) {
        self.strike("agent dies");
        self.line(format_args!("the agent of {} restarts", self.nodes[at].name));
        self.nodes[at].start(&self.net, &self.clock, &self.trace);
    }

    fn partition(&mut self) {
        let at = self.some_node();
        if self.partitions.iter().any(|(node, _)| *node == at) {
            return;
        }
        self.audit.promises.disrupt();
        self.strike("node partitioned");
        self.net.cut_off(&self.nodes[at].name, true);
        self.partitions.push((at, self.now() + Duration::from_secs(1 + self.chance.below(90))));
    }

    fn jump_clock(&mut self) {
        self.audit.promises.disrupt();
        self.latest = self.latest.max(self.clock.now());
        let by = Duration::from_secs(self.chance.below(JUMP));
        let now = self.clock.now();
        let back = gantry_object::Timestamp(now.0.saturating_sub(i64::try_from(by.as_nanos()).unwrap_or(0)));
        let (fault, to) = if self.chance.below(2) == 0 { ("clock jumps ahead", now.plus(by)) } else { ("clock jumps back", back) };
        self.clock.jump(to);
        self.latest = self.latest.max(to);
        self.strike(fault);
    }

    /// Not a byte more fits on the disk for a while.
    fn fill_disk(&mut self) -> Result<(), String> {
        let disk = &self.machinery.disk;
        if disk.is_dead() {
            return Ok(());
        }
        let failed = |e: std::io::Error| format!("looking at the disk: {e}");
        let mut used = 0;
        for name in disk.list().map_err(failed)? {
            used += disk.open(&name).and_then(|file| file.size()).map_err(failed)?;
        }
        disk.set_capacity(Some(used));
        self.full_until = Some(self.now() + Duration::from_secs(1 + self.chance.below(20)));
        self.strike("disk full");
        Ok(())
    }

    /// Nothing much happens for a while, but that everybody gets their news first: a watch is late by seconds, not by minutes.
    fn wait_long(&mut self) {
        if self.net.process().is_none() {
            return;
        }
        for component in &mut self.components {
            component.pull();
            component.deliver_all();
        }
        self.pass(Duration::from_secs(1 + self.chance.below(20)));
        self.strike("a long wait");
    }

    /// What is over is over: outages of the server, of the disk, of the network.
    fn recover(&mut self) -> Result<(), String> {
        let now = self.now();
        if now >= self.slow_until {
            self.machinery.disk.set_latency(Duration::ZERO);
        }
        if self.full_until.is_some_and(|at| now >= at) {
            self.full_until = None;
            self.machinery.disk.set_capacity(None);
        }
        let (over, still) = std::mem::take(&mut self.partitions).into_iter().partition(|(_, until)| now >= *until);
        self.partitions = still;
        let over: Vec<(usize, Duration)> = over;
        for (node, _) in over {
            self.net.cut_off(&self.nodes[node].name, false);
            self.line(format_args!("{} is back", self.nodes[node].name));
        }
        match self.down_until {
            Some(at) if now >= at => self.revive(self.draw.storage),
            _ => Ok(()),
        }
    }

    /// Takes note of who has died, and starts them again.
    fn bury(&mut self) -> Result<(), String> {
        if self.machinery.disk.is_dead() {
            self.look()?;
            let power = self.chance.below(2) == 0;
            self.server_dies(power);
        } else if self.net.process().is_some_and(|p: Arc<_>| p.is_read_only()) && self.chance.below(5) == 0 {
            self.line(format_args!("the store is read-only"));
            let power = self.chance.below(2) == 0;
            self.server_dies(power);
        }
        for at in 0..self.components.len() {
            if self.components[at].fuse.is_dead() {
                self.restart(at);
            }
        }
        for at in 0..self.nodes.len() {
            if self.nodes[at].agent.as_ref().is_some_and(|a| a.fuse.is_dead()) {
                self.restart_agent(at);
            }
        }
        Ok(())
    }
}
