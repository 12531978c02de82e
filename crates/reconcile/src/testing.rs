//! A small API server in memory with controllers at work on it, for scenarios in tests.
//!
//! It keeps to the API's rules as far as controllers can tell: uids, generations, status apart from the rest, preconditions, finalizers,
//! graceful deletion of pods that have a node. It knows nothing else of kinds and validates nothing.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use gantry_client::informer::Start;
use gantry_client::{Api, DeleteOptions, PatchType, Propagation, Request, Response, Verb, Watch, WatchEvent, WatchStream};
use gantry_object::{Encoded, ObjectName, Resource, Revision, Status, Timestamp, Value, meta};
use gantry_ports::{BoxFuture, Clock, SimulatedClock};
use serde_json::json;

use crate::action::merge;
use crate::{Controller, Following, Key, Machine, Recorder, Work, merge_diff, perform};

/// Controllers, their machine, and the objects they work on.
pub struct World {
    server: Arc<Server>,
    /// The machine, for looking at its view.
    pub machine: Machine,
    clock: SimulatedClock,
    recorder: Recorder,
}

struct Server {
    clock: SimulatedClock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<(Resource, ObjectName), (Value, Revision)>,
    revision: u64,
    uids: u64,
    events: Vec<(Resource, WatchEvent)>,
    log: String,
    refuse: Vec<(Verb, &'static str)>,
}

impl World {
    /// A world with nothing in it, at noon.
    pub fn new(controllers: Vec<Arc<dyn Controller>>) -> Self {
        let clock = SimulatedClock::at(Timestamp::parse("2026-01-01T12:00:00Z").expect("a time"));
        let server = Arc::new(Server { clock: clock.clone(), state: Mutex::default() });
        let recorder = Recorder::new("test", Arc::new(clock.clone()));
        let mut world = Self { server, machine: Machine::new(controllers), clock, recorder };
        for resource in world.machine.resources() {
            assert_eq!(world.machine.start(&resource), Start::Initial);
            world.machine.take(&resource, WatchEvent::Bookmark { revision: Revision(0), initial_events_end: true });
        }
        world
    }

    /// The time in the world.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Writes an object as it stands, made or replaced, as a user or a node would. Not logged.
    ///
    /// # Panics
    /// When the object has no name.
    pub fn put(&mut self, resource: Resource, mut object: Value) {
        let name = meta::object_name(&object);
        assert!(!name.name.is_empty());
        let mut state = self.server.lock();
        let key = (resource, name);
        match state.objects.get(&key).cloned() {
            Some((old, _)) => {
                keep_meta(&old, &mut object);
                if old.get("spec") != object.get("spec") {
                    object["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap_or(1) + 1);
                }
            }
            None => state.stamp(&mut object, self.clock.now()),
        }
        state.write(key, object);
    }

    /// Changes members of an object by a merge patch, status and all.
    ///
    /// # Panics
    /// When there is no such object.
    pub fn patch(&mut self, resource: Resource, name: &ObjectName, patch: &Value) {
        let mut object = self.get(resource, name).expect("patched objects exist");
        merge(&mut object, patch);
        self.put(resource, object);
    }

    /// Removes an object whatever it has.
    pub fn remove(&mut self, resource: Resource, name: &ObjectName) {
        self.server.lock().erase(&(resource, name.clone()));
    }

    /// Deletes an object through the API, as a user would.
    ///
    /// # Panics
    /// When the API refuses.
    pub fn delete(&mut self, resource: Resource, name: &ObjectName, propagation: Option<Propagation>) {
        let options = DeleteOptions { propagation_policy: propagation, ..DeleteOptions::default() };
        self.server.delete(resource, name, &options).expect("deleted");
    }

    /// One object.
    pub fn get(&self, resource: Resource, name: &ObjectName) -> Option<Value> {
        self.server.lock().objects.get(&(resource, name.clone())).map(|(object, _)| object.clone())
    }

    /// All objects of a resource.
    pub fn list(&self, resource: Resource) -> Vec<Value> {
        let state = self.server.lock();
        state.objects.iter().filter(|((r, _), _)| *r == resource).map(|(_, (object, _))| object.clone()).collect()
    }

    /// Makes the server refuse a verb on a resource from now on.
    pub fn refuse(&mut self, verb: Verb, plural: &'static str) {
        self.server.lock().refuse.push((verb, plural));
    }

    /// Takes back every refusal.
    pub fn allow_all(&mut self) {
        self.server.lock().refuse.clear();
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
    }

    /// Does one decision's actions; `false` when nothing was to be decided now.
    ///
    /// # Panics
    /// Never: the server answers at once.
    pub fn step(&mut self) -> bool {
        self.feed();
        let Some(job) = self.machine.next(self.clock.monotonic(), self.clock.now()) else { return false };
        let api: Arc<dyn Api> = self.server.clone();
        let mut work = Box::pin(perform(&api, &self.recorder, &job.decision.actions));
        let Poll::Ready(outcome) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("a server in memory answers at once");
        };
        drop(work);
        self.machine.finish(&job, outcome, self.clock.monotonic());
        self.feed();
        true
    }

