//! What types expressions have, and which functions they call.

use std::sync::Arc;

use crate::ast::{Element, Entry, Expr, FieldInit, Fold, Id, Kind, Literal, Problem};
use crate::env::Env;
use crate::overloads::{self, Overload};
use crate::types::{Type, Unifier, less_specific};

/// What a name or a call was found to mean.
#[derive(Clone, Debug, Default)]
pub(crate) enum Reference {
    /// Nothing beyond itself.
    #[default]
    None,
    /// A variable of the environment.
    Variable(usize),
    /// A type.
    Type(Type),
    /// One or more ways of calling a function.
    Overloads(Vec<&'static Overload>),
}

/// What checking found, by the number of an expression.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) types: Vec<Type>,
    pub(crate) references: Vec<Reference>,
}

/// Checks an expression and puts full names where parts were.
pub(crate) fn check(env: &Env, expr: &mut Expr, offsets: &[u32]) -> Result<Checked, Vec<Problem>> {
    let mut checker = Checker {
        env,
        offsets,
        unifier: Unifier::new(),
        scopes: Vec::new(),
        types: vec![Type::Error; offsets.len()],
        references: vec![Reference::None; offsets.len()],
        problems: Vec::new(),
    };
    checker.check(expr);
    let Checker { mut unifier, types, references, mut problems, .. } = checker;
    let types = types.iter().map(|ty| unifier.resolve(ty, true)).collect();
    if unifier.is_exhausted() {
        problems.push(Problem { at: 0, message: "expression is too complex to be checked".into() });
    }
    if problems.is_empty() { Ok(Checked { types, references }) } else { Err(problems) }
}

