//! Who gets a certificate, and who does not.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use gantry_object::{ObjectName, Value};
use gantry_reconcile::Kind;
use gantry_reconcile::testing::World;
use serde_json::json;

use super::{BASE64, CLIENT, Certificates, Csr, SERVING, Signer, Subject};
use crate::kinds::Node;

/// Takes requests of the form `common name|organization|dns names`.
struct TextSigner;

impl Signer for TextSigner {
    fn subject(&self, request: &str) -> Option<Subject> {
        let mut parts = request.split('|');
        let mut next = || parts.next().map(str::to_owned);
        Some(Subject { common_name: next()?, organizations: vec![next()?], dns_names: next().into_iter().collect(), ..Subject::default() })
    }

    fn sign(&self, request: &str, _: &str, _: &[String], _: Option<Duration>) -> Result<String, String> {
        Ok(format!("certificate for {request}"))
    }
}

fn run(request: &str, signer: &str, user: &str) -> (World, String) {
    let mut world = World::new(vec![Arc::new(Certificates::new(Arc::new(TextSigner)))]);
    let addresses = json!([{"type": "Hostname", "address": "n"}]);
    world.put(Node::RESOURCE, json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {"addresses": addresses}}));
    let usage = if signer == SERVING { "server auth" } else { "client auth" };
    let spec = json!({"request": BASE64.encode(request), "signerName": signer, "username": user, "groups": ["system:nodes"],
        "usages": ["digital signature", usage]});
    world.put(
        Csr::RESOURCE,
        json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "c"}, "spec": spec}),
    );
    let log = world.settle();
    (world, log)
}

fn outcome(world: &World) -> (String, Option<String>) {
    let csr = world.get(Csr::RESOURCE, &ObjectName::cluster("c")).unwrap();
    let kinds: Vec<&str> = csr["status"]["conditions"].as_array().into_iter().flatten().filter_map(|c| c["type"].as_str()).collect();
    let certificate = csr["status"]["certificate"].as_str().map(|c| String::from_utf8(BASE64.decode(c).unwrap()).unwrap());
    (kinds.join(" "), certificate)
}

#[test]
fn a_node_gets_its_client_certificate_if_the_requester_may_ask() {
    let (world, log) = run("system:node:n|system:nodes", CLIENT, "system:bootstrap:x");
    assert!(log.starts_with("review ") && log.contains("\"subresource\":\"nodeclient\""), "{log}");
    assert_eq!(outcome(&world), ("Approved".into(), Some("certificate for system:node:n|system:nodes".into())));
    let (world, log) = run("system:node:n|system:nodes", CLIENT, "system:node:n");
    assert!(log.contains("selfnodeclient"), "{log}");
    assert_eq!(outcome(&world).0, "Approved");
    let (world, _) = run("system:node:n|system:nodes", CLIENT, "nobody");
    assert_eq!(outcome(&world), (String::new(), None), "the server said no");
}

#[test]
fn wrong_subjects_are_denied() {
    for request in
        ["admin|system:masters", "system:node:n|system:masters", "system:node:|system:nodes", "system:node:n|system:nodes|name", "nonsense"]
    {
        let (world, _) = run(request, CLIENT, "system:bootstrap:x");
        assert_eq!(outcome(&world), ("Denied".into(), None), "{request}");
    }
    let (world, _) = run("system:node:n|system:nodes|n", SERVING, "system:node:m");
    assert_eq!(outcome(&world).0, "Denied");
}

#[test]
fn a_serving_certificate_is_for_the_nodes_own_addresses() {
    let (world, _) = run("system:node:n|system:nodes|n", SERVING, "system:node:n");
    assert_eq!(outcome(&world).0, "Approved");
    let (mut world, _) = run("system:node:n|system:nodes|later", SERVING, "system:node:n");
    assert_eq!(outcome(&world).0, "");
    let addresses: Value = json!([{"type": "Hostname", "address": "later"}]);
    world.patch(Node::RESOURCE, &ObjectName::cluster("n"), &json!({"status": {"addresses": addresses}}));
    world.pass(Duration::from_secs(3));
    world.settle();
    assert_eq!(outcome(&world).0, "Approved");
}

#[test]
fn other_signers_are_left_alone_and_old_requests_go() {
    let (mut world, log) = run("x|y", "example.com/other", "u");
    assert_eq!(log, "");
    world.pass(Duration::from_secs(24 * 3600 + 1));
    assert_eq!(world.settle(), "delete certificatesigningrequests c\n");
    let (mut world, _) = run("system:node:n|system:nodes", CLIENT, "system:node:n");
    world.pass(Duration::from_secs(3601));
    assert_eq!(world.settle(), "delete certificatesigningrequests c\n");
}