    /// Decides until nothing is left to do now; gives back what was written.
    ///
    /// # Panics
    /// When it doesn't come to an end.
    pub fn settle(&mut self) -> String {
        for _ in 0..10_000 {
            if !self.step() {
                return std::mem::take(&mut self.server.lock().log);
            }
        }
        panic!("controllers never came to rest:\n{}", self.server.lock().log);
    }

    /// Has a controller look at a key.
    pub fn nudge(&mut self, controller: &str, key: Key) {
        self.machine.nudge(controller, key);
    }

    fn feed(&mut self) {
        let events = std::mem::take(&mut self.server.lock().events);
        for (resource, event) in events {
            self.machine.take(&resource, event);
            for change in self.machine.following() {
                let Following::Begins(resource) = change else { continue };
                self.machine.start(&resource);
                for name in self.server.names_of(resource) {
                    let object = self.server.encoded(resource, name).expect("it was just found");
                    self.machine.take(&resource, WatchEvent::Added(object));
                }
                self.machine.take(&resource, WatchEvent::Bookmark { revision: Revision(0), initial_events_end: true });
            }
        }
    }
}

/// Members that only the server writes.
fn keep_meta(old: &Value, new: &mut Value) {
    for member in ["uid", "creationTimestamp", "generation", "deletionTimestamp"] {
        if let Some(value) = old["metadata"].get(member)
            && new["metadata"].get(member).is_none()
        {
            new["metadata"][member] = value.clone();
        }
    }
}

impl State {
    fn stamp(&mut self, object: &mut Value, now: Timestamp) {
        self.uids += 1;
        let meta = &mut object["metadata"];
        for (member, value) in
            [("uid", json!(format!("uid-{}", self.uids))), ("creationTimestamp", json!(now.rfc3339())), ("generation", json!(1))]
        {
            if meta.get(member).is_none() {
                meta[member] = value;
            }
        }
    }

    fn write(&mut self, key: (Resource, ObjectName), object: Value) -> Encoded {
        self.revision += 1;
        let revision = Revision(self.revision);
        let encoded = Encoded::from_value(object.clone(), revision);
        let event =
            if self.objects.contains_key(&key) { WatchEvent::Modified(encoded.clone()) } else { WatchEvent::Added(encoded.clone()) };
        self.events.push((key.0, event));
        self.objects.insert(key, (object, revision));
        encoded
    }

    fn erase(&mut self, key: &(Resource, ObjectName)) {
        let Some((object, _)) = self.objects.remove(key) else { return };
        self.revision += 1;
        self.events.push((key.0, WatchEvent::Deleted(Encoded::from_value(object, Revision(self.revision)))));
    }

    /// Writes, or erases what is being deleted and nothing holds any more.
    fn write_or_finish(&mut self, key: (Resource, ObjectName), object: Value) -> Encoded {
        let done = meta::is_deleting(&object) && meta::finalizers(&object).is_empty() && !is_held(&object);
        let encoded = self.write(key.clone(), object);
        if done {
            self.erase(&key);
        }
        encoded
    }
}

/// Whether it is a pod that a node has to stop before it can go, or a namespace that has not been emptied.
fn is_held(object: &Value) -> bool {
    let spec = &object["spec"];
    match object["kind"].as_str() {
        Some("Pod") => spec["nodeName"].as_str().is_some_and(|n| !n.is_empty()),
        Some("Namespace") => spec["finalizers"].as_array().is_some_and(|f| !f.is_empty()),
        _ => false,
    }
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no one panics while holding the world")
    }

