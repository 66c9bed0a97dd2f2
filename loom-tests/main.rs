//! The models: real groups, calls and flights, run by loom through every interleaving within a bound
//! on preemptions. `README.md` beside this file says what they prove, and which faults they caught.
//!
//! `RUSTFLAGS="--cfg loom" cargo test`
#![cfg(loom)]

mod kit;

mod abort;
mod cache;
mod cancellation;
mod cells;
mod election;
mod forget;
mod fresh;
mod growth;
mod handles;
mod landing;
mod lead;
mod limits;
mod observer;
mod panics;
mod relay;
mod takeover;
mod waiters;
