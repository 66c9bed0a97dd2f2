//! Feature `tower`: the layer in front of services, over real sockets.

#![cfg(all(not(loom), feature = "tower"))]

#[path = "../common/mod.rs"]
mod common;

mod net;

mod bodies;
mod broken;
mod contents;
mod disconnects;
mod failures;
mod grpc;
mod herds;
mod hops;
mod incremental;
mod late;
mod limits;
mod normal_forms;
mod own_headers;
mod privacy;
mod release;
mod reports;
mod requests;
mod responses;
mod retries;
mod rows;
mod services;
mod sharing;
mod trailers;
