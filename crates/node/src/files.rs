//! The files every pod gets: hosts, resolv.conf, hostname.

use std::fs;
use std::io;

use k8s_openapi::api::core::v1::Pod;

use crate::build::hostname;
use crate::shared::Shared;

/// Writes a pod's own files into its directory.
pub(crate) fn write(shared: &Shared, pod: &Pod, ips: &[String]) -> io::Result<()> {
    let directory = shared.pod_directory(pod.metadata.uid.as_deref().unwrap_or(""));
    fs::create_dir_all(&directory)?;
    let host_network = pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
    fs::write(directory.join("hostname"), format!("{}\n", hostname(pod)))?;
    let hosts = if host_network { fs::read_to_string("/etc/hosts").unwrap_or_default() } else { String::new() };
    fs::write(directory.join("etc-hosts"), render_hosts(pod, ips, &shared.config.cluster_domain, &hosts))?;
    let host_resolv = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let dns = shared.config.cluster_dns.to_string();
    fs::write(directory.join("resolv.conf"), render_resolv(pod, &dns, &shared.config.cluster_domain, &host_resolv))
}

fn render_hosts(pod: &Pod, ips: &[String], domain: &str, host_file: &str) -> String {
    let spec = pod.spec.clone().unwrap_or_default();
    let mut text = if spec.host_network == Some(true) {
        format!("# Kubernetes-managed hosts file (host network).\n{host_file}")
    } else {
        let mut text = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n".to_owned();
        let name = hostname(pod);
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
        for ip in ips {
            match spec.subdomain.as_deref().filter(|s| !s.is_empty()) {
                Some(subdomain) => text.push_str(&format!("{ip}\t{name}.{subdomain}.{namespace}.svc.{domain}\t{name}\n")),
                None => text.push_str(&format!("{ip}\t{name}\n")),
            }
        }
        text
    };
    if let Some(aliases) = spec.host_aliases.filter(|a| !a.is_empty()) {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.unwrap_or_default().join("\t")));
        }
    }
    text
}

fn render_resolv(pod: &Pod, cluster_dns: &str, domain: &str, host_file: &str) -> String {
    let spec = pod.spec.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
    let own = spec.dns_config.unwrap_or_default();
    let words = |key: &str| -> Vec<String> {
        let lines = host_file.lines().filter_map(|l| l.strip_prefix(key));
        lines.flat_map(|l| l.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    let policy = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "ClusterFirst" if spec.host_network == Some(true) => "Default",
        other => other,
    };
    let (mut servers, mut searches, mut options) = match policy {
        "None" => (Vec::new(), Vec::new(), Vec::new()),
        "Default" => (words("nameserver"), words("search"), words("options")),
        _ => {
            let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
            searches.extend(words("search"));
            (vec![cluster_dns.to_owned()], searches, vec!["ndots:5".to_owned()])
        }
    };
    servers.extend(own.nameservers.unwrap_or_default());
    searches.extend(own.searches.unwrap_or_default());
    for option in own.options.unwrap_or_default() {
        let name = option.name.unwrap_or_default();
        options.retain(|o| o.split(':').next() != Some(name.as_str()));
        options.push(option.value.map_or_else(|| name.clone(), |v| format!("{name}:{v}")));
    }
    let mut seen = std::collections::BTreeSet::new();
    searches.retain(|s| seen.insert(s.clone()));
    servers.truncate(3);
    let mut text: String = servers.iter().map(|s| format!("nameserver {s}\n")).collect();
    if !searches.is_empty() {
        text.push_str(&format!("search {}\n", searches.join(" ")));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "a"}, "spec": spec})).unwrap()
    }

    #[test]
    fn resolvers_follow_the_dns_policy() {
        let host = "nameserver 9.9.9.9\nsearch corp\noptions edns0\n";
        let of = |spec| render_resolv(&pod(spec), "10.96.0.10", "cluster.local", host);
        assert_eq!(
            of(json!({"containers": []})),
            "nameserver 10.96.0.10\nsearch a.svc.cluster.local svc.cluster.local cluster.local corp\noptions ndots:5\n"
        );
        assert_eq!(of(json!({"containers": [], "dnsPolicy": "Default"})), "nameserver 9.9.9.9\nsearch corp\noptions edns0\n");
        let none = json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.2.3.4"], "searches": ["x"], "options": [{"name": "ndots", "value": "2"}]}});
        assert_eq!(of(none), "nameserver 1.2.3.4\nsearch x\noptions ndots:2\n");
    }

    #[test]
    fn hosts_name_the_pod_and_its_aliases() {
        let spec =
            json!({"containers": [], "hostname": "h", "subdomain": "s", "hostAliases": [{"ip": "1.1.1.1", "hostnames": ["x", "y"]}]});
        let text = render_hosts(&pod(spec), &["10.0.0.2".into()], "cluster.local", "");
        assert!(text.contains("10.0.0.2\th.s.a.svc.cluster.local\th\n") && text.ends_with("1.1.1.1\tx\ty\n"), "{text}");
    }
}
