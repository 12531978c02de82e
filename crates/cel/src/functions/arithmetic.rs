//! Arithmetic, on whatever has it.

use crate::eval::{Context, overflow};
use crate::functions::time;
use crate::plan::Op;
use crate::value::{Fault, List, Outcome, Text, Val};

/// The value of an arithmetic operation.
pub(crate) fn of<'a>(cx: &mut Context<'a>, op: Op, left: &Val<'a>, right: &Val<'a>) -> Outcome<'a> {
    let zero = || Fault::new("division by zero");
    let modulus = || Fault::new("modulus by zero");
    match (op, left, right) {
        (Op::Add, Val::Int(a), Val::Int(b)) => a.checked_add(*b).map(Val::Int).ok_or_else(overflow),
        (Op::Subtract, Val::Int(a), Val::Int(b)) => a.checked_sub(*b).map(Val::Int).ok_or_else(overflow),
        (Op::Multiply, Val::Int(a), Val::Int(b)) => a.checked_mul(*b).map(Val::Int).ok_or_else(overflow),
        (Op::Divide, Val::Int(_), Val::Int(0)) | (Op::Divide, Val::Uint(_), Val::Uint(0)) => Err(zero()),
        (Op::Divide, Val::Int(a), Val::Int(b)) => a.checked_div(*b).map(Val::Int).ok_or_else(overflow),
        (Op::Modulo, Val::Int(_), Val::Int(0)) | (Op::Modulo, Val::Uint(_), Val::Uint(0)) => Err(modulus()),
        (Op::Modulo, Val::Int(a), Val::Int(b)) => a.checked_rem(*b).map(Val::Int).ok_or_else(overflow),
        (Op::Add, Val::Uint(a), Val::Uint(b)) => a.checked_add(*b).map(Val::Uint).ok_or_else(unsigned),
        (Op::Subtract, Val::Uint(a), Val::Uint(b)) => a.checked_sub(*b).map(Val::Uint).ok_or_else(unsigned),
        (Op::Multiply, Val::Uint(a), Val::Uint(b)) => a.checked_mul(*b).map(Val::Uint).ok_or_else(unsigned),
        (Op::Divide, Val::Uint(a), Val::Uint(b)) => Ok(Val::Uint(a / b)),
        (Op::Modulo, Val::Uint(a), Val::Uint(b)) => Ok(Val::Uint(a % b)),
        (Op::Add, Val::Double(a), Val::Double(b)) => Ok(Val::Double(a + b)),
        (Op::Subtract, Val::Double(a), Val::Double(b)) => Ok(Val::Double(a - b)),
        (Op::Multiply, Val::Double(a), Val::Double(b)) => Ok(Val::Double(a * b)),
        (Op::Divide, Val::Double(a), Val::Double(b)) => Ok(Val::Double(a / b)),
        (Op::Add, Val::String(a), Val::String(b)) => {
            cx.takes(a.len() + b.len())?;
            Ok(Val::String(Text::Made([&**a, &**b].concat().into())))
        }
        (Op::Add, Val::Bytes(a), Val::Bytes(b)) => {
            cx.takes(a.len() + b.len())?;
            Ok(Val::Bytes([&**a, &**b].concat().into()))
        }
        (Op::Add, Val::List(a), Val::List(b)) => joined(cx, a, b),
        _ => times(op, left, right),
    }
}

fn unsigned() -> Fault {
    Fault::new("unsigned integer overflow")
}

fn times<'a>(op: Op, left: &Val<'a>, right: &Val<'a>) -> Outcome<'a> {
    let duration = |d: Option<i64>| d.map(Val::Duration).ok_or_else(|| Fault::new("integer overflow"));
    match (op, left, right) {
        (Op::Add, Val::Duration(a), Val::Duration(b)) => duration(a.checked_add(*b)),
        (Op::Subtract, Val::Duration(a), Val::Duration(b)) => duration(a.checked_sub(*b)),
        (Op::Add, Val::Timestamp(t), Val::Duration(d)) | (Op::Add, Val::Duration(d), Val::Timestamp(t)) => {
            time::in_range(*t + i128::from(*d))
        }
        (Op::Subtract, Val::Timestamp(t), Val::Duration(d)) => time::in_range(*t - i128::from(*d)),
        (Op::Subtract, Val::Timestamp(a), Val::Timestamp(b)) => duration(i64::try_from(a - b).ok()),
        _ => Err(Fault::NoOverload),
    }
}

/// Two lists as one; those that are sets or maps stay so.
fn joined<'a>(cx: &mut Context<'a>, a: &List<'a>, b: &List<'a>) -> Outcome<'a> {
    use gantry_schema::ListKind;
    cx.takes((a.len() + b.len()) * std::mem::size_of::<Val<'_>>())?;
    cx.work((a.len() + b.len()) as u64 / 16)?;
    let mut items = a.items().collect::<Result<Vec<_>, _>>()?;
    match a {
        List::Lent(_, _, ListKind::Set) => {
            for item in b.items() {
                let item = item?;
                if !contains(cx, &items, &item)? {
                    items.push(item);
                }
            }
        }
        List::Lent(_, _, ListKind::Map(names)) => {
            for item in b.items() {
                let item = item?;
                match same_keys(cx, &items, &item, names)? {
                    Some(place) => items[place] = item,
                    None => items.push(item),
                }
            }
        }
        _ => {
            for item in b.items() {
                items.push(item?);
            }
        }
    }
    Ok(items.into())
}

fn contains<'a>(cx: &mut Context<'a>, items: &[Val<'a>], wanted: &Val<'a>) -> Result<bool, Fault> {
    for item in items {
        if cx.equal(item, wanted)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where the item with the same keys is.
fn same_keys<'a>(cx: &mut Context<'a>, items: &[Val<'a>], wanted: &Val<'a>, names: &[String]) -> Result<Option<usize>, Fault> {
    let Val::Map(wanted) = wanted else { return Ok(None) };
    'items: for (i, item) in items.iter().enumerate() {
        let Val::Map(item) = item else { continue };
        for name in names {
            match (item.named(name), wanted.named(name)) {
                (None, None) => {}
                (Some(a), Some(b)) => {
                    if !cx.equal(&a?, &b?)? {
                        continue 'items;
                    }
                }
                _ => continue 'items,
            }
        }
        return Ok(Some(i));
    }
    Ok(None)
}
