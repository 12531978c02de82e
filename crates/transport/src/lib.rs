//! HTTPS serving and dialling, upgrades, pools.
