//! Lists: pages, revisions, selectors.

use std::time::Duration;

use crate::world::*;

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect()
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

async fn five(world: &World) -> Http {
    let mut admin = world.admin().await;
    for (name, app) in [("a", "x"), ("b", "y"), ("c", "x"), ("d", "y"), ("e", "x")] {
        admin.post(MAPS, &config_map(name, &[("app", app)])).await.expect(201);
    }
    admin
}

#[tokio::test]
async fn pages_show_one_revision_whatever_is_written_meanwhile() {
    let world = World::new().await;
    let mut admin = five(&world).await;
    let first = admin.get(&format!("{MAPS}?limit=2")).await.expect(200);
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["a", "b"], &json!(3)));
    admin.delete(&format!("{MAPS}/c"), &Value::Null).await.expect(200);
    admin.post(MAPS, &config_map("bb", &[])).await.expect(201);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = admin.get(&format!("{MAPS}?limit=2&continue={token}")).await.expect(200);
    assert_eq!((names(&second), version(&second)), (vec!["c", "d"], version(&first)));
    let token = second["metadata"]["continue"].as_str().unwrap();
    let third = admin.get(&format!("{MAPS}?limit=2&continue={token}")).await.expect(200);
    assert_eq!((names(&third), third["metadata"].get("continue")), (vec!["e"], None));
    assert_eq!(names(&admin.get(MAPS).await.expect(200)), ["a", "b", "bb", "d", "e"]);
    // With selectors nobody knows how many are left.
    let some = admin.get(&format!("{MAPS}?limit=1&labelSelector=app%3Dy")).await.expect(200);
    assert_eq!((names(&some), some["metadata"].get("remainingItemCount")), (vec!["b"], None));
}

