//! Checks, releases, benchmarks and simulations of the project.

fn main() {}
