//! The network on the real kernel, in namespaces that each test makes for itself. Needs root; without it, the tests fail.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fabric;
mod lab;
mod outside;
mod pods;
mod services;
