//! Feature `tower`: the layer in front of services, over real sockets.

#![cfg(all(not(loom), feature = "tower"))]

#[path = "../common/mod.rs"]
mod common;

mod net;

mod bodies;
mod disconnects;
mod failures;
mod limits;
mod privacy;
mod release;
mod requests;
mod responses;
mod services;
mod sharing;
