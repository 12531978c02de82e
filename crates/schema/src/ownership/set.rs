//! Sets of fields, in the form `FieldsV1` gives them.

use std::collections::BTreeMap;
use std::fmt;

use gantry_object::{Map, Value};

/// One step of a path, as `FieldsV1` writes it: `f:NAME`, `k:{…}` for an item told apart by keys, `v:…` for an item of a set, `i:N` for an index.
///
/// Keys stand in order of their names and whole numbers are written without a fraction, so that equal steps are equal texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element(Box<str>);

impl Element {
    /// A member of a struct or map.
    pub fn field(name: &str) -> Self {
        Self(format!("f:{name}").into())
    }

    /// An item that these keys tell apart.
    pub(crate) fn key(keys: Map) -> Self {
        let keys: Map = keys.into_iter().map(|(name, value)| (name, canonical(value))).collect();
        Self(format!("k:{}", Value::Object(keys)).into())
    }

    /// An item of a set.
    pub(crate) fn value(value: &Value) -> Self {
        Self(format!("v:{}", canonical(value.clone())).into())
    }

    /// Reads a step; `None` for a kind of step that a later version may know.
    fn parse(text: &str) -> Result<Option<Self>, String> {
        let Some((kind, rest)) = text.split_once(':') else { return Err(format!("missing colon: {text}")) };
        let json = || serde_json::from_str::<Value>(rest).map_err(|e| format!("{text}: {e}"));
        Ok(Some(match kind {
            "f" => Self(text.into()),
            "v" => Self::value(&json()?),
            "k" => match json()? {
                Value::Object(keys) => Self::key(keys),
                _ => return Err(format!("{text}: not an object")),
            },
            "i" => rest.parse::<i64>().map(|_| Self(text.into())).map_err(|e| format!("{text}: {e}"))?,
            _ => return Ok(None),
        }))
    }

    /// The member's name, when it is one.
    pub fn field_name(&self) -> Option<&str> {
        self.0.strip_prefix("f:")
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, rest) = self.0.split_at(2);
        match (kind, serde_json::from_str(rest)) {
            ("f:", _) => write!(f, ".{rest}"),
            ("k:", Ok(Value::Object(keys))) => {
                let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", keys.join(","))
            }
            ("v:", _) => write!(f, "[={rest}]"),
            _ => write!(f, "[{rest}]"),
        }
    }
}

/// A whole number given with a fraction of zero, as the whole number.
fn canonical(value: Value) -> Value {
    match value.as_f64() {
        #[expect(clippy::cast_possible_truncation, reason = "the fraction is zero and the size was looked at")]
        Some(n) if value.is_f64() && n.fract() == 0.0 && n.abs() < 9e15 => Value::from(n as i64),
        _ => value,
    }
}

/// A set of fields: a tree of steps, each a member of the set, on the way to members, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(BTreeMap<Element, Node>);

/// What a set says of one step and what lies below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    /// Whether the field itself is in the set.
    pub(crate) member: bool,
    /// What is in the set below it.
    pub(crate) below: FieldSet,
}

