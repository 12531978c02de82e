//! Patterns of `.dockerignore` and of COPY's sources.

use std::path::Path;

/// Whether a path fits a pattern of `*`, `?`, `[a-z]`, `\` and, for whole parts, `**`. Both without leading slashes.
pub(crate) fn fits(pattern: &str, path: &str) -> bool {
    let split = |text: &str| text.split('/').filter(|p| !p.is_empty() && *p != ".").map(str::to_owned).collect::<Vec<_>>();
    parts_fit(&split(pattern), &split(path))
}

fn parts_fit(pattern: &[String], path: &[String]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, rest) => rest.is_none(),
        (Some((first, rest)), _) if first == "**" => (0..=path.len()).any(|n| parts_fit(rest, &path[n..])),
        (Some(_), None) => false,
        (Some((first, rest)), Some((name, below))) => {
            part_fits(&first.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>()) && parts_fit(rest, below)
        }
    }
}

fn part_fits(pattern: &[char], name: &[char]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, rest) => rest.is_none(),
        (Some(('*', rest)), _) => (0..=name.len()).any(|n| part_fits(rest, &name[n..])),
        (Some(('?', rest)), Some((_, left))) => part_fits(rest, left),
        (Some(('[', rest)), Some((c, left))) => {
            let Some(end) = rest.iter().skip(1).position(|c| *c == ']').map(|n| n + 1) else { return false };
            let (set, after) = (&rest[..end], &rest[end + 1..]);
            let (negated, set) = if set[0] == '^' || set[0] == '!' { (true, &set[1..]) } else { (false, set) };
            let range = set.windows(3).any(|w| w[1] == '-' && w[0] <= *c && *c <= w[2]);
            (range || set.contains(c)) != negated && part_fits(after, left)
        }
        (Some(('\\', rest)), Some((c, left))) => rest.split_first().is_some_and(|(p, after)| p == c && part_fits(after, left)),
        (Some((p, rest)), Some((c, left))) => p == c && part_fits(rest, left),
        (Some(_), None) => false,
    }
}

/// The patterns of a `.dockerignore`, in order.
#[derive(Debug, Default)]
pub(crate) struct Ignored(Vec<(bool, String)>);

impl Ignored {
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        Self(
            lines
                .map(|l| match l.strip_prefix('!') {
                    Some(kept) => (false, kept.trim().to_owned()),
                    None => (true, l.to_owned()),
                })
                .collect(),
        )
    }

    /// Whether a path of the context is left out: the last pattern that fits it, or a directory above it, decides.
    pub(crate) fn hides(&self, path: &Path) -> bool {
        let mut hidden = false;
        for (hides, pattern) in &self.0 {
            if path.ancestors().filter(|a| !a.as_os_str().is_empty()).any(|a| fits(pattern, &a.to_string_lossy())) {
                hidden = *hides;
            }
        }
        hidden
    }

    /// Whether something below a hidden directory may yet be kept.
    pub(crate) fn has_exceptions(&self) -> bool {
        self.0.iter().any(|(hides, _)| !hides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, path, fit) in [
            ("*.rs", "a.rs", true),
            ("*.rs", "d/a.rs", false),
            ("**/*.rs", "d/e/a.rs", true),
            ("**/*.rs", "a.rs", true),
            ("d/**", "d/e/f", true),
            ("/d/?", "d/x", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
        ] {
            assert_eq!(fits(pattern, path), fit, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_pattern_decides() {
        let i = Ignored::parse("# no\n*.log\ntarget\n!target/keep\n\n");
        for (path, hidden) in [("x.log", true), ("d/x.log", false), ("target/a/b", true), ("target/keep/c", false), ("src", false)] {
            assert_eq!(i.hides(Path::new(path)), hidden, "{path}");
        }
    }
}
