//! Other people's software: nginx from Debian's packages.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Cluster, succeed, wait_until};
use crate::images::cache;

const NGINX: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: nginx}
spec:
  replicas: 2
  selector: {matchLabels: {app: nginx}}
  template:
    metadata: {labels: {app: nginx}}
    spec:
      containers:
      - name: nginx
        image: nginx:debian
        imagePullPolicy: Never
        command: [nginx, -g, "daemon off;"]
        ports: [{containerPort: 80}]
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}
        resources: {limits: {memory: 128Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: nginx}
spec: {selector: {app: nginx}, ports: [{port: 80}]}
"#;

/// A root file system with nginx in it, made once for each checkout. Takes a minute or two then.
fn root_file_system() -> PathBuf {
    let archive = cache().join("nginx-bookworm.tar");
    if archive.exists() {
        return archive;
    }
    let work = tempfile::tempdir_in(cache()).expect("a directory");
    let root = work.path().join("root");
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", "--include=nginx-light", "bookworm"]).arg(&root).arg("http://deb.debian.org/debian");
    // The tests may run without /usr/sbin in their path.
    debootstrap.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    succeed(&mut debootstrap);
    let made = work.path().join("made.tar");
    succeed(
        Command::new("tar")
            .args(["--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*", "-C"])
            .arg(&root)
            .arg("-cf")
            .arg(&made)
            .arg("."),
    );
    fs::rename(&made, &archive).expect("the same file system");
    archive
}

#[test]
fn nginx_from_debian_serves_behind_a_service_under_load() {
    let archive = root_file_system();
    let cluster = Cluster::start();
    succeed(cluster.gantry(&["image", "import", "--name", "nginx:debian"]).arg(&archive));
    cluster.apply(NGINX);
    cluster.kubectl("rollout status deployment/nginx --timeout=60s").says("successfully rolled out");
    let ip = cluster.value("get service nginx -o jsonpath={.spec.clusterIP}");
    let url = format!("http://{ip}/");
    let mut fetch = || Command::new("curl").args(["-sS", "--max-time", "5", &url]).output().ok().filter(|o| o.status.success());
    let page = wait_until("a page", &mut fetch);
    assert!(String::from_utf8_lossy(&page.stdout).contains("Welcome to nginx!"));

    let report = succeed(Command::new("wrk").args(["--threads", "1", "--connections", "16", "--duration", "5s", &url]));
    let requests: u64 = report.lines().find_map(|l| l.trim().split_once(" requests in")?.0.parse().ok()).expect("wrk counts requests");
    assert!(requests > 1000, "{report}");
    assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");

    // Both replicas had their part, as their own access logs show.
    for pod in cluster.value("get pods -l app=nginx -o jsonpath={.items[*].metadata.name}").split(' ') {
        let lines = cluster.kubectl_with(&["exec", pod, "--", "wc", "-l", "/var/log/nginx/access.log"], "").stdout;
        let served: u64 = lines.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{pod}: {lines:?}"));
        assert!(served > 100, "{pod} served {served} of {requests}");
    }
}
