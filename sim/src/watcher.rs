//! An ordinary client that watches pods through the API, across cuts and restarts, and is told what happened: all of it, once, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use gantry_client::{Api, Params, Watch, WatchEvent};
use gantry_object::{Encoded, Revision};
use gantry_ports::Tasks;
use gantry_scheduler::PODS;

use crate::audit::Step;
use crate::feed::{path_of, take_all};
use crate::flight::Flight;
use crate::trace::{Sort, Trace};

pub(crate) struct Witness {
    api: Arc<dyn Api>,
    tasks: Tasks,
    opening: Option<Flight<Result<gantry_client::WatchStream, gantry_object::Status>>>,
    stream: Option<gantry_client::WatchStream>,
    /// The last revision it was told of.
    told: Revision,
    trace: Trace,
}

impl Witness {
    /// Watches from after a revision.
    pub(crate) fn new(api: Arc<dyn Api>, from: Revision, trace: &Trace) -> Self {
        let tasks = Tasks::on(tokio::runtime::Handle::current());
        Self { api, tasks, opening: None, stream: None, told: from, trace: trace.clone() }
    }

    pub(crate) fn cut(&mut self) {
        self.opening = None;
        self.stream = None;
    }

    /// Compares what it was told since with the history.
    pub(crate) fn look(&mut self, history: &[Step], now: Revision) -> Result<(), String> {
        let Some(stream) = &mut self.stream else { return self.open(now) };
        let mut events = VecDeque::new();
        if !take_all(stream, &mut events) {
            self.stream = None;
        }
        for event in events {
            self.hear(&event, history, now)?;
        }
        Ok(())
    }

    fn open(&mut self, now: Revision) -> Result<(), String> {
        match self.opening.as_mut().map(Flight::take) {
            None => {
                let (api, from) = (self.api.clone(), Some(self.told));
                let params = Params::default();
                let watch = Watch { resource: PODS, namespace: String::new(), params, from, initial_events: false };
                self.opening = Some(Flight::launch(&self.tasks, async move { api.watch(watch).await }));
            }
            Some(None) => {}
            Some(Some(result)) => {
                self.opening = None;
                match result {
                    Ok(stream) => self.stream = Some(stream),
                    // The history it knew is gone: it begins anew.
                    Err(status) if status.is_expired() => self.told = now,
                    Err(_) => {}
                }
            }
        }
        Ok(())
    }

    fn hear(&mut self, event: &WatchEvent, history: &[Step], now: Revision) -> Result<(), String> {
        self.trace.count(Sort::Check, "event of a watch");
        let after = history.partition_point(|step| step.revision <= self.told);
        let next = history.get(after);
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => self.expect(object, true, next),
            WatchEvent::Deleted(object) => self.expect(object, false, next),
            WatchEvent::Bookmark { revision, .. } => {
                if let Some(missed) = next.filter(|step| step.revision <= *revision) {
                    return Err(format!("a watch says that all is told up to {revision}, and left out {missed:?}"));
                }
                self.told = self.told.max(*revision);
                Ok(())
            }
            WatchEvent::Error(_) => {
                self.told = now;
                self.cut();
                Ok(())
            }
        }
    }

    fn expect(&mut self, object: &Encoded, there: bool, next: Option<&Step>) -> Result<(), String> {
        let told = Step { revision: object.revision, path: path_of(object).unwrap_or_default(), there };
        if next != Some(&told) {
            return Err(format!("a watch told {told:?} after {}, where the history goes on with {next:?}", self.told));
        }
        self.told = told.revision;
        Ok(())
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.tasks.shutdown();
    }
}
