//! The built-in kinds: their tables and their own defaulting, validation and update rules.
