//! Rules as a definition has them: whether they can be made ready, and what they may cost.

use gantry_object::Value;
use gantry_object::field::{Error, ErrorList, Path};

use super::{Rule, most_values, rules_of};
use crate::decl::Decl;

/// What one rule may cost at worst.
const RULE_LIMIT: u64 = 10_000_000;
/// What all rules of a schema may cost at worst.
const TOTAL_LIMIT: u64 = 100_000_000;

#[derive(Default)]
struct Costs {
    total: u64,
    dearest: Vec<(u64, Path)>,
}

impl Costs {
    fn add(&mut self, path: &Path, cost: u64) {
        self.total = self.total.saturating_add(cost);
        if cost >= TOTAL_LIMIT / 100 {
            self.dearest.push((cost, path.clone()));
            self.dearest.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
            self.dearest.truncate(4);
        }
    }
}

/// What a walk knows of where it is.
#[derive(Clone, Default)]
struct Place {
    root: bool,
    /// How many such values there may be; `None` when nothing says.
    many: Option<u64>,
    /// The list whose items can't be told apart.
    untold: Option<Path>,
}

/// What is wrong with the rules of a definition's schema at a path.
pub fn check_definition(schema: &Value, path: &Path, errors: &mut ErrorList) {
    if !super::has_rules(schema) {
        return;
    }
    let mut costs = Costs::default();
    walk(schema, schema, path, &Place { root: true, many: Some(1), untold: None }, &mut costs, errors);
    if costs.total > TOTAL_LIMIT {
        for (_, path) in &costs.dearest {
            let detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.push(Error::forbidden(path, detail));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(Error::forbidden(path, &too_dear(what, costs.total, TOTAL_LIMIT)));
    }
}

fn too_dear(what: &str, cost: u64, limit: u64) -> String {
    let times = cost as f64 / limit as f64;
    let factor = match times {
        t if t > 100.0 => "more than 100x".to_owned(),
        t if t < 1.5 => format!("{t:.6}x"),
        t => format!("{t:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

fn walk(rules: &Value, node: &Value, path: &Path, place: &Place, costs: &mut Costs, errors: &mut ErrorList) {
    if !rules.is_object() || !node.is_object() {
        return;
    }
    check_rules(rules, node, path, place, costs, errors);
    let embedded = |schema: &Value| schema["x-kubernetes-embedded-resource"] == true;
    let below = |bound: &str, schema: &Value, untold: Option<Path>| Place {
        root: embedded(schema),
        many: place.many.and_then(|many| Some(many.saturating_mul(node[bound].as_u64()?))),
        untold: place.untold.clone().or(untold),
    };
    for (name, inner) in rules["properties"].as_object().into_iter().flatten() {
        let node = &node["properties"][name.as_str()];
        let place = Place { root: embedded(node), ..place.clone() };
        walk(inner, node, &path.child("properties").key(name), &place, costs, errors);
    }
    let additional = &node["additionalProperties"];
    walk(
        &rules["additionalProperties"],
        additional,
        &path.child("additionalProperties"),
        &below("maxProperties", additional, None),
        costs,
        errors,
    );
    let told = node["x-kubernetes-list-type"] == "map";
    let items = below("maxItems", &node["items"], (!told).then(|| path.clone()));
    walk(&rules["items"], &node["items"], &path.child("items"), &items, costs, errors);
    for (i, inner) in rules["allOf"].as_array().into_iter().flatten().enumerate() {
        walk(inner, node, &path.child("allOf").index(i), place, costs, errors);
    }
}

fn check_rules(rules: &Value, node: &Value, path: &Path, place: &Place, costs: &mut Costs, errors: &mut ErrorList) {
    let said = rules_of(rules);
    if said.is_empty() {
        return;
    }
    let path = path.child("x-kubernetes-validations");
    let Some(decl) = Decl::of_schema(node, place.root, "selfType").map(std::sync::Arc::new) else {
        errors.push(Error::internal(&path, "internal error: failed to retrieve type information for x-kubernetes-validations"));
        return;
    };
    let many = place.many.unwrap_or_else(|| most_values(decl.min_size));
    for (i, said) in said.iter().enumerate() {
        let at = path.index(i);
        let rule = Rule::read(said, Some(&decl));
        if rule.text.is_empty() {
            continue;
        }
        match &rule.program {
            Ok(program) => {
                let cost = program.max_cost().saturating_mul(many);
                if cost > RULE_LIMIT {
                    errors.push(Error::forbidden(&at.child("rule"), &too_dear("estimated rule cost", cost, RULE_LIMIT)));
                }
                costs.add(&at.child("rule"), cost);
            }
            Err(problem) => errors.push(Error::invalid(&at.child("rule"), said.clone(), problem)),
        }
        match &rule.message_program {
            Some(Ok(program)) => {
                let cost = program.max_cost();
                if cost > RULE_LIMIT {
                    let detail = too_dear("estimated messageExpression cost", cost, RULE_LIMIT);
                    errors.push(Error::forbidden(&at.child("messageExpression"), &detail));
                }
                costs.add(&at.child("messageExpression"), cost);
            }
            Some(Err(problem)) if rule.program.is_ok() => {
                errors.push(Error::invalid(&at.child("messageExpression"), said.clone(), problem));
            }
            _ => {}
        }
        if rule.uses_old() {
            if let Some(untold) = &place.untold {
                let detail = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {untold}");
                errors.push(Error::invalid(&at.child("rule"), rule.text.as_str(), &detail));
            }
        } else if rule.program.is_ok() && !said["optionalOldSelf"].is_null() {
            let detail = "may not be set if oldSelf is not used in rule";
            errors.push(Error::invalid(&at.child("optionalOldSelf"), said["optionalOldSelf"].clone(), detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(schema: &Value) -> Vec<String> {
        let mut errors = ErrorList::new();
        check_definition(schema, &Path::new("schema"), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_that_are_none_are_refused_with_the_place() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "x-kubernetes-validations": [{"rule": "self.x"}, {"rule": "self"}, {"rule": "self > 0", "messageExpression": "1"}]}}});
        let found = errors(&schema);
        assert!(
            found[0].contains("compilation failed: ERROR: <input>:1:5: type 'int' does not support field selection\n | self.x\n | ....^"),
            "{found:?}"
        );
        assert!(
            found[1].starts_with("schema.properties[n].x-kubernetes-validations[1].rule: Invalid value:")
                && found[1].ends_with("cel expression must evaluate to a bool")
        );
        assert!(found[2].ends_with("messageExpression must evaluate to a string"));
    }

    #[test]
    fn rules_that_may_cost_too_much_are_refused() {
        let list = |bounds: Value| {
            let mut list = json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-validations": [{"rule": "self.all(a, self.all(b, a != b))"}]});
            list.as_object_mut().unwrap().extend(bounds.as_object().unwrap().clone());
            json!({"type": "object", "properties": {"l": list}})
        };
        let found = errors(&list(json!({})));
        assert!(found[0].contains("estimated rule cost exceeds budget by factor of more than 100x"), "{found:?}");
        assert!(found.len() == 3 && found[2].contains("estimated rule cost total"), "{found:?}");
        assert!(errors(&list(json!({"maxItems": 10, "items": {"type": "string", "maxLength": 10}}))).is_empty());
    }

    #[test]
    fn what_cannot_be_told_apart_has_no_past() {
        let schema = json!({"type": "array", "maxItems": 3, "items": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf"}]}});
        assert!(errors(&schema)[0].ends_with("oldSelf cannot be used on the uncorrelatable portion of the schema within schema"));
    }
}
