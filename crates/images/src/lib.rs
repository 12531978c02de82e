//! Content store, pull, unpack, import and export, builds, garbage collection.
