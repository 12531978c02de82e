//! The deterministic simulator and its scenarios.
