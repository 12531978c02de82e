//! Expressions as they are written, with macros expanded.

use std::sync::Arc;

/// The number of an expression: the key of what is known about it.
pub(crate) type Id = usize;

/// An expression.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) id: Id,
    /// How deep the tree below it is.
    pub(crate) depth: u16,
    pub(crate) kind: Kind,
}

/// A scalar written in the source.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Literal(Literal),
    Ident(Arc<str>),
    /// `operand.field`, or `has(operand.field)` when `test`.
    Select {
        operand: Box<Expr>,
        field: Arc<str>,
        test: bool,
    },
    Call {
        target: Option<Box<Expr>>,
        function: Arc<str>,
        args: Vec<Expr>,
    },
    List(Vec<Element>),
    Map(Vec<Entry>),
    Struct {
        name: Arc<str>,
        fields: Vec<FieldInit>,
    },
    Fold(Box<Fold>),
}

/// An item of a list; an optional one is left out when it has no value.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// An entry of a map.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Expr,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// A field of a struct.
#[derive(Clone, Debug)]
pub(crate) struct FieldInit {
    pub(crate) id: Id,
    pub(crate) name: Arc<str>,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// What macros over lists and maps become.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    pub(crate) range: Expr,
    pub(crate) var: Arc<str>,
    pub(crate) second: Option<Arc<str>>,
    pub(crate) accu: Arc<str>,
    pub(crate) init: Expr,
    pub(crate) condition: Expr,
    pub(crate) step: Expr,
    pub(crate) result: Expr,
}

impl Fold {
    /// Whether it only names a value.
    pub(crate) fn is_bind(&self) -> bool {
        matches!(&self.range.kind, Kind::List(elements) if elements.is_empty())
            && matches!(self.condition.kind, Kind::Literal(Literal::Bool(false)))
            && &*self.accu != ACCU
    }
}

/// The accumulator of macros: no source can name it.
pub(crate) const ACCU: &str = "@result";

impl Kind {
    /// The depth of the deepest part.
    pub(crate) fn deepest(&self) -> u16 {
        let of = |exprs: &mut dyn Iterator<Item = &Expr>| exprs.map(|e| e.depth).max().unwrap_or(0);
        match self {
            Self::Literal(_) | Self::Ident(_) => 0,
            Self::Select { operand, .. } => operand.depth,
            Self::Call { target, args, .. } => of(&mut target.iter().map(|t| &**t).chain(args)),
            Self::List(elements) => of(&mut elements.iter().map(|e| &e.value)),
            Self::Map(entries) => of(&mut entries.iter().flat_map(|e| [&e.key, &e.value])),
            Self::Struct { fields, .. } => of(&mut fields.iter().map(|f| &f.value)),
            Self::Fold(f) => of(&mut [&f.range, &f.init, &f.condition, &f.step, &f.result].into_iter()),
        }
    }
}

impl Expr {
    /// The dotted name it spells, if it does.
    pub(crate) fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.to_string()),
            Kind::Select { operand, field, test: false } => Some(format!("{}.{field}", operand.qualified_name()?)),
            _ => None,
        }
    }
}

/// A source text and where its expressions stand.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) chars: Vec<char>,
    /// By id: the character an expression's error points at.
    pub(crate) offsets: Vec<u32>,
}

/// Something wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The character it points at.
    pub(crate) at: u32,
    pub(crate) message: String,
}

/// The longest line that is shown with an error.
const LONGEST_SNIPPET: usize = 16384;
/// How many errors are shown.
const MOST_ERRORS: usize = 100;

impl Source {
    /// The problems in the form that clients see: a line each, with the place pointed at.
    pub(crate) fn show(&self, problems: &[Problem]) -> String {
        let mut sorted: Vec<&Problem> = problems.iter().take(MOST_ERRORS).collect();
        sorted.sort_by_key(|p| p.at);
        let mut lines: Vec<String> = sorted.into_iter().map(|p| self.show_one(p)).collect();
        if problems.len() > MOST_ERRORS {
            lines.push(format!("{} more errors were truncated", problems.len() - MOST_ERRORS));
        }
        lines.join("\n")
    }

    fn show_one(&self, problem: &Problem) -> String {
        let at = (problem.at as usize).min(self.chars.len());
        let start = self.chars[..at].iter().rposition(|c| *c == '\n').map_or(0, |p| p + 1);
        let line = self.chars[..at].iter().filter(|c| **c == '\n').count() + 1;
        let end = self.chars[start..].iter().position(|c| *c == '\n').map_or(self.chars.len(), |p| start + p);
        let column = at - start;
        let mut shown = format!("ERROR: <input>:{line}:{}: {}", column + 1, problem.message);
        let snippet: String = self.chars[start..end].iter().map(|c| if *c == '\t' { ' ' } else { *c }).collect();
        if snippet.len() <= LONGEST_SNIPPET {
            let wide = |c: &char| c.len_utf8() > 1;
            let dots: String = self.chars[start..at.min(end)].iter().map(|c| if wide(c) { '\u{ff0e}' } else { '.' }).collect();
            let mark = if self.chars.get(at).is_some_and(wide) { '\u{ff3e}' } else { '^' };
            shown.push_str(&format!("\n | {snippet}\n | {dots}{mark}"));
        }
        shown
    }
}
