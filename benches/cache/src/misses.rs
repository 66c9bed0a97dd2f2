//! What is not there, is loaded at once, and evicts something else: keys that are ever new.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use kit::{
    rounds::{Parts, timed},
    threads::race,
};

use crate::{
    Options,
    caches::{
        Apart, Async, Blocking, Cache, MokaAgain, MokaFuture, MokaGet, MokaGetWith, Present,
        QuickAsync, QuickGet, QuickGetOrInsertWith, Settings, Times, look,
    },
    table::{self, Contender, Extent},
    types::{Key, Value},
};

pub(crate) const CAPACITY: u64 = 1_000;

struct Case {
    threads: usize,
}

/// The keys from here on are new.
pub(crate) const FIRST: u64 = 2 * CAPACITY;

/// A cache that is full.
pub(crate) fn full<K: Key, V: Value, C: Cache<K, V>>(settings: &Settings) -> Apart<C> {
    let cache = Apart(C::fresh(settings));
    for number in 0..FIRST {
        miss::<K, V, C>(&cache, number);
    }
    cache
}

pub(crate) fn miss<K: Key, V: Value, C: Cache<K, V>>(cache: &C, number: u64) -> u64 {
    K::with(number, |key| look::<K, V, C>(cache, key, number)).number()
}

fn sample<K: Key, V: Value, C: Cache<K, V>>(case: &Case, ops: u64) -> Parts {
    let cache = full::<K, V, C>(&Settings::new(CAPACITY, Times::None));
    // Not the numbers of the calls, some of which the warm-up has had.
    let next = [0, 1].map(|who| Apart(AtomicU64::new(FIRST + (who << 32))));
    let one = |who: usize| {
        let number = next[who].load(Relaxed);
        next[who].store(number + 1, Relaxed);
        miss::<K, V, C>(&cache, number)
    };
    match case.threads {
        1 => timed(ops, |_| one(0)),
        threads => race(threads, ops, |who, _| one(who)),
    }
}

fn contenders<K: Key, V: Value>() -> Vec<Contender<Case>> {
    fn one<K: Key, V: Value, C: Cache<K, V>>() -> Contender<Case> {
        Contender { name: C::NAME, sample: sample::<K, V, C> }
    }
    vec![
        one::<K, V, MokaGet<K, V>>(),
        one::<K, V, MokaAgain<K, V>>(),
        one::<K, V, Blocking<K, V>>(),
        one::<K, V, Async<K, V>>(),
        one::<K, V, Present<K, V>>(),
        one::<K, V, MokaGetWith<K, V>>(),
        one::<K, V, MokaFuture<K, V>>(),
        one::<K, V, QuickGet<K, V>>(),
        one::<K, V, QuickGetOrInsertWith<K, V>>(),
        one::<K, V, QuickAsync<K, V>>(),
    ]
}

pub(crate) fn print(options: &Options) {
    let extent = match options.short {
        false => Extent { rounds: 100, ops: 4_000 },
        true => Extent { rounds: 3, ops: 2_000 },
    };
    for threads in [1, 2] {
        let plural = if threads == 1 { "" } else { "s" };
        let print = |types: &str, contenders: &[_]| {
            let name = format!("miss, {types}; {threads} thread{plural}");
            table::print(options, &name, &Case { threads }, contenders, &["miss"], extent);
        };
        print("u64 to u64", &contenders::<u64, u64>());
        print("String to Arc<str>", &contenders::<String, Arc<str>>());
    }
}
