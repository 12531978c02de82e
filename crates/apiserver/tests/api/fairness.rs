//! Priority and fairness: who is sorted where, who waits, and who is sent away.

use std::time::Duration;

use tokio::io::{AsyncWriteExt, DuplexStream};

use crate::world::{Http, MAPS, Value, Who, World, config_map, json};

const SCHEMAS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
const LEVELS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";

fn schema(name: &str, level: &str, user: &str) -> Value {
    let all = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}]);
    json!({"metadata": {"name": name}, "spec": {"matchingPrecedence": 1000, "priorityLevelConfiguration": {"name": level},
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": user}}], "resourceRules": all}]}})
}

fn level(name: &str, response: &Value) -> Value {
    let limited = json!({"nominalConcurrencyShares": 1, "borrowingLimitPercent": 0, "limitResponse": response});
    json!({"metadata": {"name": name}, "spec": {"type": "Limited", "limited": limited}})
}

/// A world where `noxu` has a level with three seats.
async fn world(response: Value) -> (World, Http) {
    let world = World::new().await;
    let mut admin = world.admin().await;
    admin.post(LEVELS, &level("narrow", &response)).await.expect(201);
    admin.post(SCHEMAS, &schema("noxus", "narrow", "noxu")).await.expect(201);
    let bound = json!({"metadata": {"name": "noxu"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
        "name": "cluster-admin"}, "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "noxu"}]});
    admin.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &bound).await.expect(201);
    let text = String::from_utf8(admin.get("/metrics").await.body.to_vec()).unwrap();
    assert_eq!(series(&text, "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"narrow\"}"), "3");
    (world, admin)
}

fn series<'a>(text: &'a str, start: &str) -> &'a str {
    text.lines().find_map(|l| l.strip_prefix(start)).unwrap_or_else(|| panic!("no {start} in {text}")).trim()
}

/// A request of `noxu` whose body does not come: it keeps its seat.
async fn hold(world: &World) -> DuplexStream {
    let mut raw = world.raw("noxu", "");
    let head = format!("POST {MAPS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{");
    raw.write_all(head.as_bytes()).await.unwrap();
    world.settle().await;
    raw
}

#[tokio::test]
async fn answers_say_how_their_requests_were_sorted() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let level = admin.post(LEVELS, &level("mine", &json!({"type": "Reject"}))).await.expect(201);
    let schema = admin.post(SCHEMAS, &schema("mine", "mine", "noxu")).await.expect(201);
    let sorted = |reply: &crate::world::Reply| {
        ["x-kubernetes-pf-flowschema-uid", "x-kubernetes-pf-prioritylevel-uid"].map(|h| reply.header(h).to_owned())
    };
    let uids = [&schema, &level].map(|o| o["metadata"]["uid"].as_str().unwrap().to_owned());
    let mut noxu = world.http(Who::Certificate("noxu", "")).await;
    let refused = noxu.get(MAPS).await;
    refused.refused(403, "Forbidden", "");
    assert_eq!(sorted(&refused), uids, "the refused are sorted too");
    assert_ne!(sorted(&noxu.get("/healthz").await), uids);
    let mut foo = world.http(Who::Certificate("foo", "")).await;
    let other = sorted(&foo.get(MAPS).await);
    assert!(other.iter().all(|uid| !uid.is_empty() && !uids.contains(uid)), "{other:?}");
    let mut impersonator = admin;
    let reply = impersonator.send("GET", MAPS, &[("impersonate-user", "noxu")], "").await;
    assert_eq!(sorted(&reply), uids);
    // What lasts is sorted when it begins; what is deleted sorts no more.
    let watched = noxu.get(&format!("{MAPS}?watch=true")).await;
    assert_eq!(sorted(&watched), uids);
    impersonator.delete(&format!("{LEVELS}/mine"), &Value::Null).await.expect(200);
    assert_ne!(sorted(&noxu.get(MAPS).await), uids);
}

