//! Feature `moka`: the cache in front of a group, and that its invalidations are final.

#![cfg(all(not(loom), feature = "moka"))]

#[path = "../common/mod.rs"]
mod common;

mod kit;

mod batches;
mod cancellation;
mod counting;
mod errors;
mod invalidation;
mod loading;
mod panics;
mod refreshing;
mod settings;
mod stress;
mod times;
mod user_code;
