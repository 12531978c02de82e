//! What people type.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::harness::Server;

const APP: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, labels: {tier: front}}
spec:
  replicas: 2
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      containers:
      - {name: c, image: "app:1", ports: [{containerPort: 80}], env: [{name: A, value: b}]}
---
apiVersion: v1
kind: Service
metadata: {name: app}
spec: {selector: {app: app}, ports: [{port: 80}], type: NodePort}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {a: b}
"#;

#[test]
fn objects_are_applied_changed_and_deleted() {
    let server = Server::start();
    let apply = |text: &str| server.kubectl_with(&["apply", "-f", "-"], text);
    apply(APP).says("deployment.apps/app created");
    apply(APP).says("deployment.apps/app unchanged");
    let changed = APP.replace("app:1", "app:2").replace("{a: b}", "{a: c}");
    apply(&changed).says("configmap/settings configured");
    server.kubectl("get deploy app -o jsonpath={.spec.template.spec.containers[0].image}").says("app:2");
    server.kubectl("get configmap settings -o jsonpath={.data.a}").says("c");
    server.kubectl("scale deployment app --replicas=3").says("scaled");
    server.kubectl("set image deployment/app c=app:3").says("image updated");
    server.kubectl("set env deployment/app K=V").says("env updated");
    server.kubectl("get deploy app -o jsonpath={.spec.replicas}/{.spec.template.spec.containers[0].env[*].name}").says("3/A K");
    server.kubectl("label deployment app a=b").says("labeled");
    server.kubectl("annotate deployment app a=b").says("annotated");
    server.kubectl("get deployments -l a=b -o name").says("deployment.apps/app");
    server.kubectl("get deployments -l a!=b -o name").says("");
    server.kubectl("get pods --field-selector status.phase=Running").says("No resources found");
    server
        .kubectl_with(&["patch", "cm", "settings", "--type=json", "-p", r#"[{"op":"add","path":"/data/x","value":"y"}]"#], "")
        .says("patched");
    server.kubectl_with(&["patch", "cm", "settings", "--type=merge", "-p", r#"{"data":{"a":null}}"#], "").says("patched");
    server.kubectl("get cm settings -o jsonpath={.data}").says(r#"{"x":"y"}"#);
    server.kubectl("get svc app -o wide").says("NodePort");
    server.kubectl("describe deployment app").says("RollingUpdateStrategy");
    server.kubectl("delete cm settings").says("deleted");
    server.kubectl("get cm settings").fails("NotFound");
    server.kubectl_with(&["delete", "-f", "-", "--ignore-not-found"], APP).says("deployment.apps \"app\" deleted");
    server.wait_for("get rs,pods -o name", |said| said.trim().is_empty());
}

#[test]
fn rollouts_are_told_undone_paused_and_resumed() {
    let server = Server::start();
    server.kubectl_with(&["apply", "-f", "-"], APP).says("created");
    server.wait_for("get pods -o name", |said| said.lines().count() == 2);
    server.kubectl("set image deployment/app c=app:2").says("image updated");
    server.wait_for("get rs -o name", |said| said.lines().count() == 2);
    server.wait_for("rollout history deployment/app", |said| said.contains('2'));
    server.kubectl("rollout undo deployment/app").says("rolled back");
    server.kubectl("get deploy app -o jsonpath={.spec.template.spec.containers[0].image}").says("app:1");
    server.kubectl("rollout pause deployment/app").says("paused");
    server.kubectl("rollout resume deployment/app").says("resumed");
    server.kubectl("rollout restart deployment/app").says("restarted");
    // There is no node: the rollout waits, and says what for.
    server.kubectl("rollout status deployment/app --timeout=100ms").fails("");
    let pods = server.wait_for("get pods -o wide", |said| said.contains("Pending"));
    assert!(!pods.contains("Running"), "{pods}");
    server.wait_for("get events", |said| said.contains("FailedScheduling") && said.contains("no nodes available to schedule pods"));
}

#[test]
fn a_watch_tells_what_happens() {
    let server = Server::start();
    let mut watch = Command::new("kubectl")
        .args(["get", "configmaps", "-w", "--output-watch-events", "--no-headers", "-l", "seen=yes"])
        .env("KUBECONFIG", server.kubeconfig())
        .env("HOME", server.dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines().map_while(Result::ok);
    server.kubectl("create configmap one").says("created");
    server.kubectl("label configmap one seen=yes").says("labeled");
    let first = lines.next().expect("a line");
    assert!(first.contains("ADDED") && first.contains("one"), "{first}");
    server.kubectl("annotate configmap one a=b").says("annotated");
    assert!(lines.next().expect("a line").contains("MODIFIED"));
    server.kubectl("label configmap one seen-").says("unlabeled");
    assert!(lines.next().expect("a line").contains("DELETED"));
    watch.kill().expect("ours to kill");
    watch.wait().expect("ours to wait for");
}

#[test]
fn bad_input_is_refused_in_upstreams_words() {
    let server = Server::start();
    let create = |text: &str| server.kubectl_with(&["create", "-f", "-"], text);
    let pod = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"a","image":"x"}]}}"#;
    create(&pod.replace("\"image\"", "\"imagee\"")).fails(r#"unknown field "spec.containers[0].imagee""#);
    create(&pod.replace("\"p\"", "\"P_\"")).fails("a lowercase RFC 1123 subdomain must consist of");
    create(&pod.replace("\"image\":\"x\"", "\"image\":\"x\",\"resources\":{\"limits\":{\"cpu\":\"1x\"}}"))
        .fails("quantities must match the regular expression");
    create(&pod.replace("\"x\"", "5")).fails("cannot unmarshal number into Go struct field");
    create(&pod.replace("\"v1\"", "\"v9\"")).fails("no matches for kind \"Pod\" in version \"v9\"");
    server.kubectl("get pods -l a==b==c").fails("unable to parse requirement");
    server.kubectl("get pods --field-selector spec.nothing=1").fails("field label not supported: spec.nothing");
    server.kubectl("get nothing").fails("the server doesn't have a resource type");
    server.kubectl("create configmap x --from-literal=a=b -n nowhere").fails("namespaces \"nowhere\" not found");
    server.kubectl("delete namespace kube-system").fails("this namespace may not be deleted");
    server.kubectl("create deployment d --image=x --dry-run=server").says("created (server dry run)");
    server.kubectl("get deployment d").fails("NotFound");
}

#[test]
fn permissions_and_identities_hold() {
    let server = Server::start();
    server.kubectl("create serviceaccount bob").says("created");
    let as_bob = "--as system:serviceaccount:default:bob";
    server.kubectl(&format!("auth can-i list pods {as_bob}")).fails("no");
    server
        .kubectl(&format!("get pods {as_bob}"))
        .fails(r#"User "system:serviceaccount:default:bob" cannot list resource "pods" in API group "" in the namespace "default""#);
    server.kubectl("create role reader --verb=get,list --resource=pods").says("created");
    server.kubectl("create rolebinding bob --role=reader --serviceaccount=default:bob").says("created");
    server.kubectl(&format!("auth can-i list pods {as_bob}")).says("yes");
    server.kubectl(&format!("auth can-i list pods -n kube-system {as_bob}")).fails("no");
    let token = server.kubectl("create token bob").stdout;
    let with_token = |args: &str| {
        let address = server.kubectl("config view --minify -o jsonpath={.clusters[0].cluster.server}").stdout;
        let all = format!("--kubeconfig=/dev/null --insecure-skip-tls-verify --server={address} --token={} {args}", token.trim());
        server.kubectl(&all)
    };
    with_token("get pods").says("No resources found");
    with_token("get secrets").fails("Forbidden");
    server.kubectl("delete serviceaccount bob").says("deleted");
    with_token("get pods").fails("Unauthorized");
    server.kubectl("auth whoami").says("kubernetes-admin");
}

/// Other versions of kubectl, named by `GANTRY_KUBECTLS` (paths with colons between); the machine's own is always among them.
#[test]
fn every_kubectl_on_the_machine_reads_and_writes() {
    let server = Server::start();
    let named = std::env::var("GANTRY_KUBECTLS").unwrap_or_default();
    for (i, program) in named.split(':').filter(|p| !p.is_empty()).chain(["kubectl"]).enumerate() {
        let run = |args: &str| server.run_kubectl(program, &args.split(' ').collect::<Vec<_>>(), "");
        let name = format!("v{i}");
        run("version").says("Server Version: v1.36");
        run("api-resources").says("deployments");
        run(&format!("create deployment {name} --image=x")).says("created");
        run(&format!("get deployment {name} -o wide")).says("IMAGES");
        run("explain deployment.spec.strategy --api-version=apps/v1").says("rollingUpdate");
        server.run_kubectl(program, &["apply", "-f", "-"], APP).says("deployment.apps/app");
        run("get events").says("");
        run("cluster-info").says("is running at");
        run(&format!("delete deployment {name}")).says("deleted");
    }
}

#[test]
fn server_side_apply_shares_objects_between_managers() {
    let server = Server::start();
    let with = |args: &[&str], text: &str| server.kubectl_with(args, text);
    let apply = ["apply", "--server-side", "-f", "-"];
    with(&apply, APP).says("deployment.apps/app serverside-applied");
    with(&apply, APP).says("configmap/settings serverside-applied");
    let managers = "-o jsonpath={.metadata.managedFields[*].manager} --show-managed-fields";
    server.kubectl(&format!("get cm settings {managers}")).says("kubectl");
    assert!(!server.kubectl("get cm settings -o yaml").stdout.contains("managedFields"));
    let version = || server.kubectl("get cm settings -o jsonpath={.metadata.resourceVersion}").stdout;
    let before = version();
    with(&apply, APP).says("serverside-applied");
    assert_eq!(version(), before, "an apply that changes nothing makes no new version");
    server.kubectl("scale deployment app --replicas=5").says("scaled");
    with(&apply, APP).fails("conflict with \"kubectl\" with subresource \"scale\" using apps/v1: .spec.replicas");
    let other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: other, more: x}\n";
    let as_other = ["apply", "--server-side", "--field-manager=other", "-f", "-"];
    with(&as_other, other).fails("conflict with \"kubectl\": .data.a");
    let diff = with(&["diff", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-"], other);
    assert!(diff.stdout.contains("-  a: b") && diff.stdout.contains("+  more: x"), "{}", diff.stdout);
    with(&["apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-"], other).says("serverside-applied");
    server.kubectl("get cm settings -o jsonpath={.data}").says(r#"{"a":"other","more":"x"}"#);
    with(&["apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-"], APP).says("serverside-applied (server dry run)");
    server.kubectl("get deploy app -o jsonpath={.spec.replicas}").says("5");
}

#[test]
fn client_side_apply_turns_into_server_side_apply() {
    let server = Server::start();
    let with = |args: &[&str], text: &str| server.kubectl_with(args, text);
    with(&["apply", "-f", "-"], APP).says("created");
    let changed = APP.replace("app:1", "app:2").replace("{a: b}", "{c: d}");
    with(&["apply", "--server-side", "-f", "-"], &changed).says("serverside-applied");
    server.kubectl("get cm settings -o jsonpath={.data}").says(r#"{"c":"d"}"#);
    let managers = server.kubectl("get deploy app -o jsonpath={.metadata.managedFields[*].manager} --show-managed-fields").stdout;
    assert!(managers.contains("kubectl") && !managers.contains("kubectl-client-side-apply"), "{managers}");
    // And back.
    with(&["apply", "-f", "-"], APP).says("configured");
    server.kubectl("get deploy app -o jsonpath={.spec.template.spec.containers[0].image}").says("app:1");
    with(&["create", "--save-config", "-f", "-"], "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: saved}\ndata: {x: w}\n")
        .says("created");
    with(&["apply", "-f", "-"], "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: saved}\ndata: {z: w}\n").says("configured");
    server.kubectl("get cm saved -o jsonpath={.data}").says(r#"{"z":"w"}"#);
}
