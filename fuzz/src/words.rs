//! What stands in URLs and fields: selectors, quantities, times, references to images.

use std::str::FromStr;

use gantry_images::Reference;
use gantry_object::fields::FieldSelector;
use gantry_object::labels::Selector;
use gantry_object::{Quantity, Timestamp};

pub(crate) fn words(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(selector) = Selector::parse(text) {
        let again = Selector::parse(&selector.to_string()).expect("what a selector says of itself is a selector");
        assert_eq!(again.to_string(), selector.to_string());
    }
    let _ = FieldSelector::parse(text);
    if let Ok(quantity) = Quantity::from_str(text) {
        let again = Quantity::from_str(&quantity.to_string()).expect("what a quantity says of itself is a quantity");
        assert_eq!(again.to_string(), quantity.to_string(), "the canonical form is canonical");
    }
    if let Some(time) = Timestamp::parse(text) {
        assert_eq!(Timestamp::parse(&time.to_string()).map(|t| t.to_string()), Some(time.to_string()));
    }
    if let Ok(reference) = Reference::parse(text) {
        assert_eq!(Reference::parse(&reference.to_string()).expect("a full name is a name").to_string(), reference.to_string());
    }
}
