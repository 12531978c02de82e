//! From characters to tokens.

use std::sync::Arc;

use crate::ast::{Literal, Problem};

/// A token and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) at: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind {
    Ident(Arc<str>),
    /// A name in backticks, which is not supported.
    Quoted,
    Literal(Literal),
    /// A whole number too large for any, until its sign is known.
    TooLarge(Arc<str>),
    Punct(&'static str),
    End,
}

const PUNCTUATION: [&str; 25] =
    ["==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")", "[", "]", "{", "}", "="];

fn problem(at: usize, message: impl Into<String>) -> Problem {
    Problem { at: at as u32, message: message.into() }
}

/// All tokens of a source, ended by [`TokenKind::End`].
pub(crate) fn tokens(chars: &[char]) -> Result<Vec<Token>, Vec<Problem>> {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        if c.is_ascii_whitespace() {
            at += 1;
        } else if c == '/' && chars.get(at + 1) == Some(&'/') {
            at += chars[at..].iter().position(|c| *c == '\n').unwrap_or(chars.len() - at);
        } else {
            match token(chars, at) {
                Ok((kind, end)) => {
                    found.push(Token { kind, at: at as u32 });
                    at = end;
                }
                Err((p, end)) => {
                    problems.push(p);
                    at = end.max(at + 1);
                }
            }
            if problems.len() > 100 {
                break;
            }
        }
    }
    found.push(Token { kind: TokenKind::End, at: chars.len() as u32 });
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

type Lexed = Result<(TokenKind, usize), (Problem, usize)>;

fn token(chars: &[char], at: usize) -> Lexed {
    let c = chars[at];
    if let Some((raw, bytes, quote)) = text_start(chars, at) {
        return text(chars, at, quote, raw, bytes);
    }
    if c.is_ascii_alphabetic() || c == '_' {
        let end = chars[at..].iter().position(|c| !(c.is_ascii_alphanumeric() || *c == '_')).map_or(chars.len(), |n| at + n);
        let name: String = chars[at..end].iter().collect();
        let kind = match name.as_str() {
            "true" => TokenKind::Literal(Literal::Bool(true)),
            "false" => TokenKind::Literal(Literal::Bool(false)),
            "null" => TokenKind::Literal(Literal::Null),
            "in" => TokenKind::Punct("in"),
            _ => TokenKind::Ident(name.into()),
        };
        return Ok((kind, end));
    }
    if c.is_ascii_digit() || c == '.' && chars.get(at + 1).is_some_and(char::is_ascii_digit) {
        return number(chars, at);
    }
    if c == '`' {
        let end = chars[at + 1..].iter().position(|c| *c == '`').map(|n| at + n + 2);
        return end.map(|end| (TokenKind::Quoted, end)).ok_or_else(|| unrecognized(chars, at));
    }
    let two: String = chars[at..chars.len().min(at + 2)].iter().collect();
    match PUNCTUATION.iter().find(|p| two.starts_with(**p)) {
        Some(p) => Ok((TokenKind::Punct(p), at + p.len())),
        None => Err(unrecognized(chars, at)),
    }
}

fn unrecognized(chars: &[char], at: usize) -> (Problem, usize) {
    (problem(at, format!("Syntax error: token recognition error at: '{}'", chars[at])), at + 1)
}

/// Whether a text starts here: raw or not, bytes or not, and where its quote is.
fn text_start(chars: &[char], at: usize) -> Option<(bool, bool, usize)> {
    let (mut raw, mut bytes, mut i) = (false, false, at);
    while i < at + 2 {
        match chars.get(i)? {
            'r' | 'R' if !raw => raw = true,
            'b' | 'B' if !bytes && !raw => bytes = true,
            _ => break,
        }
        i += 1;
    }
    matches!(chars.get(i), Some('"' | '\'')).then_some((raw, bytes, i))
}

fn text(chars: &[char], at: usize, quote: usize, raw: bool, bytes: bool) -> Lexed {
    let q = chars[quote];
    let triple = chars.get(quote + 1) == Some(&q) && chars.get(quote + 2) == Some(&q);
    let width = if triple { 3 } else { 1 };
    let start = quote + width;
    let mut i = start;
    loop {
        match chars.get(i) {
            None => return Err(unended(chars, at)),
            Some('\n' | '\r') if !triple => return Err(unended(chars, at)),
            Some('\\') if !raw => i += 2,
            Some(c) if *c == q && (!triple || chars.get(i + 1) == Some(&q) && chars.get(i + 2) == Some(&q)) => break,
            Some(_) => i += 1,
        }
    }
    let end = i + width;
    let body = &chars[start..i];
    let literal = if bytes {
        unescape(body, raw, true).map(|b| Literal::Bytes(b.into()))
    } else {
        let text = unescape(body, raw, false).and_then(|b| String::from_utf8(b).map_err(|_| "invalid unicode code point".into()));
        text.map(|t| Literal::String(t.into()))
    };
    literal.map(|l| (TokenKind::Literal(l), end)).map_err(|m| (problem(at, m), end))
}

