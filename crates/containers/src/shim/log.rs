//! A container's log in CRI's form: `<RFC 3339 time> <stream> <F|P> <text>`, one line each, where P says that the line
//! goes on in the next.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gantry_object::Timestamp;

/// Longest text of one line.
pub(crate) const LONGEST: usize = 16 * 1024;

/// Which stream something came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// Turns what a container writes into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// What came after the last end of line, of each stream.
    rest: [Vec<u8>; 2],
}

impl Lines {
    /// Appends what became complete to `out`.
    pub(crate) fn add(&mut self, stream: Stream, mut bytes: &[u8], now: Timestamp, out: &mut Vec<u8>) {
        let rest = &mut self.rest[stream as usize];
        while !bytes.is_empty() {
            let room = LONGEST - rest.len();
            let end = bytes.iter().take(room + 1).position(|b| *b == b'\n');
            let taken = end.unwrap_or(room.min(bytes.len()));
            rest.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken + usize::from(end.is_some())..];
            if end.is_some() || (rest.len() == LONGEST && !bytes.is_empty()) {
                line(stream, end.is_some(), rest, now, out);
                rest.clear();
            }
        }
    }

    /// Ends a stream: what is left is a whole line.
    pub(crate) fn end(&mut self, stream: Stream, now: Timestamp, out: &mut Vec<u8>) {
        let rest = std::mem::take(&mut self.rest[stream as usize]);
        if !rest.is_empty() {
            line(stream, true, &rest, now, out);
        }
    }
}

fn line(stream: Stream, whole: bool, text: &[u8], now: Timestamp, out: &mut Vec<u8>) {
    let name = if stream == Stream::Out { "stdout" } else { "stderr" };
    let tag = if whole { 'F' } else { 'P' };
    // Writing to memory doesn't fail.
    let _ = write!(out, "{} {name} {tag} ", now.rfc3339_nanos());
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// The file. A full disk loses lines rather than stop the container.
#[derive(Debug, Default)]
pub(crate) struct Log {
    file: Option<(PathBuf, File)>,
    lines: Lines,
}

impl Log {
    /// Opens or makes the file, appending to what is there.
    pub(crate) fn open(path: Option<&Path>) -> io::Result<Self> {
        Ok(Self { file: path.map(|p| Ok::<_, io::Error>((p.to_owned(), open(p)?))).transpose()?, lines: Lines::default() })
    }

    /// Opens the path again, after the file there was renamed.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        if let Some((path, file)) = &mut self.file {
            *file = open(path)?;
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) {
        if self.file.is_some() {
            let mut out = Vec::with_capacity(bytes.len() + 64);
            self.lines.add(stream, bytes, now, &mut out);
            self.write(&out);
        }
    }

    pub(crate) fn end(&mut self, stream: Stream, now: Timestamp) {
        let mut out = Vec::new();
        self.lines.end(stream, now, &mut out);
        self.write(&out);
    }

    fn write(&mut self, out: &[u8]) {
        if let Some((_, file)) = &mut self.file
            && !out.is_empty()
        {
            let _ = file.write_all(out);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    OpenOptions::new().append(true).create(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chunks: &[&[u8]], expected: &str) {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.add(Stream::Out, chunk, Timestamp(0), &mut out);
        }
        lines.end(Stream::Out, Timestamp(0), &mut out);
        let text = String::from_utf8(out).unwrap().replace("1970-01-01T00:00:00.000000000Z stdout ", "");
        assert_eq!(text, expected);
    }

    #[test]
    fn lines_are_put_together_and_long_ones_split() {
        check(&[b"a\nb", b"c\n\n", b"end"], "F a\nF bc\nF \nF end\n");
        let long = vec![b'x'; LONGEST + 3];
        let (x, rest) = ("x".repeat(LONGEST), "xxx");
        check(&[&long, b"\n"], &format!("P {x}\nF {rest}\n"));
        check(&[&long[..LONGEST], b"\n"], &format!("F {x}\n"));
        check(&[&long[..LONGEST], b"y\n"], &format!("P {x}\nF y\n"));
    }
}
