//! Evaluation, within bounds of cost, work and memory.

use std::collections::BTreeMap;
use std::rc::Rc;

use regex::Regex;

use crate::charge::Charge;
use crate::plan::{Call, FoldNode, Node, Op};
use crate::value::{Fault, List, Literals, Map, Outcome, Text, Val};

/// Steps of work that costs don't count, in one evaluation: about a second.
const MOST_WORK: u64 = 50_000_000;
/// Bytes that values made by one evaluation may take.
const MOST_BYTES: u64 = 64 << 20;

/// One evaluation: the values of variables, and what has been spent.
pub struct Context<'a> {
    vars: Vec<Option<Val<'a>>>,
    locals: Vec<Outcome<'a>>,
    cost: u64,
    limit: u64,
    work_left: u64,
    bytes_left: u64,
    /// Patterns that the expression has as literals.
    pub(crate) known: Option<&'a BTreeMap<String, Regex>>,
    /// Patterns that were made while it was evaluated.
    pub(crate) patterns: BTreeMap<String, Option<Regex>>,
}

impl<'a> Context<'a> {
    /// An evaluation with these variables, in the order of the environment's, of at most this cost.
    pub fn new(vars: Vec<Option<Val<'a>>>, limit: u64) -> Self {
        let (work_left, bytes_left) = (MOST_WORK, MOST_BYTES);
        Self { vars, locals: Vec::new(), cost: 0, limit, work_left, bytes_left, known: None, patterns: BTreeMap::new() }
    }

    /// What has been spent.
    pub fn cost(&self) -> u64 {
        self.cost
    }

