//! What cannot be done or read is refused with the Status that clients know.

use crate::world::*;

#[tokio::test]
async fn paths_methods_and_media_types_that_are_not_there() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    for path in [
        "/api/v1/nothings",
        "/apis/none.example/v1/things",
        "/api/v1/namespaces/default/nodes",
        "/api/v1/pods/p",
        "/nowhere",
        "/api/v2/pods",
    ] {
        admin.get(path).await.refused(404, "NotFound", "the server could not find the requested resource");
    }
    for (method, path) in [
        ("POST", "/api/v1/pods"),
        ("POST", "/api/v1/namespaces/default/pods/p"),
        ("PUT", MAPS),
        ("PATCH", MAPS),
        ("DELETE", "/apis/authentication.k8s.io/v1/tokenreviews"),
        ("GET", "/apis/authentication.k8s.io/v1/tokenreviews"),
        ("OPTIONS", MAPS),
    ] {
        let reply = admin.send(method, path, &[("content-type", "application/json")], "{}").await;
        assert_eq!(reply.code, 405, "{method} {path}: {:?}", reply.body);
        reply.refused(405, "MethodNotAllowed", "is not supported on resources of kind");
    }
    admin.get_as(MAPS, "text/html").await.refused(406, "NotAcceptable", "only the following media types are accepted");
    let text = [("content-type", "text/plain")];
    admin.send("POST", MAPS, &text, "x").await.refused(415, "UnsupportedMediaType", "the body of the request was in an unknown format");
    // A body that nobody reads may be of any type.
    admin.send("GET", MAPS, &text, "").await.expect(200);
    let head = admin.send("HEAD", MAPS, &[], "").await;
    assert_eq!((head.code, head.body.len(), head.header("content-type")), (200, 0, "application/json"));
    assert_eq!(admin.send("HEAD", &format!("{MAPS}/none"), &[], "").await.code, 404);
}

#[tokio::test]
async fn bodies_that_cannot_be_read() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let headers = [("content-type", "application/json")];
    let deep = format!("{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{}1{}}}", "{\"a\":".repeat(20_000), "}".repeat(20_000));
    let arrays = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for body in [
        "",
        "{",
        "[]",
        "null",
        "7",
        "{\"metadata\":[]}",
        "{\"metadata\":{\"name\":7}}",
        "{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\"}x",
        &deep,
        &arrays,
    ] {
        let reply = admin.send("POST", MAPS, &headers, body.to_owned()).await;
        assert!(reply.code == 400 || reply.code == 422, "{:.60}: {} {:?}", body, reply.code, reply.body);
        assert_eq!(reply.json()["kind"], "Status");
    }
    let other = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
    admin.post(MAPS, &other).await.refused(400, "BadRequest", "cannot be handled as a ConfigMap");
    let mut large = config_map("a", &[]);
    large["data"]["k"] = json!("x".repeat(4 << 20));
    admin.post(MAPS, &large).await.refused(413, "RequestEntityTooLarge", "limit is 3145728");
    large["data"]["k"] = json!("x".repeat(2 << 20));
    world.admin().await.post(MAPS, &large).await.refused(422, "Invalid", "Too long");
    let mut admin = world.admin().await;
    admin.patch(&format!("{MAPS}/none"), "json", &json!("x")).await.refused(404, "NotFound", "");
    admin.get(&format!("{MAPS}/%6Bube-none")).await.refused(404, "NotFound", "configmaps \"kube-none\" not found");
    assert!(admin.get(&format!("{MAPS}/%FF%00")).await.code >= 400);
    assert!(admin.get(&format!("{MAPS}/a%2Fb")).await.code >= 400);
}
