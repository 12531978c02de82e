//! Words of an instruction: quotes, escapes, and variables filled in.

/// Looks a variable up.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Splits at blanks outside quotes, fills variables in, and takes quotes away.
pub(crate) fn words(text: &str, escape: char, lookup: Lookup<'_>) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    let mut quote: Option<char> = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => all.extend(word.take()),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(q), c) if c == q => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, c) if c == escape => {
                let next = chars.next();
                let special = |n: char| quote.is_none() || n == '"' || n == '$' || n == escape;
                let word = word.get_or_insert_default();
                if !next.is_some_and(special) {
                    word.push(c);
                }
                word.extend(next);
            }
            (_, '$') => {
                let value = variable(&mut chars, escape, lookup)?;
                word.get_or_insert_default().push_str(&value);
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote isn't closed".to_owned());
    }
    all.extend(word);
    Ok(all)
}

/// Fills variables in and leaves all else as it is.
pub(crate) fn expand(text: &str, escape: char, lookup: Lookup<'_>) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == escape && chars.peek() == Some(&'$') {
            out.extend(chars.next());
        } else if c == '$' {
            out.push_str(&variable(&mut chars, escape, lookup)?);
        } else {
            out.push(c);
        }
    }
    Ok(out)
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// What stands for `$name`, `${name}`, `${name:-default}`, `${name-default}`, `${name:+other}` or `${name:?error}`.
fn variable(chars: &mut Chars<'_>, escape: char, lookup: Lookup<'_>) -> Result<String, String> {
    let is_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    if chars.peek() != Some(&'{') {
        let mut name = String::new();
        while let Some(c) = chars.next_if(is_name) {
            name.push(c);
        }
        return Ok(if name.is_empty() { "$".to_owned() } else { lookup(&name).unwrap_or_default() });
    }
    chars.next();
    let (mut inner, mut depth) = (String::new(), 1);
    for c in chars.by_ref() {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if depth == 0 {
            break;
        }
        inner.push(c);
    }
    if depth > 0 {
        return Err(format!("${{{inner} isn't closed"));
    }
    let end = inner.find(|c| !is_name(&c)).unwrap_or(inner.len());
    let (name, operator) = inner.split_at(end);
    let (colon, operator) = operator.strip_prefix(':').map_or((false, operator), |o| (true, o));
    let value = lookup(name).filter(|v| !(colon && v.is_empty()));
    let mut rest = operator.chars();
    let other = |rest: &str| expand(rest, escape, lookup);
    match rest.next() {
        None if !colon && !name.is_empty() => Ok(lookup(name).unwrap_or_default()),
        Some('-') => value.map_or_else(|| other(rest.as_str()), Ok),
        Some('+') => {
            if value.is_some() {
                other(rest.as_str())
            } else {
                Ok(String::new())
            }
        }
        Some('?') => value.ok_or_else(|| format!("{name}: {}", rest.as_str())),
        _ => Err(format!("${{{inner}}} isn't understood")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "a" => Some("A B".into()),
            "empty" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn words_are_split_and_filled() {
        for (text, expected) in [
            ("x  y", vec!["x", "y"]),
            ("$a-${a}", vec!["A B-A B"]),
            (r#""$a" '$a' \$a"#, vec!["A B", "$a", "$a"]),
            ("${none:-d} ${empty:-d} ${empty-d}x ${a:+set} ${none:+set}y", vec!["d", "d", "x", "set", "y"]),
            ("${none:-${a}}", vec!["A B"]),
            (r#"a\ b "c\"d" e\\f "g\h""#, vec!["a b", "c\"d", "e\\f", "g\\h"]),
            (r#"k="v w" x''"#, vec!["k=v w", "x"]),
            ("5$", vec!["5$"]),
        ] {
            assert_eq!(words(text, '\\', &lookup).unwrap(), expected, "{text}");
        }
        for bad in ["\"x", "${a", "${a!}", "${none:?must}"] {
            assert!(words(bad, '\\', &lookup).is_err(), "{bad}");
        }
    }
}
