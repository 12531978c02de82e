//! Scenarios: an expression and what it comes to.

mod scenarios;
