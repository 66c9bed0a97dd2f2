//! Feature `tower`: the layer in front of services, over real sockets.

#![cfg(all(not(loom), feature = "tower"))]

#[path = "../common/mod.rs"]
mod common;

mod net;

mod bodies;
mod disconnects;
mod failures;
mod herds;
mod late;
mod limits;
mod own_headers;
mod privacy;
mod release;
mod reports;
mod requests;
mod responses;
mod retries;
mod services;
mod sharing;
