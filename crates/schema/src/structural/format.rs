//! Formats of texts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine;
use gantry_object::{Timestamp, names};

use crate::go;

/// The formats that are checked, dashes left out.
const KNOWN: [&str; 26] = [
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "k8sshortname",
    "k8slongname",
];

/// Whether a format is one that a schema of this type may name with effect.
pub fn is_known(kind: &str, format: &str) -> bool {
    match kind {
        "" | "string" => KNOWN.contains(&format.replace('-', "").as_str()),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_uuid(text: &str, version: Option<char>) -> bool {
    let plain: String = text.chars().filter(|c| *c != '-').collect();
    let variant = plain.chars().nth(16).is_some_and(|c| matches!(c.to_ascii_lowercase(), '8' | '9' | 'a' | 'b'));
    plain.len() == 32 && is_hex(&plain) && version.is_none_or(|v| plain.chars().nth(12) == Some(v) && (v == '3' || variant))
}

fn is_isbn10(text: &str) -> bool {
    let plain: Vec<char> = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    let value = |(i, c): (usize, &char)| match c {
        'X' | 'x' if i == 9 => Some(10),
        c => c.to_digit(10),
    };
    let values: Option<Vec<u32>> = plain.iter().enumerate().map(value).collect();
    values.is_some_and(|v| v.len() == 10 && v.iter().zip((1..=10).rev()).map(|(d, w)| d * w).sum::<u32>() % 11 == 0)
}

fn is_isbn13(text: &str) -> bool {
    let d = digits(text);
    d.len() == 13
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | ' '))
        && d.iter().zip([1, 3].into_iter().cycle()).map(|(d, w)| d * w).sum::<u32>() % 10 == 0
}

fn is_credit_card(text: &str) -> bool {
    let d = digits(text);
    let luhn: u32 =
        d.iter().rev().enumerate().map(|(i, n)| if i % 2 == 1 { [0, 2, 4, 6, 8, 1, 3, 5, 7, 9][*n as usize] } else { *n }).sum();
    (13..=16).contains(&d.len()) && luhn.is_multiple_of(10)
}

fn is_rgb(text: &str) -> bool {
    let inner = text.strip_prefix("rgb(").and_then(|t| t.strip_suffix(')'));
    inner.is_some_and(|i| i.split(',').count() == 3 && i.split(',').all(|n| n.trim().parse::<u8>().is_ok()))
}

fn is_email(text: &str) -> bool {
    let address = text.rsplit_once('<').and_then(|(_, a)| a.strip_suffix('>')).unwrap_or(text);
    address.rsplit_once('@').is_some_and(|(user, host)| {
        !user.is_empty() && !host.is_empty() && !address.contains(char::is_whitespace) && !user.contains('@') && !host.starts_with('.')
    })
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && Timestamp::parse(&format!("{text}T00:00:00Z")).is_some()
}

fn is_uri(text: &str) -> bool {
    let has_scheme = text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    (text.starts_with('/') || has_scheme) && !text.contains(|c: char| c.is_ascii_control() || c == ' ')
}

fn is_hostname(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    name.len() <= 255 && name.split('.').all(label)
}

/// Whether a text has a format. Of a format nobody knows every text is one.
pub(super) fn fits(format: &str, text: &str) -> bool {
    match format.replace('-', "").as_str() {
        "bsonobjectid" => text.len() == 24 && is_hex(text),
        "uri" => is_uri(text),
        "email" => is_email(text),
        "hostname" => is_hostname(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => text.split_once('/').is_some_and(|(ip, bits)| {
            let most = ip.parse::<IpAddr>().map_or(0, |ip| if ip.is_ipv4() { 32 } else { 128 });
            bits.parse::<u8>().is_ok_and(|b| b <= most && most > 0)
        }),
        "mac" => {
            let separator = if text.contains('-') { '-' } else { ':' };
            matches!(text.split(separator).count(), 6 | 8 | 20) && text.split(separator).all(|p| p.len() == 2 && is_hex(p))
        }
        "uuid" => is_uuid(text, None),
        "uuid3" => is_uuid(text, Some('3')),
        "uuid4" => is_uuid(text, Some('4')),
        "uuid5" => is_uuid(text, Some('5')),
        "isbn" => is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10(text),
        "isbn13" => is_isbn13(text),
        "creditcard" => is_credit_card(text),
        "ssn" => digits(text).len() == 9 && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | ' ')),
        "hexcolor" => {
            let plain = text.strip_prefix('#').unwrap_or(text);
            matches!(plain.len(), 3 | 6) && is_hex(plain)
        }
        "rgbcolor" => is_rgb(text),
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "date" => is_date(text),
        "duration" => go::parse_duration(&text.replace(' ', "")).is_some(),
        "datetime" => Timestamp::parse(text).is_some(),
        "k8sshortname" => names::dns1123_label(text).is_empty(),
        "k8slongname" => names::dns1123_subdomain(text).is_empty(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_take_what_they_mean() {
        for (format, good, bad) in [
            ("uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7b810"),
            ("isbn", "978-0321751041", "978-0321751042"),
            ("isbn10", "0321751043", "0321751044"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "00:00:5e:00:53:01", "00:00:5e"),
            ("date", "2026-11-23", "2026-13-01"),
            ("date-time", "2026-11-23T01:02:03Z", "2026-11-23"),
            ("byte", "aGFsbG8=", "?"),
            ("ipv4", "1.2.3.4", "1.2.3"),
            ("email", "a@b.c", "a.b.c"),
            ("duration", "22 ns", "22"),
            ("hexcolor", "#FFF", "#FFFF"),
        ] {
            assert!(fits(format, good) && !fits(format, bad), "{format}");
            assert!(is_known("string", format));
        }
        assert!(fits("unheard-of", "x") && !is_known("string", "unheard-of") && is_known("integer", "int32"));
    }
}
