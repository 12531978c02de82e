//! The `kube` crate as a second client.

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

use crate::harness::Server;

pub(crate) async fn connect(server: &Server) -> Client {
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a configuration");
    Client::try_from(config).expect("a client")
}

pub(crate) fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"a": "b"}})).expect("a ConfigMap")
}

#[tokio::test]
async fn objects_come_and_go_page_by_page_and_are_watched() {
    let server = Server::start();
    let api: Api<ConfigMap> = Api::namespaced(connect(&server).await, "kube-public");
    let before = api.list(&ListParams::default()).await.expect("lists");
    let version = before.metadata.resource_version.expect("a version");
    for i in 0..25 {
        api.create(&PostParams::default(), &config_map(&format!("m{i:02}"))).await.expect("creates");
    }
    let again = api.create(&PostParams::default(), &config_map("m00")).await.expect_err("there is one already");
    assert!(again.to_string().contains("AlreadyExists"), "{again}");
    let mut names = Vec::new();
    let mut params = ListParams::default().limit(10);
    loop {
        let page = api.list(&params).await.expect("lists");
        names.extend(page.items.into_iter().filter_map(|m| m.metadata.name));
        match page.metadata.continue_.filter(|c| !c.is_empty()) {
            Some(token) => params = ListParams::default().limit(10).continue_token(&token),
            None => break,
        }
    }
    assert_eq!(names.iter().filter(|n| n.starts_with('m')).count(), 25);
    let stale = api.get("m00").await.expect("gets");
    let patch = Patch::Merge(json!({"data": {"x": "y"}}));
    let patched = api.patch("m00", &PatchParams::default(), &patch).await.expect("patches");
    assert_eq!(patched.data.expect("data").len(), 2);
    let conflict = api.replace("m00", &PostParams::default(), &stale).await.expect_err("somebody wrote since");
    assert!(conflict.to_string().contains("the object has been modified"), "{conflict}");
    api.delete("m01", &DeleteParams::default()).await.expect("deletes");
    let mut events = Box::pin(api.watch(&WatchParams::default(), &version).await.expect("watches"));
    let mut seen = Vec::new();
    while seen.len() < 27 {
        match events.next().await.expect("goes on").expect("an event") {
            WatchEvent::Added(m) => seen.push(format!("+{}", m.metadata.name.expect("a name"))),
            WatchEvent::Modified(m) => seen.push(format!("~{}", m.metadata.name.expect("a name"))),
            WatchEvent::Deleted(m) => seen.push(format!("-{}", m.metadata.name.expect("a name"))),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(e) => panic!("{e:?}"),
        }
    }
    let mut expected: Vec<String> = (0..25).map(|i| format!("+m{i:02}")).collect();
    expected.extend(["~m00".to_owned(), "-m01".to_owned()]);
    assert_eq!(seen, expected, "every event once, in order");
}
