//! The machine and the performer, against a server made of a closure.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry_client::{Api, Request, Response, Verb, Watch, WatchEvent, WatchStream};
use gantry_object::{Encoded, ObjectName, Resource, Revision, Status, Timestamp};
use gantry_ports::{BoxFuture, Clock, SimulatedClock};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::action::merge;
use crate::{
    Action, Controller, Decision, EventKind, Expect, Job, Key, Kind, Machine, Outcome, Read, Recorder, View, Work, controller_of, itself,
    merge_diff, perform,
};

const PARENTS: Resource = Resource::namespaced("test", "v1", "parents", "Parent");
const CHILDREN: Resource = Resource::namespaced("test", "v1", "children", "Child");

#[derive(Deserialize)]
struct Parent {
    children: usize,
}

impl Kind for Parent {
    const RESOURCE: Resource = PARENTS;
}

#[derive(Deserialize)]
struct Child {}

impl Kind for Child {
    const RESOURCE: Resource = CHILDREN;
}

/// Makes as many children as a parent asks for.
struct Parenting;

impl Controller for Parenting {
    fn name(&self) -> &'static str {
        "parenting"
    }

    fn reads(&self) -> Vec<Read> {
        vec![Read::of::<Parent>(itself), Read::of::<Child>(controller_of::<Parent>)]
    }

    fn owns(&self) -> &'static [&'static str] {
        &["children"]
    }

    fn decide(&self, key: &Key, view: &View, _now: Timestamp) -> Decision {
        let Some(parent) = view.get::<Parent>(&key.name.namespace, &key.name.name) else { return Decision::none() };
        let have = view.owned_by::<Child>(&parent.meta().uid).count();
        let owner = parent.meta().as_controller("test/v1", "Parent");
        let make = |_| Action::Create {
            resource: CHILDREN,
            name: ObjectName::new("a", ""),
            subresource: None,
            object: json!({"metadata": {"generateName": "c-", "namespace": "a", "ownerReferences": [owner]}}),
        };
        Decision { actions: (have..parent.children).map(make).collect(), ..Decision::default() }
    }
}

fn parent(revision: u64, children: usize) -> WatchEvent {
    let object = json!({"metadata": {"namespace": "a", "name": "p", "uid": "u"}, "children": children});
    WatchEvent::Added(Encoded::from_value(object, Revision(revision)))
}

fn child(name: &str, revision: u64) -> Encoded {
    let owner = json!({"apiVersion": "test/v1", "kind": "Parent", "name": "p", "uid": "u", "controller": true});
    Encoded::from_value(json!({"metadata": {"namespace": "a", "name": name, "ownerReferences": [owner]}}), Revision(revision))
}

fn synced(children: usize) -> Machine {
    let mut machine = Machine::new(vec![Arc::new(Parenting)]);
    for resource in [PARENTS, CHILDREN] {
        machine.start(&resource);
    }
    machine.take(&PARENTS, parent(1, children));
    for resource in [PARENTS, CHILDREN] {
        assert!(machine.next(Duration::ZERO, Timestamp(0)).is_none(), "nothing is decided before all caches are in step");
        machine.take(&resource, WatchEvent::Bookmark { revision: Revision(1), initial_events_end: true });
    }
    machine
}

fn next(machine: &mut Machine, seconds: u64) -> Option<Job> {
    machine.next(Duration::from_secs(seconds), Timestamp::from_seconds(seconds as i64))
}

fn wrote(name: &str, revision: u64) -> Expect {
    Expect::Revision { resource: CHILDREN, name: ObjectName::new("a", name), revision: Revision(revision) }
}

