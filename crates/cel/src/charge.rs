//! What evaluating costs, by upstream's measure.

use crate::value::{Fault, List, Map, Val};

/// Going through a text, per character.
pub(crate) const TRAVERSAL: f64 = 0.1;
/// Matching a pattern, per character of it.
pub(crate) const PATTERN: f64 = 0.25;

/// How the cost of a call follows from its arguments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Charge {
    /// Always the same.
    Fixed(u64),
    /// Going through the first argument, so many times.
    Traversal(f64),
    /// Going through the result, so many times.
    Result(f64),
    /// Going through the shorter of two.
    Shorter,
    /// The same, but for values of libraries.
    Equality,
    /// Going through both.
    Both,
    /// Searching a list.
    Search,
    /// Matching the first against the second.
    Match,
    /// Searching one text for another.
    Contains,
    /// Going through all that a list holds.
    Tree,
    /// Whether an address range holds something; whether it is a range, and given as text.
    Range { range: bool, text: bool },
    /// Parsing a selector.
    Selector,
    /// Checking against a named format.
    Format,
    /// Making a list of the result's size.
    MakesList,
    /// Making a flat list.
    Flattens,
    /// Comparing all items of the list in this place with each other.
    SelfCompares(usize),
    /// Comparing all items of two lists.
    Sets(f64),
}

/// The charge for a function.
pub(crate) fn of(function: &str, overload: &str, constant: bool) -> Charge {
    match (function, overload) {
        (_, o) if o.starts_with("list_sets_") => return Charge::Sets(if o == "list_sets_equivalent_list" { 2.0 } else { 1.0 }),
        (_, "list_slice" | "lists_range" | "list_reverse") => return Charge::MakesList,
        (_, "list_flatten" | "list_flatten_int") => return Charge::Flattens,
        (_, "list_distinct") => return Charge::SelfCompares(0),
        ("sort", _) => return Charge::SelfCompares(0),
        ("@sortByAssociatedKeys", _) => return Charge::SelfCompares(1),
        _ => {}
    }
    match function {
        "check" => Charge::Fixed(350_000),
        "fieldSelector" | "labelSelector" => Charge::Selector,
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => Charge::Tree,
        "url" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "jsonpatch.escapeKey" => Charge::Traversal(1.0),
        "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver" => Charge::Traversal(1.0),
        "ip" if overload != "cidr_ip" => Charge::Traversal(1.0),
        "ip.isCanonical" | "replace" | "split" => Charge::Traversal(2.0),
        "join" => Charge::Result(2.0),
        "find" | "findAll" => Charge::Match,
        "containsIP" => Charge::Range { range: false, text: overload.ends_with("_string") },
        "containsCIDR" => Charge::Range { range: true, text: overload.ends_with("_string") },
        "validate" => Charge::Format,
        "_==_" => Charge::Equality,
        "bool" | "bytes" | "double" | "duration" | "dyn" | "int" | "string" | "timestamp" | "type" | "uint" if constant => Charge::Fixed(0),
        _ => by_overload(overload),
    }
}

fn by_overload(overload: &str) -> Charge {
    let compares = ["less_", "greater_"].iter().any(|w| overload.starts_with(w));
    match overload {
        "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string" | "strings_quote" | "string_format" => {
            Charge::Traversal(1.0)
        }
        "in_list" => Charge::Search,
        "not_equals" => Charge::Shorter,
        o if compares && (o.ends_with("_string") || o.ends_with("_bytes")) => Charge::Shorter,
        "add_string" | "add_bytes" => Charge::Both,
        "matches_string" => Charge::Match,
        "contains_string" => Charge::Contains,
        _ => Charge::Fixed(1),
    }
}

/// Going so often through something of this size.
pub(crate) fn traversal(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

impl Charge {
    /// What a call costs; the result is asked for when it counts.
    pub(crate) fn cost<'a>(self, args: &[Val<'a>], result: Option<&Val<'a>>) -> Result<u64, Fault> {
        let size = |i: usize| args.get(i).map_or(1, Val::size);
        Ok(match self {
            Self::Fixed(cost) => cost,
            Self::Traversal(times) => traversal(size(0), times * TRAVERSAL),
            Self::Result(times) => traversal(result.map_or(1, Val::size), times * TRAVERSAL),
            Self::Equality if matches!(args.first(), Some(Val::Special(_))) => 1,
            Self::Shorter | Self::Equality => traversal(size(0).min(size(1)), TRAVERSAL),
            Self::Both => traversal(size(0) + size(1), TRAVERSAL),
            Self::Search => size(1),
            Self::Match => traversal(1 + size(0), TRAVERSAL) * traversal(size(1), PATTERN),
            Self::Contains => traversal(size(0), TRAVERSAL) * traversal(size(1), TRAVERSAL),
            Self::Tree => args.first().map_or(Ok(0), tree)?,
            Self::Range { range, text } => {
                let own = size(0);
                let inner = if range { traversal(own, TRAVERSAL) + 1 } else { 0 };
                traversal(2 * own, TRAVERSAL) + inner + if text { traversal(size(1), TRAVERSAL) } else { 0 }
            }
            Self::Selector => {
                let length = size(1);
                10 + traversal(length, TRAVERSAL) + traversal(traversal(length, 0.5), 50.0)
            }
            Self::Format => {
                let pattern = match args.first() {
                    Some(Val::Special(special)) => special.pattern_size(),
                    _ => 0,
                };
                traversal(1 + size(1), TRAVERSAL) * traversal(pattern, PATTERN)
            }
            Self::MakesList => 11 + result.map_or(0, Val::size),
            Self::Flattens => {
                let depth = match args.get(1) {
                    Some(Val::Int(depth)) => *depth as f64,
                    _ => 1.0,
                };
                (size(0) as f64 * depth) as u64 + 11
            }
            Self::SelfCompares(place) => {
                let Some(Val::List(list)) = args.get(place) else { return Ok(11) };
                let texts = matches!(list.get(0), Some(Ok(Val::String(_) | Val::Bytes(_))));
                let factor = if texts { 2.0 + TRAVERSAL } else { 2.0 };
                let size = list.len() as f64;
                (size * size * factor) as u64 + 11
            }
            Self::Sets(factor) => 1 + (size(0).saturating_mul(size(1)) as f64 * factor) as u64,
        })
    }

    /// Whether the cost is known before the call.
    pub(crate) fn is_ahead(self) -> bool {
        !matches!(self, Self::Result(_) | Self::MakesList)
    }
}

/// Going through all that a value holds.
fn tree(value: &Val<'_>) -> Result<u64, Fault> {
    Ok(match value {
        Val::String(text) => (text.len() as f64 * TRAVERSAL) as u64,
        Val::Bytes(bytes) => (bytes.len() as f64 * TRAVERSAL) as u64,
        Val::List(List::Lent(items, of, _)) if matches!(of.kind, crate::decl::DeclKind::Int | crate::decl::DeclKind::Double) => {
            items.len() as u64
        }
        Val::List(list) => {
            let mut cost = 0;
            for item in list.items() {
                cost += tree(&item?)?;
            }
            cost
        }
        Val::Map(map) => map_tree(map)?,
        _ => 1,
    })
}

fn map_tree(map: &Map<'_>) -> Result<u64, Fault> {
    let mut cost = 0;
    for key in map.keys() {
        cost += tree(&key)?;
        if let Some(value) = map.get(&key) {
            cost += tree(&value?)?;
        }
    }
    Ok(cost)
}
