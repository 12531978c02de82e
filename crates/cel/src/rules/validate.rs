//! Rules held against objects.

use gantry_object::Value;
use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::status::CauseReason;

use super::{BUDGET, Rule, Rules};
use crate::eval::Context;
use crate::program::{CALL_LIMIT, Program};
use crate::value::{Fault, Outcome, Val};

/// The longest message an expression may make, in bytes.
const LONGEST_MESSAGE: usize = 5 * 1024;

/// What a value was before, as far as that can be told: errors of what stayed the same are not held against a change.
#[derive(Clone, Copy, Default)]
struct Before<'a> {
    here: Option<(&'a Value, &'a Value)>,
    /// The nearest value around it of which it can be told.
    around: Option<(&'a Value, &'a Value)>,
}

impl<'a> Before<'a> {
    fn below(self, name: Option<&str>, found: Option<(&'a Value, &'a Value)>) -> Self {
        match self.here {
            None => self,
            // These are the same whatever the version.
            Some(_) if self.around.is_none() && matches!(name, Some("apiVersion" | "kind")) => Self::default(),
            Some(here) => Self { here: found, around: Some(here) },
        }
    }

    fn is_unchanged(self) -> bool {
        self.here.or(self.around).is_some_and(|(new, old)| new == old)
    }
}

struct Findings {
    errors: ErrorList,
    left: u64,
}

/// Nothing more is to be looked at.
struct Stop;

impl Rules {
    /// What is wrong with an object. With the object it replaces, rules that it broke before and that look only at what stayed the same
    /// are not held against it.
    pub fn validate(&self, new: &Value, old: Option<&Value>) -> ErrorList {
        let mut found = Findings { errors: ErrorList::new(), left: BUDGET };
        let before = Before { here: old.map(|old| (new, old)), around: None };
        // Whether it was stopped shows in the errors.
        let _ = self.check(new, old, before, &Path::default(), &mut found);
        found.errors
    }

