//! Pod life cycle as decisions: desired and observed in, steps out; and the agent that performs them on its node.
//!
//! [`lifecycle::decide`] says what to do for a pod; one worker per pod performs it. [`Agent`] gives every pod of its node a worker, tells the
//! API that the node lives, and answers for its pods' streams. Containers outlive it: a new agent takes them up where the old one left them.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod agent;
mod build;
mod config;
mod environment;
mod files;
mod http_api;
mod images;
pub mod lifecycle;
mod logs;
mod machine;
mod probe;
mod registration;
mod shared;
mod steps;
mod streams;
mod traffic;
mod worker;

pub use agent::{Agent, AgentParts};
pub use config::AgentConfig;
pub use http_api::API_SERVER;
pub use images::StoreImages;
pub use registration::join;
pub use shared::{ImageError, Images, PodLink, PodNetwork, ReadyImage, Traffic};
pub use traffic::NodeNetwork;
