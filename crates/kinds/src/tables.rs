//! The table texts.

macro_rules! table {
    ($name:literal) => {
        ($name, include_str!(concat!("../tables/", $name, ".txt")))
    };
}

/// The tables of the kinds that are served.
pub(crate) const SERVED: &[(&str, &str)] = &[
    table!("meta_v1"),
    table!("core_v1"),
    table!("admissionregistration_v1"),
    table!("apiextensions_v1"),
    table!("apiregistration_v1"),
    table!("apps_v1"),
    table!("authentication_v1"),
    table!("authorization_v1"),
    table!("autoscaling_v1"),
    table!("autoscaling_v2"),
    table!("batch_v1"),
    table!("certificates_v1"),
    table!("coordination_v1"),
    table!("discovery_v1"),
    table!("events_v1"),
    table!("flowcontrol_v1"),
    table!("networking_v1"),
    table!("node_v1"),
    table!("policy_v1"),
    table!("rbac_v1"),
    table!("resource_v1"),
    table!("scheduling_v1"),
    table!("storage_v1"),
];

/// Discovery facts, columns and field labels of the kinds that are served.
pub(crate) const KINDS: &str = include_str!("../tables/kinds.txt");

/// The roles and bindings a fresh cluster has.
pub(crate) const BOOTSTRAP_RBAC: &str = include_str!("../tables/rbac_bootstrap.txt");

/// What else a fresh cluster has.
pub(crate) const BOOTSTRAP: &str = include_str!("../tables/bootstrap.txt");
