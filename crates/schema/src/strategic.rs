//! Strategic merge.
