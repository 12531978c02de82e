//! From one type to another; sizes; types themselves.

use super::Function;
use super::special::Special;
use super::time;
use crate::eval::Context;
use crate::value::{Fault, Outcome, Text, Val};

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "size" => size,
        "type" => |_, args| Ok(Val::Type(args[0].type_name())),
        "dyn" => |_, args| Ok(args[0].clone()),
        "bool" => boolean,
        "bytes" => bytes,
        "double" => double,
        "int" => int,
        "uint" => uint,
        "string" => string,
        _ => return None,
    })
}

fn size<'a>(_: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    match &args[0] {
        value @ (Val::String(_) | Val::Bytes(_) | Val::List(_) | Val::Map(_)) => Ok(Val::Int(value.size() as i64)),
        _ => Err(Fault::NoOverload),
    }
}

fn mistyped<'a>(value: &Val<'a>, wanted: &str) -> Fault {
    Fault::new(format!("type conversion error from '{}' to '{wanted}'", value.type_name()))
}

fn boolean<'a>(_: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    match &args[0] {
        Val::Bool(b) => Ok(Val::Bool(*b)),
        Val::String(text) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Val::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Val::Bool(false)),
            _ => Err(mistyped(&args[0], "bool")),
        },
        other => Err(mistyped(other, "bool")),
    }
}

fn bytes<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    match &args[0] {
        Val::Bytes(bytes) => Ok(Val::Bytes(bytes.clone())),
        Val::String(text) => {
            cx.takes(text.len())?;
            Ok(Val::Bytes(text.as_bytes().into()))
        }
        other => Err(mistyped(other, "bytes")),
    }
}

fn double<'a>(_: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    match &args[0] {
        Val::Double(d) => Ok(Val::Double(*d)),
        Val::Int(i) => Ok(Val::Double(*i as f64)),
        Val::Uint(u) => Ok(Val::Double(*u as f64)),
        Val::String(text) => text.parse().map(Val::Double).map_err(|_| mistyped(&args[0], "double")),
        other => Err(mistyped(other, "double")),
    }
}

fn int<'a>(_: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let overflow = || Fault::new("integer overflow");
    match &args[0] {
        Val::Int(i) => Ok(Val::Int(*i)),
        Val::Uint(u) => i64::try_from(*u).map(Val::Int).map_err(|_| overflow()),
        Val::Double(d) if *d > -9.223_372_036_854_775e18 && *d < 9.223_372_036_854_775e18 => Ok(Val::Int(*d as i64)),
        Val::Double(_) => Err(overflow()),
        Val::Duration(d) => Ok(Val::Int(*d)),
        Val::Timestamp(t) => i64::try_from(t.div_euclid(1_000_000_000)).map(Val::Int).map_err(|_| overflow()),
        Val::String(text) => text.parse().map(Val::Int).map_err(|_| mistyped(&args[0], "int")),
        other => Err(mistyped(other, "int")),
    }
}

fn uint<'a>(_: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let overflow = || Fault::new("unsigned integer overflow");
    match &args[0] {
        Val::Uint(u) => Ok(Val::Uint(*u)),
        Val::Int(i) => u64::try_from(*i).map(Val::Uint).map_err(|_| overflow()),
        Val::Double(d) if *d >= 0.0 && *d < 1.844_674_407_370_955e19 => Ok(Val::Uint(*d as u64)),
        Val::Double(_) => Err(overflow()),
        Val::String(text) => text.parse().map(Val::Uint).map_err(|_| mistyped(&args[0], "uint")),
        other => Err(mistyped(other, "uint")),
    }
}

fn string<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    Ok(match &args[0] {
        Val::String(text) => Val::String(text.clone()),
        Val::Bool(b) => b.to_string().into(),
        Val::Int(i) => i.to_string().into(),
        Val::Uint(u) => u.to_string().into(),
        Val::Double(d) => show_double(*d).into(),
        Val::Bytes(bytes) => {
            cx.takes(bytes.len())?;
            let text = std::str::from_utf8(bytes).map_err(|_| Fault::new("invalid UTF-8 in bytes, cannot convert to string"))?;
            Val::String(Text::Made(text.into()))
        }
        Val::Timestamp(t) => time::show_timestamp(*t).into(),
        Val::Duration(d) => time::show_duration(*d).into(),
        Val::Special(special) => match &**special {
            Special::Ip(ip) => super::net::show(ip).into(),
            Special::Cidr(address, bits) => format!("{}/{bits}", super::net::show(address)).into(),
            _ => return Err(mistyped(&args[0], "string")),
        },
        other => return Err(mistyped(other, "string")),
    })
}

/// A number in its shortest form, very large and very small ones with an exponent.
pub(super) fn show_double(d: f64) -> String {
    if d.is_nan() {
        return "NaN".into();
    }
    if d.is_infinite() {
        return if d > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let scientific = format!("{d:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) || d == 0.0 {
        return format!("{d}");
    }
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}
