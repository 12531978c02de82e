//! Selectors over fields: `status.phase=Running,spec.nodeName!=n1`.

use std::fmt;

/// One condition on one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The field's path, for example `metadata.name`.
    pub field: String,
    /// The value it is compared with.
    pub value: String,
    /// Whether it must be equal, or must not.
    pub equal: bool,
}

/// Conditions that must all be met. Empty: everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// The conditions.
    pub requirements: Vec<FieldRequirement>,
}

/// Why a text is not a field selector, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseFieldSelectorError(String);

impl FieldSelector {
    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether every condition is met; `value_of` gives a field's value, empty when it is not set.
    pub fn matches(&self, mut value_of: impl FnMut(&str) -> String) -> bool {
        self.requirements.iter().all(|r| (value_of(&r.field) == r.value) == r.equal)
    }

    /// The value a field must be equal to, when the selector says so.
    pub fn required_value(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|r| r.equal && r.field == field).map(|r| r.value.as_str())
    }

    /// Reads the query form. A backslash takes the special meaning from `\`, `,` and `=`.
    ///
    /// # Errors
    /// When a term has no operator, or an escape is unknown.
    pub fn parse(text: &str) -> Result<Self, ParseFieldSelectorError> {
        let mut requirements = Vec::new();
        for term in split_unescaped(text).into_iter().filter(|t| !t.is_empty()) {
            let Some((field, operator, value)) = split_term(&term) else {
                return Err(ParseFieldSelectorError(format!("invalid selector: '{text}'; can't understand '{term}'")));
            };
            requirements.push(FieldRequirement { field: field.into(), value: unescape(value)?, equal: operator != "!=" });
        }
        Ok(Self { requirements })
    }
}

fn split_unescaped(text: &str) -> Vec<String> {
    let (mut terms, mut term, mut escaped) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            ',' if !escaped => {
                terms.push(std::mem::take(&mut term));
                continue;
            }
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
        term.push(c);
    }
    terms.push(term);
    terms
}

fn split_term(term: &str) -> Option<(&str, &str, &str)> {
    let at = term.char_indices().find(|(i, _)| ["!=", "=="].iter().any(|o| term[*i..].starts_with(o)) || term[*i..].starts_with('='))?.0;
    let operator = if term[at..].starts_with("!=") {
        "!="
    } else if term[at..].starts_with("==") {
        "=="
    } else {
        "="
    };
    Some((&term[..at], operator, &term[at + operator.len()..]))
}

fn unescape(value: &str) -> Result<String, ParseFieldSelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(e @ ('\\' | ',' | '=')) => out.push(e),
                _ => return Err(ParseFieldSelectorError(format!("invalid field selector: invalid escape sequence in '{value}'"))),
            },
            ',' | '=' => return Err(ParseFieldSelectorError(format!("invalid field selector: unescaped character in '{value}'"))),
            c => out.push(c),
        }
    }
    Ok(out)
}

impl fmt::Display for FieldSelector {
    /// The query form, readable by [`FieldSelector::parse`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            let value = r.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            let (comma, operator) = (if i > 0 { "," } else { "" }, if r.equal { "=" } else { "!=" });
            write!(f, "{comma}{}{operator}{value}", r.field)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_selectors_are_parsed_and_matched() {
        let value_of = |field: &str| if field == "a" { "x,y".to_owned() } else { String::new() };
        for (text, expected) in [("", true), (r"a=x\,y", true), (r"a!=x\,y,b=", false), (r"b==,a==x\,y", true), ("b=1", false)] {
            let selector = FieldSelector::parse(text).expect(text);
            assert_eq!(selector.matches(value_of), expected, "{text}");
            assert_eq!(FieldSelector::parse(&selector.to_string()).expect("printed form parses"), selector);
        }
        for bad in ["a", r"a=\x", "a=b=c"] {
            assert!(FieldSelector::parse(bad).is_err(), "{bad}");
        }
    }
}
