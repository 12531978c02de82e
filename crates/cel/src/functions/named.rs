//! Formats that have names, and what is wrong with texts that should have one.

use gantry_object::names;

use super::special::Special;
use super::text::{text, texts};
use super::{Function, address, time};
use crate::value::{Fault, Val};

/// A named format.
#[derive(Debug)]
pub struct Format {
    pub(crate) name: &'static str,
    /// How long its pattern is at most.
    pub(crate) pattern: u64,
    check: fn(&str) -> Vec<String>,
}

const fn format(name: &'static str, pattern: u64, check: fn(&str) -> Vec<String>) -> Format {
    Format { name, pattern, check }
}

static FORMATS: [Format; 13] = [
    format("dns1123Label", 30, names::dns1123_label),
    format("dns1123Subdomain", 60, names::dns1123_subdomain),
    format("dns1035Label", 30, names::dns1035_label),
    format("qualifiedName", 60, names::qualified_name),
    format("dns1123LabelPrefix", 30, |t| names::dns1123_label(&prefix(t))),
    format("dns1123SubdomainPrefix", 60, |t| names::dns1123_subdomain(&prefix(t))),
    format("dns1035LabelPrefix", 30, |t| names::dns1035_label(&prefix(t))),
    format("labelValue", 40, names::label_value),
    format("uri", 1100, |t| address::parse_request(t).err().into_iter().collect()),
    format("uuid", 79, |t| unless(is_uuid(t), "does not match the UUID format")),
    format("byte", 84, |t| unless(is_base64(t), "invalid base64")),
    format("date", 126, |t| unless(time::parse_day(t).is_some(), "invalid date")),
    format("datetime", 126, |t| unless(time::parse_timestamp(t).is_some(), "invalid datetime")),
];

/// A prefix may end in a dash, since something follows.
fn prefix(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(start) => format!("{start}a"),
        None => text.to_owned(),
    }
}

fn unless(fits: bool, message: &str) -> Vec<String> {
    if fits { Vec::new() } else { vec![message.to_owned()] }
}

fn is_uuid(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_hexdigit).count();
    digits == 32 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') && text.len() <= 36
}

fn is_base64(text: &str) -> bool {
    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).is_ok()
}

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "validate" => |cx, args| {
            let Val::Special(special) = &args[0] else { return Err(Fault::NoOverload) };
            let Special::Format(format) = &**special else { return Err(Fault::NoOverload) };
            let problems = (format.check)(text(args, 1)?);
            cx.takes(problems.iter().map(String::len).sum())?;
            Ok((!problems.is_empty()).then(|| texts(problems)).into())
        },
        "format.named" => |_, args| Ok(named(text(args, 0)?).into()),
        "format.dns1123Label" => |_, _| Ok(one(0)),
        "format.dns1123Subdomain" => |_, _| Ok(one(1)),
        "format.dns1035Label" => |_, _| Ok(one(2)),
        "format.qualifiedName" => |_, _| Ok(one(3)),
        "format.dns1123LabelPrefix" => |_, _| Ok(one(4)),
        "format.dns1123SubdomainPrefix" => |_, _| Ok(one(5)),
        "format.dns1035LabelPrefix" => |_, _| Ok(one(6)),
        "format.labelValue" => |_, _| Ok(one(7)),
        "format.uri" => |_, _| Ok(one(8)),
        "format.uuid" => |_, _| Ok(one(9)),
        "format.byte" => |_, _| Ok(one(10)),
        "format.date" => |_, _| Ok(one(11)),
        "format.datetime" => |_, _| Ok(one(12)),
        _ => return None,
    })
}

fn one<'a>(place: usize) -> Val<'a> {
    Special::Format(&FORMATS[place]).into()
}

fn named<'a>(name: &str) -> Option<Val<'a>> {
    FORMATS.iter().find(|f| f.name == name).map(|f| Special::Format(f).into())
}
