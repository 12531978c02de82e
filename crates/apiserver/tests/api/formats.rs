//! Shapes and encodings of answers.

use std::io::Read;

use crate::world::*;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const PARTIAL_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

#[tokio::test]
async fn tables_and_metadata_for_get_list_and_watch() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    admin.post(DEPLOYMENTS, &deployment("d", 2)).await.expect(201);
    for path in [DEPLOYMENTS.to_owned(), format!("{DEPLOYMENTS}/d")] {
        let table = admin.get_as(&path, TABLE).await.expect(200);
        assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
        assert_eq!(table["columnDefinitions"][0]["name"], "Name");
        assert_eq!((&table["rows"][0]["cells"][0], &table["rows"][0]["cells"][1]), (&json!("d"), &json!("0/2")));
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    }
    let whole = admin.get_as(&format!("{DEPLOYMENTS}?includeObject=Object"), TABLE).await.expect(200);
    assert_eq!(whole["rows"][0]["object"]["spec"]["replicas"], 2);
    let none = admin.get_as(&format!("{DEPLOYMENTS}?includeObject=None"), TABLE).await.expect(200);
    assert!(none["rows"][0]["object"].is_null());
    let one = admin.get_as(&format!("{DEPLOYMENTS}/d"), PARTIAL).await.expect(200);
    assert_eq!((&one["kind"], &one["metadata"]["name"], one.get("spec")), (&json!("PartialObjectMetadata"), &json!("d"), None));
    let many = admin.get_as(DEPLOYMENTS, PARTIAL_LIST).await.expect(200);
    assert_eq!((&many["kind"], &many["items"][0]["metadata"]["name"]), (&json!("PartialObjectMetadataList"), &json!("d")));
    let mut rows = world.admin().await.watch(&format!("{DEPLOYMENTS}?watch=true"), TABLE).await;
    let first = rows.next().await.unwrap();
    assert_eq!((&first["object"]["kind"], first["object"]["columnDefinitions"].is_array()), (&json!("Table"), true));
    admin.post(DEPLOYMENTS, &deployment("e", 1)).await.expect(201);
    let second = rows.next().await.unwrap();
    assert_eq!((&second["object"]["rows"][0]["cells"][0], second["object"]["columnDefinitions"].is_array()), (&json!("e"), false));
    let mut metadata = world.admin().await.watch(&format!("{DEPLOYMENTS}?watch=true"), PARTIAL).await;
    assert_eq!(metadata.next().await.unwrap()["object"]["kind"], "PartialObjectMetadata");
}

#[tokio::test]
async fn protobuf_goes_both_ways() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    admin.post(MAPS, &config_map("a", &[("l", "m")])).await.expect(201);
    let reply = admin.get_as(&format!("{MAPS}/a"), PROTOBUF).await;
    assert_eq!((reply.code, reply.header("content-type"), &reply.body[..4]), (200, PROTOBUF, &b"k8s\0"[..]));
    admin.delete(&format!("{MAPS}/a"), &Value::Null).await.expect(200);
    // What it sends can be sent back, once it carries no version.
    let made = admin
        .send(
            "POST",
            &format!("{MAPS}?dryRun=All"),
            &[("content-type", "application/json"), ("accept", PROTOBUF)],
            config_map("a", &[("l", "m")]).to_string(),
        )
        .await;
    assert_eq!(made.code, 201);
    let headers = [("content-type", PROTOBUF), ("accept", "application/json")];
    let again = admin.send("POST", MAPS, &headers, made.body.clone()).await.expect(201);
    assert_eq!((&again["metadata"]["labels"], &again["data"]), (&json!({"l": "m"}), &json!({"k": "v"})));
    let list = admin.get_as(MAPS, PROTOBUF).await;
    assert_eq!((list.code, &list.body[..4]), (200, &b"k8s\0"[..]));
    let mut events = world.admin().await.watch(&format!("{MAPS}?watch=true"), PROTOBUF).await;
    assert_eq!(events.media_type, "application/vnd.kubernetes.protobuf;stream=watch");
    let frame = events.frame().await;
    assert!(frame.windows(5).any(|w| w == b"ADDED") && frame.windows(4).any(|w| w == b"k8s\0"));
    let missing = admin.get_as(&format!("{MAPS}/none"), PROTOBUF).await;
    assert_eq!((missing.code, &missing.body[..4]), (404, &b"k8s\0"[..]));
    admin.send("POST", MAPS, &headers, "nonsense").await.refused(400, "BadRequest", "");
    admin.send("POST", MAPS, &headers, made.body.slice(..made.body.len() / 2)).await.refused(400, "BadRequest", "");
}

