//! The request pipeline of the Kubernetes API: identify, authorize, decode, mutate, default and validate, admit, commit, encode.
//!
//! Everything that changes the cluster comes through [`Server`], over HTTPS or through [`Server::client`], and passes every stage
//! of the pipeline. Only this room touches the store. It never acts on its own: controllers do.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod admission;
mod aggregate;
mod authenticate;
mod authorize;
mod bootstrap;
mod call;
mod custom;
mod discovery;
mod encode;
mod fairness;
mod first;
mod health;
mod http;
mod impersonate;
mod in_process;
mod metrics;
mod node_ranges;
mod options;
mod outside;
mod path;
mod proxy;
mod server;
mod services;
mod subresource;
mod user;
mod verbs;

pub use in_process::LocalClient;
pub use server::{Config, NodeAccess, Parts, Server};
pub use user::User;
