//! Names of field managers, in options and in managed fields.

use gantry_object::Value;
use gantry_object::field::{Error, ErrorList, Path};

/// The longest name, in bytes.
pub const LONGEST: usize = 128;
/// The longest name of a subresource in managed fields, in bytes.
const LONGEST_SUBRESOURCE: usize = 256;

/// What is wrong with a name.
pub fn validate(name: &str, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if name.len() > LONGEST {
        errors.push(Error::too_long(path, LONGEST));
    }
    for (at, c) in name.char_indices().filter(|(_, c)| !is_printable(*c)) {
        errors.push(Error::invalid(path, name, &format!("invalid character U+{:04X} (at position {at})", u32::from(c))));
    }
    errors
}

/// Whether Go takes a character for one that can be printed: of the white space only the plain blank.
pub fn is_printable(c: char) -> bool {
    let is_format = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    c == ' ' || !(c.is_control() || c.is_whitespace() || is_format)
}

/// What is wrong with the managers that managed fields name. Their other members are read before, and ignored when they cannot be.
pub(super) fn entries(managed: &Value, path: &Path, errors: &mut ErrorList) {
    for (i, entry) in managed.as_array().into_iter().flatten().enumerate() {
        let text = |member: &str| entry[member].as_str().unwrap_or_default();
        errors.extend(validate(text("manager"), &path.index(i).child("manager")));
        if text("subresource").len() > LONGEST_SUBRESOURCE {
            errors.push(Error::too_long(&path.index(i).child("subresource"), LONGEST_SUBRESOURCE));
        }
    }
}
