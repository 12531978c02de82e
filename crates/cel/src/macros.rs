//! Calls that are macros: `has`, and what goes over lists, maps and optional values.

use std::sync::Arc;

use crate::ast::{ACCU, Element, Expr, Fold, Id, Kind, Literal};
use crate::parse::{Failed, Parser};

type Made = Result<Expr, Failed>;

/// A call, or what it stands for. Errors of macros point at the arguments.
pub(crate) fn call(parser: &mut Parser, at: u32, target: Option<Expr>, function: Arc<str>, args: Vec<Expr>) -> Made {
    let mut m = Maker { parser, at };
    match (target, &*function, args.len()) {
        (None, "has", 1) => m.has(args),
        (Some(target), "all" | "exists" | "exists_one" | "existsOne", 2 | 3) => m.quantifier(&function, target, args),
        (Some(target), "map", 2 | 3) => m.map(target, args),
        (Some(target), "filter", 2) => m.filter(target, args),
        (Some(target), "transformList" | "transformMap" | "transformMapEntry", 3 | 4) => m.transform(&function, target, args),
        (Some(target), "optMap" | "optFlatMap", 2) => m.optional(&function, target, args),
        (Some(target), "sortBy", 2) => m.sort_by(target, args),
        (target, ..) => m.node(Kind::Call { target: target.map(Box::new), function, args }),
    }
}

struct Maker<'a> {
    parser: &'a mut Parser,
    at: u32,
}

