//! What an expression may cost at worst, seen before it is evaluated.

mod library;
mod range;
mod standard;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ast::{Expr, Fold, Id, Kind, Literal};
use crate::charge::TRAVERSAL;
use crate::check::{Checked, Reference};
use crate::decl::{Decl, DeclKind};
use crate::types::Type;

pub use range::Range;
use range::UNKNOWN;

/// The sizes of what a list or map holds.
#[derive(Clone, Copy, Debug)]
struct Entries {
    is_list: bool,
    key: Range,
    value: Range,
}

impl Entries {
    fn either(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        let (a, b) = (a?, b?);
        Some(Self { is_list: a.is_list, key: a.key.either(b.key), value: a.value.either(b.value) })
    }
}

/// A step from a value to a part of it.
#[derive(Clone, Debug)]
enum Step {
    Field(Arc<str>),
    Items,
    Values,
    Keys,
    Indices,
}

/// Where in a variable's value something lies.
type Way = Option<(Arc<str>, Vec<Step>)>;

struct Local {
    way: Way,
    size: Option<Range>,
    entries: Option<Entries>,
}

/// A variable of the environment whose declaration tells sizes.
pub(crate) type Declared<'a> = &'a [(Arc<str>, Arc<Decl>)];

struct Coster<'a> {
    checked: &'a Checked,
    declared: Declared<'a>,
    ways: BTreeMap<Id, Way>,
    locals: BTreeMap<Arc<str>, Vec<Local>>,
    sizes: BTreeMap<Id, Range>,
    entries: BTreeMap<Id, Entries>,
}

/// What an expression may cost.
pub(crate) fn estimate(expr: &Expr, checked: &Checked, declared: Declared<'_>) -> Range {
    let mut coster =
        Coster { checked, declared, ways: BTreeMap::new(), locals: BTreeMap::new(), sizes: BTreeMap::new(), entries: BTreeMap::new() };
    coster.cost(expr)
}

fn stepped(way: &Way, step: Step) -> Way {
    let (root, steps) = way.as_ref()?;
    Some((root.clone(), steps.iter().cloned().chain([step]).collect()))
}

/// What a call costs beyond its arguments, and how large its result is.
struct Estimate {
    cost: Range,
    size: Option<Range>,
}

fn only(cost: Range) -> Estimate {
    Estimate { cost, size: None }
}

