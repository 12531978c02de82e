//! Whole clusters, as their users see them: `gantry up`, images, kubectl, and nothing left behind.

mod crash;
mod harness;
mod host;
mod images;
mod inventory;
mod life;
mod nginx;
mod nodes;
#[path = "../programs/mod.rs"]
mod programs;
mod services;
mod survival;
mod typed;
mod volumes;
