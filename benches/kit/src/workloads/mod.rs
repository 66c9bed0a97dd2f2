//! The bodies of the workloads, each generic over whom it measures. Which contenders run, and how
//! often, is each program's own list.

pub mod calls;
pub mod herd;
pub mod hot_key;
pub mod in_flight;
pub mod memory;
pub mod scale;
pub mod thread_herd;
pub mod zipf;
