//! Values that may be absent.

use super::Function;
use crate::eval::Context;
use crate::value::{Fault, Outcome, Val};

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "optional.of" => |_, args| Ok(Some(args[0].clone()).into()),
        "optional.ofNonZeroValue" => |_, args| Ok((!is_zero(&args[0])).then(|| args[0].clone()).into()),
        "optional.none" => |_, _| Ok(Val::Optional(None)),
        "optional.unwrap" | "unwrapOpt" => unwrap,
        "value" => value,
        "hasValue" => has_value,
        _ => return None,
    })
}

fn is_zero(value: &Val<'_>) -> bool {
    match value {
        Val::Null | Val::Optional(None) => true,
        Val::Bool(b) => !b,
        Val::Int(i) => *i == 0,
        Val::Uint(u) => *u == 0,
        Val::Double(d) => *d == 0.0,
        Val::String(text) => text.is_empty(),
        Val::Bytes(bytes) => bytes.is_empty(),
        Val::Duration(d) => *d == 0,
        Val::List(list) => list.is_empty(),
        Val::Map(map) => map.is_empty(),
        _ => false,
    }
}

fn value<'a>(_: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    match &args[0] {
        Val::Optional(Some(value)) => Ok((**value).clone()),
        Val::Optional(None) => Err(Fault::new("optional.none() dereference")),
        _ => Err(Fault::NoOverload),
    }
}

fn has_value<'a>(_: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    match &args[0] {
        Val::Optional(value) => Ok(Val::Bool(value.is_some())),
        _ => Err(Fault::NoOverload),
    }
}

fn unwrap<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let Val::List(list) = &args[0] else { return Err(Fault::NoOverload) };
    cx.takes(list.len() * std::mem::size_of::<Val<'_>>())?;
    let mut out = Vec::new();
    for item in list.items() {
        match item? {
            Val::Optional(value) => out.extend(value.map(|v| (*v).clone())),
            _ => return Err(Fault::NoOverload),
        }
    }
    Ok(out.into())
}