#[test]
fn a_key_waits_until_its_own_writes_are_seen() {
    let mut machine = synced(2);
    let job = next(&mut machine, 0).unwrap();
    assert_eq!(job.decision.actions.len(), 2);
    assert!(next(&mut machine, 0).is_none(), "a key is worked on once at a time");
    machine.finish(&job, Outcome { wrote: vec![wrote("c-1", 2), wrote("c-2", 3)], failed: None }, Duration::ZERO);
    machine.take(&CHILDREN, WatchEvent::Added(child("c-1", 2)));
    machine.take(&PARENTS, parent(4, 3));
    assert!(next(&mut machine, 1).is_none(), "one of two writes has been seen: deciding now would make a child too many");
    machine.take(&CHILDREN, WatchEvent::Added(child("c-2", 3)));
    assert_eq!(next(&mut machine, 1).unwrap().decision.actions.len(), 1);
}

#[test]
fn a_write_that_never_shows_is_given_up_after_a_while() {
    let mut machine = synced(1);
    let job = next(&mut machine, 0).unwrap();
    machine.finish(&job, Outcome { wrote: vec![wrote("c-1", 2)], failed: None }, Duration::ZERO);
    machine.take(&PARENTS, parent(3, 1));
    assert!(next(&mut machine, 29).is_none());
    assert_eq!(machine.next_due(), Some(Duration::from_secs(30)));
    assert!(next(&mut machine, 30).is_some());
}

#[test]
fn a_failure_comes_back_later_and_a_restart_of_the_watch_is_survived() {
    let mut machine = synced(1);
    let job = next(&mut machine, 0).unwrap();
    machine.finish(&job, Outcome { wrote: vec![], failed: Some(Status::internal("x")) }, Duration::ZERO);
    assert!(next(&mut machine, 0).is_none());
    let job = next(&mut machine, 1).unwrap();
    machine.finish(&job, Outcome::default(), Duration::from_secs(1));
    machine.expire(&CHILDREN);
    machine.start(&CHILDREN);
    machine.take(&CHILDREN, WatchEvent::Added(child("c-9", 9)));
    machine.take(&CHILDREN, WatchEvent::Bookmark { revision: Revision(9), initial_events_end: true });
    assert!(next(&mut machine, 2).is_none(), "the child is there now");
    machine.take(&CHILDREN, WatchEvent::Deleted(child("c-9", 10)));
    assert!(next(&mut machine, 2).is_some(), "its deletion wakes the parent");
}

type Answer = Box<dyn Fn(&Request) -> Result<Response, Status> + Send + Sync>;

struct FakeApi {
    calls: Mutex<Vec<Request>>,
    answer: Answer,
}

impl FakeApi {
    fn new(answer: impl Fn(&Request) -> Result<Response, Status> + Send + Sync + 'static) -> (Arc<Self>, Arc<dyn Api>) {
        let api = Arc::new(Self { calls: Mutex::default(), answer: Box::new(answer) });
        (api.clone(), api)
    }

    fn calls(&self) -> Vec<Request> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

impl Api for FakeApi {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Status>> {
        let answer = (self.answer)(&request);
        self.calls.lock().unwrap().push(request);
        Box::pin(std::future::ready(answer))
    }

    fn watch(&self, _watch: Watch) -> BoxFuture<'_, Result<WatchStream, Status>> {
        Box::pin(std::future::ready(Err(Status::internal("not watched here"))))
    }
}

fn recorder() -> (Recorder, SimulatedClock) {
    let clock = SimulatedClock::at(Timestamp::from_seconds(1000));
    let held: Arc<dyn Clock> = Arc::new(clock.clone());
    (Recorder::new("tester", held), clock)
}

fn make() -> Action {
    Action::Create { resource: CHILDREN, name: ObjectName::new("a", ""), subresource: None, object: json!({"metadata": {"name": "c"}}) }
}

#[tokio::test]
async fn creations_that_fail_are_not_all_tried() {
    let (fake, api) = FakeApi::new(|_| Err(Status::internal("quota")));
    let outcome = perform(&api, &recorder().0, &vec![make(); 100]).await;
    assert!(outcome.failed.is_some());
    assert_eq!(fake.calls().len(), 1);
    let (fake, api) = FakeApi::new(|_| Ok(Response::Object(child("c", 5))));
    let outcome = perform(&api, &recorder().0, &vec![make(); 100]).await;
    assert_eq!((fake.calls().len(), outcome.wrote.len()), (100, 100));
    assert_eq!(outcome.wrote[0], wrote("c", 5));
}

