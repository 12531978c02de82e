//! Functions of Kubernetes' libraries and of the extensions it takes.

use super::range::Range;
use super::{Coster, Estimate, only};
use crate::ast::{Expr, Kind, Literal};
use crate::charge::{PATTERN, TRAVERSAL};
use crate::types::Type;

impl Coster<'_> {
    /// What a function costs that is told by its name; `None` when its overload tells.
    pub(super) fn by_name(&mut self, function: &str, overload: &str, target: Option<&Expr>, args: &[Expr]) -> Option<Estimate> {
        if (overload.starts_with("list_") || overload.starts_with("lists_"))
            && let Some(estimate) = self.of_list(overload, target, args)
        {
            return Some(estimate);
        }
        Some(match (function, target, args) {
            ("check", ..) => only(Range::fixed(350_000)),
            (
                "serviceAccount"
                | "path"
                | "group"
                | "resource"
                | "subresource"
                | "namespace"
                | "name"
                | "allowed"
                | "reason"
                | "error"
                | "errored"
                | "masked"
                | "prefixLength"
                | "family"
                | "isUnspecified"
                | "isLoopback"
                | "isLinkLocalMulticast"
                | "isLinkLocalUnicast"
                | "isGlobalUnicast"
                | "format.named"
                | "sign"
                | "asInteger"
                | "isInteger"
                | "asApproximateFloat"
                | "isGreaterThan"
                | "isLessThan"
                | "compareTo"
                | "add"
                | "sub"
                | "major"
                | "minor"
                | "patch"
                | "getScheme"
                | "getHostname"
                | "getHost"
                | "getPort"
                | "getEscapedPath"
                | "getQuery",
                ..,
            ) => only(Range::fixed(1)),
            ("fieldSelector" | "labelSelector", _, [selector]) => {
                let length = self.size_or_unknown(selector);
                let requirements = length.scaled(0.5).scaled(50.0);
                only(Range::fixed(10).plus(length.scaled(TRAVERSAL)).plus(requirements))
            }
            ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(target), _) => {
                let size = self.size_or_unknown(target);
                match self.items(target) {
                    Some((item, true)) => only(size.times(Range::fixed(1).plus(item.scaled(TRAVERSAL)))),
                    Some(_) => only(size),
                    None => only(size.scaled(TRAVERSAL)),
                }
            }
            ("url" | "jsonpatch.escapeKey", _, [arg]) => self.traverses(arg),
            ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(target), _) => self.traverses(target),
            ("replace", Some(target), [old, new, ..]) => {
                let (size, old, new) = (self.size_or_unknown(target), self.size_or_unknown(old), self.size_or_unknown(new));
                Estimate { cost: size.scaled(2.0 * TRAVERSAL), size: Some(replaced(size, old, new)) }
            }
            ("split", Some(target), _) => {
                let size = self.size_or_unknown(target);
                let max = match args.get(1).map(|a| &a.kind) {
                    Some(Kind::Literal(Literal::Int(limit))) => *limit as u64,
                    _ => size.max,
                };
                Estimate { cost: size.scaled(2.0 * TRAVERSAL), size: Some(Range { min: 0, max }) }
            }
            ("join", Some(target), _) => {
                let count = self.size_or_unknown(target);
                let mut size = self.items(target).map_or(Range::fixed(0), |(item, _)| count.times(item));
                if let Some(separator) = args.first() {
                    let between = Range { min: count.min.saturating_sub(1), max: count.max.saturating_sub(1) };
                    size = size.plus(self.size_or_unknown(separator).times(between));
                }
                Estimate { cost: size.scaled(TRAVERSAL), size: Some(size) }
            }
            ("find" | "findAll", Some(target), [pattern, ..]) => {
                let size = self.size_or_unknown(target);
                let subject = size.plus(Range::fixed(1)).scaled(TRAVERSAL);
                let cost = subject.times(self.size_or_unknown(pattern).scaled(PATTERN));
                Estimate { cost, size: Some(Range { min: 0, max: size.max }) }
            }
            ("ip", ..) if overload == "cidr_ip" => only(Range::fixed(1)),
            ("cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver", _, [arg, ..]) => {
                only(self.size_or_unknown(arg).scaled(TRAVERSAL))
            }
            ("ip.isCanonical", _, [arg]) => only(self.size_or_unknown(arg).scaled(2.0 * TRAVERSAL)),
            ("containsIP" | "containsCIDR", _, [arg]) => {
                let size = Range { min: 4, max: 16 };
                let mut cost = size.plus(size).scaled(TRAVERSAL);
                if function == "containsCIDR" {
                    cost = cost.plus(size.scaled(TRAVERSAL)).plus(Range::fixed(1));
                }
                if overload.ends_with("_string") {
                    cost = cost.plus(self.size_or_unknown(arg).scaled(TRAVERSAL));
                }
                only(cost)
            }
            ("validate", _, [arg]) => only(self.size_or_unknown(arg).scaled(TRAVERSAL).scaled(128.0 * PATTERN)),
            ("_==_", _, [left, right]) if self.ty(left) == self.ty(right) => match self.ty(left) {
                Type::Named(name) => match &**name {
                    "kubernetes.NamedFormat" => only(Range { min: 1, max: 64 }.scaled(TRAVERSAL)),
                    "kubernetes.URL" => {
                        let max = self.size(right).map_or(1, |s| s.max);
                        only(Range { min: 1, max }.scaled(TRAVERSAL))
                    }
                    name if name.starts_with("kubernetes.") || name.starts_with("net.") => only(Range::fixed(1)),
                    _ => return None,
                },
                _ => return None,
            },
            _ => return None,
        })
    }

    fn traverses(&mut self, expr: &Expr) -> Estimate {
        let size = self.size_or_unknown(expr);
        Estimate { cost: size.scaled(TRAVERSAL), size: Some(size) }
    }

    fn of_list(&mut self, overload: &str, target: Option<&Expr>, args: &[Expr]) -> Option<Estimate> {
        let whole = |expr: &Expr, otherwise: u64| match &expr.kind {
            Kind::Literal(Literal::Int(i)) => (*i).max(0) as u64,
            _ => otherwise,
        };
        let allocates = |factor: f64, size: Range| Estimate { cost: size.scaled(factor).plus(Range::fixed(11)), size: Some(size) };
        let squared = |coster: &mut Self, list: &Expr, factor: f64| {
            let size = coster.size_or_unknown(list);
            allocates(factor, size.times(size))
        };
        let texts = |overload: &str| if overload.contains("_string_") || overload.contains("_bytes_") { 2.0 + TRAVERSAL } else { 2.0 };
        Some(match (overload, target, args) {
            ("list_sets_contains_list" | "list_sets_intersects_list" | "list_sets_equivalent_list", _, [left, right]) => {
                let factor = if overload == "list_sets_equivalent_list" { 2.0 } else { 1.0 };
                let size = self.size_or_unknown(left).times(self.size_or_unknown(right));
                only(size.scaled(factor).plus(Range::fixed(1)))
            }
            ("list_slice", Some(target), [start, end]) => {
                let size = self.size_or_unknown(target);
                allocates(1.0, Range::fixed(whole(end, size.max).wrapping_sub(whole(start, 0))))
            }
            ("lists_range", None, [count]) => allocates(1.0, Range::fixed(whole(count, u64::MAX))),
            ("list_reverse", Some(target), []) => {
                let size = self.size_or_unknown(target);
                allocates(1.0, size)
            }
            ("list_flatten" | "list_flatten_int", Some(target), _) => {
                let depth = args.first().map_or(1, |a| whole(a, u64::MAX));
                let size = self.size_or_unknown(target);
                allocates(depth as f64, size)
            }
            ("list_distinct", Some(target), []) => squared(self, target, 2.0),
            (o, Some(target), []) if o.ends_with("_sort") => squared(self, target, texts(o)),
            (o, Some(_), [keys]) if o.ends_with("_sortByAssociatedKeys") => squared(self, keys, texts(o)),
            _ => return None,
        })
    }
}

/// The size of a text in which parts are replaced.
fn replaced(size: Range, old: Range, new: Range) -> Range {
    let divided = |n: u64, by: u64| (n as f64 / by as f64).ceil() as u64;
    // How often it is replaced, and what stays as it was.
    let (most, kept_most) = match old.min {
        0 => (size.max.saturating_add(1), size.max),
        old if new.max <= old => (0, size.max),
        old => (divided(size.max, old), 0),
    };
    let (least, kept_least) = match old.max {
        0 => (size.min.saturating_add(1), size.min),
        old if old <= new.min => (0, size.min),
        old => (divided(size.min, old), 0),
    };
    Range { min: least, max: most }.times(new).plus(Range { min: kept_least, max: kept_most })
}
