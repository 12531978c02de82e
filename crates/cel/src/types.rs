//! Types of expressions, and which may stand for which.

use std::fmt;
use std::sync::Arc;

/// The type of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// null.
    Null,
    /// true or false.
    Bool,
    /// A signed whole number of 64 bits.
    Int,
    /// An unsigned one.
    Uint,
    /// A floating-point number.
    Double,
    /// A text.
    String,
    /// Bytes.
    Bytes,
    /// A point in time.
    Timestamp,
    /// A length of time.
    Duration,
    /// Known only when it is evaluated.
    Dyn,
    /// That of an expression with an error.
    Error,
    /// A list of these.
    List(Arc<Type>),
    /// A map from these to those.
    Map(Arc<(Type, Type)>),
    /// One of these or nothing.
    Optional(Arc<Type>),
    /// A type with a name: an object of a schema, or one of the libraries' own.
    Named(Arc<str>),
    /// The type of a type.
    Type(Option<Arc<Type>>),
    /// Not known yet.
    Var(u32),
    /// A parameter of an overload.
    Param(u8),
}

impl Type {
    /// A list's type.
    pub fn list(of: Self) -> Self {
        Self::List(Arc::new(of))
    }

    /// A map's type.
    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new((key, value)))
    }

    /// An optional value's type.
    pub fn optional(of: Self) -> Self {
        Self::Optional(Arc::new(of))
    }

    /// A named type.
    pub fn named(name: &str) -> Self {
        Self::Named(name.into())
    }

    pub(crate) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }

    /// Whether its values have a fixed size.
    pub(crate) fn is_scalar(&self) -> bool {
        match self {
            Self::Bool | Self::Double | Self::Duration | Self::Int | Self::Timestamp | Self::Uint => true,
            Self::Optional(of) => of.is_scalar(),
            _ => false,
        }
    }

    /// Whether null may stand for it.
    fn is_nullable(&self) -> bool {
        matches!(self, Self::Null | Self::Optional(_) | Self::Named(_) | Self::Duration | Self::Timestamp)
    }

    /// Takes one from the budget for each part; whether there was enough.
    fn fits(&self, budget: &mut u32) -> bool {
        if *budget == 0 {
            return false;
        }
        *budget -= 1;
        match self {
            Self::List(of) | Self::Optional(of) | Self::Type(Some(of)) => of.fits(budget),
            Self::Map(kv) => kv.0.fits(budget) && kv.1.fits(budget),
            _ => true,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::Dyn => f.write_str("dyn"),
            Self::Error => f.write_str("!error!"),
            Self::List(of) => write!(f, "list({of})"),
            Self::Map(kv) => write!(f, "map({}, {})", kv.0, kv.1),
            Self::Optional(of) => write!(f, "optional_type({of})"),
            Self::Named(name) => f.write_str(name),
            Self::Type(None) => f.write_str("type"),
            Self::Type(Some(of)) => write!(f, "type({of})"),
            Self::Var(n) => write!(f, "_var{n}"),
            Self::Param(n) => write!(f, "{}", char::from(b'A' + n)),
        }
    }
}

/// How many parts a type may have.
const LARGEST_TYPE: u32 = 200;
/// How deep types are followed.
const DEEPEST: u32 = 300;
/// How many steps of comparing types one expression is worth.
const FUEL: u32 = 3_000_000;

/// What is known of types that an expression left open.
#[derive(Debug)]
pub(crate) struct Unifier {
    known: Vec<Option<Type>>,
    /// What was known before, to go back.
    trail: Vec<(u32, Option<Type>)>,
    fuel: u32,
    depth: u32,
}

impl Unifier {
    pub(crate) fn new() -> Self {
        Self { known: Vec::new(), trail: Vec::new(), fuel: FUEL, depth: 0 }
    }