#[tokio::test]
async fn an_update_keeps_what_the_controller_does_not_know() {
    let (fake, api) = FakeApi::new(|_| Ok(Response::Object(child("c", 6))));
    let base = json!({"metadata": {"name": "c", "namespace": "a"}, "spec": {"new": 1, "replicas": 1}, "status": {"old": 1}});
    let change = json!({"spec": {"replicas": 2}, "status": {"old": null}});
    let base = Encoded::from_value(base, Revision(5));
    let update = Action::Update { resource: CHILDREN, subresource: Some("status"), base, change };
    assert!(perform(&api, &recorder().0, &[update]).await.failed.is_none());
    let call = &fake.calls()[0];
    assert_eq!((call.verb, call.subresource, call.name.as_str()), (Verb::Update, Some("status"), "c"));
    let body: Value = serde_json::from_slice(&call.body).unwrap();
    let expected =
        json!({"metadata": {"name": "c", "namespace": "a", "resourceVersion": "5"}, "spec": {"new": 1, "replicas": 2}, "status": {}});
    assert_eq!(body, expected);
}

#[tokio::test]
async fn what_is_gone_counts_as_deleted_and_what_remains_fails_a_requirement() {
    let (_, api) = FakeApi::new(|r| match r.verb {
        Verb::List => Ok(Response::List { items: vec![child("c", 1)], revision: Revision(1), continue_token: None }),
        _ => Err(Status::not_found(&CHILDREN.group_resource(), "c")),
    });
    let delete = Action::Delete { resource: CHILDREN, name: ObjectName::new("a", "c"), options: Default::default() };
    let require = Action::RequireNone { resource: CHILDREN, namespace: "a".into() };
    assert!(perform(&api, &recorder().0, std::slice::from_ref(&delete)).await.failed.is_none());
    assert!(perform(&api, &recorder().0, &[delete, require]).await.failed.is_some());
}

#[tokio::test]
async fn repeated_events_are_counted() {
    let (fake, api) = FakeApi::new(|_| Ok(Response::Object(child("e", 1))));
    let (recorder, clock) = recorder();
    let event = |message: &str| Action::Event {
        resource: PARENTS,
        name: ObjectName::new("a", "p"),
        uid: "u".into(),
        kind: EventKind::Warning,
        reason: "Because",
        message: message.into(),
    };
    for message in ["x", "x", "y"] {
        perform(&api, &recorder, &[event(message)]).await;
    }
    clock.advance(Duration::from_secs(601));
    perform(&api, &recorder, &[event("x")]).await;
    let calls = fake.calls();
    let verbs: Vec<bool> = calls.iter().map(|c| c.verb == Verb::Create).collect();
    assert_eq!(verbs, [true, false, true, true]);
    let patch: Value = serde_json::from_slice(&calls[1].body).unwrap();
    assert_eq!(patch["count"], 2);
    let first: Value = serde_json::from_slice(&calls[0].body).unwrap();
    assert_eq!(first["metadata"]["name"], calls[1].name);
    assert_eq!(first["involvedObject"]["namespace"], "a");
}

#[test]
fn a_diff_applied_gives_the_target() {
    let from = json!({"a": 1, "b": {"c": [1], "d": 2}, "e": "x"});
    let to = json!({"a": 1, "b": {"c": [1, 2]}, "f": {"g": 1}});
    let diff = merge_diff(&from, &to).unwrap();
    assert_eq!(diff, json!({"b": {"c": [1, 2], "d": null}, "e": null, "f": {"g": 1}}));
    let mut target = from;
    merge(&mut target, &diff);
    assert_eq!(target, to);
    assert_eq!(merge_diff(&to, &to), None);
}
