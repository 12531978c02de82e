//! A disk in memory that fails as disks do, on demand and repeatably.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::{Disk, DiskFile, DiskLock};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A simulated disk. Cloning shares it; what is on it outlives its users, as a disk outlives a process.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    /// Names as processes see them, and as a crash would leave them without luck.
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    name_changes: Vec<NameChange>,
    capacity: Option<u64>,
    power_fails_in: Option<u64>,
    dead: bool,
    fail_syncs: u32,
    latency: Duration,
    waited: Duration,
    syncs: u64,
    epoch: u64,
    locked: bool,
}

#[derive(Clone)]
enum NameChange {
    Set(String, u64),
    Remove(String),
    /// Atomic: a crash leaves it done or not done, never half.
    Rename(String, String, u64),
}

#[derive(Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Ranges written since the last sync.
    dirty: Vec<(usize, usize)>,
}

impl SimDisk {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no one panics while holding the disk")
    }

    /// Power is lost: of what was not synced, each sector and each name change survives or not as the seed says (name changes in
    /// order). Files opened before fail from now on; the disk works again.
    pub fn crash(&self, seed: u64) {
        let mut state = self.lock_state();
        let mut rng = Rng(seed);
        let changes = std::mem::take(&mut state.name_changes);
        let kept = rng.below(changes.len() as u64 + 1) as usize;
        for change in changes.into_iter().take(kept) {
            apply(&mut state.durable_names, change);
        }
        state.names = state.durable_names.clone();
        let linked: Vec<u64> = state.names.values().copied().collect();
        state.inodes.retain(|inode, _| linked.contains(inode));
        for inode in state.inodes.values_mut() {
            inode.crash(&mut rng);
        }
        state.dead = false;
        state.power_fails_in = None;
        state.fail_syncs = 0;
        state.locked = false;
        state.epoch += 1;
    }

    /// The process that uses the disk dies: its lock goes and its open files fail, but nothing is lost, since the kernel lives on. After
    /// [`SimDisk::fail_power_in`] it was not the power that failed but the process, in the middle of an operation.
    pub fn kill(&self) {
        let mut state = self.lock_state();
        state.dead = false;
        state.power_fails_in = None;
        state.locked = false;
        state.epoch += 1;
    }

    /// After this many more writes, syncs and name changes every operation fails, the last of them half done, until [`SimDisk::crash`].
    pub fn fail_power_in(&self, operations: u64) {
        self.lock_state().power_fails_in = Some(operations);
    }

    /// Whether the power has failed.
    pub fn is_dead(&self) -> bool {
        self.lock_state().dead
    }

    /// Limits the bytes in all files, or lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock_state().capacity = bytes;
    }

    /// The next syncs fail without syncing.
    pub fn fail_syncs(&self, count: u32) {
        self.lock_state().fail_syncs = count;
    }

    /// What each write and sync costs, summed up in [`SimDisk::waited`]; nobody sleeps.
    pub fn set_latency(&self, each: Duration) {
        self.lock_state().latency = each;
    }

    /// How long users would have waited so far.
    pub fn waited(&self) -> Duration {
        self.lock_state().waited
    }

    /// How many times data was synced.
    pub fn syncs(&self) -> u64 {
        self.lock_state().syncs
    }

    /// Changes bits of a byte at rest. `false` when there is no such byte.
    pub fn flip(&self, name: &str, offset: u64, mask: u8) -> bool {
        let mut state = self.lock_state();
        let Some(inode) = state.names.get(name).copied() else { return false };
        let Some(inode) = state.inodes.get_mut(&inode) else { return false };
        let at = offset as usize;
        for bytes in [&mut inode.now, &mut inode.durable] {
            match bytes.get_mut(at) {
                Some(byte) => *byte ^= mask,
                None => return false,
            }
        }
        true
    }

    /// Another disk with the same files, everything on it durable, and no faults.
    ///
    /// # Panics
    /// Never: the new disk has room.
    pub fn duplicate(&self) -> Self {
        let copy = Self::new();
        {
            let (from, mut to) = (self.lock_state(), copy.lock_state());
            for (name, inode) in &from.names {
                let bytes = from.inodes[inode].now.clone();
                to.inodes.insert(*inode, Inode { durable: bytes.clone(), now: bytes, dirty: Vec::new() });
                to.names.insert(name.clone(), *inode);
                to.durable_names.insert(name.clone(), *inode);
            }
            to.next_inode = from.next_inode;
        }
        copy
    }

    /// A copy of a file's bytes.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock_state();
        state.names.get(name).and_then(|i| state.inodes.get(i)).map(|i| i.now.clone())
    }
}

impl Inode {
    /// Makes durable what was written. Costs what was written, not the file's size.
    fn settle(&mut self) {
        self.durable.resize(self.now.len(), 0);
        for (from, to) in self.dirty.drain(..) {
            self.durable[from..to].copy_from_slice(&self.now[from..to]);
        }
    }

    fn crash(&mut self, rng: &mut Rng) {
        let mut left = self.durable.clone();
        for &(from, to) in &self.dirty {
            let mut at = from;
            while at < to {
                let end = ((at / SECTOR + 1) * SECTOR).min(to);
                if rng.below(2) == 0 {
                    if left.len() < end {
                        left.resize(end, 0);
                    }
                    left[at..end].copy_from_slice(&self.now[at..end]);
                }
                at = end;
            }
        }
        self.now = left.clone();
        self.durable = left;
        self.dirty.clear();
    }
}

