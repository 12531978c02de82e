//! What every cluster has from the start: its first namespaces, its roles, the API server's own Service.

use gantry_client::{Api, Request, Verb};
use gantry_object::{Resource, Status, Value};
use gantry_ports::join_all;
use serde_json::json;

use crate::server::Server;
use crate::user::{BOOTSTRAPPERS, MASTERS, User};

const NAMESPACES: Resource = Resource::cluster("", "v1", "namespaces", "Namespace");
const SERVICES: Resource = Resource::namespaced("", "v1", "services", "Service");
const ENDPOINTS: Resource = Resource::namespaced("", "v1", "endpoints", "Endpoints");
const ENDPOINT_SLICES: Resource = Resource::namespaced("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice");
const CONFIG_MAPS: Resource = Resource::namespaced("", "v1", "configmaps", "ConfigMap");

/// The ConfigMap in `kube-public` that tells joining nodes about the cluster.
const CLUSTER_INFO: &str = "gantry-cluster";

/// The ConfigMap by which extension servers know this one.
const EXTENSION_AUTHENTICATION: &str = "extension-apiserver-authentication";

const RBAC: [Resource; 4] = [
    Resource::cluster("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole"),
    Resource::cluster("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding"),
    Resource::namespaced("rbac.authorization.k8s.io", "v1", "roles", "Role"),
    Resource::namespaced("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding"),
];

/// The kinds of what else there is from the start.
const FIRST: [Resource; 5] = [
    Resource::cluster("apiregistration.k8s.io", "v1", "apiservices", "APIService"),
    Resource::cluster("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass"),
    Resource::cluster("flowcontrol.apiserver.k8s.io", "v1", "prioritylevelconfigurations", "PriorityLevelConfiguration"),
    Resource::cluster("flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "FlowSchema"),
    Resource::cluster("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR"),
];

impl Server {
    /// Makes what is missing of what every cluster has. Safe to call at every start.
    ///
    /// # Errors
    /// The first refusal; nothing but a broken store refuses these.
    pub async fn bootstrap(&self) -> Result<(), Status> {
        let client = self.client(User::authenticated("system:apiserver", &[MASTERS]));
        let namespaces = ["default", "kube-system", "kube-public", "kube-node-lease"];
        let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.ensure_all(&client, namespaces.iter().map(|n| (NAMESPACES, "", namespace(n))).collect()).await?;
        let roles = gantry_kinds::bootstrap_rbac();
        let mut objects: Vec<(Resource, &str, Value)> = Vec::new();
        for role in &roles {
            let Some(resource) = RBAC.iter().find(|r| role["kind"] == r.kind) else { continue };
            objects.push((*resource, gantry_object::meta::namespace(role), role.clone()));
        }
        let firsts: Vec<Value> = gantry_kinds::bootstrap_objects().into_iter().chain([self.service_range()]).collect();
        for object in &firsts {
            let Some(resource) = FIRST.iter().find(|r| object["kind"] == r.kind) else { continue };
            objects.push((*resource, "", object.clone()));
        }
        objects.extend(node_bindings());
        objects.extend(self.own_service());
        objects.push((SERVICES, "kube-system", self.dns_service()));
        let authority = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": self.config().authority}});
        objects.push((CONFIG_MAPS, "kube-public", authority));
        objects.extend(self.cluster_info());
        // A cluster without an authority has nobody who could prove anything to other servers.
        if !self.config().authority.is_empty() {
            let published = self.front_proxy()?.published(&self.config().authority);
            let name = json!({"name": EXTENSION_AUTHENTICATION, "namespace": "kube-system"});
            objects.push((
                CONFIG_MAPS,
                "kube-system",
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": published}),
            ));
        }
        self.ensure_all(&client, objects).await?;
        self.keep_definitions();
        self.keep_api_services();
        self.keep_first_objects();
        Ok(())
    }

    /// The range that services get their addresses from.
    pub(crate) fn service_range(&self) -> Value {
        let (network, prefix) = self.config().service_network;
        let ready = json!({"type": "Ready", "status": "True", "reason": "", "message": "addresses are given out from this range",
            "lastTransitionTime": self.clock().now().rfc3339()});
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": [format!("{network}/{prefix}")]}, "status": {"conditions": [ready]}})
    }

    /// The Service `kubernetes`, which leads to this server, with its endpoints.
    fn own_service(&self) -> Vec<(Resource, &'static str, Value)> {
        let advertised = self.config().advertised;
        let (ip, port) = (advertised.ip().to_string(), advertised.port());
        let labels = json!({"component": "apiserver", "provider": "kubernetes"});
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kubernetes", "labels": labels},
            "spec": {"type": "ClusterIP", "clusterIP": self.services().first().to_string(),
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]}});
        let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": [{"addresses": [{"ip": ip}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]});
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": if advertised.is_ipv6() { "IPv6" } else { "IPv4" },
            "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}]});
        // A server that is reached over loopback alone has no endpoint that pods could use.
        let reachable = !advertised.ip().is_loopback();
        let own = [(SERVICES, "default", service), (ENDPOINTS, "default", endpoints), (ENDPOINT_SLICES, "default", slice)];
        own.into_iter().filter(|(resource, _, _)| reachable || resource.kind == "Service").collect()
    }

    /// What a joining node must know of the cluster, for it and nobody else to read.
    fn cluster_info(&self) -> Vec<(Resource, &'static str, Value)> {
        let config = self.config();
        let cidr = |(network, prefix): (std::net::Ipv4Addr, u8)| format!("{network}/{prefix}");
        let data =
            json!({"clusterId": config.cluster_id, "serviceCidr": cidr(config.service_network), "podCidr": cidr(config.pod_network)});
        let name = json!({"name": CLUSTER_INFO});
        let group = |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": name});
        let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [CLUSTER_INFO], "verbs": ["get"]}]);
        let version = "rbac.authorization.k8s.io/v1";
        vec![
            (CONFIG_MAPS, "kube-public", json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": data})),
            (RBAC[2], "kube-public", json!({"apiVersion": version, "kind": "Role", "metadata": name, "rules": rules})),
            (
                RBAC[3],
                "kube-public",
                json!({"apiVersion": version, "kind": "RoleBinding", "metadata": name,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": CLUSTER_INFO},
                "subjects": [group(BOOTSTRAPPERS), group("system:nodes")]}),
            ),
        ]
    }

    /// The Service by which pods reach the cluster's DNS. Every node answers for itself, so it selects nothing.
    fn dns_service(&self) -> Value {
        json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kube-dns", "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}},
            "spec": {"type": "ClusterIP", "clusterIP": self.services().dns().to_string(), "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53}]}})
    }

    async fn ensure_all(&self, client: &impl Api, objects: Vec<(Resource, &str, Value)>) -> Result<(), Status> {
        // Side by side, so that they share flushes.
        let each = objects.into_iter().map(|(resource, namespace, object)| {
            let ensure: gantry_ports::BoxFuture<'_, Result<(), Status>> = Box::pin(ensure(client, resource, namespace.to_owned(), object));
            ensure
        });
        join_all(each.collect()).await.into_iter().collect()
    }
}

