//! What kinds do beyond their tables: defaults, and what creating and updating does to an object.

mod admission;
mod apiservice;
mod autoscaling;
mod batch;
mod certificates;
mod cluster;
mod config;
pub(crate) mod definition;
mod devices;
mod event;
mod flowcontrol;
mod label_keys;
mod networking;
mod pod;
mod policy;
mod qos;
mod quota;
mod review;
mod schedule;
mod service;
mod sets;
mod storage;
mod volumes;
mod workload;

#[cfg(test)]
mod tests;

use gantry_object::field::ErrorList;
use gantry_object::{Timestamp, Value, names};

pub(crate) use autoscaling::v2_from_v1;

/// How objects of a kind that is stored as another version's are turned into each other.
pub(crate) struct Conversion {
    /// From the stored form to this version's.
    pub(crate) from_storage: fn(&mut Value),
    /// From this version's form to the stored one.
    pub(crate) to_storage: fn(&mut Value),
}

static CONVERSIONS: &[(&str, &str, Conversion)] = &[
    ("events.k8s.io/v1", "Event", Conversion { from_storage: event::events_from_core, to_storage: event::core_from_events }),
    (
        "autoscaling/v1",
        "HorizontalPodAutoscaler",
        Conversion { from_storage: autoscaling::v1_from_v2, to_storage: autoscaling::v2_from_v1 },
    ),
];

/// How a version of a kind is converted to and from what is stored; `None` when it is stored as it is.
pub(crate) fn conversion(api_version: &str, kind: &str) -> Option<&'static Conversion> {
    CONVERSIONS.iter().find(|(version, name, _)| *version == api_version && *name == kind).map(|(_, _, conversion)| conversion)
}

/// What a kind does beyond its table.
pub(crate) struct Rules {
    /// Defaults that depend on other fields.
    pub(crate) defaults: fn(&mut Value),
    /// After the status was reset and the generation set: what else creating does.
    pub(crate) create: fn(&mut Value),
    /// After what the (sub)resource may not write was taken from the old object: what else updating does.
    pub(crate) update: fn(&mut Value, &Value, Option<&str>),
    /// What is wrong with an object, new or changed.
    pub(crate) validate: fn(&Value, &mut ErrorList),
    /// What is wrong with a change.
    pub(crate) validate_update: fn(&Value, &Value, Option<&str>, &mut ErrorList),
    /// What is wrong with a name.
    pub(crate) name: fn(&str) -> Vec<String>,
    /// Whether creating resets the status.
    pub(crate) resets_status: bool,
    /// Which changes count as a new generation.
    pub(crate) generation: Generation,
    /// Fills in times: of what is created (the old object is null), and of changes.
    pub(crate) stamp: fn(&mut Value, &Value, Timestamp),
    /// What a writer is warned of. The old object is null when one is created.
    pub(crate) warnings: fn(&Value, &Value) -> Vec<String>,
    /// Whether an update of an object that isn't there creates it.
    pub(crate) creates_on_update: bool,
    /// Whether an update must name the version it replaces.
    pub(crate) needs_version: bool,
}

/// Which changes count as a new generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    /// None: the kind has no generations.
    Never,
    /// None, but objects start with the first.
    Once,
    /// Changes of the spec.
    Spec,
    /// Changes of the spec, which are counted from nothing.
    SpecAfterCreation,
    /// Changes of the spec or the annotations.
    SpecOrAnnotations,
    /// Changes of anything but the metadata, labels counted.
    AllButMeta,
    /// Changes of anything but the metadata and, where it is written apart, the status.
    Content,
}

/// The rules of custom resources, whose definitions say the rest.
pub(crate) static CUSTOM: Rules = Rules { generation: Generation::Content, needs_version: true, ..PLAIN };

/// The rules of a kind that has none of its own.
pub(crate) const PLAIN: Rules = Rules {
    defaults: |_| {},
    create: |_| {},
    update: |_, _, _| {},
    validate: |_, _| {},
    validate_update: |_, _, _, _| {},
    name: names::dns1123_subdomain,
    resets_status: false,
    generation: Generation::Never,
    stamp: |_, _, _| {},
    warnings: |_, _| Vec::new(),
    creates_on_update: false,
    needs_version: false,
};

