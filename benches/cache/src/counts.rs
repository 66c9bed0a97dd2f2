//! What can be counted rather than timed, and repeats to a few in a thousand: instructions and allocations of a
//! look-up that finds its value, and of one that does not.

use std::{hint::black_box, sync::Arc};

use ahash::RandomState;
use anyhow::{Context, ensure};
use kit::{count_alloc, valgrind};

use crate::{
    Options,
    caches::{
        Async, Blocking, Cache, MokaFuture, MokaGet, MokaGetWith, Present, Settings, Times, look,
    },
    hits::{filled, keys},
    misses::{CAPACITY, FIRST, full, miss},
    types::{Key, Value},
};

/// Calls of one kind by one contender.
struct Call {
    kind: &'static str,
    contender: &'static str,
    /// Makes a cache, and so many calls by way of what is given, which may count what they take.
    make: fn(u64, Count<'_>),
    bound: Option<Bound>,
}

type Count<'c> = &'c mut dyn FnMut(&mut dyn FnMut());

struct Bound {
    /// Of instructions, to bare moka's.
    ratio: f64,
    /// More than bare moka makes.
    allocations: f64,
}

/// The same in all runs.
fn settings(capacity: u64) -> Settings {
    let hasher = RandomState::with_seeds(1, 2, 3, 4);
    Settings { capacity, times: Times::Ttl, hasher }
}

fn hits<K: Key, V: Value, C: Cache<K, V>>(count: u64, counted: Count<'_>) {
    let keys = keys::<K>();
    let cache = filled::<K, V, C>(&settings(10 * keys.len() as u64), &keys);
    counted(&mut || {
        for key in keys.iter().cycle().take(count as usize) {
            black_box(look::<K, V, C>(&cache, black_box(key.borrow()), 0));
        }
    });
}

fn misses<K: Key, V: Value, C: Cache<K, V>>(count: u64, counted: Count<'_>) {
    let cache = full::<K, V, C>(&settings(CAPACITY));
    counted(&mut || {
        for number in FIRST..FIRST + count {
            black_box(miss::<K, V, C>(&cache, black_box(number)));
        }
    });
}

const HIT: &str = "hit, u64 to u64";
const HIT_STRING: &str = "hit, String to Arc<str>";
const MISS: &str = "miss, u64 to u64";
const MISS_STRING: &str = "miss, String to Arc<str>";

/// Of each kind the first one is bare moka.
fn all() -> Vec<Call> {
    fn both<K: Key, V: Value, C: Cache<K, V>>(hit: &'static str, miss: &'static str) -> [Call; 2] {
        let call =
            |kind, make| Call { kind, contender: C::NAME, make, bound: bound(kind, C::NAME) };
        [call(hit, hits::<K, V, C>), call(miss, misses::<K, V, C>)]
    }
    fn of<K: Key, V: Value>(hit: &'static str, miss: &'static str) -> Vec<Call> {
        let mut calls: Vec<_> = [
            both::<K, V, MokaGet<K, V>>(hit, miss),
            both::<K, V, Blocking<K, V>>(hit, miss),
            both::<K, V, Async<K, V>>(hit, miss),
            both::<K, V, Present<K, V>>(hit, miss),
            both::<K, V, MokaGetWith<K, V>>(hit, miss),
            both::<K, V, MokaFuture<K, V>>(hit, miss),
        ]
        .into_iter()
        .flatten()
        .collect();
        calls.sort_by_key(|call| call.kind == miss);
        calls
    }
    let mut calls = of::<u64, u64>(HIT, MISS);
    calls.extend(of::<String, Arc<str>>(HIT_STRING, MISS_STRING));
    calls
}

/// They are what was counted with rustc 1.95 and glibc 2.36, and one or two in a hundred more. Keys that are missed
/// are owned by moka and, while they are loaded, by the group.
fn bound(kind: &str, contender: &str) -> Option<Bound> {
    const BLOCKING: &str = <Blocking<u64, u64> as Cache<u64, u64>>::NAME;
    const ASYNC: &str = <Async<u64, u64> as Cache<u64, u64>>::NAME;
    let (ratio, allocations) = match (kind, contender) {
        (HIT | HIT_STRING, BLOCKING) => (1.08, 0.05),
        (HIT | HIT_STRING, ASYNC) => (1.11, 0.05),
        (MISS, BLOCKING) => (1.25, 0.05),
        (MISS, ASYNC) => (1.28, 0.05),
        (MISS_STRING, BLOCKING) => (1.27, 1.05),
        (MISS_STRING, ASYNC) => (1.30, 1.05),
        _ => return None,
    };
    Some(Bound { ratio, allocations })
}

impl Call {
    fn name(&self) -> String {
        format!("{}; {}", self.kind, self.contender)
    }

    /// Whether it is counted in the short form.
    fn is_essential(&self) -> bool {
        self.bound.is_some() || self.is_bare()
    }

    fn is_bare(&self) -> bool {
        self.contender == <MokaGet<u64, u64> as Cache<u64, u64>>::NAME
    }

    fn allocations(&self) -> f64 {
        const COUNT: u64 = 2_000;
        let mut allocations = 0;
        (self.make)(COUNT, &mut |calls| allocations = count_alloc::count(calls).allocations);
        allocations as f64 / COUNT as f64
    }
}

/// Makes so many calls of what has this name.
pub(crate) fn make(name: &str, count: u64) -> anyhow::Result<()> {
    let calls = all();
    let call = calls.iter().find(|call| call.name() == name);
    let call = call.with_context(|| format!("no call is named {name}"))?;
    (call.make)(count, &mut |calls| calls());
    Ok(())
}

/// Whether all bounds are kept.
pub(crate) fn print(options: &Options) -> anyhow::Result<bool> {
    let has_valgrind = valgrind::is_there();
    ensure!(has_valgrind || !options.check, "there is no valgrind (`apt-get install valgrind`)");
    let (mut bare, mut bare_allocations) = (f64::NAN, f64::NAN);
    let mut are_kept = true;
    let wanted = |call: &Call| {
        options.wants(&format!("counts, {}", call.kind)) && (!options.short || call.is_essential())
    };
    for call in all().into_iter().filter(wanted) {
        let (instructions, locked) = match has_valgrind {
            true => {
                let executed = valgrind::executed(&call.name())?;
                (executed.instructions, executed.locked.unwrap_or(f64::NAN))
            }
            false => (f64::NAN, f64::NAN),
        };
        let allocations = call.allocations();
        if call.is_bare() {
            (bare, bare_allocations) = (instructions, allocations);
            println!(
                "\n{:<36} {:>12} {:>6} {:>6} {:>7} {:>11}",
                format!("counts, {}", call.kind),
                "instructions",
                "more",
                "ratio",
                "locked",
                "allocations"
            );
        }
        let (more, ratio) = (instructions - bare, instructions / bare);
        let verdict = call.bound.as_ref().map_or_else(String::new, |bound| {
            let is_kept =
                ratio <= bound.ratio && allocations - bare_allocations <= bound.allocations;
            are_kept &= is_kept;
            let verdict = if is_kept { "kept" } else { "EXCEEDED" };
            format!("<= {} and {} more: {verdict}", bound.ratio, bound.allocations)
        });
        println!(
            "{:<36} {instructions:>12.0} {more:>6.0} {ratio:>6.3} {locked:>7.2} {allocations:>11.2}  {verdict}",
            call.contender,
        );
    }
    Ok(are_kept)
}
