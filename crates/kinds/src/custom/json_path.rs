//! JSON paths as printer columns have them: `.spec.containers[0].image`, `.status.conditions[?(@.type=="Ready")].status`.

use gantry_object::Value;

/// A path to values in an object.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Member(String),
    Every,
    /// A member of this name at any depth.
    Deep(String),
    /// Items from a start up to an end, by a stride.
    Slice(Option<i64>, Option<i64>, i64),
    Index(i64),
    /// Items of which a condition holds.
    Where(Vec<Step>, Option<(Compare, Value)>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Compare {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

const COMPARISONS: [(&str, Compare); 6] = [
    ("==", Compare::Equal),
    ("!=", Compare::Unequal),
    ("<=", Compare::LessOrEqual),
    (">=", Compare::GreaterOrEqual),
    ("<", Compare::Less),
    (">", Compare::Greater),
];

impl JsonPath {
    /// Reads a path; `None` when it is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let steps = steps(text)?;
        (!steps.is_empty() || text == ".").then_some(Self(steps))
    }

    /// The values it leads to, in order.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        follow(&self.0, value)
    }
}

/// A name up to the next step; a backslash takes the next character as it is.
fn name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '.' | '[' => return (name, &text[i..]),
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            c => name.push(c),
        }
    }
    (name, "")
}

fn steps(mut text: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    while !text.is_empty() {
        if let Some(rest) = text.strip_prefix("..") {
            let (member, rest) = name(rest);
            steps.push(Step::Deep(Some(member).filter(|m| !m.is_empty())?));
            text = rest;
        } else if let Some(rest) = text.strip_prefix('.') {
            let (member, rest) = name(rest);
            match member.as_str() {
                "" if rest.is_empty() && steps.is_empty() => {}
                "" if rest.starts_with('[') => {}
                "" => return None,
                "*" => steps.push(Step::Every),
                _ => steps.push(Step::Member(member)),
            }
            text = rest;
        } else {
            let (inner, rest) = bracket(text.strip_prefix('[')?)?;
            steps.push(selection(inner)?);
            text = rest;
        }
    }
    Some(steps)
}

/// What stands before the bracket that closes, and what after.
fn bracket(text: &str) -> Option<(&str, &str)> {
    let (mut depth, mut quote) = (1, None);
    for (i, c) in text.char_indices() {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            (_, Some(_)) => {}
            ('\'' | '"', None) => quote = Some(c),
            ('[', None) => depth += 1,
            (']', None) => {
                depth -= 1;
                if depth == 0 {
                    return Some((&text[..i], &text[i + 1..]));
                }
            }
            _ => {}
        }
    }
    None
}

fn selection(inner: &str) -> Option<Step> {
    let inner = inner.trim();
    if inner == "*" {
        return Some(Step::Every);
    }
    if let Some(quoted) = unquoted(inner) {
        return Some(Step::Member(quoted.into()));
    }
    if let Some(condition) = inner.strip_prefix("?(").and_then(|c| c.strip_suffix(')')) {
        return condition_step(condition.trim());
    }
    if inner.contains(':') {
        let mut parts = inner.split(':').map(|p| if p.is_empty() { Some(None) } else { p.parse().ok().map(Some) });
        let (start, end) = (parts.next()??, parts.next()??);
        let stride = parts.next().unwrap_or(Some(None))?.unwrap_or(1);
        return (stride > 0).then_some(Step::Slice(start, end, stride));
    }
    inner.parse().ok().map(Step::Index)
}

fn unquoted(text: &str) -> Option<&str> {
    ['\'', '"'].into_iter().find_map(|q| text.strip_prefix(q)?.strip_suffix(q))
}

fn condition_step(text: &str) -> Option<Step> {
    let found = COMPARISONS
        .iter()
        .filter_map(|(sign, c)| text.find(sign).map(|at| (at, *sign, *c)))
        .min_by_key(|(at, sign, _)| (*at, 3 - sign.len()));
    let Some((at, sign, comparison)) = found else { return Some(Step::Where(steps(text.strip_prefix('@')?)?, None)) };
    let (left, right) = (text[..at].trim(), text[at + sign.len()..].trim());
    let right = match unquoted(right) {
        Some(text) => text.into(),
        None => serde_json::from_str(right).ok()?,
    };
    Some(Step::Where(steps(left.strip_prefix('@')?)?, Some((comparison, right))))
}

