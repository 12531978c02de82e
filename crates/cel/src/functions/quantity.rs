//! Amounts and versions, which have functions of the same names.

use std::cmp::Ordering;

use gantry_object::Quantity;

use super::Function;
use super::special::Special;
use super::text::text;
use crate::eval::Context;
use crate::value::{Fault, Outcome, Val};

/// A version: numbers, then what it is before or beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    numbers: [u64; 3],
    before: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Number(u64),
    Word(String),
}

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "quantity" => |_, args| parse(text(args, 0)?).map(|q| Special::Quantity(q).into()),
        "isQuantity" => |_, args| Ok(Val::Bool(parse(text(args, 0)?).is_ok())),
        "sign" => |_, args| {
            quantity(args, 0).map(|q| {
                Val::Int(if q.is_zero() {
                    0
                } else if q.is_negative() {
                    -1
                } else {
                    1
                })
            })
        },
        "isGreaterThan" => |_, args| compared(args).map(|o| Val::Bool(o.is_gt())),
        "isLessThan" => |_, args| compared(args).map(|o| Val::Bool(o.is_lt())),
        "compareTo" => |_, args| compared(args).map(|o| Val::Int(o as i64)),
        "asApproximateFloat" => |_, args| quantity(args, 0).map(|q| Val::Double(q.as_f64())),
        "isInteger" => |_, args| quantity(args, 0).map(|q| Val::Bool(q == Quantity::whole(q.value()))),
        "asInteger" => as_integer,
        "add" => |_, args| Ok(Special::Quantity(quantity(args, 0)?.plus(amount(args)?)).into()),
        "sub" => |_, args| Ok(Special::Quantity(quantity(args, 0)?.minus(amount(args)?)).into()),
        "semver" => semver,
        "isSemver" => |_, args| Ok(Val::Bool(version(args)?.is_ok())),
        "major" => |_, args| number(args, 0),
        "minor" => |_, args| number(args, 1),
        "patch" => |_, args| number(args, 2),
        _ => return None,
    })
}

fn parse(text: &str) -> Result<Quantity, Fault> {
    text.parse().map_err(|e: gantry_object::quantity::ParseQuantityError| Fault::new(e.to_string()))
}

fn quantity(args: &[Val<'_>], place: usize) -> Result<Quantity, Fault> {
    match args.get(place) {
        Some(Val::Special(special)) => match &**special {
            Special::Quantity(q) => Ok(*q),
            _ => Err(Fault::NoOverload),
        },
        _ => Err(Fault::NoOverload),
    }
}

/// What is added or taken away.
fn amount(args: &[Val<'_>]) -> Result<Quantity, Fault> {
    match args.get(1) {
        Some(Val::Int(i)) => Ok(Quantity::whole(*i)),
        _ => quantity(args, 1),
    }
}

fn as_integer<'a>(_: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let q = quantity(args, 0)?;
    if q == Quantity::whole(q.value()) { Ok(Val::Int(q.value())) } else { Err(Fault::new("cannot convert value to integer")) }
}

fn compared(args: &[Val<'_>]) -> Result<Ordering, Fault> {
    match (&args[0], &args[1]) {
        (Val::Special(a), Val::Special(b)) => match (&**a, &**b) {
            (Special::Quantity(a), Special::Quantity(b)) => Ok(a.cmp(b)),
            (Special::Semver(a), Special::Semver(b)) => Ok(a.compare(b)),
            _ => Err(Fault::NoOverload),
        },
        _ => Err(Fault::NoOverload),
    }
}

fn version(args: &[Val<'_>]) -> Result<Result<Semver, String>, Fault> {
    let text = text(args, 0)?;
    Ok(match args.get(1) {
        None | Some(Val::Bool(false)) => Semver::parse(text),
        Some(Val::Bool(true)) => Semver::parse_tolerant(text),
        Some(_) => return Err(Fault::NoOverload),
    })
}

fn semver<'a>(_: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    version(args)?.map(|v| Special::Semver(v).into()).map_err(Fault::new)
}

fn number<'a>(args: &[Val<'a>], place: usize) -> Outcome<'a> {
    match &args[0] {
        Val::Special(special) => match &**special {
            Special::Semver(v) => Ok(Val::Int(v.numbers[place] as i64)),
            _ => Err(Fault::NoOverload),
        },
        _ => Err(Fault::NoOverload),
    }
}

impl Semver {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("Version string empty".into());
        }
        let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
        let (core, before) = rest.split_once('-').map_or((rest, None), |(core, before)| (core, Some(before)));
        let parts: Vec<&str> = core.split('.').collect();
        let [major, minor, patch] = parts[..] else { return Err("No Major.Minor.Patch elements found".into()) };
        let mut numbers = [0; 3];
        for (number, (name, text)) in numbers.iter_mut().zip([("major", major), ("minor", minor), ("patch", patch)]) {
            if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
                return Err(format!("Invalid character(s) found in {name} number {text:?}"));
            }
            if text.len() > 1 && text.starts_with('0') {
                return Err(format!("{name} number must not contain leading zeroes {text:?}"));
            }
            *number = text.parse().map_err(|_| format!("{name} number is too large {text:?}"))?;
        }
        let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let part = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
            _ if !word(text) => Err(format!("Invalid character(s) found in prerelease {text:?}")),
            true if text.len() > 1 && text.starts_with('0') => {
                Err(format!("Numeric PreRelease version must not contain leading zeroes {text:?}"))
            }
            true => text.parse().map(Part::Number).map_err(|_| format!("prerelease is too large {text:?}")),
            false => Ok(Part::Word(text.to_owned())),
        };
        let before = before.map_or(Ok(Vec::new()), |b| b.split('.').map(part).collect())?;
        if let Some(bad) = build.and_then(|b| b.split('.').find(|p| !word(p))) {
            return Err(format!("Invalid character(s) found in build meta data {bad:?}"));
        }
        Ok(Self { numbers, before })
    }

    /// With `v` in front, parts left out and leading zeros.
    fn parse_tolerant(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts: Vec<String> = text.splitn(3, '.').map(String::from).collect();
        for part in parts.iter_mut().filter(|p| p.len() > 1) {
            let trimmed = part.trim_start_matches('0');
            *part = if trimmed.starts_with(|c: char| c.is_ascii_digit()) { trimmed.to_owned() } else { format!("0{trimmed}") };
        }
        if parts.len() < 3 && parts.last().is_some_and(|p| p.contains(['+', '-'])) {
            return Err("short version cannot contain PreRelease/Build meta data".into());
        }
        parts.resize(3, "0".into());
        Self::parse(&parts.join("."))
    }

    /// Which comes first; what is beside the numbers doesn't count.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.before.is_empty(), other.before.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let one = |(a, b): (&Part, &Part)| match (a, b) {
                    (Part::Number(a), Part::Number(b)) => a.cmp(b),
                    (Part::Number(_), Part::Word(_)) => Ordering::Less,
                    (Part::Word(_), Part::Number(_)) => Ordering::Greater,
                    (Part::Word(a), Part::Word(b)) => a.cmp(b),
                };
                let found = self.before.iter().zip(&other.before).map(one).find(|o| o.is_ne());
                found.unwrap_or_else(|| self.before.len().cmp(&other.before.len()))
            }
        })
    }
}