impl Coster<'_> {
    fn ty(&self, expr: &Expr) -> &Type {
        &self.checked.types[expr.id]
    }

    fn cost(&mut self, expr: &Expr) -> Range {
        match &expr.kind {
            Kind::Literal(_) => Range::fixed(0),
            Kind::Ident(name) => {
                let way = match self.local(name) {
                    Some(local) => local.way.clone(),
                    None => Some((name.clone(), Vec::new())),
                };
                self.ways.insert(expr.id, way);
                Range::fixed(1)
            }
            Kind::Select { operand, test: true, .. } => self.cost(operand),
            Kind::Select { operand, field, .. } => {
                let mut sum = self.cost(operand);
                if matches!(self.ty(operand), Type::Map(_) | Type::Named(_) | Type::Var(_)) {
                    sum = sum.plus(Range::fixed(1));
                }
                let way = stepped(&self.way(operand), Step::Field(field.clone()));
                self.ways.insert(expr.id, way);
                sum
            }
            Kind::Call { target, function, args } => self.call(expr, target.as_deref(), function, args),
            Kind::List(elements) => {
                let mut sum = Range::fixed(10);
                let mut value = if elements.is_empty() { Range::fixed(0) } else { Range { min: u64::MAX, max: 0 } };
                for element in elements {
                    sum = sum.plus(self.cost(&element.value));
                    value = value.either(self.size_or_unknown(&element.value));
                }
                self.entries.insert(expr.id, Entries { is_list: true, key: Range::fixed(1), value });
                sum
            }
            Kind::Map(entries) => {
                let mut sum = Range::fixed(30);
                let none = if entries.is_empty() { Range::fixed(0) } else { Range { min: u64::MAX, max: 0 } };
                let (mut key, mut value) = (none, none);
                for entry in entries {
                    sum = sum.plus(self.cost(&entry.key)).plus(self.cost(&entry.value));
                    key = key.either(self.size_or_unknown(&entry.key));
                    value = value.either(self.size_or_unknown(&entry.value));
                }
                self.entries.insert(expr.id, Entries { is_list: false, key, value });
                sum
            }
            Kind::Struct { fields, .. } => fields.iter().fold(Range::fixed(40), |sum, f| sum.plus(self.cost(&f.value))),
            Kind::Fold(fold) if fold.is_bind() => self.bind(expr, fold),
            Kind::Fold(fold) => self.fold(expr, fold),
        }
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.get(name).and_then(|stack| stack.last())
    }

    fn push(&mut self, name: &Arc<str>, local: Local) {
        self.locals.entry(name.clone()).or_default().push(local);
    }

    fn pop(&mut self, name: &Arc<str>) {
        self.locals.get_mut(name).and_then(Vec::pop);
    }

    fn way(&self, expr: &Expr) -> Way {
        if let Kind::Ident(name) = &expr.kind
            && let Some(local) = self.local(name)
        {
            return local.way.clone();
        }
        self.ways.get(&expr.id).cloned().flatten()
    }

    fn named(&self, expr: &Expr) -> Local {
        Local { way: self.way(expr), size: None, entries: self.entries_of(expr) }
    }

    fn bind(&mut self, expr: &Expr, fold: &Fold) -> Range {
        let sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        let local = Local { size: self.size(&fold.init), ..self.named(&fold.init) };
        self.push(&fold.accu, local);
        let sum = sum.plus(self.cost(&fold.result));
        self.pop(&fold.accu);
        if let Some(size) = self.size(&fold.result) {
            self.sizes.insert(expr.id, size);
        }
        if let Some(entries) = self.entries_of(&fold.result) {
            self.entries.insert(expr.id, entries);
        }
        sum
    }

    fn fold(&mut self, expr: &Expr, fold: &Fold) -> Range {
        let sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        let accu = Local { size: self.size(&fold.init), ..self.named(&fold.init) };
        self.push(&fold.accu, accu);
        let entries = self.entries_of(&fold.range);
        let is_list = entries.map_or(matches!(self.ty(&fold.range), Type::List(_)), |e| e.is_list);
        let way = self.way(&fold.range);
        let part = |step, size| Local { way: stepped(&way, step), size, entries: None };
        let (key, value) = (entries.map(|e| e.key), entries.map(|e| e.value));
        match (&fold.second, is_list) {
            (None, true) => self.push(&fold.var, part(Step::Items, value)),
            (None, false) => self.push(&fold.var, part(Step::Keys, key)),
            (Some(second), true) => {
                self.push(&fold.var, part(Step::Indices, key));
                self.push(second, part(Step::Items, value));
            }
            (Some(second), false) => {
                self.push(&fold.var, part(Step::Keys, key));
                self.push(second, part(Step::Values, value));
            }
        }
        let turn = self.cost(&fold.condition).plus(self.cost(&fold.step));
        self.pop(&fold.var);
        if let Some(second) = &fold.second {
            self.pop(second);
        }
        let sum = sum.plus(self.cost(&fold.result));
        self.pop(&fold.accu);
        let turns = self.size_or_unknown(&fold.range);
        match &fold.init.kind {
            Kind::Literal(_) => {
                if let Some(size) = self.size(&fold.init) {
                    self.sizes.insert(expr.id, size);
                }
            }
            Kind::List(_) | Kind::Map(_) => {
                self.sizes.insert(expr.id, turns);
                if let Some(entries) = self.entries_of(&fold.step) {
                    self.entries.insert(expr.id, entries);
                }
            }
            _ => {}
        }
        sum.plus(turns.times(turn))
    }

    /// What a schema says of the size at a place.
    fn declared_size(&self, way: &Way) -> Option<Range> {
        let (root, steps) = way.as_ref()?;
        if &**root == crate::ast::ACCU {
            return None;
        }
        let mut decl = &self.declared.iter().find(|(name, _)| name == root)?.1;
        for step in steps {
            decl = match step {
                Step::Items | Step::Values => decl.element()?,
                Step::Field(name) => decl.field(name)?,
                Step::Keys if matches!(decl.kind, DeclKind::Map(_)) => return Some(Range { min: 0, max: 0 }),
                Step::Keys | Step::Indices => return None,
            };
        }
        Some(Range { min: 0, max: decl.max.max(0) as u64 })
    }

    fn size(&mut self, expr: &Expr) -> Option<Range> {
        if let Some(size) = self.sizes.get(&expr.id) {
            return Some(*size);
        }
        let written = match &expr.kind {
            Kind::Literal(Literal::String(text)) => Some(text.chars().count()),
            Kind::Literal(Literal::Bytes(bytes)) => Some(bytes.len()),
            Kind::Literal(_) => Some(1),
            Kind::List(elements) => Some(elements.len()),
            Kind::Map(entries) => Some(entries.len()),
            _ => None,
        };
        if let Some(size) = written {
            return Some(Range::fixed(size as u64));
        }
        if let Some(size) = self.declared_size(&self.way(expr)) {
            self.sizes.insert(expr.id, size);
            return Some(size);
        }
        if self.ty(expr).is_scalar() {
            return Some(Range::fixed(1));
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|l| l.size),
            _ => None,
        }
    }

    fn size_or_unknown(&mut self, expr: &Expr) -> Range {
        self.size(expr).unwrap_or(UNKNOWN)
    }

    fn entries_of(&self, expr: &Expr) -> Option<Entries> {
        if let Some(entries) = self.entries.get(&expr.id) {
            return Some(*entries);
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|l| l.entries),
            _ => None,
        }
    }

    fn call(&mut self, expr: &Expr, target: Option<&Expr>, function: &str, args: &[Expr]) -> Range {
        if function == "dyn"
            && let [arg] = args
        {
            let cost = self.cost(arg);
            if let Some(size) = self.size(arg) {
                self.sizes.insert(expr.id, size);
            }
            if let Some(entries) = self.entries_of(arg) {
                self.entries.insert(expr.id, entries);
            }
            return cost.plus(Range::fixed(1));
        }
        let costs: Vec<Range> = args.iter().map(|a| self.cost(a)).collect();
        let overloads: Vec<Arc<str>> = match &self.checked.references[expr.id] {
            Reference::Overloads(found) => found.iter().map(|o| o.id.clone()).collect(),
            // The way an optional field is selected is not looked up.
            _ if function == "_?._" => vec!["select_optional_field".into()],
            _ => return Range::fixed(0),
        };
        let of_target = target.map_or(Range::fixed(0), |t| self.cost(t));
        let (mut sum, mut size): (Option<Range>, Option<Range>) = (None, None);
        for overload in overloads {
            let Estimate { cost, size: result } = self.one(expr, function, &overload, target, args, &costs);
            sum = Some(sum.map_or(cost, |s| s.either(cost)));
            if let Some(result) = result {
                size = Some(size.map_or(result, |s| s.either(result)));
            }
            if let ("index_list" | "index_map", [first, ..]) = (&*overload, args) {
                size = self.entries_of(first).map(|e| e.value);
                let step = if &*overload == "index_list" { Step::Items } else { Step::Values };
                let way = stepped(&self.way(first), step);
                self.ways.insert(expr.id, way);
            }
            if size.is_none() {
                size = self.size(expr);
            }
        }
        if let Some(size) = size {
            self.sizes.insert(expr.id, size);
        }
        of_target.plus(sum.unwrap_or(Range::fixed(0)))
    }

    fn one(&mut self, expr: &Expr, function: &str, overload: &str, target: Option<&Expr>, args: &[Expr], costs: &[Range]) -> Estimate {
        let of_args = costs.iter().fold(Range::fixed(0), |sum, c| sum.plus(*c));
        let with_args = |e: Estimate| Estimate { cost: e.cost.plus(of_args), size: e.size };
        if let Some(estimate) = self.by_name(function, overload, target, args) {
            return with_args(estimate);
        }
        match (overload, args) {
            ("logical_and" | "logical_or", [..]) if costs.len() == 2 => only(Range { min: costs[0].min, max: costs[0].plus(costs[1]).max }),
            ("conditional", [_, yes, no]) => {
                let size = self.size_or_unknown(yes).either(self.size_or_unknown(no));
                if let Some(entries) = Entries::either(self.entries_of(yes), self.entries_of(no)) {
                    self.entries.insert(expr.id, entries);
                }
                Estimate { cost: costs[0].plus(costs[1].either(costs[2])), size: Some(size) }
            }
            ("add_string" | "add_bytes" | "add_list", [left, right]) => {
                let size = self.size_or_unknown(left).plus(self.size_or_unknown(right));
                if let Some(entries) = Entries::either(self.entries_of(left), self.entries_of(right)) {
                    self.entries.insert(expr.id, entries);
                }
                let cost = if overload == "add_list" { Range::fixed(1) } else { size.scaled(TRAVERSAL) };
                with_args(Estimate { cost, size: Some(size) })
            }
            _ => with_args(self.by_overload(overload, target, args)),
        }
    }

    /// The size of a list's items, and whether they are texts or bytes; `None` when it is no list.
    fn items(&mut self, list: &Expr) -> Option<(Range, bool)> {
        let of = match self.ty(list) {
            Type::List(of) => (**of).clone(),
            Type::Map(kv) => kv.0.clone(),
            Type::Optional(of) => (**of).clone(),
            _ => return None,
        };
        let way = self.way(list).filter(|(root, _)| &**root != crate::ast::ACCU);
        let size = self.declared_size(&stepped(&way, Step::Items)).unwrap_or(UNKNOWN);
        Some((size, matches!(of, Type::String | Type::Bytes)))
    }
}