fn unended(chars: &[char], at: usize) -> (Problem, usize) {
    let rest: String = chars[at..].iter().take_while(|c| **c != '\n').take(100).collect();
    (problem(at, format!("Syntax error: token recognition error at: '{rest}'")), chars.len())
}

fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// A text's bytes, escapes resolved.
fn unescape(body: &[char], raw: bool, bytes: bool) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(body.len());
    let mut i = 0;
    while i < body.len() {
        let c = body[i];
        i += 1;
        match c {
            // Line ends are all the same.
            '\r' if body.get(i) == Some(&'\n') => {}
            '\r' => out.push(b'\n'),
            '\\' if !raw => i = escape(body, i, bytes, &mut out)?,
            c => push(&mut out, c),
        }
    }
    Ok(out)
}

/// Resolves the escape after a backslash; the place after it.
fn escape(body: &[char], at: usize, bytes: bool, out: &mut Vec<u8>) -> Result<usize, String> {
    let kind = *body.get(at).ok_or("unable to unescape string, found '\\' as last character")?;
    let (start, digits, radix) = match kind {
        'x' | 'X' => (at + 1, 2, 16),
        'u' if !bytes => (at + 1, 4, 16),
        'U' if !bytes => (at + 1, 8, 16),
        '0'..='3' => (at, 3, 8),
        _ => {
            let plain = match kind {
                'a' => '\x07',
                'b' => '\x08',
                'f' => '\x0c',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\x0b',
                '\\' | '\'' | '"' | '`' | '?' => kind,
                _ => return Err("unable to unescape string".into()),
            };
            push(out, plain);
            return Ok(at + 1);
        }
    };
    let text: String = body.get(start..start + digits).ok_or("unable to unescape string")?.iter().collect();
    let code = u32::from_str_radix(&text, radix).map_err(|_| "unable to unescape string")?;
    match (bytes, u8::try_from(code)) {
        (true, Ok(byte)) => out.push(byte),
        _ => push(out, char::from_u32(code).ok_or("invalid unicode code point")?),
    }
    Ok(start + digits)
}

fn number(chars: &[char], at: usize) -> Lexed {
    let digits = |from: usize| chars[from..].iter().position(|c| !c.is_ascii_digit()).map_or(chars.len(), |n| from + n);
    let is = |i: usize, set: &str| chars.get(i).is_some_and(|c| set.contains(*c));
    if chars[at] == '0' && is(at + 1, "x") && chars.get(at + 2).is_some_and(char::is_ascii_hexdigit) {
        let end = chars[at + 2..].iter().position(|c| !c.is_ascii_hexdigit()).map_or(chars.len(), |n| at + 2 + n);
        return Ok(whole(&chars[at..end].iter().collect::<String>(), is(end, "uU"), end));
    }
    let mut end = digits(at);
    let mut double = false;
    if is(end, ".") && chars.get(end + 1).is_some_and(char::is_ascii_digit) {
        double = true;
        end = digits(end + 1);
    }
    if is(end, "eE") {
        let sign = usize::from(is(end + 1, "+-"));
        if chars.get(end + 1 + sign).is_some_and(char::is_ascii_digit) {
            double = true;
            end = digits(end + 1 + sign);
        }
    }
    let text: String = chars[at..end].iter().collect();
    if double {
        return match text.parse::<f64>() {
            Ok(d) if d.is_finite() => Ok((TokenKind::Literal(Literal::Double(d)), end)),
            _ => Err((problem(at, "invalid double literal"), end)),
        };
    }
    Ok(whole(&text, is(end, "uU"), end))
}

fn whole(text: &str, unsigned: bool, end: usize) -> (TokenKind, usize) {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16));
    if unsigned {
        let kind = u64::from_str_radix(digits, radix).map_or(TokenKind::TooLarge("u".into()), |n| TokenKind::Literal(Literal::Uint(n)));
        return (kind, end + 1);
    }
    let kind =
        i64::from_str_radix(digits, radix).map_or_else(|_| TokenKind::TooLarge(text.into()), |n| TokenKind::Literal(Literal::Int(n)));
    (kind, end)
}

/// The smallest whole number, whose digits alone are too large.
pub(crate) fn negated(text: &str) -> Option<i64> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16));
    i64::from_str_radix(&format!("-{digits}"), radix).ok()
}