impl Maker<'_> {
    fn node(&mut self, kind: Kind) -> Made {
        let id = self.parser.id(self.at);
        self.parser.node(id, kind)
    }

    fn fail<T>(&mut self, id: Id, message: &str) -> Result<T, Failed> {
        let at = self.parser.offset(id);
        self.parser.fail(at, message)
    }

    fn ident(&mut self, name: &str) -> Made {
        self.node(Kind::Ident(name.into()))
    }

    fn accu(&mut self) -> Made {
        self.ident(ACCU)
    }

    fn literal(&mut self, literal: Literal) -> Made {
        self.node(Kind::Literal(literal))
    }

    fn function(&mut self, name: &str, args: Vec<Expr>) -> Made {
        self.node(Kind::Call { target: None, function: name.into(), args })
    }

    fn method(&mut self, name: &str, target: Expr, args: Vec<Expr>) -> Made {
        self.node(Kind::Call { target: Some(Box::new(target)), function: name.into(), args })
    }

    fn list(&mut self, items: Vec<Expr>) -> Made {
        self.node(Kind::List(items.into_iter().map(|value| Element { value, optional: false }).collect()))
    }

    /// The name of a variable that an argument introduces.
    fn variable(&mut self, arg: &Expr, wanted: &str) -> Result<Arc<str>, Failed> {
        match &arg.kind {
            Kind::Ident(name) if &**name == "__result__" => self.fail(arg.id, "iteration variable overwrites accumulator variable"),
            Kind::Ident(name) if !name.starts_with('.') => Ok(name.clone()),
            _ => self.fail(arg.id, wanted),
        }
    }

    fn two_variables(&mut self, first: &Expr, second: &Expr) -> Result<(Arc<str>, Arc<str>), Failed> {
        let wanted = "argument must be a simple name";
        let (a, b) = (self.variable(first, wanted)?, self.variable(second, wanted)?);
        if a == b {
            return self.fail(second.id, &format!("duplicate variable name: {a}"));
        }
        Ok((a, b))
    }

    fn has(&mut self, args: Vec<Expr>) -> Made {
        let Some(arg) = args.into_iter().next() else { return Err(Failed) };
        match arg.kind {
            Kind::Select { operand, field, .. } => self.node(Kind::Select { operand, field, test: true }),
            _ => self.fail(arg.id, "invalid argument to has() macro"),
        }
    }

    fn fold(&mut self, range: Expr, vars: (Arc<str>, Option<Arc<str>>), parts: [Expr; 4]) -> Made {
        let [init, condition, step, result] = parts;
        let (var, second) = vars;
        let fold = Fold { range, var, second, accu: ACCU.into(), init, condition, step, result };
        self.node(Kind::Fold(Box::new(fold)))
    }

    fn quantifier(&mut self, function: &str, range: Expr, mut args: Vec<Expr>) -> Made {
        let Some(predicate) = args.pop() else { return Err(Failed) };
        let vars = match &args[..] {
            [first, second] => {
                let (a, b) = self.two_variables(first, second)?;
                (a, Some(b))
            }
            [only] => (self.variable(only, "argument must be a simple name")?, None),
            _ => return Err(Failed),
        };
        let accu = self.accu()?;
        let result = self.accu()?;
        let parts = match function {
            "all" => {
                let condition = self.function("@not_strictly_false", vec![accu])?;
                let before = self.accu()?;
                let step = self.function("_&&_", vec![before, predicate])?;
                [self.literal(Literal::Bool(true))?, condition, step, result]
            }
            "exists" => {
                let not = self.function("!_", vec![accu])?;
                let condition = self.function("@not_strictly_false", vec![not])?;
                let before = self.accu()?;
                let step = self.function("_||_", vec![before, predicate])?;
                [self.literal(Literal::Bool(false))?, condition, step, result]
            }
            _ => {
                let one = self.literal(Literal::Int(1))?;
                let more = self.function("_+_", vec![accu, one])?;
                let before = self.accu()?;
                let step = self.function("_?_:_", vec![predicate, more, before])?;
                let one = self.literal(Literal::Int(1))?;
                let is_one = self.function("_==_", vec![result, one])?;
                [self.literal(Literal::Int(0))?, self.literal(Literal::Bool(true))?, step, is_one]
            }
        };
        self.fold(range, vars, parts)
    }

    /// `accu + [item]`, where the filter holds.
    fn collects(&mut self, range: Expr, vars: (Arc<str>, Option<Arc<str>>), filter: Option<Expr>, item: Expr) -> Made {
        let (accu, items) = (self.accu()?, self.list(vec![item])?);
        let step = self.function("_+_", vec![accu, items])?;
        let init = self.list(Vec::new())?;
        self.builds(range, vars, filter, step, init)
    }

    fn builds(&mut self, range: Expr, vars: (Arc<str>, Option<Arc<str>>), filter: Option<Expr>, step: Expr, init: Expr) -> Made {
        let step = match filter {
            Some(filter) => {
                let before = self.accu()?;
                self.function("_?_:_", vec![filter, step, before])?
            }
            None => step,
        };
        let parts = [init, self.literal(Literal::Bool(true))?, step, self.accu()?];
        self.fold(range, vars, parts)
    }

    fn map(&mut self, range: Expr, mut args: Vec<Expr>) -> Made {
        let Some(item) = args.pop() else { return Err(Failed) };
        let filter = (args.len() == 2).then(|| args.pop()).flatten();
        let var = self.variable(&args[0], "argument is not an identifier")?;
        self.collects(range, (var, None), filter, item)
    }

    fn filter(&mut self, range: Expr, mut args: Vec<Expr>) -> Made {
        let filter = args.pop();
        let var = self.variable(&args[0], "argument is not an identifier")?;
        let item = args.remove(0);
        self.collects(range, (var, None), filter, item)
    }

    fn transform(&mut self, function: &str, range: Expr, mut args: Vec<Expr>) -> Made {
        let Some(item) = args.pop() else { return Err(Failed) };
        let filter = (args.len() == 3).then(|| args.pop()).flatten();
        let (first, second) = self.two_variables(&args[0], &args[1])?;
        let vars = (first.clone(), Some(second));
        if function == "transformList" {
            return self.collects(range, vars, filter, item);
        }
        let mut into = vec![self.accu()?];
        if function == "transformMap" {
            into.push(self.ident(&first)?);
        }
        into.push(item);
        let step = self.function("cel.@mapInsert", into)?;
        let init = self.node(Kind::Map(Vec::new()))?;
        self.builds(range, vars, filter, step, init)
    }

    /// Names a value for an expression.
    fn bind(&mut self, name: Arc<str>, value: Expr, within: Expr) -> Made {
        let fold = Fold {
            range: self.list(Vec::new())?,
            var: "#unused".into(),
            second: None,
            init: value,
            condition: self.literal(Literal::Bool(false))?,
            step: self.ident(&name)?,
            result: within,
            accu: name,
        };
        self.node(Kind::Fold(Box::new(fold)))
    }

    fn optional(&mut self, function: &str, target: Expr, mut args: Vec<Expr>) -> Made {
        let Some(mapped) = args.pop() else { return Err(Failed) };
        let name = self.variable(&args[0], &format!("{function}() variable name must be a simple identifier"))?;
        let copy = self.copy(&target)?;
        let value = self.method("value", copy, Vec::new())?;
        let bound = self.bind(name, value, mapped)?;
        let has = self.method("hasValue", target, Vec::new())?;
        let some = if function == "optMap" { self.function("optional.of", vec![bound])? } else { bound };
        let none = self.function("optional.none", Vec::new())?;
        self.function("_?_:_", vec![has, some, none])
    }

    fn sort_by(&mut self, target: Expr, args: Vec<Expr>) -> Made {
        const INPUT: &str = "@__sortBy_input__";
        if matches!(target.kind, Kind::Literal(_) | Kind::Map(_) | Kind::Struct { .. }) {
            let message = "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
            return self.fail(target.id, message);
        }
        let input = self.ident(INPUT)?;
        let keys = self.map(input, args)?;
        let input = self.ident(INPUT)?;
        let sorted = self.method("@sortByAssociatedKeys", input, vec![keys])?;
        self.bind(INPUT.into(), target, sorted)
    }

    /// The same expression with numbers of its own.
    fn copy(&mut self, expr: &Expr) -> Made {
        let kind = match &expr.kind {
            Kind::Literal(l) => Kind::Literal(l.clone()),
            Kind::Ident(name) => Kind::Ident(name.clone()),
            Kind::Select { operand, field, test } => {
                Kind::Select { operand: Box::new(self.copy(operand)?), field: field.clone(), test: *test }
            }
            Kind::Call { target, function, args } => Kind::Call {
                target: target.as_ref().map(|t| self.copy(t).map(Box::new)).transpose()?,
                function: function.clone(),
                args: args.iter().map(|a| self.copy(a)).collect::<Result<_, _>>()?,
            },
            Kind::List(elements) => {
                let copied = elements.iter().map(|e| Ok(Element { value: self.copy(&e.value)?, optional: e.optional }));
                Kind::List(copied.collect::<Result<_, _>>()?)
            }
            Kind::Map(entries) => {
                let mut copied = entries.clone();
                for entry in &mut copied {
                    entry.key = self.copy(&entry.key)?;
                    entry.value = self.copy(&entry.value)?;
                }
                Kind::Map(copied)
            }
            Kind::Struct { name, fields } => {
                let mut copied = fields.clone();
                for field in &mut copied {
                    field.id = self.parser.id(self.parser.offset(field.id));
                    field.value = self.copy(&field.value)?;
                }
                Kind::Struct { name: name.clone(), fields: copied }
            }
            Kind::Fold(fold) => {
                let mut copied = fold.clone();
                for part in [&mut copied.range, &mut copied.init, &mut copied.condition, &mut copied.step, &mut copied.result] {
                    *part = self.copy(part)?;
                }
                Kind::Fold(copied)
            }
        };
        let id = self.parser.id(self.parser.offset(expr.id));
        self.parser.node(id, kind)
    }
}
