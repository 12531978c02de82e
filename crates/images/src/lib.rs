//! Content store, pull, unpack, import and export, builds, garbage collection.
//!
//! Invariants: nothing outside the store is written, whatever an archive holds; a name is only given to an image that is
//! complete, verified and unpacked; what is in its place is whole.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod archive;
mod build;
mod digest;
mod document;
mod error;
mod image;
mod name;
mod registry;
mod store;
mod unpack;

pub use build::{BuildOptions, Builder, Runner};
pub use digest::{BadDigest, Digest};
pub use error::{Error, Result};
pub use image::{Image, ImageSpec, User, resolve_user};
pub use name::Reference;
pub use registry::{Credentials, Registries};
pub use store::{Collected, Store};
