//! Texts: parts of them, changes to them, patterns in them.

use regex::Regex;

use super::Function;
use crate::eval::Context;
use crate::value::{Fault, List, Outcome, Text, Val};

/// The largest compiled pattern, in bytes.
const LARGEST_PATTERN: usize = 1 << 20;
/// What making a pattern ready is worth, in steps of work for each character.
const PATTERN_WORK: u64 = 2_000;
/// How many characters a pattern made by an expression may have.
const LONGEST_PATTERN: usize = 10_000;

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "contains" => |_, args| two(args, |a, b| a.contains(b)),
        "startsWith" => |_, args| two(args, |a, b| a.starts_with(b)),
        "endsWith" => |_, args| two(args, |a, b| a.ends_with(b)),
        "matches" => matches,
        "find" => find_one,
        "findAll" => find_all,
        "charAt" => char_at,
        "indexOf" => index_of,
        "lastIndexOf" => last_index_of,
        "lowerAscii" => |cx, args| mapped(cx, args, |t| t.to_ascii_lowercase()),
        "upperAscii" => |cx, args| mapped(cx, args, |t| t.to_ascii_uppercase()),
        "trim" => |cx, args| mapped(cx, args, |t| t.trim().to_owned()),
        "strings.quote" => |cx, args| mapped(cx, args, quoted),
        "jsonpatch.escapeKey" => |cx, args| mapped(cx, args, |t| t.replace('~', "~0").replace('/', "~1")),
        "replace" => replace,
        "split" => split,
        "substring" => substring,
        "join" => join,
        "format" => super::format::format,
        _ => return None,
    })
}

/// A text among the arguments.
pub(super) fn text<'v>(args: &'v [Val<'_>], place: usize) -> Result<&'v str, Fault> {
    args.get(place).and_then(Val::as_str).ok_or(Fault::NoOverload)
}

fn number(args: &[Val<'_>], place: usize) -> Result<i64, Fault> {
    match args.get(place) {
        Some(Val::Int(i)) => Ok(*i),
        _ => Err(Fault::NoOverload),
    }
}

fn two<'a>(args: &[Val<'a>], holds: fn(&str, &str) -> bool) -> Outcome<'a> {
    Ok(Val::Bool(holds(text(args, 0)?, text(args, 1)?)))
}

fn mapped<'a>(cx: &mut Context<'a>, args: &[Val<'a>], change: fn(&str) -> String) -> Outcome<'a> {
    let text = text(args, 0)?;
    cx.takes(text.len())?;
    Ok(change(text).into())
}

/// A pattern ready to be matched.
pub(crate) fn pattern(text: &str) -> Option<Regex> {
    regex::RegexBuilder::new(text).size_limit(LARGEST_PATTERN).dfa_size_limit(LARGEST_PATTERN).build().ok()
}

fn with_pattern<'a, T>(cx: &mut Context<'a>, text: &str, use_it: impl FnOnce(&Regex) -> T) -> Result<T, Fault> {
    if let Some(regex) = cx.known.and_then(|known| known.get(text)) {
        return Ok(use_it(regex));
    }
    if !cx.patterns.contains_key(text) {
        if text.len() > LONGEST_PATTERN {
            return Err(Fault::TooDear);
        }
        cx.work(PATTERN_WORK * (20 + text.len() as u64))?;
        if cx.patterns.len() > 100 {
            cx.patterns.clear();
        }
        cx.patterns.insert(text.to_owned(), pattern(text));
    }
    match cx.patterns.get(text) {
        Some(Some(regex)) => Ok(use_it(regex)),
        _ => Err(Fault::new(format!("error parsing regexp: `{text}`"))),
    }
}

fn matches<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let (subject, wanted) = (text(args, 0)?, text(args, 1)?);
    with_pattern(cx, wanted, |regex| regex.is_match(subject)).map(Val::Bool)
}

fn find_one<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let (subject, wanted) = (text(args, 0)?, text(args, 1)?);
    let found = with_pattern(cx, wanted, |regex| regex.find(subject).map_or(String::new(), |m| m.as_str().to_owned()))?;
    cx.takes(found.len())?;
    Ok(found.into())
}

fn find_all<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let (subject, wanted) = (text(args, 0)?, text(args, 1)?);
    let limit = match args.get(2) {
        Some(_) => usize::try_from(number(args, 2)?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    cx.takes(subject.len() * 40)?;
    let found = with_pattern(cx, wanted, |regex| -> Vec<Val<'a>> {
        regex.find_iter(subject).take(limit).map(|m| m.as_str().to_owned().into()).collect()
    })?;
    Ok(found.into())
}

fn out_of_range(index: i64) -> Fault {
    Fault::new(format!("index out of range: {index}"))
}

/// The byte at which a character begins; the end counts as one.
fn byte_at(text: &str, index: i64) -> Result<usize, Fault> {
    let index_usize = usize::try_from(index).map_err(|_| out_of_range(index))?;
    let mut places = text.char_indices().map(|(i, _)| i).chain([text.len()]);
    places.nth(index_usize).ok_or_else(|| out_of_range(index))
}

