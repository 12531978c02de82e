//! Lists: order, sums, parts; lists as sets.

use std::cmp::Ordering;

use super::Function;
use crate::eval::{Context, insert, overflow};
use crate::plan::Op;
use crate::value::{Fault, List, Map, Outcome, Val};

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "isSorted" => is_sorted,
        "sum" => sum,
        "max" => |cx, args| extreme(cx, args, Ordering::Greater, "max"),
        "min" => |cx, args| extreme(cx, args, Ordering::Less, "min"),
        "slice" => slice,
        "flatten" => flatten,
        "sort" => |cx, args| sort(cx, args, 0),
        "@sortByAssociatedKeys" => |cx, args| sort(cx, args, 1),
        "lists.range" => range,
        "reverse" => reverse,
        "distinct" => distinct,
        "sets.contains" => |cx, args| subset(cx, args, 1, 0).map(Val::Bool),
        "sets.equivalent" => |cx, args| Ok(Val::Bool(subset(cx, args, 0, 1)? && subset(cx, args, 1, 0)?)),
        "sets.intersects" => intersects,
        "first" => |_, args| end(args, false),
        "last" => |_, args| end(args, true),
        "cel.@mapInsert" => map_insert,
        _ => return None,
    })
}

fn list<'v, 'a>(args: &'v [Val<'a>], place: usize) -> Result<&'v List<'a>, Fault> {
    match args.get(place) {
        Some(Val::List(list)) => Ok(list),
        _ => Err(Fault::NoOverload),
    }
}

fn all<'a>(cx: &mut Context<'a>, list: &List<'a>) -> Result<Vec<Val<'a>>, Fault> {
    cx.takes(list.len() * std::mem::size_of::<Val<'_>>())?;
    list.items().collect()
}

/// How two items stand, which must be comparable.
fn order<'a>(cx: &mut Context<'a>, a: &Val<'a>, b: &Val<'a>) -> Result<Ordering, Fault> {
    Ok(cx.compare(a, b)?.unwrap_or(Ordering::Equal))
}

fn is_sorted<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let mut before: Option<Val<'a>> = None;
    for item in list(args, 0)?.items() {
        let item = item?;
        if let Some(before) = &before
            && order(cx, before, &item)? == Ordering::Greater
        {
            return Ok(Val::Bool(false));
        }
        before = Some(item);
    }
    Ok(Val::Bool(true))
}

fn sum<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let mut total: Option<Val<'a>> = None;
    for item in list(args, 0)?.items() {
        let item = item?;
        total = Some(match total {
            None => item,
            Some(total) => super::arithmetic::of(cx, Op::Add, &total, &item)?,
        });
    }
    // An empty list's type is not known here; the sum of no durations is a duration elsewhere.
    Ok(total.unwrap_or(Val::Int(0)))
}

fn extreme<'a>(cx: &mut Context<'a>, args: &[Val<'a>], wanted: Ordering, name: &str) -> Outcome<'a> {
    let mut found: Option<Val<'a>> = None;
    for item in list(args, 0)?.items() {
        let item = item?;
        match &found {
            Some(before) if order(cx, &item, before)? != wanted => {}
            _ => found = Some(item),
        }
    }
    found.ok_or_else(|| Fault::new(format!("{name} called on empty list")))
}

pub(super) fn index_of<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    for (i, item) in list(args, 0)?.items().enumerate() {
        if cx.equal(&item?, &args[1])? {
            return Ok(Val::Int(i as i64));
        }
    }
    Ok(Val::Int(-1))
}

pub(super) fn last_index_of<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let list = list(args, 0)?;
    for i in (0..list.len()).rev() {
        if let Some(item) = list.get(i)
            && cx.equal(&item?, &args[1])?
        {
            return Ok(Val::Int(i as i64));
        }
    }
    Ok(Val::Int(-1))
}

fn slice<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let list = list(args, 0)?;
    let (Some(Val::Int(start)), Some(Val::Int(end))) = (args.get(1), args.get(2)) else { return Err(Fault::NoOverload) };
    let refused = |what: &str| Err(Fault::new(format!("cannot slice({start}, {end}), {what}")));
    if *start < 0 || *end < 0 {
        return refused("negative indexes not supported");
    }
    if start > end {
        return refused("start index must be less than or equal to end index");
    }
    if *end as u64 > list.len() as u64 {
        return refused(&format!("list is length {}", list.len()));
    }
    cx.takes((end - start) as usize * std::mem::size_of::<Val<'_>>())?;
    Ok((*start as usize..*end as usize).filter_map(|i| list.get(i)).collect::<Result<Vec<_>, _>>()?.into())
}

fn flatten<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let depth = match args.get(1) {
        None => 1,
        Some(Val::Int(depth)) if *depth >= 0 => *depth,
        Some(Val::Int(_)) => return Err(Fault::new("level must be non-negative")),
        Some(_) => return Err(Fault::NoOverload),
    };
    let mut out = Vec::new();
    flatten_into(cx, list(args, 0)?, depth, &mut out)?;
    Ok(out.into())
}

