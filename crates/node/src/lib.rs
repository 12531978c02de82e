//! Pod life cycle as decisions: desired and observed in, steps out; and the agent that performs them on its node.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod lifecycle;