#[tokio::test]
async fn a_large_list_is_sent_in_pieces_and_whole() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let empty = admin.get(MAPS).await;
    assert_eq!(names(&empty.expect(200)), Vec::<&str>::new());
    for i in 0..50 {
        let mut map = config_map(&format!("m{i:02}"), &[]);
        map["data"] = json!({"value": "v".repeat(4000)});
        admin.post(MAPS, &map).await.expect(201);
    }
    let list = admin.get(MAPS).await;
    let length: usize = list.header("content-length").parse().unwrap();
    assert!(length > 200_000, "{length}");
    assert_eq!(names(&list.expect(200)), (0..50).map(|i| format!("m{i:02}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_expired_token_says_how_to_go_on() {
    let world = World::new().await;
    let mut admin = five(&world).await;
    let first = admin.get(&format!("{MAPS}?limit=2")).await.expect(200);
    let token = first["metadata"]["continue"].as_str().unwrap();
    // History goes by size, and kept pages go with time.
    for i in 0..1000 {
        admin.patch(&format!("{MAPS}/a"), "merge", &json!({"data": {"k": i.to_string()}})).await.expect(200);
    }
    admin.get(&format!("{MAPS}?limit=2&continue={token}")).await.expect(200);
    world.clock.advance(Duration::from_secs(86_400));
    let gone = admin.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    let gone = gone.refused(410, "Expired", "The provided continue parameter is too old");
    let token = gone["metadata"]["continue"].as_str().unwrap();
    admin.post(MAPS, &config_map("dd", &[])).await.expect(201);
    let rest = admin.get(&format!("{MAPS}?continue={token}")).await.expect(200);
    assert_eq!(names(&rest), ["c", "d", "dd", "e"]);
    admin.get(&format!("{MAPS}?continue=bm9uc2Vuc2U")).await.refused(400, "BadRequest", "continue key is not valid");
    admin.get(&format!("{MAPS}?continue=%21")).await.refused(400, "BadRequest", "continue key is not valid");
}

#[tokio::test]
async fn revisions_mean_what_the_match_says() {
    let world = World::new().await;
    let mut admin = five(&world).await;
    let now = version(&admin.get(MAPS).await.expect(200));
    admin.post(MAPS, &config_map("f", &[])).await.expect(201);
    let query = |q: &str| format!("{MAPS}?{q}").replace("NOW", &now);
    for (q, count) in [
        ("resourceVersion=0", 6),
        ("resourceVersion=NOW", 6),
        ("resourceVersion=NOW&resourceVersionMatch=NotOlderThan", 6),
        ("resourceVersion=0&resourceVersionMatch=NotOlderThan", 6),
        ("resourceVersion=NOW&resourceVersionMatch=Exact", 5),
        ("limit=-1", 6),
    ] {
        assert_eq!(names(&admin.get(&query(q)).await.expect(200)).len(), count, "{q}");
    }
    for (q, why) in [
        ("resourceVersionMatch=Exact", "resourceVersionMatch is forbidden unless resourceVersion is provided"),
        ("resourceVersion=0&resourceVersionMatch=Exact", "is forbidden for resourceVersion \\\"0\\\""),
        ("resourceVersion=1&resourceVersionMatch=Odd", "Unsupported value: \"Odd\""),
    ] {
        let why = why.replace("\\\"", "\"");
        admin.get(&query(q)).await.refused(422, "Invalid", &why);
    }
    admin.get(&query("resourceVersion=x")).await.refused(400, "BadRequest", "x");
    admin.get(&query("limit=x")).await.refused(400, "BadRequest", "x");
    admin.get(&query("resourceVersion=NOW&continue=abc")).await.refused(400, "BadRequest", "not allowed when using continue");
}

#[tokio::test]
async fn a_revision_of_the_future_is_waited_for_and_then_refused() {
    let world = World::new().await;
    let mut admin = five(&world).await;
    let now: u64 = version(&admin.get(MAPS).await.expect(200)).parse().unwrap();
    let mut other = world.admin().await;
    let path = format!("{MAPS}?resourceVersion={}", now + 1);
    let (list, _) = tokio::join!(admin.get(&path), async {
        world.settle().await;
        other.post(MAPS, &config_map("f", &[])).await.expect(201)
    });
    assert_eq!(names(&list.expect(200)).len(), 6);
    let path = format!("{MAPS}/a?resourceVersion={}", now + 1000);
    let (reply, ()) = tokio::join!(admin.get(&path), async {
        world.settle().await;
        world.clock.advance(Duration::from_secs(4));
    });
    let status = reply.refused(504, "Timeout", "Too large resource version");
    assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert_eq!(reply.header("retry-after"), "1");
}

#[tokio::test]
async fn selectors_select() {
    let world = World::new().await;
    let mut admin = five(&world).await;
    for (query, expected) in [
        ("labelSelector=app%3Dx", vec!["a", "c", "e"]),
        ("labelSelector=app+in+(x,y),app!=x", vec!["b", "d"]),
        ("labelSelector=!app", vec![]),
        ("labelSelector=app%20notin%20(x)", vec!["b", "d"]),
        ("fieldSelector=metadata.name%3Db", vec!["b"]),
        ("fieldSelector=metadata.name!%3Db&labelSelector=app%3Dy", vec!["d"]),
        ("fieldSelector=metadata.namespace%3Dother", vec![]),
        ("labelSelector=app%3Dx&nonsense=1&pretty=true", vec!["a", "c", "e"]),
    ] {
        let list = admin.get(&format!("{MAPS}?{query}")).await.expect(200);
        assert_eq!(names(&list), expected, "{query}");
    }
    admin.get(&format!("{MAPS}?labelSelector=a%3D%3D%3Db")).await.refused(400, "BadRequest", "unable to parse requirement");
    admin.get(&format!("{MAPS}?fieldSelector=data.k%3Dv")).await.refused(400, "BadRequest", "field label not supported: data.k");
    let empty = admin.get("/api/v1/namespaces/nowhere/configmaps").await.expect(200);
    assert_eq!((names(&empty), &empty["kind"]), (vec![], &json!("ConfigMapList")));
}
