//! Reading containers' logs, which are lines in CRI's form: time, stream, `F` or `P`, text.

use std::path::Path;

/// One piece of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) time: &'a str,
    pub(crate) stream: &'a str,
    /// Whether the line ends with this piece.
    pub(crate) ends_line: bool,
    pub(crate) text: &'a [u8],
}

/// Takes a line of the file apart.
pub(crate) fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let (time, stream, tag, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next().unwrap_or(b""));
    let text_of = |bytes| std::str::from_utf8(bytes).ok();
    Some(Entry { time: text_of(time)?, stream: text_of(stream)?, ends_line: !tag.starts_with(b"P"), text })
}

/// The end of a log as text: at most so many lines and bytes.
pub(crate) fn tail(path: &Path, lines: usize, bytes: usize) -> String {
    let contents = std::fs::read(path).unwrap_or_default();
    let mut text = Vec::new();
    let all: Vec<&[u8]> = contents.split(|b| *b == b'\n').filter(|l| !l.is_empty()).collect();
    for entry in all[all.len().saturating_sub(lines)..].iter().filter_map(|l| parse(l)) {
        text.extend_from_slice(entry.text);
        if entry.ends_line {
            text.push(b'\n');
        }
    }
    String::from_utf8_lossy(&text[text.len().saturating_sub(bytes)..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let entry = parse(b"2026-11-23T00:00:00.000000001Z stdout F hello world").unwrap();
        assert_eq!((entry.stream, entry.ends_line, entry.text), ("stdout", true, &b"hello world"[..]));
        assert!(!parse(b"2026-11-23T00:00:00Z stderr P part").unwrap().ends_line);
        assert_eq!(parse(b"nonsense"), None);
    }
}