    pub(crate) fn spend(&mut self, cost: u64) -> Result<(), Fault> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit { Err(Fault::TooDear) } else { Ok(()) }
    }

    /// Counts work that costs don't.
    pub(crate) fn work(&mut self, steps: u64) -> Result<(), Fault> {
        self.work_left = self.work_left.checked_sub(steps).ok_or(Fault::TooDear)?;
        Ok(())
    }

    /// Counts memory, before it is taken.
    pub(crate) fn takes(&mut self, bytes: usize) -> Result<(), Fault> {
        self.bytes_left = self.bytes_left.checked_sub(bytes as u64).ok_or(Fault::TooDear)?;
        Ok(())
    }

    pub(crate) fn eval(&mut self, node: &'a Node) -> Outcome<'a> {
        match node {
            Node::Literal(literal) => Ok(Val::literal(literal)),
            Node::Literals(literals) => Ok(Val::List(List::Written(Literals(literals)))),
            Node::Type(name) => Ok(Val::type_of(name)),
            Node::Variable(place) => {
                self.spend(1)?;
                let value = self.vars.get(*place).cloned().flatten();
                value.ok_or_else(|| Fault::new("no such attribute"))
            }
            Node::Local(place) => {
                self.spend(1)?;
                self.locals[*place].clone()
            }
            Node::Select { operand, field, charge } => {
                let operand = self.eval(operand)?;
                self.spend(*charge)?;
                select(&operand, field)
            }
            Node::Has(operand, field, charge) => {
                let operand = self.eval(operand)?;
                self.spend(*charge)?;
                Ok(Val::Bool(has(&operand, field)?))
            }
            Node::And(both) => self.logical(both, false),
            Node::Or(both) => self.logical(both, true),
            Node::Not(operand) => match self.eval(operand)? {
                Val::Bool(b) => self.spend(1).map(|()| Val::Bool(!b)),
                _ => Err(Fault::NoOverload),
            },
            Node::Conditional(parts) => match self.eval(&parts[0])? {
                Val::Bool(true) => self.eval(&parts[1]),
                Val::Bool(false) => self.eval(&parts[2]),
                _ => Err(Fault::NoOverload),
            },
            Node::Binary(op, charge, both) => self.binary(*op, *charge, both),
            Node::Call(call) => self.call(call),
            Node::Fold(fold) => self.fold(fold),
            other => self.eval_rest(other),
        }
    }

    /// The rarer kinds; apart so that deep expressions take less stack.
    #[inline(never)]
    fn eval_rest(&mut self, node: &'a Node) -> Outcome<'a> {
        match node {
            Node::Negate(operand) => {
                let operand = self.eval(operand)?;
                self.spend(1)?;
                match operand {
                    Val::Int(i) => i.checked_neg().map(Val::Int).ok_or_else(overflow),
                    Val::Double(d) => Ok(Val::Double(-d)),
                    _ => Err(Fault::NoOverload),
                }
            }
            Node::NotStrictlyFalse(operand) => {
                let value = self.eval(operand);
                if let Err(Fault::TooDear) = value {
                    return value;
                }
                self.spend(1)?;
                Ok(Val::Bool(!matches!(value, Ok(Val::Bool(false)))))
            }
            Node::OptionalSelect(operand, field) => {
                let operand = self.eval(operand)?;
                self.spend(1)?;
                optional_select(&operand, field)
            }
            Node::Index(both, charge) => {
                let operand = self.eval(&both[0])?;
                let index = self.eval(&both[1])?;
                self.spend(*charge)?;
                at(&operand, &index)
            }
            Node::OptionalIndex(both) => {
                let operand = self.eval(&both[0])?;
                let index = self.eval(&both[1])?;
                self.spend(1)?;
                optional_at(&operand, &index)
            }
            Node::OrElse(both, value) => match self.eval(&both[0])? {
                Val::Optional(Some(found)) if *value => Ok((*found).clone()),
                found @ Val::Optional(Some(_)) => Ok(found),
                Val::Optional(None) => self.eval(&both[1]),
                _ => Err(Fault::NoOverload),
            },
            Node::List { elements, charge } => self.list(elements, *charge),
            Node::Map { entries, charge } => self.map(entries, *charge),
            Node::Struct(name, fields) => {
                let mut made = BTreeMap::new();
                for (field, value, optional) in fields {
                    match self.eval(value)? {
                        Val::Optional(value) if *optional => {
                            if let Some(value) = value {
                                made.insert((&**field).into(), (*value).clone());
                            }
                        }
                        value => drop(made.insert((&**field).into(), value)),
                    }
                }
                self.spend(40)?;
                Ok(Val::Struct((&**name).into(), Rc::new(made)))
            }
            Node::Bind(parts) => {
                let value = self.eval(&parts[0]);
                if let Err(Fault::TooDear) = value {
                    return value;
                }
                self.locals.push(value);
                let result = self.eval(&parts[1]);
                self.locals.pop();
                result
            }
            Node::Append(accu, item, charge) => {
                let item = self.eval(item)?;
                self.spend(*charge)?;
                self.takes(std::mem::size_of::<Val<'_>>())?;
                let mut list = std::mem::replace(&mut self.locals[*accu], Ok(Val::Null))?;
                match &mut list {
                    Val::List(List::Made(items)) => Rc::make_mut(items).push(item),
                    Val::List(List::Written(Literals([]))) => list = vec![item].into(),
                    _ => return Err(Fault::NoOverload),
                }
                Ok(list)
            }
            _ => Err(Fault::NoOverload),
        }
    }

    /// `&&` and `||`: one side alone may decide, whatever becomes of the other.
    fn logical(&mut self, both: &'a [Node; 2], decisive: bool) -> Outcome<'a> {
        let left = self.eval(&both[0]);
        match left {
            Ok(Val::Bool(b)) if b == decisive => return left,
            Err(Fault::TooDear) => return left,
            _ => {}
        }
        let right = self.eval(&both[1]);
        match (left, right) {
            (_, Err(Fault::TooDear)) => Err(Fault::TooDear),
            (_, Ok(Val::Bool(b))) if b == decisive => Ok(Val::Bool(decisive)),
            (Ok(Val::Bool(_)), Ok(Val::Bool(_))) => Ok(Val::Bool(!decisive)),
            (Err(fault), _) | (_, Err(fault)) => Err(fault),
            _ => Err(Fault::NoOverload),
        }
    }

    fn list(&mut self, elements: &'a [(Node, bool)], charge: u64) -> Outcome<'a> {
        let mut items = Vec::with_capacity(elements.len());
        for (element, optional) in elements {
            match self.eval(element)? {
                Val::Optional(value) if *optional => items.extend(value.map(|v| (*v).clone())),
                value => items.push(value),
            }
        }
        self.spend(charge)?;
        self.takes(items.len() * std::mem::size_of::<Val<'_>>())?;
        Ok(items.into())
    }

    fn map(&mut self, entries: &'a [(Node, Node, bool)], charge: u64) -> Outcome<'a> {
        let mut made = BTreeMap::new();
        for (key, value, optional) in entries {
            let key = self.eval(key)?;
            let value = match self.eval(value)? {
                Val::Optional(None) if *optional => continue,
                Val::Optional(Some(value)) if *optional => (*value).clone(),
                value => value,
            };
            insert(&mut made, key, value)?;
        }
        self.spend(charge)?;
        self.takes(made.len() * 128)?;
        Ok(Val::Map(Map::Made(Rc::new(made))))
    }

    fn call(&mut self, call: &'a Call) -> Outcome<'a> {
        let mut args = Vec::with_capacity(call.args.len());
        for arg in &call.args {
            args.push(self.eval(arg)?);
        }
        if call.charge.is_ahead() {
            let cost = call.charge.cost(&args, None)?;
            self.spend(cost)?;
            return (call.function)(self, &args);
        }
        let result = (call.function)(self, &args)?;
        let cost = call.charge.cost(&args, Some(&result))?;
        self.spend(cost)?;
        Ok(result)
    }

    fn binary(&mut self, op: Op, charge: Charge, both: &'a [Node; 2]) -> Outcome<'a> {
        let left = self.eval(&both[0])?;
        let right = self.eval(&both[1])?;
        let args = [left, right];
        let cost = charge.cost(&args, None)?;
        self.spend(cost)?;
        let [left, right] = &args;
        let compared =
            |ordering: Option<std::cmp::Ordering>, fits: fn(std::cmp::Ordering) -> bool| Ok(Val::Bool(ordering.is_some_and(fits)));
        match op {
            Op::Equal => self.equal(left, right).map(Val::Bool),
            Op::Unequal => self.equal(left, right).map(|same| Val::Bool(!same)),
            Op::Less => compared(self.compare(left, right)?, std::cmp::Ordering::is_lt),
            Op::LessEqual => compared(self.compare(left, right)?, std::cmp::Ordering::is_le),
            Op::Greater => compared(self.compare(left, right)?, std::cmp::Ordering::is_gt),
            Op::GreaterEqual => compared(self.compare(left, right)?, std::cmp::Ordering::is_ge),
            Op::In => match right {
                Val::List(list) => self.contains(list, left).map(Val::Bool),
                Val::Map(map) => Ok(Val::Bool(map.get(left).is_some())),
                _ => Err(Fault::NoOverload),
            },
            _ => crate::functions::arithmetic::of(self, op, left, right),
        }
    }

    fn fold(&mut self, fold: &'a FoldNode) -> Outcome<'a> {
        let range = self.eval(&fold.range)?;
        let accu = self.locals.len();
        let init = self.eval(&fold.init);
        self.locals.push(init);
        let done = self.iterate(&range, fold, accu);
        self.locals.truncate(accu + 1);
        let result = done.and_then(|()| self.eval(&fold.result));
        self.locals.truncate(accu);
        result
    }

    fn iterate(&mut self, range: &Val<'a>, fold: &'a FoldNode, accu: usize) -> Result<(), Fault> {
        match range {
            Val::List(list) => {
                for (i, item) in list.items().enumerate() {
                    let first = if fold.two { Ok(Val::Int(i as i64)) } else { item.clone() };
                    if !self.turn(first, fold.two.then_some(item), fold, accu)? {
                        break;
                    }
                }
            }
            Val::Map(map) => {
                for key in map.keys() {
                    let value = fold.two.then(|| map.get(&key).unwrap_or_else(|| Err(Fault::new("no such key"))));
                    if !self.turn(Ok(key), value, fold, accu)? {
                        break;
                    }
                }
            }
            _ => return Err(Fault::NoOverload),
        }
        Ok(())
    }

    /// One turn of a loop; whether to go on.
    fn turn(&mut self, first: Outcome<'a>, second: Option<Outcome<'a>>, fold: &'a FoldNode, accu: usize) -> Result<bool, Fault> {
        self.work(1)?;
        self.locals.push(first);
        self.locals.extend(second);
        let goes_on = match &fold.condition {
            Some(condition) => !matches!(self.eval(condition)?, Val::Bool(false)),
            None => true,
        };
        if goes_on {
            let step = self.eval(&fold.step);
            match step {
                Err(Fault::TooDear) => return Err(Fault::TooDear),
                // Only what can be made good by a later turn is kept.
                Err(fault) if fold.condition.is_none() => return Err(fault),
                step => self.locals[accu] = step,
            }
        }
        self.locals.truncate(accu + 1);
        Ok(goes_on)
    }
}

/// A result that no number of the type holds.
pub(crate) fn overflow() -> Fault {
    Fault::new("integer overflow")
}

/// Puts an entry into a map, which must not have it yet.
pub(crate) fn insert<'a>(map: &mut BTreeMap<crate::value::Key, (Val<'a>, Val<'a>)>, key: Val<'a>, value: Val<'a>) -> Result<(), Fault> {
    let place = key.key().ok_or_else(|| Fault::new(format!("unsupported key type: {}", key.type_name())))?;
    let shown = shown(&key);
    match map.insert(place, (key, value)) {
        None => Ok(()),
        Some(_) => Err(Fault::new(format!("insert failed: key {shown} already exists"))),
    }
}

/// A scalar as errors show it.
pub(crate) fn shown(value: &Val<'_>) -> String {
    match value {
        Val::String(text) => text.to_string(),
        other => format!("{other:?}"),
    }
}

fn no_key(name: &str) -> Fault {
    Fault::new(format!("no such key: {name}"))
}

/// A field; `None` when it isn't there.
fn find<'a>(operand: &Val<'a>, field: &str) -> Result<Option<Val<'a>>, Fault> {
    let found = match operand {
        Val::Map(map) => map.named(field),
        Val::Lazy(fields) => fields.field(field),
        Val::Struct(_, fields) => fields.get(field).cloned().map(Ok),
        Val::Null => return Err(no_key(field)),
        _ => return Err(Fault::NoOverload),
    };
    found.transpose()
}

fn select<'a>(operand: &Val<'a>, field: &str) -> Outcome<'a> {
    match operand {
        Val::Optional(_) => optional_select(operand, field),
        _ => find(operand, field)?.ok_or_else(|| no_key(field)),
    }
}

fn has(operand: &Val<'_>, field: &str) -> Result<bool, Fault> {
    match operand {
        Val::Optional(Some(inner)) => has(inner, field),
        Val::Optional(None) => Ok(false),
        _ => Ok(find(operand, field)?.is_some()),
    }
}

fn optional_select<'a>(operand: &Val<'a>, field: &str) -> Outcome<'a> {
    match operand {
        Val::Optional(Some(inner)) => optional_select(inner, field),
        Val::Optional(None) => Ok(Val::Optional(None)),
        _ => Ok(find(operand, field)?.into()),
    }
}

/// The place an index means, when it is a whole number.
fn place(index: &Val<'_>) -> Option<i128> {
    match index {
        Val::Int(i) => Some((*i).into()),
        Val::Uint(u) => Some((*u).into()),
        Val::Double(d) if d.fract() == 0.0 && d.abs() < 1e18 => Some(*d as i128),
        _ => None,
    }
}

fn find_at<'a>(operand: &Val<'a>, index: &Val<'a>) -> Result<Option<Val<'a>>, Fault> {
    match (operand, index) {
        (Val::List(list), index) => {
            let place = place(index).ok_or_else(|| Fault::new(format!("unsupported index type '{}' in list", index.type_name())))?;
            usize::try_from(place).ok().and_then(|i| list.get(i)).transpose()
        }
        (Val::Map(map), key) => map.get(key).transpose(),
        (operand, Val::String(field)) => find(operand, field),
        _ => Err(Fault::NoOverload),
    }
}

fn at<'a>(operand: &Val<'a>, index: &Val<'a>) -> Outcome<'a> {
    match operand {
        Val::Optional(_) => optional_at(operand, index),
        _ => find_at(operand, index)?.ok_or_else(|| match operand {
            Val::List(_) => Fault::new(format!("index out of bounds: {}", shown(index))),
            _ => no_key(&shown(index)),
        }),
    }
}

fn optional_at<'a>(operand: &Val<'a>, index: &Val<'a>) -> Outcome<'a> {
    match operand {
        Val::Optional(Some(inner)) => optional_at(inner, index),
        Val::Optional(None) => Ok(Val::Optional(None)),
        _ => Ok(find_at(operand, index)?.into()),
    }
}

impl<'a> From<Text<'a>> for Val<'a> {
    fn from(text: Text<'a>) -> Self {
        Self::String(text)
    }
}
