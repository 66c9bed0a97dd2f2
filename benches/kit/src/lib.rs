//! What the benches share: each workload written once, for whoever is to be measured; Go's algorithm
//! and the first floors; and how it is measured: rounds, threads on their cores, futures in their
//! slots, allocations and instructions counted.

pub mod contenders;
pub mod count_alloc;
pub mod pin;
pub mod rounds;
pub mod slots;
pub mod threads;
pub mod valgrind;
pub mod workloads;
