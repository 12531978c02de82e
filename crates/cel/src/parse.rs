//! From tokens to expressions. Deep nesting is refused, not followed.

use std::sync::Arc;

use crate::ast::{Element, Entry, Expr, FieldInit, Id, Kind, Literal, Problem, Source};
use crate::lex::{self, Token, TokenKind};
use crate::macros;

/// How deep expressions may nest.
pub(crate) const DEEPEST: u16 = 250;
/// How many characters an expression may have.
const LONGEST: usize = 100_000;
/// How many nodes an expression may have after macros were expanded.
const LARGEST: usize = 100_000;
/// What an expression starts with, as errors list it.
const STARTS: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
/// Words that are no identifiers, without those that the grammar itself uses.
pub(crate) const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// A failed step: the problem is noted already.
pub(crate) struct Failed;
type Parsed<T> = Result<T, Failed>;

/// Where parsing stands.
pub(crate) struct Parser {
    tokens: Vec<Token>,
    next: usize,
    nesting: u16,
    offsets: Vec<u32>,
    problems: Vec<Problem>,
}

/// Parses an expression and expands its macros.
///
/// # Errors
/// The problems, and the source they point into.
pub(crate) fn parse(text: &str) -> Result<(Expr, Source), (Vec<Problem>, Source)> {
    let chars: Vec<char> = text.chars().collect();
    let refused = |problems, chars| Err((problems, Source { chars, offsets: Vec::new() }));
    if chars.len() > LONGEST {
        let message = format!("expression code point size exceeds limit: size: {}, limit {LONGEST}", chars.len());
        return refused(vec![Problem { at: 0, message }], Vec::new());
    }
    let tokens = match lex::tokens(&chars) {
        Ok(tokens) => tokens,
        Err(problems) => return refused(problems, chars),
    };
    let mut parser = Parser { tokens, next: 0, nesting: 0, offsets: Vec::new(), problems: Vec::new() };
    let parsed = parser.expr().and_then(|e| parser.end().map(|()| e));
    let source = Source { chars, offsets: std::mem::take(&mut parser.offsets) };
    match parsed {
        Ok(expr) if parser.problems.is_empty() => Ok((expr, source)),
        _ => Err((parser.problems, source)),
    }
}

impl Parser {
    fn peek(&self) -> &TokenKind {
        &self.tokens[self.next].kind
    }

    fn at(&self) -> u32 {
        self.tokens[self.next].at
    }

