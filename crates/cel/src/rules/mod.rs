//! Validation rules of custom resources: `x-kubernetes-validations`, made ready and held against objects.

mod definition;
mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_object::Value;

use crate::decl::{Decl, LARGEST_REQUEST};
use crate::env::Env;
use crate::program::Program;
use crate::types::Type;

pub use definition::check_definition;

/// What all rules together may cost when one object is checked.
const BUDGET: u64 = 10_000_000;

/// A rule, made ready.
#[derive(Debug)]
struct Rule {
    text: String,
    message: Option<String>,
    reason: Option<String>,
    field_path: Option<String>,
    optional_old: bool,
    /// The rule; what is wrong with it otherwise.
    program: Result<Program, String>,
    message_program: Option<Result<Program, String>>,
}

/// The rules of a schema and of what lies below it.
#[derive(Debug)]
pub struct Rules {
    decl: Option<Arc<Decl>>,
    /// The JSON type, as errors name it.
    kind: String,
    rules: Vec<Rule>,
    items: Option<Box<Rules>>,
    additional: Option<Box<Rules>>,
    properties: BTreeMap<String, Rules>,
    all_of: Vec<Rules>,
    /// The keys of a list whose items can be told apart.
    keys: Option<Vec<String>>,
}

fn rules_of(schema: &Value) -> &[Value] {
    schema["x-kubernetes-validations"].as_array().map_or(&[], Vec::as_slice)
}

/// Whether a schema has rules anywhere on its spine.
fn has_rules(schema: &Value) -> bool {
    schema.is_object()
        && (!rules_of(schema).is_empty()
            || has_rules(&schema["items"])
            || has_rules(&schema["additionalProperties"])
            || schema["properties"].as_object().is_some_and(|p| p.values().any(has_rules))
            || schema["allOf"].as_array().is_some_and(|all| all.iter().any(has_rules)))
}

impl Rules {
    /// The rules of a definition's schema; `None` when it has none.
    pub fn read(schema: &Value) -> Option<Self> {
        if has_rules(schema) { Self::of(schema, schema, true) } else { None }
    }

    /// The rules of one schema over the values another declares: those of `allOf` declare nothing.
    fn of(rules: &Value, node: &Value, root: bool) -> Option<Self> {
        let embedded = |schema: &Value| schema["x-kubernetes-embedded-resource"] == true;
        let below = |name: &str| {
            let (rules, node) = (rules.get(name).filter(|v| v.is_object())?, node.get(name).filter(|v| v.is_object())?);
            Self::of(rules, node, embedded(node)).map(Box::new)
        };
        let said = rules_of(rules);
        let decl = if said.is_empty() { None } else { Decl::of_schema(node, root, "selfType").map(Arc::new) };
        let mut properties = BTreeMap::new();
        for (name, property) in rules["properties"].as_object().into_iter().flatten() {
            let Some(node) = node["properties"].get(name) else { continue };
            if let Some(found) = Self::of(property, node, embedded(node)) {
                properties.insert(name.clone(), found);
            }
        }
        let all_of = rules["allOf"].as_array().into_iter().flatten().filter_map(|inner| Self::of(inner, node, root)).collect();
        let keys = (node["x-kubernetes-list-type"] == "map").then(|| {
            let keys = node["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
            keys.filter_map(|k| k.as_str().map(String::from)).collect()
        });
        let found = Self {
            kind: node["type"].as_str().unwrap_or_default().to_owned(),
            rules: said.iter().map(|rule| Rule::read(rule, decl.as_ref())).collect(),
            decl,
            items: below("items"),
            additional: below("additionalProperties"),
            properties,
            all_of,
            keys,
        };
        let empty = found.rules.is_empty()
            && found.items.is_none()
            && found.additional.is_none()
            && found.properties.is_empty()
            && found.all_of.is_empty();
        (!empty).then_some(found)
    }
}

impl Rule {
    fn read(rule: &Value, decl: Option<&Arc<Decl>>) -> Self {
        let text = |name: &str| rule[name].as_str().filter(|t| !t.trim().is_empty()).map(String::from);
        let optional_old = rule["optionalOldSelf"] == true;
        let source = text("rule").unwrap_or_default();
        let compile = |source: &str| match decl {
            None => Err("failed to convert to declType for CEL validation rules".to_owned()),
            Some(decl) => {
                let env = Env::new().with("self", decl);
                let env = match optional_old {
                    true => env.with_type("oldSelf", Type::optional(decl.ty())),
                    false => env.with("oldSelf", decl),
                };
                // Sizes of what was there before are bounded as those of what is there now.
                Program::compile(&env, source, &[("self".into(), decl.clone()), ("oldSelf".into(), decl.clone())])
            }
        };
        let typed = |source: &str, wanted: &Type, what: (&str, &str)| {
            let program = compile(source).map_err(|problems| format!("{}compilation failed: {problems}", what.0))?;
            if program.ty() == wanted { Ok(program) } else { Err(what.1.to_owned()) }
        };
        Self {
            program: typed(&source, &Type::Bool, ("", "cel expression must evaluate to a bool")),
            message_program: text("messageExpression")
                .map(|m| typed(&m, &Type::String, ("messageExpression ", "messageExpression must evaluate to a string"))),
            text: source,
            message: text("message"),
            reason: text("reason"),
            field_path: text("fieldPath"),
            optional_old,
        }
    }

    fn uses_old(&self) -> bool {
        self.program.as_ref().is_ok_and(|p| p.uses("oldSelf"))
    }

    /// What errors call it.
    fn shown(&self) -> &str {
        self.message.as_deref().unwrap_or(&self.text).trim()
    }
}

/// How often values of this size may be in a request.
fn most_values(min_size: i64) -> u64 {
    (LARGEST_REQUEST / (min_size + 1)) as u64
}
