//! From checked expressions to what is evaluated: names have become places, functions code.

use std::sync::Arc;

use crate::ast::{ACCU, Expr, Fold, Id, Kind, Literal};
use crate::charge::{self, Charge};
use crate::check::{Checked, Reference};
use crate::functions::{self, Function};
use crate::value::runtime_name;

/// An operator with two operands that both are always evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Equal,
    Unequal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    In,
}

/// An expression ready to be evaluated.
#[derive(Debug)]
pub(crate) enum Node {
    Literal(Literal),
    /// A list of nothing but literals.
    Literals(Vec<Literal>),
    /// A type's name.
    Type(Arc<str>),
    /// A variable of the environment.
    Variable(usize),
    /// A variable of a macro, by its place from the outside.
    Local(usize),
    Select {
        operand: Box<Node>,
        field: Arc<str>,
        /// What the way to the field costs beyond the operand.
        charge: u64,
    },
    Has(Box<Node>, Arc<str>, u64),
    OptionalSelect(Box<Node>, Arc<str>),
    Index(Box<[Node; 2]>, u64),
    OptionalIndex(Box<[Node; 2]>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    Not(Box<Node>),
    Negate(Box<Node>),
    NotStrictlyFalse(Box<Node>),
    Conditional(Box<[Node; 3]>),
    Binary(Op, Charge, Box<[Node; 2]>),
    /// `a.or(b)`, or `a.orValue(b)` when the flag says so.
    OrElse(Box<[Node; 2]>, bool),
    Call(Box<Call>),
    List {
        elements: Vec<(Node, bool)>,
        charge: u64,
    },
    Map {
        entries: Vec<(Node, Node, bool)>,
        charge: u64,
    },
    Struct(Arc<str>, Vec<(Arc<str>, Node, bool)>),
    Fold(Box<FoldNode>),
    /// Names a value for an expression.
    Bind(Box<[Node; 2]>),
    /// Adds an item to the accumulator at a place.
    Append(usize, Box<Node>, u64),
}

/// A call of a function.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) function: Function,
    pub(crate) charge: Charge,
    pub(crate) args: Vec<Node>,
}

#[derive(Debug)]
pub(crate) struct FoldNode {
    pub(crate) range: Node,
    pub(crate) init: Node,
    /// Whether to go on; `None` to go to the end.
    pub(crate) condition: Option<Node>,
    pub(crate) step: Node,
    pub(crate) result: Node,
    pub(crate) two: bool,
}

impl Node {
    fn is_constant(&self) -> bool {
        matches!(self, Self::Literal(_) | Self::Literals(_) | Self::List { charge: 0, .. } | Self::Map { charge: 0, .. })
    }

    /// Whether fields are looked up in it without a step between.
    fn is_attribute(&self) -> bool {
        matches!(self, Self::Variable(_) | Self::Local(_) | Self::Select { .. } | Self::Index(..) | Self::Conditional(_))
    }
}

/// Makes an expression ready.
pub(crate) fn plan(expr: &Expr, checked: &Checked) -> Node {
    Planner { checked, scopes: Vec::new() }.plan(expr)
}

struct Planner<'a> {
    checked: &'a Checked,
    scopes: Vec<Arc<str>>,
}

