//! Whole clusters, as their users see them: `gantry up`, images, kubectl, and nothing left behind.

mod harness;
mod host;
mod images;
mod life;
mod nginx;
mod nodes;
mod services;
mod survival;
mod typed;
mod volumes;
