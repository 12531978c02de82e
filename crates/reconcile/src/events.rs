//! Recording events, with repeats counted instead of repeated.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry_client::{Api, PatchType, Request};
use gantry_object::{ObjectName, Resource, Status, Timestamp};
use gantry_ports::Clock;
use serde_json::{Value, json};

use crate::EventKind;

const EVENTS: Resource = Resource::namespaced("", "v1", "events", "Event");
/// For how long a repeat is counted on the event it repeats.
const WINDOW: Duration = Duration::from_secs(600);
/// How many events are remembered for that.
const REMEMBERED: usize = 4096;

/// Records events of one component (`core/v1`). An event that cannot be recorded is logged and forgotten.
pub struct Recorder {
    component: &'static str,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// By object uid, kind, reason and message.
    seen: BTreeMap<Repeat, Seen>,
    /// Makes names of events of one moment differ.
    made: u32,
}

type Repeat = (String, EventKind, &'static str, String);

struct Seen {
    name: ObjectName,
    count: i64,
    last: Timestamp,
}

enum Step {
    First { name: ObjectName },
    Again { name: ObjectName, count: i64 },
}

impl Recorder {
    /// A recorder for a component, whose name the events show as their source.
    pub fn new(component: &'static str, clock: Arc<dyn Clock>) -> Self {
        Self { component, clock, known: Mutex::new(Known::default()) }
    }

    #[allow(clippy::too_many_arguments, reason = "an event's own members")]
    pub(crate) async fn record(
        &self,
        api: &Arc<dyn Api>,
        resource: &Resource,
        name: &ObjectName,
        uid: &str,
        kind: EventKind,
        reason: &'static str,
        message: &str,
    ) {
        let now = self.clock.now();
        let repeat = (uid.to_owned(), kind, reason, message.to_owned());
        let result = match self.step(&repeat, name, now) {
            Step::First { name: event } => {
                let object = self.event(resource, name, &repeat, &event, now);
                api.call(Request::create(EVENTS, &event.namespace, &object)).await
            }
            Step::Again { name: event, count } => {
                let patch = json!({"count": count, "lastTimestamp": now.rfc3339()});
                api.call(Request::patch(EVENTS, &event.namespace, &event.name, PatchType::Merge, &patch)).await
            }
        };
        if let Err(Status { message, .. }) = result {
            tracing::debug!(component = self.component, reason, %message, "an event was not recorded");
            self.known.lock().expect("no one panics while recording").seen.remove(&repeat);
        }
    }

    fn step(&self, repeat: &Repeat, regarding: &ObjectName, now: Timestamp) -> Step {
        let mut known = self.known.lock().expect("no one panics while recording");
        if let Some(seen) = known.seen.get_mut(repeat).filter(|s| now.since(s.last) < WINDOW) {
            seen.count += 1;
            seen.last = now;
            return Step::Again { name: seen.name.clone(), count: seen.count };
        }
        if known.seen.len() >= REMEMBERED {
            known.seen.retain(|_, s| now.since(s.last) < WINDOW);
            if known.seen.len() >= REMEMBERED {
                known.seen.clear();
            }
        }
        known.made = known.made.wrapping_add(1);
        let namespace = if regarding.namespace.is_empty() { "default" } else { &regarding.namespace };
        let name = ObjectName::new(namespace, &format!("{}.{:x}{:04x}", regarding.name, now.0, known.made & 0xffff));
        known.seen.insert(repeat.clone(), Seen { name: name.clone(), count: 1, last: now });
        Step::First { name }
    }

    fn event(&self, resource: &Resource, name: &ObjectName, repeat: &Repeat, event: &ObjectName, now: Timestamp) -> Value {
        let (uid, kind, reason, message) = repeat;
        let mut regarding = json!({"apiVersion": resource.api_version(), "kind": resource.kind, "name": name.name, "uid": uid});
        if !name.namespace.is_empty() {
            regarding["namespace"] = json!(name.namespace);
        }
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": event.name, "namespace": event.namespace},
            "involvedObject": regarding,
            "type": kind.as_str(), "reason": reason, "message": message, "count": 1,
            "firstTimestamp": now.rfc3339(), "lastTimestamp": now.rfc3339(),
            "source": {"component": self.component}, "reportingComponent": self.component,
        })
    }
}
