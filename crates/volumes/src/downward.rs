//! What a pod may know about itself: its fields and its containers' resources, as texts.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, ResourceFieldSelector};

/// What the node adds to what the pod's object says.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The pod's addresses.
    pub pod_ips: Vec<String>,
    /// The node's addresses.
    pub host_ips: Vec<String>,
    /// What a container without a CPU limit is told, in thousandths of a CPU.
    pub allocatable_milli_cpu: i64,
    /// What a container without a memory limit is told, in bytes.
    pub allocatable_memory: i64,
}

/// One field of a pod: `metadata.name`, `metadata.labels['a']`, `status.podIP`, … `None` for a field that isn't offered.
pub fn field(pod: &Pod, facts: &Facts, path: &str) -> Option<String> {
    let metadata = &pod.metadata;
    let spec = pod.spec.as_ref();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        let map = match map {
            "metadata.labels" => &metadata.labels,
            "metadata.annotations" => &metadata.annotations,
            _ => return None,
        };
        return Some(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    Some(match path {
        "metadata.name" => text(&metadata.name),
        "metadata.namespace" => text(&metadata.namespace),
        "metadata.uid" => text(&metadata.uid),
        "metadata.labels" => format_map(metadata.labels.as_ref()),
        "metadata.annotations" => format_map(metadata.annotations.as_ref()),
        "spec.nodeName" => spec.map(|s| text(&s.node_name)).unwrap_or_default(),
        "spec.serviceAccountName" => spec.map(|s| text(&s.service_account_name)).unwrap_or_default(),
        "status.hostIP" => facts.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return None,
    })
}

/// `key="value"` lines, as the downward API writes maps.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    map.into_iter().flatten().map(|(k, v)| format!("{k}={v:?}")).collect::<Vec<_>>().join("\n")
}

/// A container's request or limit, divided as asked and rounded up. `None` for what isn't offered.
pub fn resource(pod: &Pod, facts: &Facts, container: &str, selector: &ResourceFieldSelector) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let name = selector.container_name.as_deref().filter(|n| !n.is_empty()).unwrap_or(container);
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let resources = all.into_iter().find(|c| c.name == name)?.resources.clone().unwrap_or_default();
    let (kind, what) = selector.resource.split_once('.')?;
    let stated = match kind {
        "limits" => &resources.limits,
        "requests" => &resources.requests,
        _ => return None,
    };
    let is_cpu = what == "cpu";
    let millis = match stated.as_ref().and_then(|r| r.get(what)) {
        Some(quantity) => i128::from(quantity.0.parse::<gantry_object::Quantity>().ok()?.milli_value()),
        // Without a limit the whole node is the limit; without a request nothing is asked.
        None if kind == "requests" => 0,
        None if is_cpu => i128::from(facts.allocatable_milli_cpu),
        None if what == "memory" => i128::from(facts.allocatable_memory) * 1000,
        None => 0,
    };
    let divisor = selector.divisor.as_ref().and_then(|d| d.0.parse::<gantry_object::Quantity>().ok()).filter(|d| !d.is_zero());
    let divisor = i128::from(divisor.unwrap_or(gantry_object::Quantity::whole(1)).milli_value());
    Some(((millis + divisor - 1) / divisor).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_and_resources_are_told() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "labels": {"b": "2", "a": "x\"y"}},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}}}]}}))
        .unwrap();
        let facts = Facts { pod_ips: vec!["10.0.0.1".into()], allocatable_memory: 1 << 30, ..Facts::default() };
        let told = |path: &str| field(&pod, &facts, path);
        assert_eq!(told("metadata.labels").as_deref(), Some("a=\"x\\\"y\"\nb=\"2\""));
        assert_eq!(told("metadata.labels['b']").as_deref(), Some("2"));
        assert_eq!(
            (told("status.podIP").as_deref(), told("spec.nodeName").as_deref(), told("spec.nothing")),
            (Some("10.0.0.1"), Some("n"), None)
        );
        let ask = |resource_name: &str, divisor: &str| {
            let selector = serde_json::from_value(json!({"resource": resource_name, "divisor": divisor})).unwrap();
            resource(&pod, &facts, "c", &selector)
        };
        assert_eq!(ask("limits.cpu", "1").as_deref(), Some("2"));
        assert_eq!(ask("limits.cpu", "1m").as_deref(), Some("1500"));
        assert_eq!(ask("requests.memory", "1Mi").as_deref(), Some("64"));
        assert_eq!(ask("limits.memory", "1Gi").as_deref(), Some("1"));
    }
}