fn flatten_into<'a>(cx: &mut Context<'a>, list: &List<'a>, depth: i64, out: &mut Vec<Val<'a>>) -> Result<(), Fault> {
    for item in list.items() {
        cx.work(1)?;
        match item? {
            Val::List(inner) if depth > 0 => flatten_into(cx, &inner, depth - 1, out)?,
            item => {
                cx.takes(std::mem::size_of::<Val<'_>>())?;
                out.push(item);
            }
        }
    }
    Ok(())
}

/// Sorts the first list by the items of another, of the same length.
fn sort<'a>(cx: &mut Context<'a>, args: &[Val<'a>], by: usize) -> Outcome<'a> {
    let items = all(cx, list(args, 0)?)?;
    let keys = all(cx, list(args, by)?)?;
    if keys.len() != items.len() {
        return Err(Fault::new("@sortByAssociatedKeys() expected a list of the same size as the associated keys list"));
    }
    if keys.iter().any(|k| k.type_name() != keys[0].type_name()) {
        return Err(Fault::new("list elements must have the same type"));
    }
    if keys.first().is_some_and(|k| rank(k, k).is_none()) {
        return Err(Fault::new("list elements must be comparable"));
    }
    cx.work(keys.len() as u64 * u64::from(keys.len().max(2).ilog2()))?;
    let mut pairs: Vec<(Val<'a>, Val<'a>)> = keys.into_iter().zip(items).collect();
    pairs.sort_by(|a, b| rank(&a.0, &b.0).unwrap_or(Ordering::Equal));
    Ok(pairs.into_iter().map(|(_, item)| item).collect::<Vec<_>>().into())
}

/// A total order of values of one type; `None` for types that have none.
fn rank(a: &Val<'_>, b: &Val<'_>) -> Option<Ordering> {
    Some(match (a, b) {
        (Val::Int(a), Val::Int(b)) => a.cmp(b),
        (Val::Uint(a), Val::Uint(b)) => a.cmp(b),
        (Val::Double(a), Val::Double(b)) => a.total_cmp(b),
        (Val::Bool(a), Val::Bool(b)) => a.cmp(b),
        (Val::Duration(a), Val::Duration(b)) => a.cmp(b),
        (Val::Timestamp(a), Val::Timestamp(b)) => a.cmp(b),
        (Val::String(a), Val::String(b)) => (**a).cmp(&**b),
        (Val::Bytes(a), Val::Bytes(b)) => a.cmp(b),
        _ => return None,
    })
}

fn range<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let Val::Int(count) = args[0] else { return Err(Fault::NoOverload) };
    let count = usize::try_from(count.max(0)).map_err(|_| overflow())?;
    // Before it is made: the cost is seen only after.
    cx.takes(count.saturating_mul(std::mem::size_of::<Val<'_>>()))?;
    Ok((0..count as i64).map(Val::Int).collect::<Vec<_>>().into())
}

fn reverse<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let mut items = all(cx, list(args, 0)?)?;
    items.reverse();
    Ok(items.into())
}

fn distinct<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let mut seen: Vec<Val<'a>> = Vec::new();
    'items: for item in list(args, 0)?.items() {
        let item = item?;
        for before in &seen {
            if cx.equal(before, &item)? {
                continue 'items;
            }
        }
        cx.takes(std::mem::size_of::<Val<'_>>())?;
        seen.push(item);
    }
    Ok(seen.into())
}

/// Whether every item of one list is in the other.
fn subset<'a>(cx: &mut Context<'a>, args: &[Val<'a>], of: usize, whole: usize) -> Result<bool, Fault> {
    let whole = list(args, whole)?;
    for item in list(args, of)?.items() {
        if !cx.contains(whole, &item?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn intersects<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let other = list(args, 1)?;
    for item in list(args, 0)?.items() {
        if cx.contains(other, &item?)? {
            return Ok(Val::Bool(true));
        }
    }
    Ok(Val::Bool(false))
}

fn end<'a>(args: &[Val<'a>], last: bool) -> Outcome<'a> {
    let list = list(args, 0)?;
    let place = if last { list.len().wrapping_sub(1) } else { 0 };
    Ok(list.get(place).transpose()?.into())
}

/// Adds an entry, or all of another map.
fn map_insert<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let Val::Map(map) = &args[0] else { return Err(Fault::NoOverload) };
    cx.takes(128)?;
    cx.work(map.len() as u64 / 8)?;
    let mut made = match map {
        Map::Made(entries) => entries.clone(),
        Map::Lent(..) => return Err(Fault::NoOverload),
    };
    let entries = std::rc::Rc::make_mut(&mut made);
    match &args[1..] {
        [key, value] => insert(entries, key.clone(), value.clone())?,
        [Val::Map(more)] => {
            for key in more.keys() {
                let value = more.get(&key).unwrap_or(Ok(Val::Null))?;
                insert(entries, key, value)?;
            }
        }
        _ => return Err(Fault::NoOverload),
    }
    Ok(Val::Map(Map::Made(made)))
}
