//! Which values are the same, and which is larger.

use std::cmp::Ordering;

use gantry_object::Value;
use gantry_schema::ListKind;

use crate::eval::Context;
use crate::value::{Fault, List, Map, Val};

impl<'a> Context<'a> {
    /// Whether two values are the same; values of different types are not.
    pub(crate) fn equal(&mut self, a: &Val<'a>, b: &Val<'a>) -> Result<bool, Fault> {
        self.work(1)?;
        Ok(match (a, b) {
            (Val::Null, Val::Null) => true,
            (Val::Bool(a), Val::Bool(b)) => a == b,
            (Val::String(a), Val::String(b)) => {
                self.work(a.len() as u64 / 64)?;
                **a == **b
            }
            (Val::Bytes(a), Val::Bytes(b)) => a == b,
            (Val::Timestamp(a), Val::Timestamp(b)) => a == b,
            (Val::Duration(a), Val::Duration(b)) => a == b,
            (Val::Type(a), Val::Type(b)) => a == b,
            (Val::List(a), Val::List(b)) => return self.equal_lists(a, b),
            (Val::Map(a), Val::Map(b)) => return self.equal_maps(a, b),
            (Val::Optional(None), Val::Optional(None)) => true,
            (Val::Optional(Some(a)), Val::Optional(Some(b))) => return self.equal(a, b),
            (Val::Struct(m, a), Val::Struct(n, b)) => {
                if m != n || a.len() != b.len() {
                    return Ok(false);
                }
                for (name, a) in a.iter() {
                    match b.get(name) {
                        Some(b) if self.equal(a, b)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Val::Special(a), Val::Special(b)) => a == b,
            _ => compare_numbers(a, b) == Some(Ordering::Equal),
        })
    }

    fn equal_lists(&mut self, a: &List<'a>, b: &List<'a>) -> Result<bool, Fault> {
        if a.len() != b.len() {
            return Ok(false);
        }
        match a {
            List::Lent(items, of, ListKind::Set) => {
                let left = items.iter().map(|v| Val::read(v, of)).collect::<Result<Vec<_>, _>>()?;
                let keys: std::collections::BTreeSet<_> = left.iter().map(Val::key).collect();
                for item in b.items() {
                    let item = item?;
                    self.work(1)?;
                    let found = match item.key() {
                        Some(key) => keys.contains(&Some(key)),
                        None => self.contains(a, &item)?,
                    };
                    if !found {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            List::Lent(items, of, ListKind::Map(names)) => {
                let keys = |v: &'a Value| -> Vec<&'a Value> { names.iter().map(|n| &v[n.as_str()]).collect() };
                let List::Lent(others, ..) = b else { return self.equal_in_order(a, b) };
                let index: std::collections::BTreeMap<String, &'a Value> = items.iter().map(|v| (format!("{:?}", keys(v)), v)).collect();
                for other in *others {
                    self.work(1 + names.len() as u64)?;
                    let Some(mine) = index.get(&format!("{:?}", keys(other))) else { return Ok(false) };
                    if !self.equal(&Val::read(mine, of)?, &Val::read(other, of)?)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => self.equal_in_order(a, b),
        }
    }

    fn equal_in_order(&mut self, a: &List<'a>, b: &List<'a>) -> Result<bool, Fault> {
        for (a, b) in a.items().zip(b.items()) {
            if !self.equal(&a?, &b?)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn equal_maps(&mut self, a: &Map<'a>, b: &Map<'a>) -> Result<bool, Fault> {
        if a.len() != b.len() {
            return Ok(false);
        }
        for key in a.keys() {
            let (Some(mine), Some(other)) = (a.get(&key), b.get(&key)) else { return Ok(false) };
            if !self.equal(&mine?, &other?)? {
                return Ok(false);
            }
        }
        // What the schema keeps but doesn't declare counts too.
        if let (Some(mut undeclared), Map::Lent(others, _)) = (a.undeclared(), b) {
            self.work(a.len() as u64)?;
            return Ok(undeclared.all(|(name, v)| others.get(name) == Some(v)));
        }
        Ok(true)
    }

    /// Whether a list has an item.
    pub(crate) fn contains(&mut self, list: &List<'a>, wanted: &Val<'a>) -> Result<bool, Fault> {
        for item in list.items() {
            if self.equal(&item?, wanted)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How two values stand to each other; `None` when they can't be compared.
    pub(crate) fn compare(&mut self, a: &Val<'a>, b: &Val<'a>) -> Result<Option<Ordering>, Fault> {
        self.work(1)?;
        Ok(match (a, b) {
            (Val::Bool(a), Val::Bool(b)) => Some(a.cmp(b)),
            (Val::String(a), Val::String(b)) => {
                self.work(a.len() as u64 / 64)?;
                Some((**a).cmp(&**b))
            }
            (Val::Bytes(a), Val::Bytes(b)) => Some(a.cmp(b)),
            (Val::Timestamp(a), Val::Timestamp(b)) => Some(a.cmp(b)),
            (Val::Duration(a), Val::Duration(b)) => Some(a.cmp(b)),
            (Val::Int(_) | Val::Uint(_) | Val::Double(_), Val::Int(_) | Val::Uint(_) | Val::Double(_)) => compare_numbers(a, b),
            _ => return Err(Fault::NoOverload),
        })
    }
}

/// How numbers stand to each other, of whatever type they are.
fn compare_numbers(a: &Val<'_>, b: &Val<'_>) -> Option<Ordering> {
    let whole = |v: &Val<'_>| match v {
        Val::Int(i) => Some(i128::from(*i)),
        Val::Uint(u) => Some(i128::from(*u)),
        _ => None,
    };
    match (a, b) {
        (Val::Double(a), Val::Double(b)) => a.partial_cmp(b),
        (Val::Double(a), b) => whole(b).and_then(|b| compare_double(*a, b)),
        (a, Val::Double(b)) => whole(a).and_then(|a| compare_double(*b, a)).map(Ordering::reverse),
        (a, b) => Some(whole(a)?.cmp(&whole(b)?)),
    }
}

fn compare_double(a: f64, b: i128) -> Option<Ordering> {
    if a.is_nan() {
        return None;
    }
    // Both bounds of what whole numbers there are lie within a double's exact range of i128.
    if a >= 1e30 {
        return Some(Ordering::Greater);
    }
    if a <= -1e30 {
        return Some(Ordering::Less);
    }
    let floor = a.floor();
    Some((floor as i128).cmp(&b).then(if a > floor { Ordering::Greater } else { Ordering::Equal }))
}
