//! Trees as YAML.

use gantry_object::Value;

/// A tree as a YAML document.
pub fn to_yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).expect("a tree has only text keys")
}

#[cfg(test)]
mod tests {
    #[test]
    fn yaml_reads_back_as_the_same_tree() {
        let value = serde_json::json!({"a": ["1", 1, true, null, "yes", "a: b", "x\ny\n"], "b": {"c d": {}, "e": []}});
        let (back, _) = crate::decode::parse_yaml(super::to_yaml(&value).as_bytes()).expect("YAML");
        assert_eq!(back, value);
    }
}
