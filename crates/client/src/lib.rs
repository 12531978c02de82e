//! The one way a component talks to the API: a trait with an identity, over HTTPS or in process, and what every component
//! builds on it: informers, queues, election.
//!
//! A client never sees the store. What it is allowed to do is decided by the API server, in process as much as over HTTPS.

mod api;
mod https;
pub mod informer;
pub mod queue;

pub use api::{Api, DeleteOptions, Params, PatchType, Preconditions, Propagation, Request, Response, Verb, Watch, WatchEvent, WatchStream};
pub use https::HttpsApi;
pub use informer::{Change, Informer, Item};
pub use queue::Queue;