#[tokio::test]
async fn who_finds_no_seat_waits_and_who_finds_no_place_to_wait_is_sent_away() {
    let queuing = json!({"queues": 1, "handSize": 1, "queueLengthLimit": 1});
    let (world, mut admin) = world(json!({"type": "Queue", "queuing": queuing})).await;
    let mut holders = vec![hold(&world).await, hold(&world).await, hold(&world).await];
    let mut waiting = hold(&world).await;
    let reply = world.http(Who::Certificate("noxu", "")).await.get(MAPS).await;
    reply.refused(429, "TooManyRequests", "Too many requests, please try again later.");
    assert_eq!(reply.header("retry-after"), "1");
    assert!(!reply.header("x-kubernetes-pf-flowschema-uid").is_empty());
    admin.get(MAPS).await.expect(200);
    let of = "{flow_schema=\"noxus\",priority_level=\"narrow\"}";
    let rejected = "{flow_schema=\"noxus\",priority_level=\"narrow\",reason=";
    let text = String::from_utf8(admin.get("/metrics").await.body.to_vec()).unwrap();
    let count = |what: &str, labels: &str| series(&text, &format!("apiserver_flowcontrol_{what}{labels}")).to_owned();
    assert_eq!(count("current_executing_requests", of), "3");
    assert_eq!(count("current_inqueue_requests", of), "1");
    assert_eq!(count("rejected_requests_total", &format!("{rejected}\"queue-full\"}}")), "1");
    // One that goes away makes room for the one that waits.
    drop(holders.pop());
    world.settle().await;
    let mut body = config_map("waited", &[]).to_string();
    body.push_str(&" ".repeat(99usize.saturating_sub(body.len())));
    waiting.write_all(&body.as_bytes()[1..]).await.unwrap();
    world.settle().await;
    let text = String::from_utf8(admin.get("/metrics").await.body.to_vec()).unwrap();
    assert_eq!(series(&text, &format!("apiserver_flowcontrol_dispatched_requests_total{of}")), "4");
    assert_eq!(series(&text, &format!("apiserver_flowcontrol_current_inqueue_requests{of}")), "0");
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let queuing = json!({"queues": 4, "handSize": 2, "queueLengthLimit": 10});
    let (world, mut admin) = world(json!({"type": "Queue", "queuing": queuing})).await;
    let _holders = [hold(&world).await, hold(&world).await, hold(&world).await];
    let mut late = world.http(Who::Certificate("noxu", "")).await;
    let waiting = late.get(MAPS);
    tokio::pin!(waiting);
    for _ in 0..2 {
        world.settle_beside(waiting.as_mut()).await;
        world.clock.advance(Duration::from_secs(10));
    }
    waiting.await.refused(429, "TooManyRequests", "");
    let text = String::from_utf8(admin.get("/metrics").await.body.to_vec()).unwrap();
    let of = "flow_schema=\"noxus\",priority_level=\"narrow\"";
    assert_eq!(series(&text, &format!("apiserver_flowcontrol_rejected_requests_total{{{of},reason=\"time-out\"}}")), "1");
    assert_eq!(series(&text, &format!("apiserver_flowcontrol_request_wait_duration_seconds_sum{{{of},execute=\"false\"}}")), "20");
    assert_eq!(series(&text, &format!("apiserver_flowcontrol_current_inqueue_requests{{{of}}}")), "0");
}

#[tokio::test]
async fn a_level_that_rejects_has_no_place_to_wait() {
    let (world, _) = world(json!({"type": "Reject"})).await;
    let mut holders = vec![hold(&world).await, hold(&world).await, hold(&world).await];
    let mut noxu = world.http(Who::Certificate("noxu", "")).await;
    noxu.get(MAPS).await.refused(429, "TooManyRequests", "");
    // A watch has its seat only until it has begun.
    drop(holders.pop());
    world.settle().await;
    let _watch = world.http(Who::Certificate("noxu", "")).await.watch(&format!("{MAPS}?watch=true"), "application/json").await;
    noxu.get(MAPS).await.expect(200);
}

#[tokio::test]
async fn what_a_cluster_comes_with_stays_as_it_was_made_unless_its_annotation_says_otherwise() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let changed = json!({"spec": {"matchingPrecedence": 4321}});
    let kept = format!("{SCHEMAS}/service-accounts");
    admin.patch(&kept, "merge", &changed).await.expect(200);
    world.settle().await;
    assert_eq!(admin.get(&kept).await.expect(200)["spec"]["matchingPrecedence"], 9000);
    let free = json!({"metadata": {"annotations": {"apf.kubernetes.io/autoupdate-spec": "false"}}, "spec": {"matchingPrecedence": 4321}});
    admin.patch(&kept, "merge", &free).await.expect(200);
    world.settle().await;
    assert_eq!(admin.get(&kept).await.expect(200)["spec"]["matchingPrecedence"], 4321);
    let narrow = json!({"spec": {"limited": {"nominalConcurrencyShares": 77}}});
    let level = format!("{LEVELS}/workload-low");
    admin.patch(&level, "merge", &narrow).await.expect(200);
    world.settle().await;
    assert_eq!(admin.get(&level).await.expect(200)["spec"]["limited"]["nominalConcurrencyShares"], 100);
}
