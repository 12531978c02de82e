//! Labels and the selectors over them.

use std::collections::BTreeSet;
use std::fmt;

use crate::{Map, Value, names};

/// Where a selector looks a label up.
pub trait Lookup {
    /// The value of a label, if there is one.
    fn value_of(&self, key: &str) -> Option<&str>;
}

impl Lookup for Map {
    fn value_of(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

impl Lookup for std::collections::BTreeMap<String, String> {
    fn value_of(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl<L: Lookup> Lookup for Option<L> {
    fn value_of(&self, key: &str) -> Option<&str> {
        self.as_ref()?.value_of(key)
    }
}

impl<L: Lookup> Lookup for &L {
    fn value_of(&self, key: &str) -> Option<&str> {
        (**self).value_of(key)
    }
}

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The value is one of those given.
    In,
    /// The label is missing, or its value is none of those given.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is missing.
    DoesNotExist,
    /// The value is a number above the one given.
    GreaterThan,
    /// The value is a number below the one given.
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How it compares.
    pub operator: Operator,
    /// With what.
    pub values: BTreeSet<String>,
}

impl Requirement {
    /// Whether the labels meet it.
    pub fn matches(&self, labels: &impl Lookup) -> bool {
        let value = labels.value_of(&self.key);
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = || self.values.first().and_then(|v| number(v));
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => matches!((value.and_then(number), bound()), (Some(v), Some(b)) if v > b),
            Operator::LessThan => matches!((value.and_then(number), bound()), (Some(v), Some(b)) if v < b),
        }
    }
}

/// Conditions that must all be met. Empty: everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// The conditions.
    pub requirements: Vec<Requirement>,
}

/// Why a text is not a selector, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseSelectorError(pub String);

impl Selector {
    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether the labels meet every condition.
    pub fn matches(&self, labels: &impl Lookup) -> bool {
        self.requirements.iter().all(|r| r.matches(labels))
    }

    /// Whether an object's own labels meet every condition.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.is_empty() || self.matches(&crate::meta::metadata(object).and_then(|m| m.get("labels")).and_then(Value::as_object))
    }

    /// Every pair must be present: the selector of a Service.
    pub fn from_map<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let one = |(key, value): (&str, &str)| Requirement {
            key: key.into(),
            operator: Operator::In,
            values: BTreeSet::from([value.to_owned()]),
        };
        Self { requirements: pairs.into_iter().map(one).collect() }
    }

    /// Takes a `meta/v1 LabelSelector`. An absent selector (null) selects nothing, which is `None`; an empty one selects everything.
    ///
    /// # Errors
    /// When an operator is unknown or has the wrong number of values.
    pub fn from_label_selector(selector: &Value) -> Result<Option<Self>, ParseSelectorError> {
        let Some(members) = selector.as_object() else { return Ok(None) };
        let labels = members.get("matchLabels").and_then(Value::as_object);
        let mut all = Self::from_map(labels.into_iter().flatten().filter_map(|(k, v)| Some((k.as_str(), v.as_str()?))));
        for expression in members.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            let key = expression.get("key").and_then(Value::as_str).unwrap_or("");
            let values = expression.get("values").and_then(Value::as_array);
            let values: BTreeSet<String> = values.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
            let operator = match expression.get("operator").and_then(Value::as_str).unwrap_or("") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(ParseSelectorError(format!("{other:?} is not a valid label selector operator"))),
            };
            if matches!(operator, Operator::In | Operator::NotIn) == values.is_empty() {
                return Err(ParseSelectorError(format!("values of {key:?} do not go with its operator")));
            }
            all.requirements.push(Requirement { key: key.into(), operator, values });
        }
        Ok(Some(all))
    }

    /// Reads the query form: `a=b,c!=d,e in (f,g),h,!i,j>1`.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn parse(text: &str) -> Result<Self, ParseSelectorError> {
        let mut parser = Parser { tokens: tokenize(text), at: 0 };
        let mut requirements = Vec::new();
        while parser.peek() != "" {
            requirements.push(parser.requirement()?);
            match parser.next().as_str() {
                "" => break,
                "," if parser.peek() == "" || is_symbol(&parser.peek()) && parser.peek() != "!" => {
                    return Err(ParseSelectorError(format!("found '{}', expected: identifier after ','", parser.peek())));
                }
                "," => {}
                other => return Err(ParseSelectorError(format!("found '{other}', expected: ',' or 'end of string'"))),
            }
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements })
    }
}

fn is_symbol(token: &str) -> bool {
    matches!(token, "," | "(" | ")" | "=" | "==" | "!=" | "!" | ">" | "<")
}