    fn bump(&mut self) -> Token {
        let token = self.tokens[self.next].clone();
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    fn is(&self, punct: &str) -> bool {
        matches!(self.peek(), TokenKind::Punct(p) if *p == punct)
    }

    fn takes(&mut self, punct: &str) -> bool {
        let is = self.is(punct);
        if is {
            self.bump();
        }
        is
    }

    pub(crate) fn fail<T>(&mut self, at: u32, message: impl Into<String>) -> Parsed<T> {
        self.problems.push(Problem { at, message: message.into() });
        Err(Failed)
    }

    fn shown(&self, token: usize) -> String {
        let Some(token) = self.tokens.get(token) else { return "<EOF>".into() };
        match &token.kind {
            TokenKind::Ident(name) => name.to_string(),
            TokenKind::Quoted => "`".into(),
            TokenKind::Punct(p) => (*p).into(),
            TokenKind::End => "<EOF>".into(),
            TokenKind::TooLarge(text) => text.to_string(),
            TokenKind::Literal(literal) => match literal {
                Literal::Null => "null".into(),
                Literal::Bool(b) => b.to_string(),
                Literal::Int(i) => i.to_string(),
                Literal::Uint(u) => format!("{u}u"),
                Literal::Double(d) => d.to_string(),
                Literal::String(s) => format!("'{s}'"),
                Literal::Bytes(_) => "b''".into(),
            },
        }
    }

    fn starts(kind: &TokenKind) -> bool {
        match kind {
            TokenKind::Punct(p) => matches!(*p, "[" | "{" | "(" | "." | "-" | "!"),
            TokenKind::End | TokenKind::Quoted => false,
            _ => true,
        }
    }

    /// What stands here is not what is wanted.
    fn unexpected<T>(&mut self, wanted: &str) -> Parsed<T> {
        let message = format!("Syntax error: mismatched input '{}' expecting {wanted}", self.shown(self.next));
        self.fail(self.at(), message)
    }

    fn wants(&mut self, punct: &str) -> Parsed<u32> {
        let at = self.at();
        if self.takes(punct) {
            return Ok(at);
        }
        let message = if *self.peek() == TokenKind::End {
            format!("Syntax error: missing '{punct}' at '<EOF>'")
        } else {
            format!("Syntax error: mismatched input '{}' expecting '{punct}'", self.shown(self.next))
        };
        self.fail(at, message)
    }

    fn end(&mut self) -> Parsed<()> {
        if *self.peek() == TokenKind::End {
            return Ok(());
        }
        let extra = self.tokens.get(self.next + 1).is_some_and(|t| t.kind == TokenKind::End);
        let what = if extra { "extraneous" } else { "mismatched" };
        let message = format!("Syntax error: {what} input '{}' expecting <EOF>", self.shown(self.next));
        self.fail(self.at(), message)
    }

    /// A new number for an expression whose errors point at a character.
    pub(crate) fn id(&mut self, at: u32) -> Id {
        self.offsets.push(at);
        self.offsets.len() - 1
    }

    pub(crate) fn offset(&self, id: Id) -> u32 {
        self.offsets[id]
    }

    /// A new expression.
    pub(crate) fn node(&mut self, id: Id, kind: Kind) -> Parsed<Expr> {
        let depth = kind.deepest() + 1;
        if depth > DEEPEST {
            return self.fail(self.offsets[id], format!("expression recursion limit exceeded: {DEEPEST}"));
        }
        if self.offsets.len() > LARGEST {
            return self.fail(self.offsets[id], "expression is too large once its macros are expanded");
        }
        Ok(Expr { id, depth, kind })
    }

    fn node_at(&mut self, at: u32, kind: Kind) -> Parsed<Expr> {
        let id = self.id(at);
        self.node(id, kind)
    }

    fn call(&mut self, at: u32, function: &str, args: Vec<Expr>) -> Parsed<Expr> {
        self.node_at(at, Kind::Call { target: None, function: function.into(), args })
    }

    fn expr(&mut self) -> Parsed<Expr> {
        self.nesting += 1;
        if self.nesting > DEEPEST {
            return self.fail(self.at(), format!("expression recursion limit exceeded: {DEEPEST}"));
        }
        let condition = self.logical("||")?;
        let at = self.at();
        let expr = if self.takes("?") {
            let yes = self.logical("||")?;
            self.wants(":")?;
            let no = self.expr()?;
            self.call(at, "_?_:_", vec![condition, yes, no])?
        } else {
            condition
        };
        self.nesting -= 1;
        Ok(expr)
    }

    /// Terms joined by `||` or `&&`, as a balanced tree.
    fn logical(&mut self, op: &'static str) -> Parsed<Expr> {
        let mut terms = Vec::new();
        let mut ops = Vec::new();
        loop {
            terms.push(if op == "||" { self.logical("&&")? } else { self.binary(0)? });
            let at = self.at();
            if !self.takes(op) {
                break;
            }
            ops.push(at);
        }
        let function = if op == "||" { "_||_" } else { "_&&_" };
        let mut terms = terms.into_iter();
        self.balance(function, &mut terms, &ops)
    }

    fn balance(&mut self, function: &str, terms: &mut dyn Iterator<Item = Expr>, ops: &[u32]) -> Parsed<Expr> {
        if ops.is_empty() {
            return terms.next().ok_or(Failed);
        }
        let mid = ops.len() / 2;
        let left = self.balance(function, terms, &ops[..mid])?;
        let right = self.balance(function, terms, &ops[mid + 1..])?;
        self.call(ops[mid], function, vec![left, right])
    }

    /// Operators that bind more tightly than `&&`.
    fn binary(&mut self, lowest: u8) -> Parsed<Expr> {
        let mut left = self.unary()?;
        loop {
            let TokenKind::Punct(op) = *self.peek() else { return Ok(left) };
            let (level, function) = match op {
                "<" => (1, "_<_"),
                "<=" => (1, "_<=_"),
                ">" => (1, "_>_"),
                ">=" => (1, "_>=_"),
                "==" => (1, "_==_"),
                "!=" => (1, "_!=_"),
                "in" => (1, "@in"),
                "+" => (2, "_+_"),
                "-" => (2, "_-_"),
                "*" => (3, "_*_"),
                "/" => (3, "_/_"),
                "%" => (3, "_%_"),
                _ => return Ok(left),
            };
            if level <= lowest {
                return Ok(left);
            }
            let at = self.bump().at;
            let right = self.binary(level)?;
            left = self.call(at, function, vec![left, right])?;
        }
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let at = self.at();
        for (op, function) in [("!", "!_"), ("-", "-_")] {
            if !self.is(op) || op == "-" && self.is_negative() {
                continue;
            }
            let mut count = 0usize;
            while self.is(op) && !(op == "-" && self.is_negative()) {
                self.bump();
                count += 1;
            }
            let operand = self.member()?;
            // An even number of them says nothing.
            return if count.is_multiple_of(2) { Ok(operand) } else { self.call(at, function, vec![operand]) };
        }
        self.member()
    }

    /// Whether a negative number stands here.
    fn is_negative(&self) -> bool {
        let number = |t: &TokenKind| matches!(t, TokenKind::Literal(Literal::Int(_) | Literal::Double(_)) | TokenKind::TooLarge(_));
        self.is("-") && self.tokens.get(self.next + 1).is_some_and(|t| number(&t.kind))
    }

    fn member(&mut self) -> Parsed<Expr> {
        let mut operand = self.primary()?;
        loop {
            let at = self.at();
            if self.takes(".") {
                operand = self.selected(operand, at)?;
            } else if self.takes("[") {
                let function = if self.takes("?") { "_[?_]" } else { "_[_]" };
                let index = self.expr()?;
                self.wants("]")?;
                operand = self.call(at, function, vec![operand, index])?;
            } else {
                return Ok(operand);
            }
        }
    }

    fn selected(&mut self, operand: Expr, at: u32) -> Parsed<Expr> {
        let optional = self.takes("?");
        let name_at = self.at();
        let name = match self.bump().kind {
            TokenKind::Ident(name) => name,
            TokenKind::Quoted => return self.fail(name_at, "unsupported syntax: '`'"),
            kind => {
                self.next -= usize::from(kind != TokenKind::End);
                return match kind {
                    TokenKind::End => self.fail(name_at, "Syntax error: no viable alternative at input '.'"),
                    _ => self.unexpected("IDENTIFIER"),
                };
            }
        };
        if optional {
            let field = self.node_at(name_at, Kind::Literal(Literal::String(name)))?;
            return self.call(at, "_?._", vec![operand, field]);
        }
        let open = self.at();
        if self.takes("(") {
            let args = self.list_until(")")?.into_iter().map(|e| e.value).collect();
            return macros::call(self, open, Some(operand), name, args);
        }
        self.node_at(at, Kind::Select { operand: Box::new(operand), field: name, test: false })
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let at = self.at();
        match self.peek().clone() {
            TokenKind::Punct("-") if self.is_negative() => {
                self.bump();
                let literal = match self.bump().kind {
                    TokenKind::Literal(Literal::Int(i)) => Literal::Int(-i),
                    TokenKind::Literal(Literal::Double(d)) => Literal::Double(-d),
                    TokenKind::TooLarge(text) => match lex::negated(&text) {
                        Some(i) => Literal::Int(i),
                        None => return self.fail(at, "invalid int literal"),
                    },
                    _ => return Err(Failed),
                };
                self.node_at(at, Kind::Literal(literal))
            }
            TokenKind::Literal(literal) => {
                self.bump();
                self.node_at(at, Kind::Literal(literal))
            }
            TokenKind::TooLarge(text) => self.fail(at, if &*text == "u" { "invalid uint literal" } else { "invalid int literal" }),
            TokenKind::Punct("(") => {
                self.bump();
                let inner = self.expr()?;
                self.wants(")")?;
                Ok(inner)
            }
            TokenKind::Punct("[") => {
                self.bump();
                let elements = self.list_until("]")?;
                self.node_at(at, Kind::List(elements))
            }
            TokenKind::Punct("{") => {
                self.bump();
                let entries = self.entries()?;
                self.node_at(at, Kind::Map(entries))
            }
            TokenKind::Punct(".") | TokenKind::Ident(_) => self.named(at),
            _ => {
                let after = self.tokens.get(self.next + 1).is_some_and(|t| Self::starts(&t.kind));
                let what = if after { "extraneous" } else { "mismatched" };
                let message = format!("Syntax error: {what} input '{}' expecting {STARTS}", self.shown(self.next));
                self.fail(at, message)
            }
        }
    }

    /// A variable, a call or a struct.
    fn named(&mut self, at: u32) -> Parsed<Expr> {
        let dotted = self.takes(".");
        let name_at = self.at();
        let TokenKind::Ident(name) = self.bump().kind else {
            self.next -= usize::from(*self.peek() != TokenKind::End);
            return self.fail(at, "Syntax error: no viable alternative at input '.'");
        };
        if let Some(end) = self.struct_name() {
            return self.structure(name, end);
        }
        if RESERVED.contains(&&*name) {
            return self.fail(at, format!("reserved identifier: {name}"));
        }
        let full: Arc<str> = if dotted { format!(".{name}").into() } else { name };
        let open = self.at();
        if self.takes("(") {
            let args = self.list_until(")")?.into_iter().map(|e| e.value).collect();
            return macros::call(self, open, None, full, args);
        }
        self.node_at(name_at, Kind::Ident(full))
    }

    /// The place of the brace, when a struct's name goes on from here.
    fn struct_name(&self) -> Option<usize> {
        let mut i = self.next;
        let is = |i: usize, punct: &str| matches!(self.tokens.get(i).map(|t| &t.kind), Some(TokenKind::Punct(p)) if *p == punct);
        while is(i, ".") && matches!(self.tokens.get(i + 1).map(|t| &t.kind), Some(TokenKind::Ident(_))) {
            i += 2;
        }
        is(i, "{").then_some(i)
    }

    fn structure(&mut self, first: Arc<str>, brace: usize) -> Parsed<Expr> {
        let mut name = first.to_string();
        while self.next < brace {
            if let TokenKind::Ident(part) = self.bump().kind {
                name.push('.');
                name.push_str(&part);
            }
        }
        let at = self.bump().at;
        let mut fields = Vec::new();
        while !self.takes("}") {
            let optional = self.takes("?");
            let field = match self.peek().clone() {
                TokenKind::Ident(field) => field,
                TokenKind::Quoted => return self.fail(self.at(), "unsupported syntax: '`'"),
                _ => return self.unexpected("{'}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}"),
            };
            self.bump();
            let colon = self.wants(":")?;
            let value = self.expr()?;
            let id = self.id(colon);
            fields.push(FieldInit { id, name: field, value, optional });
            if !self.takes(",") {
                self.wants("}")?;
                break;
            }
        }
        self.node_at(at, Kind::Struct { name: name.into(), fields })
    }

    fn list_until(&mut self, close: &'static str) -> Parsed<Vec<Element>> {
        let mut elements = Vec::new();
        while !self.takes(close) {
            let optional = close == "]" && self.takes("?");
            elements.push(Element { value: self.expr()?, optional });
            if !self.takes(",") {
                self.wants(close)?;
                break;
            }
            if close == ")" && self.is(")") {
                return self.unexpected(STARTS);
            }
        }
        Ok(elements)
    }

    fn entries(&mut self) -> Parsed<Vec<Entry>> {
        let mut entries = Vec::new();
        while !self.takes("}") {
            let optional = self.takes("?");
            let key = self.expr()?;
            self.wants(":")?;
            let value = self.expr()?;
            entries.push(Entry { key, value, optional });
            if !self.takes(",") {
                self.wants("}")?;
                break;
            }
        }
        Ok(entries)
    }
}