static RULES: &[(&str, Rules)] = &[
    ("Namespace", cluster::NAMESPACE),
    ("Node", cluster::NODE),
    ("Pod", pod::POD),
    ("PodTemplate", pod::POD_TEMPLATE),
    ("Service", service::SERVICE),
    ("Endpoints", service::ENDPOINTS),
    ("EndpointSlice", service::ENDPOINT_SLICE),
    ("ConfigMap", config::CONFIG_MAP),
    ("Secret", config::SECRET),
    ("ServiceAccount", config::SERVICE_ACCOUNT),
    ("Event", event::EVENT),
    ("Lease", cluster::LEASE),
    ("Deployment", workload::DEPLOYMENT),
    ("ReplicaSet", workload::REPLICA_SET),
    ("ControllerRevision", workload::CONTROLLER_REVISION),
    ("Role", cluster::ROLE),
    ("ClusterRole", cluster::CLUSTER_ROLE),
    ("RoleBinding", cluster::ROLE_BINDING),
    ("ClusterRoleBinding", cluster::CLUSTER_ROLE_BINDING),
    ("SubjectAccessReview", review::SUBJECT_ACCESS),
    ("SelfSubjectAccessReview", review::SELF_SUBJECT_ACCESS),
    ("LocalSubjectAccessReview", review::LOCAL_SUBJECT_ACCESS),
    ("CustomResourceDefinition", definition::DEFINITION),
    ("CertificateSigningRequest", certificates::SIGNING_REQUEST),
    ("ReplicationController", workload::REPLICATION_CONTROLLER),
    ("DaemonSet", sets::DAEMON_SET),
    ("StatefulSet", sets::STATEFUL_SET),
    ("Job", batch::JOB),
    ("CronJob", batch::CRON_JOB),
    ("HorizontalPodAutoscaler", autoscaling::AUTOSCALER),
    ("PodDisruptionBudget", policy::BUDGET),
    ("PriorityClass", policy::PRIORITY_CLASS),
    ("RuntimeClass", policy::RUNTIME_CLASS),
    ("LimitRange", quota::LIMIT_RANGE),
    ("ResourceQuota", quota::QUOTA),
    ("NetworkPolicy", networking::POLICY),
    ("Ingress", networking::INGRESS),
    ("IngressClass", networking::INGRESS_CLASS),
    ("IPAddress", networking::IP_ADDRESS),
    ("ServiceCIDR", networking::SERVICE_CIDR),
    ("StorageClass", storage::STORAGE_CLASS),
    ("CSIDriver", storage::DRIVER),
    ("CSINode", storage::NODE),
    ("CSIStorageCapacity", storage::CAPACITY),
    ("VolumeAttachment", storage::ATTACHMENT),
    ("VolumeAttributesClass", storage::ATTRIBUTES_CLASS),
    ("PersistentVolume", volumes::VOLUME),
    ("PersistentVolumeClaim", volumes::CLAIM),
    ("ValidatingWebhookConfiguration", admission::VALIDATING_WEBHOOKS),
    ("MutatingWebhookConfiguration", admission::MUTATING_WEBHOOKS),
    ("ValidatingAdmissionPolicy", admission::VALIDATING_POLICY),
    ("ValidatingAdmissionPolicyBinding", admission::VALIDATING_BINDING),
    ("MutatingAdmissionPolicy", admission::MUTATING_POLICY),
    ("MutatingAdmissionPolicyBinding", admission::MUTATING_BINDING),
    ("APIService", apiservice::API_SERVICE),
    ("FlowSchema", flowcontrol::FLOW_SCHEMA),
    ("PriorityLevelConfiguration", flowcontrol::PRIORITY_LEVEL),
    ("ResourceClaim", devices::CLAIM),
    ("ResourceClaimTemplate", devices::CLAIM_TEMPLATE),
    ("ResourceSlice", devices::SLICE),
    ("DeviceClass", devices::CLASS),
];

/// The rules of a kind.
pub(crate) fn of(kind: &str) -> &'static Rules {
    RULES.iter().find(|(name, _)| *name == kind).map_or(&PLAIN, |(_, rules)| rules)
}
