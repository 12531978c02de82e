//! The Common Expression Language as Kubernetes speaks it.
//!
//! An expression is parsed, checked against an [`Env`] and made ready once ([`Program`]); evaluated often, over values that are read where they
//! lie ([`Val`]). Its worst cost is known before ([`Program::max_cost`]), its real cost is bounded while it is evaluated ([`Context`]). Nothing here
//! knows requests or policies.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod ast;
mod charge;
mod check;
mod cost;
mod decl;
mod env;
mod equal;
mod escape;
mod eval;
mod functions;
mod lex;
mod macros;
mod overloads;
mod parse;
mod plan;
mod program;
pub mod rules;
mod types;
mod value;

#[cfg(test)]
mod tests;

pub use cost::Range;
pub use decl::{Decl, DeclKind, FieldDecl, LARGEST_REQUEST, ObjectDecl};
pub use env::Env;
pub use escape::escape;
pub use eval::Context;
pub use functions::special::Special;
pub use functions::{Authority, Question, Verdict};
pub use program::{CALL_LIMIT, Program};
pub use types::Type;
pub use value::{ANY, Fault, Fields, List, Map, Outcome, Text, Val};
