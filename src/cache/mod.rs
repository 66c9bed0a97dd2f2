//! Feature `moka`: a cache in front, whose misses share their loads, and whose invalidations are final.
//!
//! ```
//! use shardflight::cache::ReadThrough;
//! use std::{sync::Arc, time::Duration};
//!
//! # futures_lite::future::block_on(async {
//! async fn render(url: &str) -> Result<Arc<str>, Arc<std::io::Error>> {
//!     Ok(format!("the page at {url}").into()) // the expensive query
//! }
//!
//! let pages: ReadThrough<String, Arc<str>, Arc<std::io::Error>> = ReadThrough::builder()
//!     .max_capacity(10_000)
//!     .time_to_live(Duration::from_secs(60))
//!     .build();
//! let url = "https://example.org/";
//! let page = pages.get(url, render(url)).await?; // a thousand at once: one query
//! # assert_eq!(&*page, "the page at https://example.org/");
//! pages.invalidate(url); // it has changed: nobody who asks from now on gets the old one
//! # Ok::<(), Arc<std::io::Error>>(()) }).unwrap();
//! ```
//!
//! A [`ReadThrough`] is [moka](https://docs.rs/moka), which keeps the values, and a [`Group`](crate::Group), which
//! shares the loads of those that are not there. Eviction, capacity, weights and listeners are moka's; so is the
//! price of a hit. What is here is what has to happen between the two.
//!
//! # What it promises
//!
//! 1. *One load.* Calls for a key that is not there share one load, as by [`Group::run`](crate::Group::run), with all its
//!    guarantees: async and blocking callers alike, single ones and [batches](ReadThrough::get_many), whoever is
//!    cancelled, whatever panics. A value is in the cache before anybody gets it, and who begins to load
//!    looks once more, so that no load follows another without need.
//! 2. *Invalidations are final.* After [`invalidate`](ReadThrough::invalidate) or
//!    [`invalidate_all`](ReadThrough::invalidate_all) has returned, no call that begins then gets a value whose load
//!    began before: not one that is stored later, not one that is still being loaded, not by a refresh in
//!    the background, not instead of an error. The same goes for [`insert`](ReadThrough::insert), for what
//!    is older than the value inserted. Models under loom check it, over the code that ships.
//! 3. *Errors are not kept*, unless for a [`negative_ttl`](ReadThroughBuilder::negative_ttl). All callers of a
//!    load get its error itself. Nor is a panic: the next call loads anew.
//! 4. *Old values only on request.* Without [`soft_ttl`](ReadThroughBuilder::soft_ttl),
//!    [`early_refresh`](ReadThroughBuilder::early_refresh) and
//!    [`stale_if_error`](ReadThroughBuilder::stale_if_error) a value is good until its time to live ends, and then it
//!    is gone. With them it is used longer, and never beyond what they say.
//! 5. *The user's code never runs under a lock of this crate*: neither loads, nor a key's `Hash` or `Drop`, nor the
//!    `Clone` or `Drop` of a value or an error, nor moka's listener and weigher. There is one exception, as in every
//!    map: a key's `Eq`, `Borrow` and `ToOwned` (which is `Clone` for most keys) may run under one, and must not use
//!    the cache. (moka's own locks: see [below](#limits).)
//!
//! # Who waits for a refresh
//!
//! A value that has reached its `soft_ttl`, or is drawn by `early_refresh`, is *due*: good, but to be loaded anew.
//!
//! | call | the one that begins the refresh | all others meanwhile |
//! |---|---|---|
//! | [`get`](ReadThrough::get), [`get_blocking`](ReadThrough::get_blocking), [`get_many`](ReadThrough::get_many) | waits for it, as the load is its own | get the old value at once |
//! | `get_spawning` (feature `tokio`) | gets the old value at once, the load runs as a task | get the old value at once |
//! | [`get_if_present`](ReadThrough::get_if_present) | never begins one | get the old value at once |
//!
//! If a refresh fails, the old value stays, and all who waited get it. Then each further call begins another, one
//! at a time for each key; with a `negative_ttl` none does for that time.
//!
//! A fleet of servers that has loaded a value at the same moment, after an invalidation or a restart, would refresh
//! it at the same moment, again and again. [`EarlyRefresh`] draws another moment for each: evenly
//! (`Jitter`), or by XFetch, which needs no setting because it goes by how long the load took.
//!
//! # A token that says when it ends
//!
//! The classic of singleflight texts: a token for calls to other services, dear to get, of use for an hour, and
//! the server that issues it says for how long. [`time_to_live_of`](ReadThroughBuilder::time_to_live_of) reads
//! that from the value. The program `tokens` among the repository's examples has a thousand tasks that need some.
//!
#![cfg_attr(feature = "tokio", doc = "```")]
#![cfg_attr(not(feature = "tokio"), doc = "```text")]
//! use shardflight::cache::{EarlyRefresh, ReadThrough};
//! use std::{sync::Arc, time::Duration};
//!
//! #[derive(Clone)]
//! struct Token {
//!     secret: Arc<str>,
//!     expires_in: Duration,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let tokens: ReadThrough<String, Token, String> = ReadThrough::builder()
//!     .max_capacity(1_000)
//!     // None is used in its last half minute: the call that it is for takes time, too.
//!     .time_to_live_of(|_audience, token: &Token| {
//!         Some(token.expires_in.saturating_sub(Duration::from_secs(30)))
//!     })
//!     // The next one is fetched when two thirds of its time are over, or a little before: at another moment
//!     // by each server.
//!     .soft_ttl_of(|_audience, token: &Token| Some(token.expires_in * 2 / 3))
//!     .early_refresh(EarlyRefresh::Jitter(Duration::from_secs(300)))
//!     // If that fails, or there is none, it is tried again every second, and not by every request.
//!     .negative_ttl(Duration::from_secs(1))
//!     .build();
//!
//! async fn fetch_token(audience: &'static str) -> Result<Token, String> {
//!     Ok(Token { secret: audience.into(), expires_in: Duration::from_secs(3_600) })
//! }
//! let token = tokens.get_spawning("billing", fetch_token("billing")).await.unwrap();
//! assert_eq!(&*token.secret, "billing");
//! tokens.invalidate("billing"); // it was refused: revoked
//! # }
//! ```
//!
//! # Next to moka alone
//!
//! moka coalesces misses itself. What it does in version 0.12.16, by its documentation and source, and what this
//! does:
//!
//! | | moka's `get_with`, `try_get_with` | `ReadThrough` |
//! |---|---|---|
//! | a hit | 4 % more than moka's `get`; async 46 % | 5 % more; async 6 %; the clock is read once more where values become stale, 37 % (`cargo run --release -p cache-load` in the repository, for `u64` on one thread) |
//! | an invalidation while a load is under way | the load's value is inserted afterwards, and stays. (So in other caches: [Guava][guava], [Caffeine's refresh][caffeine]) | the load's value is not kept, and not joined |
//! | `invalidate_all` | compares dates: what was inserted at the same tick of the clock stays | compares an order of loads |
//! | `insert` while a load is under way | the load's value replaces it | the load's value is not kept |
//! | async and blocking callers | a cache of its own for each | one cache, one load |
//! | the entry points | `get_with`, `optionally_get_with` and `try_get_with` of each error type run beside each other on one key | all share |
//! | the caller that loads is cancelled | another begins anew; a waiter that has seen 200 go panics | another takes over; no limit |
//! | the load panics | the next one tries; a waiter that has seen 200 fail panics | all who wait panic with its text; the next call tries |
//! | the load fails | all who wait get an `Arc` of the error; not kept | all who wait get the error; kept for a `negative_ttl` |
//! | stale while it is refreshed | no ([asked for][467], [again][526]) | `soft_ttl`, `early_refresh`, `get_spawning` |
//! | stale if the load fails | no | `stale_if_error` |
//! | each value's own time | `Expiry`, which may depend on reads, too | `time_to_live_of`, `soft_ttl_of`; of moka's `Expiry` any, if nothing else here needs it |
//! | many keys at once | no | `get_many` |
//! | a waiter that is woken and not polled | async: delays those behind it | delays nobody |
//! | a load that asks for its own key | waits for ever | panics, and says so |
//! | numbers | entries and weight | hits, stale hits, misses, loads, failures, refreshes, waits; [`Stats`](crate::Stats), `metrics` |
//! | conditional inserts, `and_compute_with` | yes | on [`moka`](ReadThrough::moka), where invalidations are not final |
//!
//! **moka alone is enough** if values do not change but only age, or are never invalidated while they might be
//! loading; if nobody has to wait less than a load takes; and if an error may be tried again at once. It is one
//! dependency less.
//!
//! # Limits
//!
//! - It is a cache of this process. An invalidation elsewhere has to be told here.
//! - A value can be as old as its load was long, plus its time to live. What a load read before a write, whose
//!   invalidation never comes, is kept: invalidate after each write, also if that may have failed.
//! - Values that are inserted, or loaded while something else is inserted or invalidated, may not be kept:
//!   what is promised is that no old one is.
//! - moka calls an eviction listener while the key is locked: it must not use the cache with that key. And a write to
//!   moka may do a part of its housekeeping, or wait for it, for some microseconds to milliseconds.
//! - Loads of different keys whose hashes are equal in all 64 bits are not kept if they overlap.
//! - `Hash` or `Eq` of a key that panics within the store while an invalidation races a load leaves a look-up slower,
//!   by a lock, until the cache is dropped. Nothing else becomes of it.
//!
//! [guava]: https://github.com/google/guava/issues/1881
//! [caffeine]: https://github.com/ben-manes/caffeine/issues/193
//! [467]: https://github.com/moka-rs/moka/issues/467
//! [526]: https://github.com/moka-rs/moka/issues/526

#[cfg(loom)]
mod model;
#[cfg(not(loom))]
mod moka;

#[cfg(loom)]
use self::model as backend;
#[cfg(not(loom))]
use self::moka as backend;

mod builder;
mod clock;
mod kept;
mod lifetimes;
mod loads;
mod many;
mod read_through;
#[cfg(feature = "tokio")]
mod spawning;

#[cfg(not(loom))]
pub use self::moka::Configured;
pub use self::{
    backend::Settings, builder::ReadThroughBuilder, kept::Kept, lifetimes::EarlyRefresh,
    read_through::ReadThrough,
};
