//! What functions do.

pub(crate) mod address;
pub(crate) mod arithmetic;
mod authorize;
mod convert;
mod format;
mod lists;
mod named;
mod net;
mod optional;
mod quantity;
pub(crate) mod special;
mod text;
pub(crate) mod time;

use crate::eval::Context;
use crate::value::{Outcome, Val};

pub(crate) use text::pattern;

pub use authorize::{Authority, Question, Verdict};

/// A function's code.
pub(crate) type Function = for<'c, 'a> fn(&'c mut Context<'a>, &[Val<'a>]) -> Outcome<'a>;

/// The code of a function by its name.
pub(crate) fn find(name: &str) -> Option<Function> {
    convert::find(name)
        .or_else(|| text::find(name))
        .or_else(|| lists::find(name))
        .or_else(|| optional::find(name))
        .or_else(|| time::find(name))
        .or_else(|| address::find(name))
        .or_else(|| net::find(name))
        .or_else(|| quantity::find(name))
        .or_else(|| named::find(name))
        .or_else(|| authorize::find(name))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_declared_function_is_there() {
        let operators = ["_?_:_", "!_", "-_", "_[_]", "_[?_]", "@in", "@not_strictly_false", "or", "orValue"];
        for name in crate::overloads::names() {
            let operator = operators.contains(&name) || name.starts_with('_');
            assert!(operator || super::find(name).is_some(), "{name}");
        }
    }
}