    fn check<'a>(
        &'a self,
        new: &'a Value,
        old: Option<&'a Value>,
        before: Before<'a>,
        path: &Path,
        found: &mut Findings,
    ) -> Result<(), Stop> {
        if new.is_null() {
            return Ok(());
        }
        let old = old.filter(|o| !o.is_null());
        for rule in &self.rules {
            self.check_rule(rule, new, old, before, path, found)?;
        }
        for all in &self.all_of {
            all.check(new, old, Before { here: None, around: before.around }, path, found)?;
        }
        match new {
            Value::Array(items) => {
                let Some(rules) = &self.items else { return Ok(()) };
                let olds = old.and_then(Value::as_array);
                for (i, item) in items.iter().enumerate() {
                    let same = |o: &&Value| self.keys.as_ref().is_some_and(|keys| keys.iter().all(|k| o.get(k) == item.get(k)));
                    let was = olds.and_then(|olds| olds.iter().find(same));
                    rules.check(item, was, before.below(None, was.map(|w| (item, w))), &path.index(i), found)?;
                }
            }
            Value::Object(members) => {
                for (name, value) in members {
                    let was = old.and_then(|o| o.get(name));
                    let before = before.below(Some(name), was.map(|w| (value, w)));
                    if let Some(rules) = &self.additional {
                        rules.check(value, was, before, &path.key(name), found)?;
                    }
                    if let Some(rules) = self.properties.get(name) {
                        rules.check(value, was, before, &path.child(name), found)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn check_rule<'a>(
        &'a self,
        rule: &'a Rule,
        new: &'a Value,
        old: Option<&'a Value>,
        before: Before<'a>,
        path: &Path,
        found: &mut Findings,
    ) -> Result<(), Stop> {
        let refuse = |detail: String| Error::invalid(path, self.kind.as_str(), &detail);
        if found.left == 0 {
            found
                .errors
                .push(refuse("validation failed due to running out of cost budget, no further validation rules will be run".into()));
            return Err(Stop);
        }
        let program = match &rule.program {
            Ok(program) => program,
            Err(_) if rule.text.trim().is_empty() => return Ok(()),
            Err(problem) => {
                found.errors.push(refuse(format!("rule compile error: {problem}")));
                return Ok(());
            }
        };
        if rule.uses_old() && old.is_none() && !rule.optional_old {
            return Ok(());
        }
        let (outcome, spent) = self.eval(rule, program, new, old);
        if spent > found.left {
            found
                .errors
                .push(refuse("validation failed due to running out of cost budget, no further validation rules will be run".into()));
            return Err(Stop);
        }
        found.left -= spent;
        match outcome {
            Ok(Val::Bool(true)) => return Ok(()),
            Ok(_) => {}
            Err(Fault::TooDear) => {
                let why = format!(
                    "'{}': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                    Fault::TooDear,
                    rule.shown()
                );
                found.errors.push(refuse(why));
                return Err(Stop);
            }
            Err(Fault::NoOverload) => {
                let why = format!(
                    "'no such overload': call arguments did not match a supported operator, function or macro signature for rule: {}",
                    rule.shown()
                );
                found.errors.push(refuse(why));
                return Ok(());
            }
            Err(fault) => {
                found.errors.push(refuse(format!("{fault} evaluating rule: {}", rule.shown())));
                return Ok(());
            }
        }
        let detail = self.message(rule, new, old, found);
        if rule.uses_old() || !before.is_unchanged() {
            found.errors.push(self.refusal(rule, new, path, &detail));
        }
        Ok(())
    }

    fn eval<'a>(&'a self, rule: &Rule, program: &'a Program, new: &'a Value, old: Option<&'a Value>) -> (Outcome<'a>, u64) {
        let Some(decl) = &self.decl else { return (Err(Fault::NoOverload), 0) };
        let values = Val::read(new, decl).and_then(|new| Ok((new, old.map(|o| Val::read(o, decl)).transpose()?)));
        let (new, old) = match values {
            Ok(values) => values,
            Err(fault) => return (Err(fault), 0),
        };
        let old = if rule.optional_old { Some(old.into()) } else { old };
        let mut context = Context::new(vec![Some(new), old], CALL_LIMIT);
        let outcome = program.eval(&mut context);
        (outcome, context.cost())
    }

    /// What the writer is told: what the message's expression makes, the message, or the rule itself.
    fn message(&self, rule: &Rule, new: &Value, old: Option<&Value>, found: &mut Findings) -> String {
        let plain = || rule.message.as_ref().map_or_else(|| format!("failed rule: {}", rule.text.trim()), |m| m.trim().to_owned());
        let Some(Ok(program)) = &rule.message_program else { return plain() };
        let (outcome, spent) = self.eval(rule, program, new, old);
        found.left = found.left.saturating_sub(spent);
        let made = match &outcome {
            Ok(Val::String(text)) => text.trim(),
            _ => "",
        };
        if made.is_empty() || made.len() > LONGEST_MESSAGE || made.contains('\n') { plain() } else { made.to_owned() }
    }

    fn refusal(&self, rule: &Rule, new: &Value, path: &Path, detail: &str) -> Error {
        let path = match &rule.field_path {
            Some(field) => Path::new(&joined(&path.to_string(), field)),
            None => path.clone(),
        };
        // Whole objects and lists are not repeated.
        let whole = matches!(self.kind.as_str(), "object" | "array");
        let invalid = |path: &Path| match whole {
            true => Error { reason: CauseReason::FieldValueInvalid, path: path.clone(), body: format!("Invalid value: {detail}") },
            false => Error::invalid(path, new.clone(), detail),
        };
        match rule.reason.as_deref() {
            Some("FieldValueForbidden") => Error::forbidden(&path, detail),
            Some("FieldValueRequired") => Error::required(&path, detail),
            Some("FieldValueDuplicate") if whole => {
                Error { reason: CauseReason::FieldValueDuplicate, path, body: "Duplicate value".into() }
            }
            Some("FieldValueDuplicate") => Error::duplicate(&path, new.clone()),
            _ => invalid(&path),
        }
    }
}

/// A path below another, as its own notation has it: `.a['b']`.
fn joined(path: &str, field: &str) -> String {
    let field = field.replace("['", ".").replace("']", "");
    if path.is_empty() || path == "<nil>" { field.trim_start_matches('.').to_owned() } else { format!("{path}{field}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(schema: &Value, new: &Value, old: Option<&Value>) -> Vec<String> {
        Rules::read(schema).unwrap().validate(new, old).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn objects_that_break_rules_are_refused() {
        let schema = json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.metadata.name.startsWith('a')"}], "properties": {
            "spec": {"type": "object", "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}},
                "x-kubernetes-validations": [
                    {"rule": "self.min <= self.max", "messageExpression": "'min is ' + string(self.min)", "fieldPath": ".min"},
                    {"rule": "has(self.max)", "message": "max is needed", "reason": "FieldValueRequired"}]}}});
        let object = |spec: Value| json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "b"}, "spec": spec});
        assert_eq!(
            errors(&schema, &object(json!({"min": 3, "max": 2})), None),
            ["<nil>: Invalid value: failed rule: self.metadata.name.startsWith('a')", "spec.min: Invalid value: min is 3"]
        );
        assert_eq!(
            errors(&schema, &object(json!({"min": 3})), None)[1..],
            [
                "spec: Invalid value: \"object\": no such key: max evaluating rule: self.min <= self.max",
                "spec: Required value: max is needed"
            ]
        );
    }

    #[test]
    fn changes_are_held_against_what_was() {
        let schema = json!({"type": "object", "properties": {
            "fixed": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is fixed"}]},
            "small": {"type": "integer", "x-kubernetes-validations": [{"rule": "self < 10"}]},
            "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object",
                "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}, "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v"}]}}}});
        let old = json!({"fixed": "a", "small": 20, "list": [{"k": "x", "v": 2}, {"k": "y", "v": 2}]});
        assert_eq!(errors(&schema, &json!({"fixed": "b"}), None), Vec::<String>::new());
        assert_eq!(
            errors(&schema, &json!({"fixed": "b", "small": 20, "list": [{"k": "y", "v": 1}, {"k": "new", "v": 0}]}), Some(&old)),
            ["fixed: Invalid value: \"b\": is fixed", "list[0]: Invalid value: failed rule: self.v >= oldSelf.v"]
        );
        assert_eq!(errors(&schema, &json!({"small": 21}), Some(&old)), ["small: Invalid value: 21: failed rule: self < 10"]);
    }

    #[test]
    fn rules_that_cost_too_much_stop() {
        let schema = json!({"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": [{"rule": "self.all(a, self.all(b, a + b >= 0))"}]});
        let many: Value = (0..1000).collect::<Vec<_>>().into();
        let found = errors(&schema, &many, None);
        assert!(found[0].contains("no further validation rules will be run due to call cost exceeds limit"), "{found:?}");
    }
}