#[tokio::test]
async fn what_cannot_be_read_has_no_table() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
    let headers = [("content-type", "application/json"), ("accept", TABLE.trim_end_matches(",application/json"))];
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    admin.send("POST", path, &headers, review).await.refused(406, "NotAcceptable", "only the following media types are accepted");
}

/// Clients that speak protobuf name the version of the group they talk to in their options.
#[tokio::test]
async fn options_of_a_deletion_may_be_of_any_group() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}});
    admin.post(leases, &lease).await.expect(201);
    let options = |kind: &str| gantry_schema::Envelope::seal("coordination.k8s.io/v1", kind, b"\x08\x05");
    let path = format!("{leases}/a");
    let headers = [("content-type", PROTOBUF)];
    admin.send("DELETE", &path, &headers, options("Lease")).await.refused(400, "BadRequest", "cannot be handled as a DeleteOptions");
    admin.send("DELETE", &path, &headers, options("DeleteOptions")).await.expect(200);
}

#[tokio::test]
async fn yaml_is_read_and_written() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: v\n";
    let reply = admin.send("POST", MAPS, &[("content-type", "application/yaml"), ("accept", "application/yaml")], yaml).await;
    assert_eq!((reply.code, reply.header("content-type")), (201, "application/yaml"));
    assert!(String::from_utf8_lossy(&reply.body).contains("name: a\n"));
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_ask() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut object = config_map("big", &[]);
    object["data"]["k"] = json!("x".repeat(200_000));
    admin.post(MAPS, &object).await.expect(201);
    let plain = admin.get(&format!("{MAPS}/big")).await;
    assert_eq!((plain.header("content-encoding"), plain.body.len() > 200_000), ("", true));
    let packed = admin.send("GET", &format!("{MAPS}/big"), &[("accept-encoding", "gzip")], "").await;
    assert_eq!((packed.header("content-encoding"), packed.body.len() < 10_000), ("gzip", true));
    let mut body = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut body).unwrap();
    assert_eq!(body, plain.body);
    let small = admin.send("GET", "/api/v1/namespaces/default", &[("accept-encoding", "gzip")], "").await;
    assert_eq!(small.header("content-encoding"), "");
}

#[tokio::test]
async fn unknown_and_repeated_fields_are_told_as_asked() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let json_type = [("content-type", "application/json")];
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"v"},"what":1,"data":{"k":"w"}}"#;
    let strict = admin.send("POST", &format!("{MAPS}?fieldValidation=Strict"), &json_type, body).await;
    let status = strict.refused(400, "BadRequest", "strict decoding error: ");
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("unknown field \"what\"") && message.contains("duplicate field \"data\""), "{message}");
    let ignore = admin.send("POST", &format!("{MAPS}?fieldValidation=Ignore&dryRun=All"), &json_type, body).await;
    assert_eq!((ignore.code, ignore.warnings()), (201, vec![]));
    let warn = admin.send("POST", MAPS, &json_type, body).await;
    assert_eq!((warn.code, warn.warnings()), (201, vec![r#"299 - "duplicate field \"data\"""#, r#"299 - "unknown field \"what\"""#]));
    assert_eq!(warn.json()["data"]["k"], "w");
    let patch = admin.patch(&format!("{MAPS}/a"), "merge", &json!({"what": 2})).await;
    assert_eq!((patch.code, patch.warnings()), (200, vec![r#"299 - "unknown field \"what\"""#]));
    admin.patch(&format!("{MAPS}/a?fieldValidation=Strict"), "merge", &json!({"what": 2})).await.refused(
        400,
        "BadRequest",
        "strict decoding error",
    );
    admin.post(&format!("{MAPS}?fieldValidation=Loose"), &config_map("b", &[])).await.refused(
        422,
        "Invalid",
        "fieldValidation: Unsupported value: \"Loose\"",
    );
}
