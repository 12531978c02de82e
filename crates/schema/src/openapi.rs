//! Schema documents.
