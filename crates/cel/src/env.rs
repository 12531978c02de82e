//! What an expression may name: variables, and the types of objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::decl::{Decl, DeclKind};
use crate::types::Type;

/// What an expression may name.
#[derive(Clone, Debug, Default)]
pub struct Env {
    vars: Vec<(Arc<str>, Type)>,
    objects: BTreeMap<Arc<str>, Arc<Decl>>,
    mutates: bool,
}

impl Env {
    /// One without variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a variable of a declared type. Evaluation takes values in the order of declaration.
    #[must_use]
    pub fn with(mut self, name: &str, decl: &Arc<Decl>) -> Self {
        self.declare(decl);
        self.vars.push((name.into(), decl.ty()));
        self
    }

    /// Adds a variable of a type.
    #[must_use]
    pub fn with_type(mut self, name: &str, ty: Type) -> Self {
        self.vars.push((name.into(), ty));
        self
    }

    /// Adds the types and functions that mutations are written with: `Object{…}`, `JSONPatch{…}`.
    #[must_use]
    pub fn with_mutations(mut self) -> Self {
        self.mutates = true;
        self
    }

    /// Makes the fields of objects known, through all they hold.
    pub fn declare(&mut self, decl: &Arc<Decl>) {
        match &decl.kind {
            DeclKind::List(of, _) | DeclKind::Map(of) => self.declare(of),
            DeclKind::Object(object) if self.objects.insert(object.name.clone(), decl.clone()).is_none() => {
                object.fields.values().for_each(|f| self.declare(&f.decl));
            }
            _ => {}
        }
    }

    /// A variable's place and type.
    pub(crate) fn variable(&self, name: &str) -> Option<(usize, &Type)> {
        self.vars.iter().position(|(n, _)| &**n == name).map(|i| (i, &self.vars[i].1))
    }

    pub(crate) fn name_of(&self, variable: usize) -> &Arc<str> {
        &self.vars[variable].0
    }

    /// Whether expressions may make patches.
    pub(crate) fn mutates(&self) -> bool {
        self.mutates
    }

    /// The type of a struct that expressions may make.
    pub(crate) fn structure(&self, name: &str) -> Option<Type> {
        let made = self.mutates && (name == "JSONPatch" || is_object(name));
        (made || self.objects.contains_key(name)).then(|| Type::named(name))
    }

    /// The type of a field, if there is such a field; `None` when nothing is known of the type's fields.
    pub(crate) fn field(&self, of: &str, field: &str) -> Option<Option<Type>> {
        if let Some(decl) = self.objects.get(of) {
            return Some(decl.field(field).map(|d| d.ty()));
        }
        if self.mutates && of == "JSONPatch" {
            return Some(match field {
                "op" | "path" | "from" => Some(Type::String),
                "value" => Some(Type::Dyn),
                _ => None,
            });
        }
        (self.mutates && is_object(of)).then_some(Some(Type::Dyn))
    }
}

/// Whether a name is that of an object or of a part of one.
fn is_object(name: &str) -> bool {
    name == "Object" || name.starts_with("Object.")
}
