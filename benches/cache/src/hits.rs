//! What is found: a thousand keys, or one, by one thread and by two.

use std::{hint::black_box, sync::Arc};

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

/// A power of two. What they and their values take fits into a core's own cache.
const KEYS: u64 = 1_024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    OneThread,
    /// Of two threads each has keys of its own.
    TwoThreads,
    /// Both have the same key.
    TwoThreadsOneKey,
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::OneThread => "1 thread",
            Self::TwoThreads => "2 threads",
            Self::TwoThreadsOneKey => "2 threads, one key",
        }
    }
}

struct Case {
    who: Who,
    times: Times,
}

/// A cache that has all keys, and has done what that leaves to be done.
pub(crate) fn filled<K: Key, V: Value, C: Cache<K, V>>(
    settings: &Settings,
    keys: &[K],
) -> Apart<C> {
    let cache = Apart(C::fresh(settings));
    for (number, key) in keys.iter().enumerate() {
        black_box(look::<K, V, C>(&cache, key.borrow(), number as u64));
    }
    for key in keys {
        cache.look(key.borrow(), || unreachable!("there is room for all"));
    }
    cache
}

pub(crate) fn keys<K: Key>() -> Vec<K> {
    (0..KEYS).map(K::of).collect()
}

fn sample<K: Key, V: Value, C: Cache<K, V>>(case: &Case, ops: u64) -> Parts {
    let keys = keys::<K>();
    let cache = filled::<K, V, C>(&Settings::new(10 * KEYS, case.times), &keys);
    let of = |i: u64| look::<K, V, C>(&cache, keys[i as usize].borrow(), 0).number();
    match case.who {
        Who::OneThread => timed(ops, |i| of(i % KEYS)),
        Who::TwoThreads => race(2, ops, |who, i| of(2 * i % KEYS + who as u64)),
        Who::TwoThreadsOneKey => race(2, ops, |_, _| of(0)),
    }
}

fn contenders<K: Key, V: Value>(times: Times) -> Vec<Contender<Case>> {
    fn one<K: Key, V: Value, C: Cache<K, V>>() -> (bool, Contender<Case>) {
        (C::KNOWS_TIME, Contender { name: C::NAME, sample: sample::<K, V, C> })
    }
    let all = [
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
    ];
    let takes_part = |(knows_time, _): &(bool, _)| *knows_time || times == Times::None;
    all.into_iter().filter(takes_part).map(|(_, contender)| contender).collect()
}

pub(crate) fn print(options: &Options) {
    use Times::{NegativeTtl, None, SoftTtl, Ttl, TtlAndStats, TtlOf};
    use Who::{OneThread, TwoThreads, TwoThreadsOneKey};

    let all_ways = [
        (OneThread, None),
        (OneThread, Ttl),
        (OneThread, SoftTtl),
        (OneThread, NegativeTtl),
        (OneThread, TtlOf),
        (OneThread, TtlAndStats),
        (TwoThreads, None),
        (TwoThreads, Ttl),
        (TwoThreads, TtlAndStats),
        (TwoThreadsOneKey, Ttl),
        (TwoThreadsOneKey, SoftTtl),
    ];
    let essential = [(OneThread, None), (OneThread, Ttl), (TwoThreads, Ttl)];
    print_some::<u64, u64>(options, "u64 to u64", &all_ways);
    print_some::<String, Arc<str>>(options, "String to Arc<str>", &essential);
    print_some::<u64, Arc<str>>(
        options,
        "u64 to Arc<str>",
        &[(OneThread, Ttl), (TwoThreadsOneKey, Ttl)],
    );
}

fn print_some<K: Key, V: Value>(options: &Options, types: &str, cases: &[(Who, Times)]) {
    let extent = match options.short {
        false => Extent { rounds: 100, ops: 20_000 },
        true => Extent { rounds: 3, ops: 10_000 },
    };
    for &(who, times) in cases {
        let name = format!("hit, {types}; {}; {}", who.name(), times.name());
        let contenders = contenders::<K, V>(times);
        table::print(options, &name, &Case { who, times }, &contenders, &["hit"], extent);
    }
}