fn char_at<'a>(_: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let text = text(args, 0)?;
    let start = byte_at(text, number(args, 1)?)?;
    Ok(text[start..].chars().next().map(String::from).unwrap_or_default().into())
}

fn index_of<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    if matches!(args[0], Val::List(_)) {
        return super::lists::index_of(cx, args);
    }
    let (subject, wanted) = (text(args, 0)?, text(args, 1)?);
    let from = if args.len() > 2 { number(args, 2)? } else { 0 };
    if wanted.is_empty() {
        return Ok(Val::Int(from));
    }
    if from < 0 {
        return Err(out_of_range(from));
    }
    let Ok(start) = byte_at(subject, from) else { return Ok(Val::Int(-1)) };
    let found = subject[start..].find(wanted).map(|i| from + subject[start..start + i].chars().count() as i64);
    Ok(Val::Int(found.unwrap_or(-1)))
}

fn last_index_of<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    if matches!(args[0], Val::List(_)) {
        return super::lists::last_index_of(cx, args);
    }
    let (subject, wanted) = (text(args, 0)?, text(args, 1)?);
    let length = subject.chars().count() as i64;
    let given = args.get(2).map(|_| number(args, 2)).transpose()?;
    if wanted.is_empty() {
        return Ok(Val::Int(given.unwrap_or(length)));
    }
    let from = given.unwrap_or((length - 1).max(0));
    if from < 0 {
        return Err(out_of_range(from));
    }
    if from >= length {
        return Ok(Val::Int(-1));
    }
    let start = byte_at(subject, from)?;
    let end = (start + wanted.len()).min(subject.len());
    let end = (end..=subject.len()).find(|i| subject.is_char_boundary(*i)).unwrap_or(subject.len());
    let found = subject[..end].rmatch_indices(wanted).map(|(i, _)| i).find(|i| *i <= start);
    Ok(Val::Int(found.map_or(-1, |i| subject[..i].chars().count() as i64)))
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

fn replace<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let (subject, old, new) = (text(args, 0)?, text(args, 1)?, text(args, 2)?);
    let limit = match args.get(3) {
        Some(_) => usize::try_from(number(args, 3)?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    let count = if old.is_empty() { subject.chars().count() + 1 } else { subject.matches(old).count() }.min(limit);
    // Known before it is made: small arguments make large results.
    cx.takes(subject.len().saturating_add(count.saturating_mul(new.len())))?;
    Ok(subject.replacen(old, new, count).into())
}

fn split<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let (subject, separator) = (text(args, 0)?, text(args, 1)?);
    let limit = match args.get(2) {
        Some(_) => usize::try_from(number(args, 2)?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    if limit == 0 {
        return Ok(Vec::new().into());
    }
    cx.takes(subject.len() * 2)?;
    let mut parts: Vec<Val<'a>> = Vec::new();
    let mut rest = subject;
    while parts.len() + 1 < limit {
        let (part, after) = if separator.is_empty() {
            let Some(first) = rest.chars().next() else { return Ok(parts.into()) };
            rest.split_at(first.len_utf8())
        } else if let Some((part, after)) = rest.split_once(separator) {
            (part, after)
        } else {
            break;
        };
        cx.takes(48)?;
        parts.push(part.to_owned().into());
        rest = after;
    }
    if !separator.is_empty() || !rest.is_empty() {
        parts.push(rest.to_owned().into());
    }
    Ok(parts.into())
}

fn substring<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let (subject, start) = (text(args, 0)?, number(args, 1)?);
    let end = args.get(2).map(|_| number(args, 2)).transpose()?;
    if let Some(end) = end.filter(|end| start > *end) {
        return Err(Fault::new(format!("invalid substring range. start: {start}, end: {end}")));
    }
    let from = byte_at(subject, start)?;
    let to = end.map_or(Ok(subject.len()), |end| byte_at(subject, end))?;
    cx.takes(to - from)?;
    Ok(match &args[0] {
        Val::String(Text::Lent(lent)) => Val::String(Text::Lent(&lent[from..to])),
        _ => subject[from..to].to_owned().into(),
    })
}

fn join<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let Val::List(list) = &args[0] else { return Err(Fault::NoOverload) };
    let separator = if args.len() > 1 { text(args, 1)? } else { "" };
    let mut out = String::new();
    for (i, item) in list.items().enumerate() {
        let item = item?;
        let part = item.as_str().ok_or_else(|| Fault::new(format!("join: invalid input: {item:?}")))?;
        let separator = if i > 0 { separator } else { "" };
        cx.takes(separator.len() + part.len())?;
        out.push_str(separator);
        out.push_str(part);
    }
    Ok(out.into())
}

/// Lists of texts, for functions that make them.
pub(super) fn texts<'a>(texts: impl IntoIterator<Item = String>) -> Val<'a> {
    Val::List(List::Made(std::rc::Rc::new(texts.into_iter().map(Val::from).collect())))
}