struct Checker<'a> {
    env: &'a Env,
    offsets: &'a [u32],
    unifier: Unifier,
    /// Variables that macros introduce, innermost last.
    scopes: Vec<(Arc<str>, Type)>,
    types: Vec<Type>,
    references: Vec<Reference>,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn problem(&mut self, id: Id, message: String) {
        self.problems.push(Problem { at: self.offsets[id], message });
    }

    fn set(&mut self, id: Id, ty: Type) {
        if self.unifier.is_small(&ty) {
            self.types[id] = ty;
        } else {
            self.problem(id, "the type of the expression is too complex".into());
            self.types[id] = Type::Error;
        }
    }

    fn mismatch(&mut self, id: Id, expected: &Type, actual: &Type) {
        self.problem(id, format!("expected type '{expected}' but found '{actual}'"));
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        let name = name.strip_prefix('.').unwrap_or(name);
        self.problem(id, format!("undeclared reference to '{name}' (in container '')"));
        self.types[id] = Type::Error;
    }

    fn check(&mut self, expr: &mut Expr) {
        if self.unifier.is_exhausted() {
            return;
        }
        let id = expr.id;
        match &mut expr.kind {
            Kind::Literal(literal) => self.types[id] = literal_type(literal),
            Kind::Ident(name) => {
                let name = name.clone();
                if !self.resolve(id, &name) {
                    self.undeclared(id, &name);
                }
            }
            Kind::Select { .. } => self.check_select(expr),
            Kind::Call { .. } => self.check_call(expr),
            Kind::List(elements) => self.check_list(id, elements),
            Kind::Map(entries) => self.check_map(id, entries),
            Kind::Struct { name, fields } => {
                let name = name.clone();
                self.check_struct(id, &name, fields);
            }
            Kind::Fold(fold) => self.check_fold(id, fold),
        }
    }

    /// Finds what a name stands for.
    fn resolve(&mut self, id: Id, name: &str) -> bool {
        if let Some((_, ty)) = self.scopes.iter().rev().find(|(n, _)| &**n == name) {
            self.types[id] = ty.clone();
            return true;
        }
        let name = name.strip_prefix('.').unwrap_or(name);
        if let Some((place, ty)) = self.env.variable(name) {
            self.types[id] = ty.clone();
            self.references[id] = Reference::Variable(place);
            return true;
        }
        let ty = overloads::type_named(name).or_else(|| self.env.structure(name));
        ty.is_some_and(|ty| {
            self.types[id] = Type::Type(Some(Arc::new(ty.clone())));
            self.references[id] = Reference::Type(ty);
            true
        })
    }

    fn check_select(&mut self, expr: &mut Expr) {
        let id = expr.id;
        // The variables of macros hide what has their name in front.
        if let Some(name) = expr.qualified_name()
            && !self.scopes.iter().any(|(n, _)| name.split('.').next() == Some(n))
            && self.resolve(id, &name)
        {
            expr.kind = Kind::Ident(name.into());
            expr.depth = 1;
            return;
        }
        let Kind::Select { operand, field, test } = &mut expr.kind else { return };
        let (field, test) = (field.clone(), *test);
        let ty = self.selected(id, operand, &field, false);
        self.set(id, if test { Type::Bool } else { ty });
    }

    /// The type of a field of an operand.
    fn selected(&mut self, id: Id, operand: &mut Expr, field: &str, optional: bool) -> Type {
        self.check(operand);
        let ty = self.resolved(operand.id);
        let (target, is_optional) = match &ty {
            Type::Optional(of) => ((**of).clone(), true),
            other => (other.clone(), false),
        };
        let result = match &target {
            Type::Map(kv) => kv.1.clone(),
            Type::Named(name) => match self.env.field(name, field) {
                Some(Some(ty)) => ty,
                Some(None) => {
                    self.problem(id, format!("undefined field '{field}'"));
                    Type::Error
                }
                None => {
                    self.problem(id, format!("unexpected failed resolution of '{name}'"));
                    Type::Error
                }
            },
            Type::Var(_) => {
                self.unifier.assign(&Type::Dyn, &target);
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            other => {
                self.problem(id, format!("type '{other}' does not support field selection"));
                Type::Dyn
            }
        };
        if is_optional || optional { Type::optional(result) } else { result }
    }

    fn resolved(&mut self, id: Id) -> Type {
        let ty = self.types[id].clone();
        self.unifier.resolve(&ty, false)
    }

    fn check_call(&mut self, expr: &mut Expr) {
        let id = expr.id;
        let Kind::Call { target, function, args } = &mut expr.kind else { return };
        if &**function == "_?._" && target.is_none() && args.len() == 2 {
            return self.check_optional_select(id, args);
        }
        args.iter_mut().for_each(|a| self.check(a));
        if let Some(prefix) = target.as_ref().and_then(|t| t.qualified_name()) {
            let full = format!("{prefix}.{function}");
            if self.function(&full).is_some() {
                *function = full.into();
                *target = None;
            }
        }
        if target.is_none()
            && let Some(plain) = function.strip_prefix('.')
        {
            *function = plain.into();
        }
        if let Some(target) = target {
            self.check(target);
        }
        let Some(overloads) = self.function(function) else {
            let name = function.clone();
            return self.undeclared(id, &name);
        };
        let ids: Vec<Id> = target.iter().map(|t| t.id).chain(args.iter().map(|a| a.id)).collect();
        self.resolve_overloads(id, function, overloads, target.is_some(), &ids);
        self.check_argument(function, args);
    }

    fn function(&self, name: &str) -> Option<&'static [Overload]> {
        overloads::function(name).filter(|_| self.env.mutates() || name != "jsonpatch.escapeKey")
    }

    fn check_optional_select(&mut self, id: Id, args: &mut [Expr]) {
        let [operand, field] = args else { return };
        let Kind::Literal(Literal::String(name)) = &field.kind else { return };
        self.types[field.id] = Type::String;
        let ty = self.selected(id, operand, name, true);
        self.set(id, ty);
    }

    fn resolve_overloads(&mut self, id: Id, name: &str, overloads: &'static [Overload], is_member: bool, args: &[Id]) {
        let types: Vec<Type> = args.iter().map(|a| self.types[*a].clone()).collect();
        if matches!(name, "_&&_" | "_||_") && types.len() == 2 {
            for (arg, ty) in args.iter().zip(&types) {
                if !self.unifier.assign(ty, &Type::Bool) {
                    let ty = self.unifier.resolve(ty, false);
                    self.mismatch(*arg, &Type::Bool, &ty);
                }
            }
            self.types[id] = Type::Bool;
            self.references[id] = Reference::Overloads(overloads.iter().collect());
            return;
        }
        let mut result: Option<Type> = None;
        let mut matching = Vec::new();
        for overload in overloads.iter().filter(|o| o.member == is_member && o.args.len() == types.len()) {
            let first = self.unifier.parameters(overload.params);
            let wanted: Vec<Type> = overload.args.iter().map(|a| Unifier::instantiate(a, first)).collect();
            if !self.unifier.assign_all(&types, &wanted) {
                continue;
            }
            matching.push(overload);
            let ty = self.unifier.resolve(&Unifier::instantiate(&overload.result, first), false);
            result = Some(match result {
                Some(before) if before == Type::Dyn || before != ty => Type::Dyn,
                _ => ty,
            });
        }
        if let Some(ty) = result {
            self.set(id, ty);
            self.references[id] = Reference::Overloads(matching);
            return;
        }
        let shown: Vec<String> = types.iter().map(|t| self.unifier.resolve(t, true).to_string()).collect();
        let signature = match is_member {
            true => format!("{}.({})", shown[0], shown[1..].join(", ")),
            false => format!("({})", shown.join(", ")),
        };
        self.problem(id, format!("found no matching overload for '{name}' applied to '{signature}'"));
        self.types[id] = Type::Error;
    }

    /// Literals that can be seen to fail are refused at once.
    fn check_argument(&mut self, function: &str, args: &[Expr]) {
        let Some(Expr { id, kind: Kind::Literal(Literal::String(text)), .. }) = args.first() else { return };
        let fits = match function {
            "duration" => crate::functions::time::parse_duration(text).is_some(),
            "timestamp" => crate::functions::time::parse_timestamp(text).is_some(),
            "matches" => gantry_schema::structural::check_pattern(text).is_ok(),
            _ => true,
        };
        if !fits {
            self.problem(*id, format!("invalid {function} argument"));
        }
    }

    /// The type of an element, or of what an optional one holds.
    fn unwrapped(&mut self, id: Id, optional: bool) -> Type {
        let ty = self.types[id].clone();
        match &ty {
            Type::Optional(of) if optional => (**of).clone(),
            Type::Dyn | Type::Error => ty,
            other if optional => {
                self.mismatch(id, &Type::optional(other.clone()), other);
                ty
            }
            _ => ty,
        }
    }

    /// The most general of two types that one collection holds.
    fn join(&mut self, id: Id, before: Option<Type>, ty: Type) -> Type {
        let Some(before) = before else { return ty };
        if self.unifier.assign(&before, &ty) {
            return if less_specific(&before, &ty) { before } else { ty };
        }
        let (before, ty) = (self.unifier.resolve(&before, false), self.unifier.resolve(&ty, false));
        self.mismatch(id, &before, &ty);
        Type::Error
    }

    fn check_list(&mut self, id: Id, elements: &mut [Element]) {
        let mut of = None;
        for element in elements {
            self.check(&mut element.value);
            let ty = self.unwrapped(element.value.id, element.optional);
            of = Some(self.join(element.value.id, of, ty));
        }
        let of = of.unwrap_or_else(|| self.unifier.fresh());
        self.set(id, Type::list(of));
    }

    fn check_map(&mut self, id: Id, entries: &mut [Entry]) {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            self.check(&mut entry.key);
            let key = self.types[entry.key.id].clone();
            keys = Some(self.join(entry.key.id, keys, key));
            self.check(&mut entry.value);
            let value = self.unwrapped(entry.value.id, entry.optional);
            values = Some(self.join(entry.value.id, values, value));
        }
        let keys = keys.unwrap_or_else(|| self.unifier.fresh());
        let values = values.unwrap_or_else(|| self.unifier.fresh());
        self.set(id, Type::map(keys, values));
    }

    fn check_struct(&mut self, id: Id, name: &str, fields: &mut [FieldInit]) {
        let known = self.env.structure(name);
        match &known {
            Some(ty) => self.types[id] = ty.clone(),
            None if overloads::type_named(name).is_some() => self.problem(id, format!("'{name}' is not a message type")),
            None => return self.undeclared(id, name),
        }
        for field in fields {
            self.check(&mut field.value);
            let ty = self.unwrapped(field.value.id, field.optional);
            if known.is_none() {
                continue;
            }
            match self.env.field(name, &field.name).flatten() {
                Some(wanted) if !self.unifier.assign(&wanted, &ty) => {
                    let ty = self.unifier.resolve(&ty, false);
                    let message = format!("expected type of field '{}' is '{wanted}' but provided type is '{ty}'", field.name);
                    self.problem(field.id, message);
                }
                Some(_) => {}
                None => self.problem(field.id, format!("undefined field '{}'", field.name)),
            }
        }
    }

    fn check_fold(&mut self, id: Id, fold: &mut Fold) {
        self.check(&mut fold.range);
        self.check(&mut fold.init);
        let range = self.resolved(fold.range.id);
        let accu = self.types[fold.init.id].clone();
        let depth = self.scopes.len();
        self.scopes.push((fold.accu.clone(), accu.clone()));
        let (first, second) = match &range {
            Type::List(of) if fold.second.is_some() => (Type::Int, (**of).clone()),
            Type::List(of) => ((**of).clone(), Type::Error),
            Type::Map(kv) => (kv.0.clone(), kv.1.clone()),
            Type::Dyn | Type::Error | Type::Var(_) => {
                self.unifier.assign(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!("expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)");
                self.problem(fold.range.id, message);
                (Type::Error, Type::Error)
            }
        };
        self.scopes.push((fold.var.clone(), first));
        if let Some(name) = &fold.second {
            self.scopes.push((name.clone(), second));
        }
        self.check(&mut fold.condition);
        self.expect(fold.condition.id, &Type::Bool);
        self.check(&mut fold.step);
        self.expect(fold.step.id, &accu);
        self.scopes.truncate(depth + 1);
        self.check(&mut fold.result);
        self.scopes.truncate(depth);
        let ty = self.resolved(fold.result.id);
        self.set(id, ty);
    }

    fn expect(&mut self, id: Id, wanted: &Type) {
        let ty = self.types[id].clone();
        if !self.unifier.assign(wanted, &ty) {
            let (wanted, ty) = (self.unifier.resolve(wanted, false), self.unifier.resolve(&ty, false));
            self.mismatch(id, &wanted, &ty);
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