    fn answer(&self, request: &Request) -> Result<Response, Status> {
        let name = ObjectName::new(&request.namespace, &request.name);
        if self.lock().refuse.contains(&(request.verb, request.resource.plural)) {
            return Err(Status::internal("refused"));
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        match request.verb {
            Verb::Create => self.create(request, name, body),
            Verb::Update => self.update(request, name, body),
            Verb::Patch(kind) => self.patched(request, name, kind, &body),
            Verb::Delete => {
                let options: DeleteOptions = serde_json::from_slice(&request.body).map_err(Status::internal)?;
                let _ = writeln!(self.lock().log, "delete {} {name}{}", request.resource.plural, describe(&options));
                self.delete(request.resource, &name, &options)
            }
            Verb::DeleteCollection => {
                let _ = writeln!(self.lock().log, "delete all {} in {}", request.resource.plural, request.namespace);
                for name in self.names_in(request) {
                    self.delete(request.resource, &name, &DeleteOptions::default())?;
                }
                Ok(Response::Status(Box::new(Status::success(Default::default()))))
            }
            Verb::List => {
                let items = self.names_in(request).into_iter().filter_map(|n| self.encoded(request.resource, n)).collect();
                Ok(Response::List { items, revision: Revision(self.lock().revision), continue_token: None })
            }
            Verb::Get => self.encoded(request.resource, name).map(Response::Object).ok_or_else(|| missing(request)),
        }
    }

    fn names_in(&self, request: &Request) -> Vec<ObjectName> {
        let state = self.lock();
        let inside = |name: &ObjectName| request.namespace.is_empty() || name.namespace == request.namespace;
        state.objects.keys().filter(|(r, n)| *r == request.resource && inside(n)).map(|(_, n)| n.clone()).collect()
    }

    fn names_of(&self, resource: Resource) -> Vec<ObjectName> {
        self.lock().objects.keys().filter(|(r, _)| *r == resource).map(|(_, n)| n.clone()).collect()
    }

    fn encoded(&self, resource: Resource, name: ObjectName) -> Option<Encoded> {
        let state = self.lock();
        state.objects.get(&(resource, name)).map(|(object, revision)| Encoded::from_value(object.clone(), *revision))
    }

    fn create(&self, request: &Request, mut name: ObjectName, mut object: Value) -> Result<Response, Status> {
        let mut state = self.lock();
        if let Some(subresource) = request.subresource {
            let key = (request.resource, name.clone());
            let (mut target, _) = state.objects.get(&key).cloned().ok_or_else(|| missing(request))?;
            let _ = writeln!(
                state.log,
                "create {}/{subresource} {name} {}",
                request.resource.plural,
                object["target"]["name"].as_str().unwrap_or("")
            );
            if subresource == "binding" {
                target["spec"]["nodeName"] = object["target"]["name"].clone();
                state.write(key, target);
            }
            return Ok(Response::Status(Box::new(Status::success(Default::default()))));
        }
        if request.resource.plural == "subjectaccessreviews" {
            let _ = writeln!(state.log, "review {}", object["spec"]);
            object["status"] = json!({"allowed": object["spec"]["user"] != "nobody"});
            return Ok(Response::Transient(object.to_string().into()));
        }
        if meta::name(&object).is_empty() {
            let generated = format!("{}{}", meta::text(&object, "generateName"), state.uids + 1);
            object["metadata"]["name"] = json!(generated);
        }
        name.name = meta::name(&object).into();
        if request.resource.plural == "events" {
            let _ = writeln!(state.log, "event {}: {}", object["reason"].as_str().unwrap_or(""), object["message"].as_str().unwrap_or(""));
        } else {
            let _ = writeln!(state.log, "create {} {name}", request.resource.plural);
        }
        let key = (request.resource, name);
        if state.objects.contains_key(&key) {
            return Err(Status::already_exists(&request.resource.group_resource(), &key.1.name));
        }
        let now = self.clock.now();
        state.stamp(&mut object, now);
        Ok(Response::Object(state.write(key, object)))
    }

    fn update(&self, request: &Request, name: ObjectName, mut object: Value) -> Result<Response, Status> {
        let mut state = self.lock();
        let key = (request.resource, name);
        let (old, revision) = state.objects.get(&key).cloned().ok_or_else(|| missing(request))?;
        if object["metadata"]["resourceVersion"].as_str().is_some_and(|v| v != revision.to_string()) {
            return Err(Status::stale(&request.resource.group_resource(), &key.1.name));
        }
        object["metadata"].as_object_mut().map(|m| m.remove("resourceVersion"));
        let object = divide(&old, object, request.subresource);
        let diff = merge_diff(&old, &object).unwrap_or_default();
        let _ = writeln!(state.log, "update {}{} {} {diff}", request.resource.plural, sub(request), key.1);
        Ok(Response::Object(state.write_or_finish(key, object)))
    }

    fn patched(&self, request: &Request, name: ObjectName, kind: PatchType, patch: &Value) -> Result<Response, Status> {
        let mut state = self.lock();
        let key = (request.resource, name);
        let (old, revision) = state.objects.get(&key).cloned().ok_or_else(|| missing(request))?;
        let required = |member: &str| patch["metadata"].get(member).and_then(Value::as_str);
        let stale = required("resourceVersion").is_some_and(|v| v != revision.to_string());
        if stale || required("uid").is_some_and(|uid| uid != meta::uid(&old)) {
            return Err(Status::stale(&request.resource.group_resource(), &key.1.name));
        }
        let mut object = old.clone();
        let mut patch = patch.clone();
        if kind == PatchType::Strategic {
            merge_owners(&old, &mut patch);
        }
        merge(&mut object, &patch);
        object["metadata"].as_object_mut().map(|m| m.remove("resourceVersion"));
        let object = divide(&old, object, request.subresource);
        if request.resource.plural != "events" {
            let diff = merge_diff(&old, &object).unwrap_or_default();
            let _ = writeln!(state.log, "patch {}{} {} {diff}", request.resource.plural, sub(request), key.1);
        }
        Ok(Response::Object(state.write_or_finish(key, object)))
    }

    fn delete(&self, resource: Resource, name: &ObjectName, options: &DeleteOptions) -> Result<Response, Status> {
        let mut state = self.lock();
        let key = (resource, name.clone());
        let group = resource.group_resource();
        let (mut object, revision) = state.objects.get(&key).cloned().ok_or_else(|| Status::not_found(&group, &name.name))?;
        if let Some(required) = &options.preconditions {
            let other = required.uid.as_ref().is_some_and(|uid| uid != meta::uid(&object));
            if other || required.resource_version.as_ref().is_some_and(|v| *v != revision.to_string()) {
                return Err(Status::conflict(&group, &name.name, "precondition failed"));
            }
        }
        let finalizer = match options.propagation_policy {
            Some(Propagation::Foreground) => Some("foregroundDeletion"),
            Some(Propagation::Orphan) => Some("orphan"),
            _ => None,
        };
        if let Some(finalizer) = finalizer.filter(|f| !meta::finalizers(&object).contains(f)) {
            let mut all: Vec<Value> = meta::finalizers(&object).into_iter().map(Value::from).collect();
            all.push(finalizer.into());
            object["metadata"]["finalizers"] = Value::Array(all);
        }
        if !meta::is_deleting(&object) {
            object["metadata"]["deletionTimestamp"] = json!(self.clock.now().rfc3339());
        }
        if options.grace_period_seconds == Some(0) {
            object["spec"].as_object_mut().map(|s| s.remove("nodeName"));
        }
        Ok(Response::Object(state.write_or_finish(key, object)))
    }
}

fn missing(request: &Request) -> Status {
    Status::not_found(&request.resource.group_resource(), &request.name)
}

fn sub(request: &Request) -> String {
    request.subresource.map(|s| format!("/{s}")).unwrap_or_default()
}

fn describe(options: &DeleteOptions) -> String {
    let propagation = options.propagation_policy.map(|p| format!(" {p:?}")).unwrap_or_default();
    let grace = options.grace_period_seconds.map(|g| format!(" grace {g}")).unwrap_or_default();
    propagation + &grace
}

/// A status write changes nothing but the status, any other write everything else.
fn divide(old: &Value, mut new: Value, subresource: Option<&str>) -> Value {
    if matches!(subresource, Some("status" | "approval")) {
        let mut object = old.clone();
        object["status"] = new["status"].take();
        return object;
    }
    match old.get("status") {
        Some(status) => new["status"] = status.clone(),
        None => {
            new.as_object_mut().map(|m| m.remove("status"));
        }
    }
    if subresource.is_none() && old.get("spec") != new.get("spec") {
        new["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap_or(1) + 1);
    }
    new
}

/// Owner references merge by uid.
fn merge_owners(old: &Value, patch: &mut Value) {
    let Some(changes) = patch.pointer("/metadata/ownerReferences").and_then(Value::as_array).cloned() else { return };
    let mut owners = meta::owner_references(old).to_vec();
    for change in changes {
        owners.retain(|o| o["uid"] != change["uid"]);
        if change["$patch"] != "delete" {
            owners.push(change);
        }
    }
    patch["metadata"]["ownerReferences"] = Value::Array(owners);
}

impl Api for Server {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Status>> {
        Box::pin(std::future::ready(self.answer(&request)))
    }

    fn watch(&self, _: Watch) -> BoxFuture<'_, Result<WatchStream, Status>> {
        Box::pin(std::future::ready(Err(Status::internal("the world feeds the machine itself"))))
    }
}
