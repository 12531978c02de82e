//! Texts with places for values in them.

use super::convert::show_double;
use super::text::text;
use super::time;
use crate::eval::Context;
use crate::value::{Fault, Outcome, Val};

/// The most digits after the point that are asked for.
const MOST_DIGITS: usize = 1000;

pub(super) fn format<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let layout = text(args, 0)?;
    let Some(Val::List(values)) = args.get(1) else { return Err(Fault::NoOverload) };
    let mut out = String::new();
    let mut next = 0;
    let mut chars = layout.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut digits = None;
        if chars.peek().is_some_and(|(_, c)| *c == '.') {
            chars.next();
            let mut count = 0usize;
            while let Some((_, digit)) = chars.next_if(|(_, c)| c.is_ascii_digit()) {
                count = count * 10 + digit as usize - '0' as usize;
                if count > MOST_DIGITS {
                    return Err(Fault::new("could not parse formatting clause: precision is too large"));
                }
            }
            digits = Some(count);
        }
        let Some((_, verb)) = chars.next() else {
            return Err(Fault::new("could not parse formatting clause: unexpected end of string"));
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value =
            values.get(next).ok_or_else(|| Fault::new(format!("could not parse formatting clause: index {next} out of range")))??;
        next += 1;
        let shown = clause(cx, verb, digits, &value).map_err(|fault| match fault {
            Fault::TooDear => Fault::TooDear,
            fault => Fault::new(format!("error during formatting: {fault} (at {at})")),
        })?;
        cx.takes(shown.len())?;
        out.push_str(&shown);
    }
    if next < values.len() {
        return Err(Fault::new(format!("too many arguments supplied to string.format (expected {next}, got {})", values.len())));
    }
    cx.takes(out.len())?;
    Ok(out.into())
}

fn refused(what: &str, value: &Val<'_>) -> Fault {
    Fault::new(format!("{what} clause can only be used on {}, was given {}", allowed(what), value.type_name()))
}

fn allowed(what: &str) -> &'static str {
    match what {
        "decimal" | "octal" => "integers",
        "binary" => "integers and bools",
        "hex" => "integers, byte buffers, and strings",
        _ => "doubles",
    }
}

fn clause<'a>(cx: &mut Context<'a>, verb: char, digits: Option<usize>, value: &Val<'a>) -> Result<String, Fault> {
    let double = |what: &str| match value {
        Val::Double(d) => Ok(*d),
        Val::Int(i) => Ok(*i as f64),
        Val::Uint(u) => Ok(*u as f64),
        other => Err(refused(what, other)),
    };
    Ok(match (verb, value) {
        ('s', value) => shown(cx, value, false, 0)?,
        ('d', Val::Int(i)) => i.to_string(),
        ('d', Val::Uint(u)) => u.to_string(),
        ('d', Val::Double(d)) if d.is_nan() || d.is_infinite() => show_double(*d).trim_start_matches('+').to_owned(),
        ('d', other) => return Err(refused("decimal", other)),
        ('f', _) => format!("{:.*}", digits.unwrap_or(6), double("fixed-point")?),
        ('e', _) => scientific(double("scientific")?, digits.unwrap_or(6)),
        ('b', Val::Int(i)) => signed(*i, format!("{:b}", i.unsigned_abs())),
        ('b', Val::Uint(u)) => format!("{u:b}"),
        ('b', Val::Bool(b)) => u8::from(*b).to_string(),
        ('b', other) => return Err(refused("binary", other)),
        ('o', Val::Int(i)) => signed(*i, format!("{:o}", i.unsigned_abs())),
        ('o', Val::Uint(u)) => format!("{u:o}"),
        ('o', other) => return Err(refused("octal", other)),
        ('x' | 'X', value) => {
            let hex = match value {
                Val::Int(i) => signed(*i, format!("{:x}", i.unsigned_abs())),
                Val::Uint(u) => format!("{u:x}"),
                Val::String(text) => hex(cx, text.as_bytes())?,
                Val::Bytes(bytes) => hex(cx, bytes)?,
                other => return Err(refused("hex", other)),
            };
            if verb == 'X' { hex.to_uppercase() } else { hex }
        }
        (other, _) => return Err(Fault::new(format!("unrecognized formatting clause \"{other}\""))),
    })
}

fn signed(number: i64, digits: String) -> String {
    if number < 0 { format!("-{digits}") } else { digits }
}

fn hex<'a>(cx: &mut Context<'a>, bytes: &[u8]) -> Result<String, Fault> {
    cx.takes(bytes.len() * 2)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

fn scientific(d: f64, digits: usize) -> String {
    if !d.is_finite() {
        return show_double(d);
    }
    let plain = format!("{d:.digits$e}");
    let (mantissa, exponent) = plain.split_once('e').unwrap_or((&plain, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// A value as `%s` shows it; texts within lists and maps have quotes.
fn shown<'a>(cx: &mut Context<'a>, value: &Val<'a>, within: bool, depth: usize) -> Result<String, Fault> {
    cx.work(1)?;
    if depth > 100 {
        return Err(Fault::new("value is nested too deeply"));
    }
    Ok(match value {
        Val::Null => "null".into(),
        Val::Bool(b) => b.to_string(),
        Val::Int(i) => i.to_string(),
        Val::Uint(u) => u.to_string(),
        Val::Double(d) if d.is_finite() => d.to_string(),
        Val::Double(d) => show_double(*d).trim_start_matches('+').to_owned(),
        Val::String(text) => {
            cx.takes(text.len())?;
            if within { format!("{:?}", &**text) } else { text.to_string() }
        }
        Val::Bytes(bytes) => {
            cx.takes(bytes.len())?;
            let text = String::from_utf8_lossy(bytes).into_owned();
            if within { format!("b{text:?}") } else { text }
        }
        Val::Timestamp(t) => {
            let text = time::show_timestamp(*t);
            if within { format!("timestamp({text:?})") } else { text }
        }
        Val::Duration(d) => {
            let text = time::show_duration(*d);
            if within { format!("duration({text:?})") } else { text }
        }
        Val::Type(name) => name.to_string(),
        Val::List(list) => {
            let mut parts = Vec::new();
            for item in list.items() {
                parts.push(shown(cx, &item?, true, depth + 1)?);
            }
            let text = format!("[{}]", parts.join(", "));
            cx.takes(text.len())?;
            text
        }
        Val::Map(map) => {
            let mut parts = Vec::new();
            for key in map.keys() {
                let value = map.get(&key).unwrap_or(Ok(Val::Null))?;
                parts.push(format!("{}:{}", shown(cx, &key, true, depth + 1)?, shown(cx, &value, true, depth + 1)?));
            }
            parts.sort();
            let text = format!("{{{}}}", parts.join(", "));
            cx.takes(text.len())?;
            text
        }
        other => {
            let name = other.type_name();
            return Err(Fault::new(format!(
                "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps, was given {name}"
            )));
        }
    })
}
