//! A whole one-node cluster, as its user sees it: `gantry up`, images, kubectl, and nothing left behind.

mod harness;
mod host;
mod images;
mod life;
mod nginx;
mod services;
mod survival;
mod volumes;
