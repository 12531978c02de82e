//! The roles and bindings every cluster has from the start.

use gantry_object::Value;

const TABLE: &str = include_str!("../tables/bootstrap_rbac.jsonl");

/// Upstream's bootstrap roles and bindings, labels and annotations included: ClusterRoles, ClusterRoleBindings, Roles, RoleBindings.
pub fn bootstrap_rbac() -> Vec<Value> {
    TABLE.lines().map(|line| serde_json::from_str(line).expect("the table is checked by a test")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_table_reads_and_every_binding_has_its_role() {
        let all = super::bootstrap_rbac();
        let text = |o: &gantry_object::Value, p: &str| o.pointer(p).and_then(|v| v.as_str()).unwrap_or("").to_owned();
        for binding in all.iter().filter(|o| text(o, "/kind").ends_with("Binding")) {
            let (kind, name) = (text(binding, "/roleRef/kind"), text(binding, "/roleRef/name"));
            let found = all.iter().any(|o| text(o, "/kind") == kind && text(o, "/metadata/name") == name);
            assert!(found, "{} refers to {kind} {name}", text(binding, "/metadata/name"));
        }
        assert_eq!(all.len(), 137);
    }
}
