//! Which call to use, and what happens when things go wrong. A page of documentation; there is no code
//! here.
//!
//! Below, `V` is the group's value, the *leader* is the caller whose work runs, and *followers* are
//! those that wait for it.
//!
//! # Which call
//!
//! | I have | and want | use |
//! |---|---|---|
//! | a future | its value, once for all who ask meanwhile | [`run`](crate::Group::run) |
//! | a closure, on a thread | the same | [`run_blocking`](crate::Group::run_blocking) |
//! | either | to know my role, errors instead of panics, options | [`call`](crate::Group::call), then `run` or `run_blocking` |
//! | work too dear to begin again when its caller goes | that another caller goes on with it | [`relay`](crate::Call::relay) |
//! | work that must finish even if all callers go | a handle to its value | `spawn` (feature `tokio`), or [`task`](crate::Call::task) for any executor |
//! | an actor, a callback, a stream | to say myself when the value is there | [`lead_or_join`](crate::Group::lead_or_join) |
//! | no work | the value of what runs, if anything does | [`join`](crate::Group::join) |
//! | many keys and one query for all of them | each key shared by itself | [`run_many`](crate::Group::run_many) |
//! | values that may be kept for a while | a cache in front | `cache::ReadThrough` (feature `moka`) |
//!
//! If in doubt, `run`. When its caller is cancelled the work is dropped and a follower begins its own:
//! right for reads that take milliseconds. `relay` is for what takes seconds, and needs
//! `Send + 'static` work and a `Box`. `spawn` costs a task, and goes on when nobody wants the value any
//! more, unless it is to be [aborted](crate::Call::abort_when_abandoned) then. A relay ends with its
//! last caller, and that is the difference between the two.
//!
//! The same half-done work, in the hands of the next:
//!
//! ```
//! use futures_lite::future;
//! use shardflight::Group;
//!
//! # future::block_on(async {
//! let group: Group<&str, u32> = Group::new();
//! let export = async { future::yield_now().await; 1 };
//! let mut first = Box::pin(group.call(&"export").relay(export));
//! assert!(future::poll_once(&mut first).await.is_none()); // half done
//! let second = group.call(&"export").relay(async { unreachable!("never begun") });
//! let mut second = Box::pin(second);
//! assert!(future::poll_once(&mut second).await.is_none());
//! drop(first); // its client has gone
//! assert_eq!(second.await.unwrap().value, 1);
//! # });
//! ```
//!
//! Work that nobody has to wait for:
//!
#![cfg_attr(feature = "tokio", doc = "```")]
#![cfg_attr(not(feature = "tokio"), doc = "```text")]
//! use shardflight::Group;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let group: Group<String, u32> = Group::new();
//! drop(group.spawn("warm-up".to_owned(), async { 7 }));
//! let running = group.join("warm-up").expect("in flight");
//! assert_eq!(running.await, Ok(7));
//! # }
//! ```
//!
//! # What happens on a timeout
//!
//! - *A follower's* runtime timeout drops its call. Nobody else notices.
//! - *The leader's* drops its work (with `relay`: hands it over); one of the followers takes over. With
//!   `run` that work starts from the beginning, so if every caller has less time than the work needs,
//!   nobody is ever answered: use `relay` or `spawn`.
//! - *Around a handle* it drops the handle; the work goes on.
//! - *The call's own* [`timeout`](crate::Call::timeout) limits how long it waits for others, in tasks and
//!   threads alike, and leaves its own work alone: a leader keeps its lead. It drops nothing that anybody
//!   else still wants. In async code it needs the feature `tokio`.
//! - *Threads* have that, and [`wait_timeout`](crate::Handle::wait_timeout) for handles. A thread's own work
//!   cannot be interrupted.
//!
//! ```
//! use shardflight::Group;
//! use std::time::Duration;
//! use tokio::time::{sleep, timeout};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let group: Group<&str, u32> = Group::new();
//! let short = Duration::from_millis(5);
//! // Each caller has less time than the work takes. The second goes on where the first stopped.
//! let work = || async { sleep(Duration::from_millis(20)).await; 1 };
//! let first = timeout(short, group.call(&"key").relay(work()));
//! let second = group.call(&"key").relay(work());
//! let (first, second) = tokio::join!(first, second);
//! assert!(first.is_err());
//! assert_eq!(second.unwrap().value, 1);
//! # }
//! ```
//!
//! # How old can an answer be?
//!
//! Never older than your call, in this sense: you never get a value that anybody had before you called.
//! But the work may have *begun* before, and may have read what you have written since. If you have just
//! written, ask for a [`fresh`](crate::Call::fresh) execution, which begins after your call. However many
//! fresh callers there are, at most one execution runs and one waits for it to end.
//!
//! [`forget`](crate::Group::forget) does not wait: the next call starts at once, beside the old
//! execution, whose callers still get its value. So `fresh` is for those who wrote, and `forget` for
//! those who know that what runs is useless or stuck.
//!
//! ```
//! use futures_lite::future;
//! use shardflight::Group;
//! use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
//!
//! # future::block_on(async {
//! let (group, row) = (Group::<&str, u32>::new(), AtomicU32::new(1));
//! let read = || async {
//!     let read = row.load(SeqCst);
//!     future::yield_now().await;
//!     read
//! };
//! let mut before = Box::pin(group.run(&"row", read()));
//! assert!(future::poll_once(&mut before).await.is_none()); // it has read 1
//! row.store(2, SeqCst);
//! let after = group.call(&"row").fresh().run(read());
//! let (before, after) = future::zip(before, after).await;
//! assert_eq!((before, after.unwrap().value), (1, 2));
//! # });
//! ```
//!
//! # Limits
//!
//! | Question | Answer |
//! |---|---|
//! | One stuck leader holds its key | [`max_age`](crate::Call::max_age): who comes later than that starts anew. Those who follow it already go on waiting; their own timeouts end that |
//! | It is stuck now, and no call says `max_age` | [`forget`](crate::Group::forget) the key |
//! | Ten thousand requests pile up behind one key | [`max_followers`](crate::Call::max_followers): more are refused at once with [`TooManyFollowers`](crate::CallError::TooManyFollowers) |
//! | A call waits too long for others | [`timeout`](crate::Call::timeout) |
//! | How many keys are in flight? | [`len`](crate::Group::len) |
//! | Too many *keys* at once | no limit of the group: bound the work, by a semaphore or a connection pool |
//!
//! Each belongs to the call that states it, so let all callers of a key state the same.
//!
//! ```
//! use shardflight::{CallError, Group};
//! use std::time::Duration;
//!
//! # futures_lite::future::block_on(async {
//! let pages: Group<String, String> = Group::new();
//! let call = pages.call("/").max_followers(1_000).max_age(Duration::from_secs(30));
//! match call.run(async { "the page".to_owned() }).await {
//!     Ok(outcome) => println!("{}", outcome.value),
//!     Err(CallError::TooManyFollowers) => println!("503, come back later"),
//!     Err(error) => println!("500, {error}"),
//! }
//! # });
//! ```
//!
//! # Errors and panics
//!
//! An error of the work is a value: let `V` be a `Result<T, E>`, with `E` in an
//! [`Arc`](std::sync::Arc) if it is not `Clone`. All callers of the flight get that error, nobody tries
//! again in their stead, and nothing is kept: the next call runs.
//!
//! A [`CallError`](crate::CallError) says why there is no value at all:
//!
//! | | who gets it | what to do |
//! |---|---|---|
//! | [`Panicked`](crate::CallError::Panicked) | followers and handles, with the text of the panic; the leader itself unwinds | as with any panic; the key works again |
//! | [`Cancelled`](crate::CallError::Cancelled) | callers with [`OnCancel::Fail`](crate::OnCancel::Fail), handles when nobody is left to take over, and those of calls with a timeout when the task was dropped | call again, with work |
//! | [`TimedOut`](crate::CallError::TimedOut) | callers that set a timeout, and handles of such calls | the work goes on; give up or wait again |
//! | [`TooManyFollowers`](crate::CallError::TooManyFollowers) | callers that set the limit | shed load |
//! | [`Reentrant`](crate::CallError::Reentrant) | work that calls its own key, or awaits such a call | a bug: it would have waited for itself |
//!
//! `run`, `run_blocking` and `run_many` have no room for these: they panic, with the leader's text or
//! the error's. The panic hook, which prints the message and the backtrace, runs once for each panic of the
//! work: followers resume the leader's panic without the hook, with its text in a `String`. What cannot be seen is work that waits for its own key through *another* task or thread;
//! that hangs, as it would with a mutex.
//!
//! # Blocking callers, and async code
//!
//! [`run_blocking`](crate::Group::run_blocking) and [`wait`](crate::Handle::wait) block the thread. From
//! async code that is a deadlock to come: the thread may be the one that was to poll the leader. There,
//! `run` with the work in `spawn_blocking`, so that only the work occupies a thread:
//!
//! ```
//! use shardflight::Group;
//! use tokio::task::spawn_blocking;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let hashes: Group<String, usize> = Group::new();
//! let work = async { spawn_blocking(|| "password".len()).await.expect("no panic") };
//! assert_eq!(hashes.run("user", work).await, 8);
//! # }
//! ```
//!
//! What `spawn_blocking` has begun goes on when the call is dropped, and whoever takes over begins
//! another beside it. Where that matters, `spawn` or `task` keep the flight until it has ended.
//!
//! On plain threads, and in `spawn_blocking` itself, blocking calls are at home. They share flights with
//! async callers; a thread that takes over a relay drives it to its end. But if the leader's work needs a
//! thread of the same pool, as many blocked followers as the pool has threads leave it none:
//! [`max_followers`](crate::Call::max_followers), or `run`, which needs no thread to wait.
//!
//! # Work-stealing pools
//!
//! A thread of rayon's pool that waits for a part of its job runs other jobs meanwhile, on top of the same
//! stack. A job that waits for a flight there can wait for what lies below it:
//!
//! - The flight's own work lies below. Then the job gets [`Reentrant`](crate::CallError::Reentrant), although it
//!   is not a part of that work.
//! - A part of that work lies below, which this thread has stolen. Nothing on the thread shows that, and the
//!   job hangs.
//!
//! So no job of such a pool must wait for a flight. This includes [`Handle::wait`](crate::Handle::wait). Three
//! ways are safe:
//!
//! - *Call on plain threads*, and send only the work into the pool:
//!   `group.run_blocking(&key, || pool.install(work))`. The work must not call the group.
//! - *Lead or leave.* A job leads, or takes a handle out of the pool. The handles are waited for outside:
//!
//! ```
//! use rayon::prelude::*;
//! use shardflight::{Entry, Group};
//!
//! let group: Group<u64, u64> = Group::new();
//! let keys = [1, 2, 1, 3, 2];
//! // No job waits here.
//! let met: Vec<_> = keys
//!     .par_iter()
//!     .map(|key| match group.lead_or_join(key) {
//!         Entry::Lead(lead) => {
//!             let handle = lead.handle();
//!             lead.land(key * key);
//!             handle
//!         }
//!         Entry::Join(handle) => handle,
//!     })
//!     .collect();
//! // No job of the pool, so it may wait.
//! let squares: Vec<_> = met.into_iter().map(|handle| handle.wait()).collect();
//! assert_eq!(squares, [1, 4, 1, 9, 4].map(Ok));
//! ```
//!
//! - *Lead or run alone.* With [`max_followers(0)`](crate::Call::max_followers) a call never follows. A job that
//!   is refused runs its work unshared:
//!
//! ```
//! use shardflight::{CallError, Group};
//!
//! fn square(group: &Group<u64, u64>, key: u64) -> u64 {
//!     match group.call(&key).max_followers(0).run_blocking(|| key * key) {
//!         Ok(outcome) => outcome.value,
//!         Err(CallError::TooManyFollowers | CallError::Reentrant) => key * key,
//!         Err(error) => unreachable!("a leader gets no other error: {error}"),
//!     }
//! }
//!
//! let group: Group<u64, u64> = Group::new();
//! assert_eq!(rayon::join(|| square(&group, 3), || square(&group, 3)), (9, 9));
//! ```
//!
//! The same holds for async code wherever one task is polled on the stack of another:
//!
//! - *An executor that runs inside work*: the work blocks on an executor that polls other tasks meanwhile, for
//!   example `block_on(executor.run(future))` with async-executor.
//! - *A waker that polls in place*: the work wakes a task, by a channel or a semaphore, and the waker polls it
//!   immediately instead of scheduling it.
//!
//! A call in such a task that waits for the work below it gets `Reentrant`, although its task is no part of that
//! work and could have waited. Nothing on the stack tells it from a call that the work itself awaits, which would
//! hang. [`task`](crate::Call::task) and `spawn` are safe there: nobody awaits their task, so it goes on following
//! wherever it is polled. A [handle](crate::Handle) that is polled on top of the work gets `Reentrant`, too; await
//! it in a task that is not polled there.
//!
//! # Cancellation
//!
//! To cancel is to drop the future: by a timeout, `select!`, an aborted task, a closed connection. The
//! leader's work is dropped first, then one of the followers begins its own; newcomers join the same
//! flight. A follower affects nobody when it goes. If you would rather be told than begin work that
//! somebody has given up, ask for [`OnCancel::Fail`](crate::OnCancel::Fail); but if such a caller comes
//! first, it leads like any other.
//!
//! What must not be lost with its caller belongs in its own task:
//!
//! ```
//! use shardflight::Group;
//!
//! let group: Group<String, u32> = Group::new();
//! let (task, handle) = group.call("report").task(async { 7 })?;
//! drop(handle); // its client has gone
//! let later = group.join("report").expect("in flight");
//! smol::spawn(task).detach(); // or, on a thread of its own, block_on(task)
//! assert_eq!(later.wait(), Ok(7));
//! # Ok::<(), shardflight::CallError>(())
//! ```
//!
//! # A call that is kept
//!
//! A future makes progress only while it is polled. `select!` over `&mut call` stops polling the call when
//! another branch is ready. If that branch awaits a second call of the same key, the task hangs: the second
//! call follows the first, and the first is not polled until the second returns. The group cannot see that
//! both are in one task. The same happens with `FuturesUnordered` and `buffered` streams, whose calls are not
//! polled while the body of the loop awaits something else. A caller of the key in any other task waits, too.
//!
//! Either poll both calls (`join!`), or drop the first before the second begins, or let the first run in its
//! own task, and keep its handle:
//!
#![cfg_attr(feature = "tokio", doc = "```")]
#![cfg_attr(not(feature = "tokio"), doc = "```text")]
//! use shardflight::Group;
//! use std::time::Duration;
//! use tokio::time::sleep;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let group: Group<String, u32> = Group::new();
//! let load = || async { sleep(Duration::from_secs(1)).await; 7 };
//! let mut kept = group.spawn("key".to_owned(), load()); // its task polls it
//! tokio::select! {
//!     value = &mut kept => println!("{value:?}"),
//!     () = sleep(Duration::from_millis(10)) => {
//!         assert_eq!(group.run("key", load()).await, 7); // follows, and does not hang
//!     }
//! }
//! assert_eq!(kept.await, Ok(7));
//! # }
//! ```
//!
//! # What allocates
//!
//! A call that nobody joins allocates its owned key and nothing else. It is in a *cell* of the group's table, which
//! has room for four flights. Everything else is in the *map* of one of the table's shards, which allocates when it
//! has to grow:
//!
//! | | allocations |
//! |---|---|
//! | a call that nobody joins | its owned key |
//! | the fifth key in flight in one cell, which moves the other four to the map, and later ones of that cell | at most two more when the map grows, and one for more cells if the shard has more than 16 flights in the map |
//! | the first follower of a flight, which moves its cell to the map | one for the flight, and at most two more when the map grows |
//! | every later follower | none |
//! | `lead_or_join`, `task`, `spawn` and `run_many`, whose flights are always in the map | as for the fifth key, and what they return |
//!
//! A group has at least four cells for each key of its [`capacity`](crate::GroupBuilder::capacity) and 4,096 without
//! one, so a fifth key in a cell is rare. A map does not give back its last 64 places, so these allocations
//! stop once the group has been in use.
//!
//! # "It runs twice"
//!
//! Then it is one of these: the calls did not overlap (nothing is cached); there are two groups, one made
//! for each request perhaps, instead of clones of one; the flight was forgotten, by `forget` or by
//! `max_age`; the leader was cancelled, and a follower began anew (see `relay`); the work had spawned
//! something that went on without it; or there are two processes.
//!
//! # Seeing what happens
//!
//! [`Group::in_flight`](crate::Group::in_flight) lists what is under way, with its age and followers: for
//! a debug page, or for the one who is called at night. An [`Observer`](crate::Observer) is told of every
//! step; [`Stats`](crate::Stats) counts them, and the features `metrics` and `tracing` pass them on. A
//! group without one pays nothing.
//!
//! ```
//! use shardflight::{Group, Stats};
//! use std::sync::Arc;
//!
//! let stats = Arc::new(Stats::default());
//! let group: Group<String, u32> = Group::builder().observer(stats.clone()).build();
//! assert_eq!(group.run_blocking("key", || 7), 7);
//! let seen = stats.snapshot();
//! assert_eq!((seen.led, seen.landed, seen.saved()), (1, 1, 0));
//! ```
//!
//! # Many keys
//!
//! Instead of a query for each of fifty ids, one for those that nobody else is asking for already:
//!
//! ```
//! use shardflight::Group;
//!
//! # futures_lite::future::block_on(async {
//! async fn select_where_id_in(ids: Vec<u64>) -> Vec<(u64, String)> {
//!     ids.into_iter().filter(|id| *id != 3).map(|id| (id, format!("user {id}"))).collect()
//! }
//!
//! let users: Group<u64, String> = Group::new();
//! let page = users.run_many([1, 2, 3], select_where_id_in).await;
//! assert_eq!(page[&2], "user 2");
//! assert!(!page.contains_key(&3)); // there is no such row
//! # });
//! ```
//!
//! A batch waits for the slowest of the flights it joined. If `V` is a `Result`, let `load` return the
//! error for each of its keys: a key left out counts as abandoned, and whoever follows it runs its own
//! work.
//!
//! # Coming from
//!
//! What the others do is by their documentation and source, in the versions named.
//!
//! | There | here |
//! |---|---|
//! | **Go `x/sync` singleflight** | |
//! | `g.Do(key, fn)` | [`run`](crate::Group::run), [`run_blocking`](crate::Group::run_blocking) |
//! | `g.DoChan(key, fn)` | `spawn`, or [`task`](crate::Call::task). A panic of `fn` there ends the process; here handles get [`Panicked`](crate::CallError::Panicked) |
//! | `shared` | [`Outcome::is_shared`](crate::Outcome::is_shared) |
//! | `g.Forget(key)` | [`forget`](crate::Group::forget) |
//! | `select` on `DoChan` and `ctx.Done()` | the runtime's timeout around a handle: there as here the work goes on |
//! | **moka 0.12** | |
//! | `cache.get_with(key, init)` | [`run`](crate::Group::run), which keeps nothing afterwards. There a waiter whose predecessor was cancelled or panicked runs its own `init`, and panics after 200 such retries; here all callers share a panic |
//! | `cache.try_get_with(key, init)`, with its `Result<V, Arc<E>>` | `run` with `V = Result<T, Arc<E>>`. There and here all who wait get the error, and it is not kept |
//! | a miss of a cache that has no `get_with` | look up, `run` a load that inserts, on a miss |
//! | **async_singleflight 0.6** | |
//! | `group.work(key, fut)`, with `Err(None)` in followers of an error | `run` with `V = Result<T, E>`: the error itself, in all callers |
//! | `work_no_retry`, with `LeaderDropped` | [`OnCancel::Fail`](crate::OnCancel::Fail), with [`Cancelled`](crate::CallError::Cancelled) |
//! | `UnaryGroup` | any `V` |
//! | `purge_stale` | not needed. There the value of a caller that took over stays until the next call of its key; here nothing is left behind |
//! | **tokio's `OnceCell`** | |
//! | `cell.get_or_init(f)` | `run`, if the value is *not* to be kept. There and here a waiter begins anew when `f` is cancelled; when it panics, only here all callers learn of it |
//! | a map of `OnceCell`s | a `Group`: nothing to remove, no race between the removal and the next call |
//! | recursive initialization, which deadlocks | [`Reentrant`](crate::CallError::Reentrant) |
