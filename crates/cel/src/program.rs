//! Expressions made ready once and evaluated often.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;

use crate::ast::{Expr, Kind, Literal};
use crate::check::{Reference, check};
use crate::cost::{self, Range};
use crate::decl::Decl;
use crate::env::Env;
use crate::eval::Context;
use crate::parse::parse;
use crate::plan::{Node, plan};
use crate::types::Type;
use crate::value::{Outcome, Val};

/// What one evaluation may cost.
pub const CALL_LIMIT: u64 = 1_000_000;

/// An expression that was checked and can be evaluated.
#[derive(Debug)]
pub struct Program {
    node: Node,
    ty: Type,
    cost: Range,
    uses: Vec<Arc<str>>,
    patterns: BTreeMap<String, Regex>,
}

impl Program {
    /// Parses and checks an expression. `sizes` tells what is known of the sizes of variables' values.
    ///
    /// # Errors
    /// What is wrong with it, each with the place, in the form that clients see.
    pub fn compile(env: &Env, text: &str, sizes: &[(Arc<str>, Arc<Decl>)]) -> Result<Self, String> {
        let (mut expr, source) = parse(text).map_err(|(problems, source)| source.show(&problems))?;
        let checked = check(env, &mut expr, &source.offsets).map_err(|problems| source.show(&problems))?;
        let cost = cost::estimate(&expr, &checked, sizes);
        let mut uses: Vec<Arc<str>> = Vec::new();
        for reference in &checked.references {
            if let Reference::Variable(place) = reference
                && !uses.contains(env.name_of(*place))
            {
                uses.push(env.name_of(*place).clone());
            }
        }
        let mut patterns = BTreeMap::new();
        collect_patterns(&expr, &mut patterns);
        let ty = checked.types[expr.id].clone();
        Ok(Self { node: plan(&expr, &checked), ty, cost, uses, patterns })
    }

    /// The type of its values.
    pub fn ty(&self) -> &Type {
        &self.ty
    }

    /// What evaluating it may cost at worst.
    pub fn max_cost(&self) -> u64 {
        self.cost.max
    }

    /// The bounds of what evaluating it may cost.
    pub fn cost(&self) -> Range {
        self.cost
    }

    /// Whether it names a variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.uses.iter().any(|u| &**u == variable)
    }

    /// Evaluates it.
    ///
    /// # Errors
    /// When it has no value, or costs more than the context allows.
    pub fn eval<'a>(&'a self, context: &mut Context<'a>) -> Outcome<'a> {
        context.known = Some(&self.patterns);
        context.eval(&self.node)
    }

    /// Evaluates it with these variables, in the order of the environment's.
    ///
    /// # Errors
    /// As [`Program::eval`].
    pub fn run<'a>(&'a self, vars: Vec<Option<Val<'a>>>) -> Outcome<'a> {
        self.eval(&mut Context::new(vars, CALL_LIMIT))
    }
}

/// Makes ready what patterns an expression has as literals.
fn collect_patterns(expr: &Expr, found: &mut BTreeMap<String, Regex>) {
    match &expr.kind {
        Kind::Literal(_) | Kind::Ident(_) => {}
        Kind::Select { operand, .. } => collect_patterns(operand, found),
        Kind::Call { target, function, args } => {
            let pattern = match (&**function, &args[..]) {
                ("matches" | "find" | "findAll", [.., Expr { kind: Kind::Literal(Literal::String(text)), .. }]) => Some(text),
                ("findAll", [Expr { kind: Kind::Literal(Literal::String(text)), .. }, _]) => Some(text),
                _ => None,
            };
            if let Some(text) = pattern
                && let Some(regex) = crate::functions::pattern(text)
            {
                found.insert(text.to_string(), regex);
            }
            target.iter().for_each(|t| collect_patterns(t, found));
            args.iter().for_each(|a| collect_patterns(a, found));
        }
        Kind::List(elements) => elements.iter().for_each(|e| collect_patterns(&e.value, found)),
        Kind::Map(entries) => entries.iter().for_each(|e| {
            collect_patterns(&e.key, found);
            collect_patterns(&e.value, found);
        }),
        Kind::Struct { fields, .. } => fields.iter().for_each(|f| collect_patterns(&f.value, found)),
        Kind::Fold(f) => [&f.range, &f.init, &f.condition, &f.step, &f.result].into_iter().for_each(|e| collect_patterns(e, found)),
    }
}
