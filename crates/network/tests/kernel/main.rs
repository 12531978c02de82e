//! The network on the real kernel, in namespaces that each test makes for itself. Needs root; without it, the tests fail.

mod fabric;
mod lab;
mod pods;
mod services;