impl Planner<'_> {
    fn boxed(&mut self, expr: &Expr) -> Box<Node> {
        Box::new(self.plan(expr))
    }

    fn two(&mut self, args: &[Expr]) -> Box<[Node; 2]> {
        Box::new([self.plan(&args[0]), self.plan(&args[1])])
    }

    fn plan(&mut self, expr: &Expr) -> Node {
        match &expr.kind {
            Kind::Literal(literal) => Node::Literal(literal.clone()),
            Kind::Ident(name) => self.ident(expr.id, name),
            Kind::Select { operand, field, test } => {
                let operand = self.boxed(operand);
                let relative = u64::from(!operand.is_attribute());
                match test {
                    true => Node::Has(operand, field.clone(), relative),
                    false => Node::Select { operand, field: field.clone(), charge: 1 + relative },
                }
            }
            Kind::Call { target, function, args } => self.call(expr.id, target.as_deref(), function, args),
            Kind::List(elements) => {
                let plain = elements.iter().all(|e| !e.optional);
                let literal = |e: &Expr| match &e.kind {
                    Kind::Literal(l) => Some(l.clone()),
                    _ => None,
                };
                if plain && let Some(literals) = elements.iter().map(|e| literal(&e.value)).collect() {
                    return Node::Literals(literals);
                }
                let elements: Vec<_> = elements.iter().map(|e| (self.plan(&e.value), e.optional)).collect();
                let constant = plain && elements.iter().all(|(e, _)| e.is_constant());
                Node::List { elements, charge: if constant { 0 } else { 10 } }
            }
            Kind::Map(entries) => {
                let entries: Vec<_> = entries.iter().map(|e| (self.plan(&e.key), self.plan(&e.value), e.optional)).collect();
                let constant = entries.iter().all(|(k, v, optional)| !optional && k.is_constant() && v.is_constant());
                Node::Map { entries, charge: if constant { 0 } else { 30 } }
            }
            Kind::Struct { name, fields } => {
                let fields = fields.iter().map(|f| (f.name.clone(), self.plan(&f.value), f.optional)).collect();
                Node::Struct(name.clone(), fields)
            }
            Kind::Fold(fold) => self.fold(fold),
        }
    }

    fn ident(&mut self, id: Id, name: &str) -> Node {
        match &self.checked.references[id] {
            Reference::Variable(place) => Node::Variable(*place),
            Reference::Type(ty) => Node::Type(runtime_name(ty)),
            _ => {
                let place = self.scopes.iter().rposition(|n| &**n == name);
                Node::Local(place.expect("the checker found every name"))
            }
        }
    }

    fn overload(&self, id: Id) -> &str {
        match &self.checked.references[id] {
            // Which of several is called is seen when it is called.
            Reference::Overloads(found) => match found[..] {
                [only] => &only.id,
                _ => "",
            },
            _ => "",
        }
    }

    fn call(&mut self, id: Id, target: Option<&Expr>, function: &str, args: &[Expr]) -> Node {
        let op = |op| (op, charge::of(function, self.overload(id), false));
        let binary = match function {
            "_==_" => op(Op::Equal),
            "_!=_" => op(Op::Unequal),
            "_<_" => op(Op::Less),
            "_<=_" => op(Op::LessEqual),
            "_>_" => op(Op::Greater),
            "_>=_" => op(Op::GreaterEqual),
            "_+_" => op(Op::Add),
            "_-_" => op(Op::Subtract),
            "_*_" => op(Op::Multiply),
            "_/_" => op(Op::Divide),
            "_%_" => op(Op::Modulo),
            "@in" => op(Op::In),
            _ => return self.other_call(id, target, function, args),
        };
        let both = self.two(args);
        match binary {
            // A list of literals is looked up, not searched.
            (Op::In, _) if matches!(both[1], Node::Literals(_)) => Node::Binary(Op::In, Charge::Fixed(0), both),
            (op, charge) => Node::Binary(op, charge, both),
        }
    }

    fn other_call(&mut self, id: Id, target: Option<&Expr>, function: &str, args: &[Expr]) -> Node {
        match (function, args, target) {
            ("_&&_", ..) => Node::And(self.two(args)),
            ("_||_", ..) => Node::Or(self.two(args)),
            ("!_", [arg], _) => Node::Not(self.boxed(arg)),
            ("-_", [arg], _) => Node::Negate(self.boxed(arg)),
            ("@not_strictly_false", [arg], _) => Node::NotStrictlyFalse(self.boxed(arg)),
            ("_?_:_", [a, b, c], _) => Node::Conditional(Box::new([self.plan(a), self.plan(b), self.plan(c)])),
            ("_[?_]", ..) => Node::OptionalIndex(self.two(args)),
            ("_[_]", ..) => {
                let both = self.two(args);
                let charge = 1 + u64::from(!both[0].is_attribute());
                Node::Index(both, charge)
            }
            ("_?._", [operand, Expr { kind: Kind::Literal(Literal::String(field)), .. }], _) => {
                Node::OptionalSelect(self.boxed(operand), field.clone())
            }
            ("or" | "orValue", [arg], Some(target)) => Node::OrElse(Box::new([self.plan(target), self.plan(arg)]), function == "orValue"),
            _ => {
                let args: Vec<Node> = target.into_iter().chain(args).map(|a| self.plan(a)).collect();
                let constant = args.len() == 1 && args[0].is_constant();
                let charge = charge::of(function, self.overload(id), constant);
                let function = functions::find(function).expect("every declared function is there");
                Node::Call(Box::new(Call { function, charge, args }))
            }
        }
    }

    fn fold(&mut self, fold: &Fold) -> Node {
        let depth = self.scopes.len();
        if fold.is_bind() {
            let value = self.plan(&fold.init);
            self.scopes.push(fold.accu.clone());
            let within = self.plan(&fold.result);
            self.scopes.truncate(depth);
            return Node::Bind(Box::new([value, within]));
        }
        let (range, init) = (self.plan(&fold.range), self.plan(&fold.init));
        self.scopes.push(fold.accu.clone());
        self.scopes.push(fold.var.clone());
        self.scopes.extend(fold.second.clone());
        let goes_on = matches!(fold.condition.kind, Kind::Literal(Literal::Bool(true)));
        let condition = (!goes_on).then(|| self.plan(&fold.condition));
        let step = self.step(&fold.step, depth);
        self.scopes.truncate(depth + 1);
        let result = self.plan(&fold.result);
        self.scopes.truncate(depth);
        Node::Fold(Box::new(FoldNode { range, init, condition, step, result, two: fold.second.is_some() }))
    }

    /// A step that collects items adds them in place.
    fn step(&mut self, step: &Expr, accu: usize) -> Node {
        let Kind::Call { target: None, function, args } = &step.kind else { return self.plan(step) };
        match (&**function, &args[..]) {
            ("_+_", [Expr { kind: Kind::Ident(name), .. }, Expr { kind: Kind::List(items), .. }])
                if &**name == ACCU && items.len() == 1 && !items[0].optional =>
            {
                let item = self.boxed(&items[0].value);
                let charge = if item.is_constant() { 2 } else { 12 };
                Node::Append(accu, item, charge)
            }
            ("_?_:_", [filter, yes, no]) => {
                let filter = self.plan(filter);
                Node::Conditional(Box::new([filter, self.step(yes, accu), self.plan(no)]))
            }
            _ => self.plan(step),
        }
    }
}
