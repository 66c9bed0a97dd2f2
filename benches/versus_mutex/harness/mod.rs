//! How it is measured: command line, rounds, table, threads on their cores, futures in their slots.

pub(crate) mod count_alloc;
pub(crate) mod options;
pub(crate) mod pin;
pub(crate) mod sample;
pub(crate) mod slots;
pub(crate) mod table;
pub(crate) mod threads;