fn tokenize(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = text.trim_start();
    while let Some(c) = rest.chars().next() {
        let length = match c {
            _ if rest.starts_with("==") || rest.starts_with("!=") => 2,
            ',' | '(' | ')' | '=' | '!' | '>' | '<' => 1,
            _ => rest.find(|c: char| c.is_whitespace() || ",()=!><".contains(c)).unwrap_or(rest.len()),
        };
        tokens.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    tokens
}

struct Parser {
    tokens: Vec<String>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> String {
        self.tokens.get(self.at).cloned().unwrap_or_default()
    }

    fn next(&mut self) -> String {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, ParseSelectorError> {
        let negated = self.peek() == "!";
        if negated {
            self.at += 1;
        }
        let key = self.next();
        if key.is_empty() || is_symbol(&key) {
            return Err(ParseSelectorError(format!("unable to parse requirement: found '{key}', expected: identifier")));
        }
        let wrong = names::qualified_name(&key);
        if !wrong.is_empty() {
            let what = wrong.join("; ");
            return Err(ParseSelectorError(format!("unable to parse requirement: <nil>: Invalid value: {key:?}: {what}")));
        }
        if negated {
            return Ok(Requirement { key, operator: Operator::DoesNotExist, values: BTreeSet::new() });
        }
        if matches!(self.peek().as_str(), "" | ",") {
            return Ok(Requirement { key, operator: Operator::Exists, values: BTreeSet::new() });
        }
        let operator = match self.next().as_str() {
            "=" | "==" => return self.single(key, Operator::In),
            "!=" => return self.single(key, Operator::NotIn),
            ">" => return self.single(key, Operator::GreaterThan),
            "<" => return self.single(key, Operator::LessThan),
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            other => {
                let expected = "=, !=, ==, in, notin, >, <";
                return Err(ParseSelectorError(format!("unable to parse requirement: found '{other}', expected: {expected}")));
            }
        };
        let values = self.values()?;
        Self::checked(Requirement { key, operator, values })
    }

    fn single(&mut self, key: String, operator: Operator) -> Result<Requirement, ParseSelectorError> {
        let value = if matches!(self.peek().as_str(), "" | ",") { String::new() } else { self.next() };
        if is_symbol(&value) {
            return Err(ParseSelectorError(format!("found '{value}', expected: identifier")));
        }
        Self::checked(Requirement { key, operator, values: BTreeSet::from([value]) })
    }

    fn values(&mut self) -> Result<BTreeSet<String>, ParseSelectorError> {
        let open = self.next();
        if open != "(" {
            return Err(ParseSelectorError(format!("unable to parse requirement: found '{open}' expected: '('")));
        }
        let mut values = BTreeSet::new();
        loop {
            let value = if matches!(self.peek().as_str(), "," | ")") { String::new() } else { self.next() };
            values.insert(value);
            match self.next().as_str() {
                "," => {}
                ")" => return Ok(values),
                other => return Err(ParseSelectorError(format!("unable to parse requirement: found '{other}', expected: ',' or ')'"))),
            }
        }
    }

    fn checked(requirement: Requirement) -> Result<Requirement, ParseSelectorError> {
        let numeric = matches!(requirement.operator, Operator::GreaterThan | Operator::LessThan);
        for value in &requirement.values {
            let mut wrong = names::label_value(value);
            if numeric && value.parse::<i64>().is_err() {
                wrong = vec!["for 'Gt', 'Lt' operators, the value must be an integer".into()];
            }
            if !wrong.is_empty() {
                let (key, what) = (&requirement.key, wrong.join("; "));
                return Err(ParseSelectorError(format!("unable to parse requirement: values[0][{key}]: Invalid value: {value:?}: {what}")));
            }
        }
        Ok(requirement)
    }
}

impl fmt::Display for Selector {
    /// The query form, readable by [`Selector::parse`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let values = r.values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
            let key = &r.key;
            match (r.operator, r.values.len()) {
                (Operator::In, 1) => write!(f, "{comma}{key}={values}"),
                (Operator::In, _) => write!(f, "{comma}{key} in ({values})"),
                (Operator::NotIn, 1) => write!(f, "{comma}{key}!={values}"),
                (Operator::NotIn, _) => write!(f, "{comma}{key} notin ({values})"),
                (Operator::Exists, _) => write!(f, "{comma}{key}"),
                (Operator::DoesNotExist, _) => write!(f, "{comma}!{key}"),
                (Operator::GreaterThan, _) => write!(f, "{comma}{key}>{values}"),
                (Operator::LessThan, _) => write!(f, "{comma}{key}<{values}"),
            }?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_are_parsed_and_matched() {
        let labels = json!({"app": "web", "tier": "front", "n": "5"});
        let labels = labels.as_object().expect("an object");
        let cases = [
            ("", true),
            ("app=web", true),
            ("app==web,tier!=back", true),
            ("app in (web,db)", true),
            ("app notin (web)", false),
            ("missing notin (x)", true),
            ("missing!=x", true),
            ("app", true),
            ("!app", false),
            ("!missing", true),
            ("n>4", true),
            ("n<5", false),
            ("app=", false),
            (" app = web , tier", true),
            ("app in (web), n > 4", true),
        ];
        for (text, expected) in cases {
            let selector = Selector::parse(text).expect(text);
            assert_eq!(selector.matches(labels), expected, "{text}");
            assert_eq!(Selector::parse(&selector.to_string()).expect("printed form parses"), selector);
        }
        for bad in ["a=b,", ",", "a in b", "a in (b", "=b", "a===b", "a=b=c", "a b", "a=b c", "-a", "a>x", "a=-b", "!", "a,,b"] {
            assert!(Selector::parse(bad).is_err(), "{bad:?} parsed");
        }
    }

    #[test]
    fn an_absent_label_selector_selects_nothing_and_an_empty_one_everything() {
        assert_eq!(Selector::from_label_selector(&Value::Null), Ok(None));
        assert_eq!(Selector::from_label_selector(&json!({})), Ok(Some(Selector::default())));
        let given = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]});
        let selector = Selector::from_label_selector(&given).expect("valid").expect("present");
        assert_eq!(selector.to_string(), "a=b,c");
        assert!(Selector::from_label_selector(&json!({"matchExpressions": [{"key": "c", "operator": "In"}]})).is_err());
    }
}