fn follow<'v>(steps: &[Step], value: &'v Value) -> Vec<&'v Value> {
    let mut found = vec![value];
    for step in steps {
        found = found.into_iter().flat_map(|v| step.of(v)).collect();
    }
    found
}

/// The place an index names; negative ones count from the end.
fn place(index: i64, len: usize) -> Option<usize> {
    let len = i64::try_from(len).ok()?;
    let index = if index < 0 { index + len } else { index };
    usize::try_from(index).ok().filter(|_| index < len)
}

fn bound(index: Option<i64>, otherwise: usize, len: usize) -> usize {
    let Some(index) = index else { return otherwise };
    let signed = i64::try_from(len).unwrap_or(i64::MAX);
    usize::try_from(if index < 0 { (index + signed).max(0) } else { index.min(signed) }).unwrap_or(0)
}

impl Step {
    fn of<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let items = || value.as_array().map_or(&[][..], Vec::as_slice);
        match self {
            Self::Member(name) => value.get(name).into_iter().collect(),
            Self::Every => match value {
                Value::Object(members) => members.values().collect(),
                _ => items().iter().collect(),
            },
            Self::Deep(name) => {
                let mut found: Vec<&Value> = value.get(name).into_iter().collect();
                let below: Vec<&Value> = Self::Every.of(value);
                found.extend(below.into_iter().flat_map(|v| self.of(v)));
                found
            }
            Self::Index(index) => place(*index, items().len()).map(|i| &items()[i]).into_iter().collect(),
            Self::Slice(start, end, stride) => {
                let (start, end) = (bound(*start, 0, items().len()), bound(*end, items().len(), items().len()));
                let stride = usize::try_from(*stride).unwrap_or(1);
                items().get(start..end).unwrap_or(&[]).iter().step_by(stride).collect()
            }
            Self::Where(left, right) => items().iter().filter(|v| holds(&follow(left, v), right.as_ref())).collect(),
        }
    }
}

fn holds(left: &[&Value], right: Option<&(Compare, Value)>) -> bool {
    use std::cmp::Ordering;
    let Some((comparison, right)) = right else { return !left.is_empty() };
    let [left] = left else { return false };
    let order = match (left, right) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (a, b) if a.is_number() && b.is_number() => a.as_f64().partial_cmp(&b.as_f64()),
        (a, b) => (*a == b).then_some(Ordering::Equal),
    };
    match comparison {
        Compare::Equal => order == Some(Ordering::Equal),
        Compare::Unequal => order != Some(Ordering::Equal),
        Compare::Less => order == Some(Ordering::Less),
        Compare::Greater => order == Some(Ordering::Greater),
        Compare::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Compare::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_to_values() {
        let object =
            json!({"spec": {"a": 1, "list": [{"n": "x", "v": 1}, {"n": "y", "v": 2}]}, "metadata": {"annotations": {"a.b/c": "d"}}});
        for (path, found) in [
            (".spec.a", json!([1])),
            (".spec.list[1].v", json!([2])),
            (".spec.list[-1].n", json!(["y"])),
            (".spec.list[*].n", json!(["x", "y"])),
            (".spec.list[?(@.n==\"y\")].v", json!([2])),
            (".spec.list[?(@.v>1)].n", json!(["y"])),
            (".spec.list[0:1].n", json!(["x"])),
            (".metadata.annotations.a\\.b/c", json!(["d"])),
            (".metadata.annotations['a.b/c']", json!(["d"])),
            ("..n", json!(["x", "y"])),
            (".spec.none", json!([])),
        ] {
            assert_eq!(json!(JsonPath::parse(path).unwrap().find(&object)), found, "{path}");
        }
        for bad in ["spec", ".a[", ".a[x]", ".a..", ""] {
            assert!(JsonPath::parse(bad).is_none(), "{bad}");
        }
    }
}
