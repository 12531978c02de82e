//! The task that looks after what every cluster has: what is deleted of it comes back, flow schemas and priority levels stay as they were
//! made unless their annotation says otherwise, and flow schemas say whether their level exists.

use gantry_client::{Api, Request};
use gantry_object::{Resource, Value, meta};
use gantry_ports::join_all;
use serde_json::json;

use crate::bootstrap::ensure;
use crate::server::Server;
use crate::user::{MASTERS, User};
use crate::verbs::tree;

/// How long to wait before trying again what the store refused.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

const PRIORITY_CLASSES: Resource = Resource::cluster("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass");
const LEVELS: Resource =
    Resource::cluster("flowcontrol.apiserver.k8s.io", "v1", "prioritylevelconfigurations", "PriorityLevelConfiguration");
const SCHEMAS: Resource = Resource::cluster("flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "FlowSchema");
const RANGES: Resource = Resource::cluster("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR");

impl Server {
    /// Starts looking after the first objects. Everything is looked at anew, so nothing is lost by a restart.
    pub(crate) fn keep_first_objects(&self) {
        let server = self.clone();
        self.tasks().spawn(async move {
            loop {
                server.follow_first_objects().await;
            }
        });
    }

    /// Looks at the first objects, and again whenever one of their kinds changes; ends when events were missed.
    async fn follow_first_objects(&self) {
        let from = self.store().snapshot().revision();
        let watch = |resource: Resource| self.store().watch(&resource.group_resource().to_string(), None, from);
        let watchers = (watch(PRIORITY_CLASSES), watch(LEVELS), watch(SCHEMAS), watch(RANGES));
        let (Ok(mut classes), Ok(mut levels), Ok(mut schemas), Ok(mut ranges)) = watchers else {
            return self.clock().sleep(PAUSE).await;
        };
        loop {
            self.restore_first_objects().await;
            self.look_at_schemas().await;
            let event = gantry_ports::select! {
                event = classes.next() => event,
                event = levels.next() => event,
                event = schemas.next() => event,
                event = ranges.next() => event,
            };
            if event.is_err() {
                return;
            }
            // What came together is looked at once.
            for watcher in [&mut classes, &mut levels, &mut schemas, &mut ranges] {
                while let Ok(Some(_)) = watcher.try_next() {}
            }
        }
    }

    fn exists(&self, resource: Resource, name: &str) -> bool {
        self.store().get(&gantry_store::Key::new(resource.group_resource().to_string(), "", name)).is_some()
    }

    async fn restore_first_objects(&self) {
        let client = self.client(User::authenticated("system:apiserver", &[MASTERS]));
        for object in gantry_kinds::bootstrap_objects().into_iter().chain([self.service_range()]) {
            let kinds = [PRIORITY_CLASSES, LEVELS, SCHEMAS, RANGES];
            let Some(resource) = kinds.into_iter().find(|r| object["kind"] == r.kind) else { continue };
            let name = meta::name(&object).to_owned();
            if let Some(stored) = self.store().get(&gantry_store::Key::new(resource.group_resource().to_string(), "", &name)) {
                if let Some(mended) = self.mended(resource, &object, tree(&stored)) {
                    // Another writer's change is an event, after which this is looked at again.
                    let _ = client.call(Request::update(resource, "", &name, &mended)).await;
                }
                continue;
            }
            if let Err(status) = ensure(&client, resource, String::new(), object).await {
                tracing::warn!("{} {name} could not be restored: {}", resource.plural, status.message);
            }
        }
    }

    /// A flow schema or priority level whose spec is kept as it was made, when somebody has changed it.
    fn mended(&self, resource: Resource, made: &Value, mut stored: Value) -> Option<Value> {
        if !matches!(resource, LEVELS | SCHEMAS) || !is_kept(&stored) {
            return None;
        }
        let kind = self.kind(resource.group, resource.version, resource.plural)?;
        let mut whole = self.registry().schema().conform(kind.ty, made.clone()).ok()?;
        kind.apply_defaults(&mut whole.value);
        let differs = stored["spec"] != whole.value["spec"];
        differs.then(|| {
            stored["spec"] = whole.value["spec"].take();
            stored
        })
    }

    /// Has every schema say whether the level it names exists.
    async fn look_at_schemas(&self) {
        let client = self.client(User::authenticated("system:apiserver", &[MASTERS]));
        let snapshot = self.store().snapshot();
        let all: Vec<Value> = snapshot.list(&SCHEMAS.group_resource().to_string(), None, None).map(|item| tree(item.object)).collect();
        drop(snapshot);
        let now = self.clock().now().rfc3339();
        let changed = all.into_iter().filter_map(|mut schema| {
            let level = schema.pointer("/spec/priorityLevelConfiguration/name")?.as_str()?.to_owned();
            say_dangling(&mut schema, &level, !self.exists(LEVELS, &level), &now).then_some(schema)
        });
        let writes = changed.map(|schema| {
            let client = &client;
            let write: gantry_ports::BoxFuture<'_, ()> = Box::pin(async move {
                let name = meta::name(&schema);
                // Another writer's change is an event, after which this is looked at again.
                if let Err(status) = client.call(Request::update(SCHEMAS, "", name, &schema).on("status")).await {
                    tracing::debug!("the flow schema {name} could not be told of its level: {}", status.message);
                }
            });
            write
        });
        join_all(writes.collect()).await;
    }
}

/// Whether the spec of a first object is kept as it was made: always of those that nothing works without, of the others unless their
/// annotation says otherwise. Without it, as long as nobody has changed anything.
fn is_kept(stored: &Value) -> bool {
    let kept = meta::annotation(stored, "apf.kubernetes.io/autoupdate-spec");
    matches!(meta::name(stored), "exempt" | "catch-all")
        || kept.map_or_else(|| stored["metadata"]["generation"] == 1, |text| text.eq_ignore_ascii_case("true"))
}

/// Sets the condition `Dangling`; says whether that changed anything.
fn say_dangling(schema: &mut Value, level: &str, dangling: bool, now: &str) -> bool {
    let (status, reason, how) = match dangling {
        true => ("True", "NotFound", "but there is no such object"),
        false => ("False", "Found", "and it exists"),
    };
    let message = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {how}");
    let mut conditions = schema.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let before = conditions.iter().position(|c| c["type"] == "Dangling").map(|i| conditions.remove(i)).unwrap_or_default();
    if before["status"] == status && before["message"] == message.as_str() && before["reason"] == reason {
        return false;
    }
    let since = before["lastTransitionTime"].as_str().filter(|_| before["status"] == status).unwrap_or(now);
    conditions.push(json!({"type": "Dangling", "status": status, "reason": reason, "message": message, "lastTransitionTime": since}));
    schema["status"]["conditions"] = conditions.into();
    true
}