impl Node {
    pub(crate) fn leaf() -> Self {
        Self { member: true, below: FieldSet::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl FieldSet {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the `FieldsV1` form; null is an empty set.
    ///
    /// # Errors
    /// When it is not a tree of steps.
    pub fn decode(fields: &Value) -> Result<Self, String> {
        let members = match fields {
            Value::Null => return Ok(Self::default()),
            Value::Object(members) => members,
            other => return Err(format!("not a set of fields: {other}")),
        };
        let mut set = Self::default();
        for (step, below) in members.iter().filter(|(step, _)| *step != ".") {
            let Some(element) = Element::parse(step)? else { continue };
            let member = below.as_object().is_some_and(|m| m.is_empty() || m.contains_key("."));
            let below = Self::decode(below)?;
            // Steps that nothing is known of may leave a tree without leaves: then the step itself is meant.
            let member = member || below.is_empty();
            set.insert(element, Node { member, below });
        }
        Ok(set)
    }

    /// The `FieldsV1` form.
    pub fn encode(&self) -> Value {
        let mut members = Map::new();
        for (element, node) in &self.0 {
            let mut below = node.below.encode();
            if let (true, Some(below)) = (node.member, below.as_object_mut().filter(|b| !b.is_empty())) {
                below.insert(".".into(), Value::Object(Map::new()));
            }
            members.insert(element.0.clone().into(), below);
        }
        Value::Object(members)
    }

    /// Puts a step in; an empty one leaves no trace.
    pub(crate) fn insert(&mut self, element: Element, node: Node) {
        if !node.is_empty() {
            let at = self.0.entry(element).or_default();
            at.member |= node.member;
            at.below.union(node.below);
        }
    }

    /// What the set says of a step.
    pub(crate) fn get(&self, element: &Element) -> Option<&Node> {
        self.0.get(element)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&Element, &mut Node)> {
        self.0.iter_mut()
    }

    /// Takes in everything of another set.
    pub fn union(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
        } else {
            other.0.into_iter().for_each(|(element, node)| self.insert(element, node));
        }
    }

    /// Takes out exactly the fields of another set; what lies below them stays.
    pub fn subtract(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        self.0.retain(|element, node| {
            if let Some(out) = other.0.get(element) {
                node.member &= !out.member;
                node.below.subtract(&out.below);
            }
            !node.is_empty()
        });
    }

    /// The fields that are in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::default();
        for (element, node) in &self.0 {
            if let Some(theirs) = other.0.get(element) {
                let below = node.below.intersection(&theirs.below);
                both.insert(element.clone(), Node { member: node.member && theirs.member, below });
            }
        }
        both
    }

    /// Whether another set has everything that is in this one.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.iter().all(|(element, node)| {
            let has = |theirs: &Node| (theirs.member || !node.member) && node.below.is_within(&theirs.below);
            other.0.get(element).is_some_and(has)
        })
    }

    /// Takes out a member and everything below it.
    pub fn remove_under(&mut self, path: &[&str]) {
        let [first, rest @ ..] = path else { return };
        let element = Element::field(first);
        if rest.is_empty() {
            self.0.remove(&element);
        } else if let Some(node) = self.0.get_mut(&element) {
            node.below.remove_under(rest);
            if node.is_empty() {
                self.0.remove(&element);
            }
        }
    }

    /// Takes out everything but what lies on, at and below these paths, in which `*` is any step.
    pub fn retain_under(&mut self, paths: &[&[&str]]) {
        self.0.retain(|element, node| {
            let is_step = |step: &str| step == "*" || element.field_name() == Some(step);
            let rests = paths.iter().filter_map(|path| path.split_first().filter(|(first, _)| is_step(first)).map(|(_, rest)| rest));
            let rests: Vec<&[&str]> = rests.collect();
            if rests.is_empty() {
                return false;
            }
            if !rests.iter().any(|rest| rest.is_empty()) {
                node.below.retain_under(&rests);
            }
            !node.is_empty()
        });
    }

    /// A member by its path of names.
    pub fn contains(&self, path: &[&str]) -> bool {
        let [first, rest @ ..] = path else { return false };
        let node = self.0.get(&Element::field(first));
        node.is_some_and(|node| if rest.is_empty() { node.member } else { node.below.contains(rest) })
    }

    /// A set of one member, by its path of names.
    pub fn of(path: &[&str]) -> Self {
        let mut set = Self::default();
        if let [first, rest @ ..] = path {
            set.insert(Element::field(first), Node { member: rest.is_empty(), below: Self::of(rest) });
        }
        set
    }

    /// The paths of all members as messages write them, those that are higher up first.
    pub fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect(&mut String::new(), &mut out);
        out
    }

    fn collect(&self, prefix: &mut String, out: &mut Vec<String>) {
        out.extend(self.0.iter().filter(|(_, node)| node.member).map(|(element, _)| format!("{prefix}{element}")));
        for (element, node) in &self.0 {
            let here = prefix.len();
            prefix.push_str(&element.to_string());
            node.below.collect(prefix, out);
            prefix.truncate(here);
        }
    }
}