    /// Whether comparing took more steps than an honest expression needs.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.fuel == 0
    }

    /// Whether a type is of a size that honest expressions have.
    pub(crate) fn is_small(&self, ty: &Type) -> bool {
        ty.fits(&mut { LARGEST_TYPE })
    }

    pub(crate) fn fresh(&mut self) -> Type {
        self.known.push(None);
        Type::Var(self.known.len() as u32 - 1)
    }

    /// Puts fresh types in the place of an overload's parameters; `first` is that of parameter 0.
    pub(crate) fn instantiate(ty: &Type, first: u32) -> Type {
        match ty {
            Type::Param(n) => Type::Var(first + u32::from(*n)),
            Type::List(of) => Type::list(Self::instantiate(of, first)),
            Type::Optional(of) => Type::optional(Self::instantiate(of, first)),
            Type::Map(kv) => Type::map(Self::instantiate(&kv.0, first), Self::instantiate(&kv.1, first)),
            Type::Type(Some(of)) => Type::Type(Some(Arc::new(Self::instantiate(of, first)))),
            other => other.clone(),
        }
    }

    /// Fresh types for `count` parameters.
    pub(crate) fn parameters(&mut self, count: u8) -> u32 {
        let first = self.known.len() as u32;
        self.known.resize(self.known.len() + usize::from(count), None);
        first
    }

    fn burn(&mut self) -> bool {
        self.fuel = self.fuel.saturating_sub(1);
        self.fuel > 0
    }

    fn set(&mut self, var: u32, to: Type) {
        let before = self.known[var as usize].replace(to);
        self.trail.push((var, before));
    }

    /// The type with what is known put in; what isn't becomes dyn when `closed`.
    pub(crate) fn resolve(&mut self, ty: &Type, closed: bool) -> Type {
        self.resolve_below(ty, closed, 0)
    }

    fn resolve_below(&mut self, ty: &Type, closed: bool, depth: u32) -> Type {
        if depth > DEEPEST || !self.burn() {
            return Type::Dyn;
        }
        match ty {
            Type::Var(v) => match self.known[*v as usize].clone() {
                Some(known) => self.resolve_below(&known, closed, depth + 1),
                None if closed => Type::Dyn,
                None => ty.clone(),
            },
            Type::List(of) => Type::list(self.resolve_below(of, closed, depth + 1)),
            Type::Optional(of) => Type::optional(self.resolve_below(of, closed, depth + 1)),
            Type::Map(kv) => {
                let key = self.resolve_below(&kv.0, closed, depth + 1);
                Type::map(key, self.resolve_below(&kv.1, closed, depth + 1))
            }
            Type::Type(Some(of)) => Type::Type(Some(Arc::new(self.resolve_below(of, closed, depth + 1)))),
            other => other.clone(),
        }
    }

    /// Whether all of `left` may stand for all of `right`; what is learned is kept only then.
    pub(crate) fn assign_all(&mut self, left: &[Type], right: &[Type]) -> bool {
        let mark = self.trail.len();
        let fits = left.len() == right.len() && left.iter().zip(right).all(|(l, r)| self.assign_below(l, r));
        if !fits {
            for (var, before) in self.trail.drain(mark..).rev() {
                self.known[var as usize] = before;
            }
        }
        // Nobody goes back further than to the outermost call.
        if mark == 0 {
            self.trail.clear();
        }
        fits
    }

    /// Whether one type may stand for the other.
    pub(crate) fn assign(&mut self, left: &Type, right: &Type) -> bool {
        self.assign_all(std::slice::from_ref(left), std::slice::from_ref(right))
    }

    fn assign_below(&mut self, left: &Type, right: &Type) -> bool {
        if self.depth > DEEPEST || !self.burn() {
            return false;
        }
        self.depth += 1;
        let fits = self.assigns(left, right);
        self.depth -= 1;
        fits
    }

    fn assigns(&mut self, left: &Type, right: &Type) -> bool {
        if let Type::Var(v) = right {
            match self.stands_for(left, *v) {
                (true, _) => return true,
                (false, true) => return false,
                _ => {}
            }
        }
        if let Type::Var(v) = left {
            return self.stands_for(right, *v).0;
        }
        if left.is_dyn_or_error() || right.is_dyn_or_error() {
            return true;
        }
        match (left, right) {
            (Type::Null, other) | (other, Type::Null) => other.is_nullable(),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.assign_below(a, b),
            (Type::Map(a), Type::Map(b)) => self.assign_below(&a.0, &b.0) && self.assign_below(&a.1, &b.1),
            _ => left == right,
        }
    }

    /// Whether an open type may be this one, and whether something was known of it.
    fn stands_for(&mut self, ty: &Type, var: u32) -> (bool, bool) {
        if *ty == Type::Var(var) {
            return (true, true);
        }
        if let Some(known) = self.known[var as usize].clone() {
            if *ty == known {
                return (true, true);
            }
            if !self.assign_below(ty, &known) {
                return (false, true);
            }
            let general = if less_specific(ty, &known) { ty.clone() } else { known };
            if !self.occurs(var, &general, 0) {
                self.set(var, general);
            }
            return (true, true);
        }
        if self.occurs(var, ty, 0) {
            return (false, false);
        }
        self.set(var, ty.clone());
        (true, false)
    }

    /// Whether a type is made of an open type.
    fn occurs(&mut self, var: u32, within: &Type, depth: u32) -> bool {
        if depth > DEEPEST || !self.burn() {
            return true;
        }
        match within {
            Type::Var(v) if *v == var => true,
            Type::Var(v) => match self.known[*v as usize].clone() {
                Some(known) => self.occurs(var, &known, depth + 1),
                None => false,
            },
            Type::List(of) | Type::Optional(of) | Type::Type(Some(of)) => self.occurs(var, of, depth + 1),
            Type::Map(kv) => self.occurs(var, &kv.0, depth + 1) || self.occurs(var, &kv.1, depth + 1),
            _ => false,
        }
    }
}

/// Whether the first is the same as the second, or says less.
pub(crate) fn less_specific(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Dyn | Type::Var(_), _) => true,
        (_, Type::Dyn | Type::Var(_)) => false,
        (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => less_specific(a, b),
        (Type::Map(a), Type::Map(b)) => less_specific(&a.0, &b.0) && less_specific(&a.1, &b.1),
        (Type::Type(_), Type::Type(_)) => true,
        _ => a == b,
    }
}
