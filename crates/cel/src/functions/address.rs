//! Addresses of the web.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::Function;
use super::special::Special;
use super::text::{text, texts};
use crate::eval::{Context, insert};
use crate::value::{Fault, Map, Outcome, Val};

/// The parts of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    user: String,
    host: String,
    path: String,
    query: String,
    fragment: String,
}

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "url" => |cx, args| {
            let text = text(args, 0)?;
            cx.takes(text.len())?;
            let url = parse(text).map_err(|why| Fault::new(format!("URL parse error during conversion from string: {why}")))?;
            Ok(Special::Url(url).into())
        },
        "isURL" => |_, args| Ok(Val::Bool(parse_request(text(args, 0)?).is_ok())),
        "getScheme" => |_, args| part(args, |u| u.scheme.clone()),
        "getHost" => |_, args| part(args, |u| u.host.clone()),
        "getHostname" => |_, args| part(args, |u| host_and_port(&u.host).0.trim_start_matches('[').trim_end_matches(']').to_owned()),
        "getPort" => |_, args| part(args, |u| host_and_port(&u.host).1.to_owned()),
        "getEscapedPath" => |_, args| part(args, |u| escaped(&u.path)),
        "getQuery" => query,
        _ => return None,
    })
}

fn url<'v>(args: &'v [Val<'_>]) -> Result<&'v Url, Fault> {
    match &args[0] {
        Val::Special(special) => match &**special {
            Special::Url(url) => Ok(url),
            _ => Err(Fault::NoOverload),
        },
        _ => Err(Fault::NoOverload),
    }
}

fn part<'a>(args: &[Val<'a>], of: fn(&Url) -> String) -> Outcome<'a> {
    url(args).map(|u| of(u).into())
}

/// A host apart from its port.
fn host_and_port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && (!name.starts_with('[') || name.ends_with(']')) => (name, port),
        _ => (host, ""),
    }
}

/// Checks an address as a request would have it: absolute, or a path from the root.
///
/// # Errors
/// Why it is none.
pub(super) fn parse_request(text: &str) -> Result<Url, String> {
    let refused = |why: &str| Err(format!("parse {text:?}: {why}"));
    if text.chars().any(|c| c.is_ascii_control()) {
        return refused("net/url: invalid control character in URL");
    }
    if text.is_empty() {
        return refused("empty url");
    }
    let (scheme, rest) = scheme(text);
    if text.starts_with(':') {
        return refused("missing protocol scheme");
    }
    if scheme.is_empty() && !text.starts_with('/') {
        return refused("invalid URI for request");
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut url = Url { scheme: scheme.to_ascii_lowercase(), query: query.into(), ..Url::default() };
    if !rest.starts_with('/') {
        // What follows the scheme is not for us to know.
        return Ok(url);
    }
    let mut path = rest;
    if !scheme.is_empty()
        && let Some(after) = rest.strip_prefix("//")
    {
        let end = after.find('/').unwrap_or(after.len());
        let (authority, after) = after.split_at(end);
        path = after;
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        check_host(host).or_else(|why| refused(&why).map(drop))?;
        (url.user, url.host) = (user.into(), host.into());
    }
    match bad_escape(path) {
        Some(bad) => refused(&format!("invalid URL escape {bad:?}")),
        None => {
            url.path = path.into();
            Ok(url)
        }
    }
}

fn parse(text: &str) -> Result<Url, String> {
    parse_request(text)?;
    let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
    let mut url = parse_request(before)?;
    url.fragment = fragment.into();
    Ok(url)
}

/// The scheme before a colon, and what follows.
fn scheme(text: &str) -> (&str, &str) {
    match text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))) {
        Some(colon) if text[colon..].starts_with(':') && text.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            (&text[..colon], &text[colon + 1..])
        }
        _ => ("", text),
    }
}

fn check_host(host: &str) -> Result<(), String> {
    if let Some(inner) = host.strip_prefix('[') {
        let Some((_, after)) = inner.split_once(']') else { return Err("missing ']' in host".into()) };
        if !after.is_empty() && !after.strip_prefix(':').is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit())) {
            return Err(format!("invalid port {after:?} after host"));
        }
        return Ok(());
    }
    if let Some((_, port)) = host.split_once(':')
        && !port.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(format!("invalid port {:?} after host", format!(":{port}")));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || !c.is_ascii() || "-_.~!$&'()*+,;=:[]<>\"%".contains(c);
    match host.chars().find(|c| !allowed(*c)) {
        Some(c) => Err(format!("invalid character {:?} in host name", c.to_string())),
        None => bad_escape(host).map_or(Ok(()), |bad| Err(format!("invalid URL escape {bad:?}"))),
    }
}

/// The first percent sign that no two digits follow.
fn bad_escape(text: &str) -> Option<String> {
    text.match_indices('%').find_map(|(i, _)| {
        let digits = text.as_bytes().get(i + 1..i + 3).is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit));
        (!digits).then(|| text[i..].chars().take(3).collect())
    })
}

fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(byte.into()),
            _ if b"-_.~!$&'()*+,;=:@/%[]".contains(&byte) => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn unescaped(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                let code = digit(bytes.next())? * 16 + digit(bytes.next())?;
                out.push(u8::try_from(code).ok()?);
            }
            other => out.push(other),
        }
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

fn query<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let url = url(args)?;
    cx.takes(url.query.len().saturating_mul(64))?;
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in url.query.split('&').filter(|p| !p.is_empty() && !p.contains(';')) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(name), Some(value)) = (unescaped(name), unescaped(value)) {
            found.entry(name).or_default().push(value);
        }
    }
    let mut made = BTreeMap::new();
    for (name, values) in found {
        insert(&mut made, name.into(), texts(values))?;
    }
    Ok(Val::Map(Map::Made(Rc::new(made))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let url = parse("https://user@example.com:80/a b/%2f?k=v%20x&k=w#part").unwrap();
        assert_eq!((url.scheme.as_str(), url.host.as_str(), escaped(&url.path).as_str()), ("https", "example.com:80", "/a%20b/%2f"));
        assert_eq!(host_and_port("[::1]:80"), ("[::1]", "80"));
        assert_eq!(host_and_port("[::1]"), ("[::1]", ""));
        for good in ["https://a.b/c?d", "/path", "http://[::1]:9000/", "mailto:x@y"] {
            assert!(parse_request(good).is_ok(), "{good}");
        }
        for bad in ["", "a/b", "https://a:b/", "http://a b/", "://x", "../x", "http://h/%zz"] {
            assert!(parse_request(bad).is_err(), "{bad}");
        }
    }
}
