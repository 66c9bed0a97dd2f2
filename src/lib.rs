//! Concurrent calls with the same key share one execution.
//!
//! A token, a page or a query result is expensive; a thousand requests for it arrive together; the
//! cache is cold or has just expired. With a [`Group`] in front the backend sees one.
//!
#![cfg_attr(not(loom), doc = "```")]
#![cfg_attr(loom, doc = "```text")]
//! use shardflight::Group;
//! use std::{sync::atomic::{AtomicUsize, Ordering::Relaxed}, thread};
//!
//! let reports: Group<String, String> = Group::new();
//! let executions = AtomicUsize::new(0);
//! thread::scope(|scope| {
//!     for _ in 0..8 {
//!         scope.spawn(|| reports.run_blocking("eu-west", || {
//!             executions.fetch_add(1, Relaxed);
//!             thread::sleep(std::time::Duration::from_millis(50)); // the expensive query
//!             "the report".to_owned()
//!         }));
//!     }
//! });
//! # assert!(executions.load(Relaxed) < 8);
//! ```
//!
//! Async callers use [`Group::run`], threads [`Group::run_blocking`], and they may meet on one key.
//! [`Group::call`] has options and returns a full answer. No runtime is needed. The [`guide`] helps to
//! choose among the other calls, and says what happens when things go wrong.
//!
//! A call that nobody joins takes no lock: it costs one compare-exchange to begin and one to end,
//! and allocates nothing but its key ([`guide`](guide#what-allocates)). Calls that meet are spread over independently locked shards,
//! and such a lock is held for the few instructions of a look-up, never across the caller's work or
//! an await.
//!
//! # When not to use it
//!
//! - To keep answers: a group caches nothing. Put a cache in front, like that of the feature `moka`; the group is
//!   for its misses.
//! - For work with effects that each caller wants for itself: followers' work never runs.
//! - Across processes: a group lives in one.
//!
//! # Guarantees
//!
//! They are numbered, and so are their tests; those with a model are checked with
//! [loom](https://docs.rs/loom) over every interleaving up to a bound.
//!
//! | | |
//! |---|---|
//! | G1 | At most one execution of a key's work runs at any moment, unless a flight was forgotten (model) |
//! | G2 | Every caller of a flight gets the value of its one completed execution (model) |
//! | G3 | Once any caller has the value, no later call can join the flight (model) |
//! | G4 | Nothing is left in the table once no call is in progress (model) |
//! | G5 | A leader removes its own flight, never a newer one of the same key (model) |
//! | G6 | Who waits is woken, also if the one chosen to take over is dropped itself (model) |
//! | G7 | A dropped follower affects nobody; a dropped leader is followed by one that takes over (model) |
//! | G8 | Panics reach every caller, run the panic hook once, and the next call starts afresh (model) |
//! | G9 | The caller's code never runs under a lock of the table, but a key's `Eq` and `ToOwned` |
//! | G10 | Slow work on one key never delays another, even if their hashes are equal |
//! | G11 | An unshared call clones nothing, and allocates nothing beyond the owned key unless the table has to grow; no follower but the first of a flight allocates |
//! | G12 | Any runtime, none, and plain threads, also mixed on one key |
//! | G13 | Work that calls its own group with its own key gets an error instead of hanging |
//!
//! # Features
//!
//! - `tokio`: `Group::spawn` and `Call::spawn`, for calls that run as tasks of their own; the timer that
//!   [`Call::timeout`] needs in async code; and work that is
//!   [relayed](Call::relay) keeps the tokio runtime that it was begun in. All else works without it, with
//!   tokio too; [`Call::task`] is for the executors of others.
//! - `metrics`: `MetricsObserver`, which reports a group's flights to the [metrics](https://docs.rs/metrics)
//!   crate's recorder.
//! - `tracing`: `TracingObserver`, which gives each led flight a span of the
//!   [tracing](https://docs.rs/tracing) crate, with the leader's work inside.
//! - `tower`: the module `tower`, HTTP middleware that collapses identical requests, for axum, hyper, tonic
//!   and whatever else speaks [tower](https://docs.rs/tower). Brings `tokio`.
//! - `axum`: the same in front of axum's nested routers. Brings `tower`.
//! - `moka`: the module `cache`, a [moka](https://docs.rs/moka) cache whose misses share their loads, and whose
//!   invalidations are final.
//!
//! [`Stats`] and every other [`Observer`] need no feature. A group has none unless it is given one.

// Doctests cannot run against a library built for loom; see build.rs.
#![cfg(not(all(loom, doctest)))]

#[cfg(any(feature = "moka", loom))]
pub mod cache;
mod call;
mod entry;
mod error;
mod flight;
mod group;
pub mod guide;
mod in_flight;
mod many;
#[cfg(feature = "metrics")]
mod metrics;
mod observer;
mod outcome;
mod panics;
mod spawn;
mod sync;
mod table;
#[cfg(feature = "tokio")]
mod tokio;
#[cfg(feature = "tower")]
pub mod tower;
#[cfg(feature = "tracing")]
mod tracing;

#[cfg(feature = "metrics")]
pub use crate::metrics::MetricsObserver;
#[cfg(feature = "tracing")]
pub use crate::tracing::TracingObserver;
pub use crate::{
    call::Call,
    entry::{Entry, Lead},
    error::{CallError, Panicked},
    flight::{FlightId, Handle, state::OnCancel},
    group::{Group, GroupBuilder},
    in_flight::InFlight,
    observer::{Answered, Observer, Stats, StatsSnapshot},
    outcome::{Outcome, Role},
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
