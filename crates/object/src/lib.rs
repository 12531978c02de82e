//! Metadata, names, labels, selectors, quantities, times, revisions and Status errors: the vocabulary of every room.
//!
//! Nothing here does I/O, knows a particular kind, or imports another room.

mod chain;
mod encoded;
pub mod field;
pub mod fields;
mod gvk;
pub mod labels;
pub mod meta;
pub mod names;
pub mod quantity;
pub mod status;
pub mod time;

pub use chain::chain;
pub use encoded::{Encoded, Revision};
pub use gvk::{GroupResource, GroupVersion, GroupVersionKind, ObjectName, Resource};
pub use quantity::Quantity;
pub use status::{Reason, Status};
pub use time::Timestamp;

/// An untyped JSON value, the tree form of an object while a request works on it.
pub type Value = serde_json::Value;
/// A JSON object.
pub type Map = serde_json::Map<String, Value>;