/// What joining and joined nodes may do beyond the role of all nodes: ask for their certificates, and follow services and endpoints,
/// since here a node's agent is its own service proxy.
fn node_bindings() -> Vec<(Resource, &'static str, Value)> {
    let bind = |name: &str, role: &str, group: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}]})
    };
    let approve = "system:certificates.k8s.io:certificatesigningrequests";
    let bindings = [
        bind("gantry:node-proxier", "system:node-proxier", "system:nodes"),
        bind("gantry:join", "system:node-bootstrapper", BOOTSTRAPPERS),
        bind("gantry:first-certificate", &format!("{approve}:nodeclient"), BOOTSTRAPPERS),
        bind("gantry:next-certificate", &format!("{approve}:selfnodeclient"), "system:nodes"),
    ];
    let mut all: Vec<_> = bindings.into_iter().map(|b| (RBAC[1], "", b)).collect();
    // Upstream leaves approving nodes' serving certificates to people; here the controller checks them against the node's own addresses.
    let approver = "gantry:serving-approver";
    let rules = json!([{"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["kubernetes.io/kubelet-serving"], "verbs": ["approve"]}]);
    all.push((
        RBAC[0],
        "",
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": approver}, "rules": rules}),
    ));
    let mut binding = bind(approver, approver, "");
    binding["subjects"] = json!([{"kind": "ServiceAccount", "namespace": "kube-system", "name": "certificate-controller"}]);
    all.push((RBAC[1], "", binding));
    all
}

/// Creates an object, or brings the endpoints of this server up to date where they stand.
pub(crate) async fn ensure(client: &impl Api, resource: Resource, namespace: String, object: Value) -> Result<(), Status> {
    let name = gantry_object::meta::name(&object).to_owned();
    // The front proxy's authority is made anew at every start.
    let follows_address = matches!(resource.kind, "Endpoints" | "EndpointSlice") || name == EXTENSION_AUTHENTICATION;
    match client.call(Request::get(resource, &namespace, &name)).await {
        Ok(_) if follows_address => client.call(Request::new(Verb::Update, resource, &namespace, &name).with_body(&object)).await.map(drop),
        Ok(_) => Ok(()),
        Err(status) if status.is_not_found() => match client.call(Request::create(resource, &namespace, &object)).await {
            Err(status) if !status.is_already_exists() => Err(status),
            _ => Ok(()),
        },
        Err(status) => Err(status),
    }
}
