//! What kinds do beyond their tables: defaults, and what creating and updating does to an object.

mod certificates;
mod cluster;
mod config;
pub(crate) mod definition;
mod event;
mod label_keys;
mod pod;
mod qos;
mod review;
mod service;
mod workload;

use gantry_object::field::ErrorList;
use gantry_object::{Value, names};

pub(crate) use event::{core_from_events, events_from_core};

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
}

/// Which changes count as a new generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    /// None: the kind has no generations.
    Never,
    /// Changes of the spec.
    Spec,
    /// Changes of the spec or the annotations.
    SpecOrAnnotations,
    /// Changes of anything but the metadata, labels counted.
    AllButMeta,
    /// Changes of anything but the metadata and, where it is written apart, the status.
    Content,
}

/// The rules of custom resources, whose definitions say the rest.
pub(crate) static CUSTOM: Rules = Rules { generation: Generation::Content, ..PLAIN };

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
];

/// The rules of a kind.
pub(crate) fn of(kind: &str) -> &'static Rules {
    RULES.iter().find(|(name, _)| *name == kind).map_or(&PLAIN, |(_, rules)| rules)
}