fn apply(names: &mut BTreeMap<String, u64>, change: NameChange) {
    match change {
        NameChange::Set(name, inode) => {
            names.insert(name, inode);
        }
        NameChange::Remove(name) => {
            names.remove(&name);
        }
        NameChange::Rename(from, to, inode) => {
            names.remove(&from);
            names.insert(to, inode);
        }
    }
}

fn power_lost() -> io::Error {
    io::Error::other("simulated power loss")
}

impl State {
    /// Counts an operation. `Ok(false)`: this one is the last and is half done.
    fn step(&mut self) -> io::Result<bool> {
        self.waited += self.latency;
        if self.dead {
            return Err(power_lost());
        }
        match &mut self.power_fails_in {
            Some(0) => {
                self.dead = true;
                Ok(false)
            }
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None => Ok(true),
        }
    }

    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(power_lost()) } else { Ok(()) }
    }

    fn change_names(&mut self, change: NameChange) -> io::Result<()> {
        let whole = self.step()?;
        apply(&mut self.names, change.clone());
        self.name_changes.push(change);
        if whole { Ok(()) } else { Err(power_lost()) }
    }

    fn room_for(&self, more: u64) -> io::Result<()> {
        let used: u64 = self.inodes.values().map(|i| i.now.len() as u64).sum();
        match self.capacity {
            Some(capacity) if used + more > capacity => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn find(&self, name: &str) -> io::Result<u64> {
        self.alive()?;
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Forgets inodes that no name, seen or durable, leads to.
    fn collect(&mut self) {
        let pending = self.name_changes.iter().filter_map(|c| match c {
            NameChange::Set(_, inode) | NameChange::Rename(_, _, inode) => Some(inode),
            NameChange::Remove(_) => None,
        });
        let linked: Vec<u64> = self.names.values().chain(self.durable_names.values()).chain(pending).copied().collect();
        self.inodes.retain(|inode, _| linked.contains(inode));
    }
}

impl Disk for SimDisk {
    fn create(&self, name: &str, size: u64) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock_state();
        state.alive()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.room_for(size)?;
        state.next_inode += 1;
        let inode = state.next_inode;
        let zeros = vec![0; size as usize];
        // Its size may or may not survive: as dirty sectors, each of which grows the file.
        state.inodes.insert(inode, Inode { now: zeros, durable: Vec::new(), dirty: vec![(0, size as usize)] });
        state.change_names(NameChange::Set(name.into(), inode))?;
        Ok(Box::new(SimFile { disk: self.clone(), inode, epoch: state.epoch }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let state = self.lock_state();
        Ok(Box::new(SimFile { disk: self.clone(), inode: state.find(name)?, epoch: state.epoch }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock_state();
        let inode = state.find(from)?;
        state.change_names(NameChange::Rename(from.into(), to.into(), inode))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock_state();
        state.find(name)?;
        state.change_names(NameChange::Remove(name.into()))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.lock_state();
        state.alive()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.lock_state();
        if !state.step()? {
            return Err(power_lost());
        }
        state.durable_names = state.names.clone();
        state.name_changes.clear();
        state.collect();
        Ok(())
    }

    fn lock(&self) -> io::Result<DiskLock> {
        let mut state = self.lock_state();
        state.alive()?;
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(DiskLock(Box::new(SimLock { disk: self.clone(), epoch: state.epoch })))
    }
}

struct SimLock {
    disk: SimDisk,
    epoch: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.lock_state();
        if state.epoch == self.epoch {
            state.locked = false;
        }
    }
}

struct SimFile {
    disk: SimDisk,
    inode: u64,
    epoch: u64,
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut State, u64) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.lock_state();
        if state.epoch != self.epoch || !state.inodes.contains_key(&self.inode) {
            return Err(io::Error::other("file was opened before a crash, or removed"));
        }
        act(&mut state, self.inode)
    }
}

/// The inode, which [`SimFile::with`] has found.
fn inode(state: &mut State, id: u64) -> &mut Inode {
    state.inodes.get_mut(&id).expect("looked up by the caller under the same lock")
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        self.with(|state, id| {
            state.alive()?;
            Ok(inode(state, id).now.len() as u64)
        })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.with(|state, id| {
            state.alive()?;
            let from = offset as usize;
            let bytes = inode(state, id).now.get(from..from + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|state, id| {
            let whole = state.step()?;
            let (from, to) = (offset as usize, offset as usize + bytes.len());
            let grows = (to as u64).saturating_sub(inode(state, id).now.len() as u64);
            if grows > 0 {
                state.room_for(grows)?;
            }
            let file = inode(state, id);
            if file.now.len() < to {
                file.now.resize(to, 0);
            }
            file.now[from..to].copy_from_slice(bytes);
            file.dirty.push((from, to));
            if whole { Ok(()) } else { Err(power_lost()) }
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|state, id| {
            if !state.step()? {
                return Err(power_lost());
            }
            state.syncs += 1;
            if state.fail_syncs > 0 {
                state.fail_syncs -= 1;
                return Err(io::Error::other("simulated failure to sync"));
            }
            inode(state, id).settle();
            Ok(())
        })
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.with(|state, id| {
            if !state.step()? {
                return Err(power_lost());
            }
            let file = inode(state, id);
            file.now.resize(size as usize, 0);
            file.durable.clone_from(&file.now);
            file.dirty.clear();
            Ok(())
        })
    }
}

/// SplitMix64: small, and the same everywhere.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
