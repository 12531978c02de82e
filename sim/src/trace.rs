//! What happened, in lines, with a hash of them; and how often each kind of thing did.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard};

/// The diary of one run. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    text: String,
    counts: Counts,
}

/// How often each fault struck, each action was taken, and each thing was checked.
pub type Counts = BTreeMap<(Sort, &'static str), u64>;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// Something that the user did.
    Work,
    /// Something that a component did.
    Act,
    /// Something that went wrong on purpose.
    Fault,
    /// Something that was looked at.
    Check,
}

impl Trace {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no one panics while writing the diary")
    }

    pub(crate) fn line(&self, line: std::fmt::Arguments<'_>) {
        writeln!(self.lock().text, "{line}").expect("writing to memory cannot fail");
    }

    pub(crate) fn count(&self, sort: Sort, what: &'static str) {
        self.count_many(sort, what, 1);
    }

    pub(crate) fn count_many(&self, sort: Sort, what: &'static str, times: u64) {
        *self.lock().counts.entry((sort, what)).or_default() += times;
    }

    /// The hash of the text, the text, and the counts.
    pub(crate) fn finish(&self) -> (u64, String, Counts) {
        let mut state = self.lock();
        let text = std::mem::take(&mut state.text);
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        (hash, text, std::mem::take(&mut state.counts))
    }
}
