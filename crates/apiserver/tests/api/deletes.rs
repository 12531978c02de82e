//! deletes
