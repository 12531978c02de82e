//! Operators and functions of the language itself.

use super::range::Range;
use super::{Coster, Estimate, only};
use crate::ast::Expr;
use crate::charge::{PATTERN, TRAVERSAL};

impl Coster<'_> {
    /// Functions that go through what they are given.
    pub(super) fn by_overload(&mut self, overload: &str, target: Option<&Expr>, args: &[Expr]) -> Estimate {
        let compares = ["less", "greater"].iter().any(|w| overload.starts_with(w));
        match (overload, target, args) {
            ("string_format", Some(target), _) => only(self.size_or_unknown(target).scaled(TRAVERSAL)),
            ("string_to_bytes", _, [arg]) => {
                let size = self.size_or_unknown(arg);
                Estimate { cost: size.scaled(TRAVERSAL), size: Some(Range { min: size.min, max: size.max.wrapping_mul(4) }) }
            }
            ("bytes_to_string", _, [arg]) => {
                let size = self.size_or_unknown(arg);
                Estimate { cost: size.scaled(TRAVERSAL), size: Some(Range { min: size.min / 4, max: size.max }) }
            }
            ("strings_quote", _, [arg]) => {
                let size = self.size_or_unknown(arg);
                let quoted = Range { min: size.min.wrapping_add(2), max: size.max.wrapping_mul(2).wrapping_add(2) };
                Estimate { cost: size.scaled(TRAVERSAL), size: Some(quoted) }
            }
            ("starts_with_string" | "ends_with_string", _, [arg]) => only(self.size_or_unknown(arg).scaled(TRAVERSAL)),
            ("in_list", _, [_, list]) => only(self.size_or_unknown(list).scaled(1.0)),
            ("matches_string", Some(target), [pattern]) => {
                let subject = self.size_or_unknown(target).plus(Range::fixed(1)).scaled(TRAVERSAL);
                only(subject.times(self.size_or_unknown(pattern).scaled(PATTERN)))
            }
            ("contains_string", Some(target), [part]) => {
                let subject = self.size_or_unknown(target).scaled(TRAVERSAL);
                only(subject.times(self.size_or_unknown(part).scaled(TRAVERSAL)))
            }
            (o, _, [left, right])
                if matches!(o, "equals" | "not_equals") || compares && (o.ends_with("_string") || o.ends_with("_bytes")) =>
            {
                let max = self.size_or_unknown(left).max.min(self.size_or_unknown(right).max);
                only(Range { min: u64::from(max > 0), max }.scaled(TRAVERSAL))
            }
            _ => only(Range::fixed(1)),
        }
    }
}
