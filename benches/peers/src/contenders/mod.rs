//! Who takes part. Each is used as its own docs advise; how is said in its file, and on the page.

mod async_singleflight;
mod asyncband;
mod floors;
mod moka;
mod once_cell_recipe;
mod quick_cache;
mod rs_singleflight;
mod shared_recipe;
mod singleflight_async;
mod uniflight;

use kit::rounds::Parts;

pub(crate) use self::{
    async_singleflight::AsyncSingleflight,
    asyncband::Asyncband,
    floors::{BareCount, BareDashMap, BareMutexMap, WorkAlone},
    moka::{Moka, MokaSync},
    once_cell_recipe::{OnceCellRecipe, OnceLockRecipe},
    quick_cache::QuickCache,
    rs_singleflight::RsSingleflight,
    shared_recipe::SharedRecipe,
    singleflight_async::SingleflightAsync,
    uniflight::Uniflight,
};

pub(crate) const OWN: &str = "shardflight";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Own,
    Go,
    Crate,
    Recipe,
}

/// What the page says of a contender.
pub(crate) struct Presented {
    pub(crate) name: &'static str,
    pub(crate) origin: Origin,
    /// The package whose version is told, if it is one.
    pub(crate) package: Option<&'static str>,
    pub(crate) used: &'static str,
    pub(crate) but: &'static str,
}

pub(crate) const PRESENTED: &[Presented] = &[
    Presented {
        name: OWN,
        origin: Origin::Own,
        package: Some("shardflight"),
        used: "`Group::run`, `Group::run_blocking`",
        but: "",
    },
    Presented {
        name: "mutex version",
        origin: Origin::Go,
        package: None,
        used: "Go's algorithm, one `Mutex<HashMap>` of `Arc`ed calls, tokio's `Notify` for tasks, \
               `Condvar` for threads (`benches/kit`)",
        but: "no lead is handed on: when a leader is dropped, everybody tries again",
    },
    Presented {
        name: "mutex version, counted",
        origin: Origin::Go,
        package: None,
        used: "the same for threads, but it calls `notify_all` only when somebody waits",
        but: "threads only",
    },
    Presented {
        name: "async_singleflight",
        origin: Origin::Crate,
        package: Some("async_singleflight"),
        used: "`UnaryGroup::work`",
        but: "async only; takes no capacity; the value of a follower that took over stays until the key's \
              next call, or `purge_stale`",
    },
    Presented {
        name: "singleflight-async",
        origin: Origin::Crate,
        package: Some("singleflight-async"),
        used: "`SingleFlight::work`, with its own hasher (std's)",
        but: "async only; takes no capacity; followers wait for an async lock, one after the other",
    },
    Presented {
        name: "rs-singleflight",
        origin: Origin::Crate,
        package: Some("rs-singleflight"),
        used: "`Group::do_call`, with its own hasher (std's)",
        but: "async only; takes no capacity",
    },
    Presented {
        name: "uniflight",
        origin: Origin::Crate,
        package: Some("uniflight"),
        used: "`Merger::execute`, for the whole process",
        but: "async only; takes no capacity; calls the closure of every follower, and serves a finished \
              value as long as one future of the flight is alive",
    },
    Presented {
        name: "asyncband",
        origin: Origin::Crate,
        package: Some("asyncband"),
        used: "`singleflight::Group::work`",
        but: "async only; takes no capacity; followers wait for a semaphore, one after the other",
    },
    Presented {
        name: "moka + invalidate",
        origin: Origin::Crate,
        package: Some("moka"),
        used: "`entry_by_ref(..).or_insert_with(..)`, then `invalidate` by who ran the work",
        but: "a cache: to keep nothing is not what it is for; async and blocking callers need a \
              cache each; async followers wait for a lock, one after the other; waiters panic after 200 \
              cancelled or panicking leaders in a row",
    },
    Presented {
        name: "quick_cache + remove",
        origin: Origin::Crate,
        package: Some("quick_cache"),
        used: "`get_value_or_guard`, then `remove` by who ran the work",
        but: "a cache: to keep nothing is not what it is for; when a leader goes, the newest waiter is next",
    },
    Presented {
        name: "`Shared` recipe",
        origin: Origin::Recipe,
        package: Some("futures-util"),
        used: "a mutex around a map of `WeakShared`; the work, boxed, removes its key at its end",
        but: "async only; the work must be `'static`; whoever is polled polls it",
    },
    Presented {
        name: "`OnceCell` recipe",
        origin: Origin::Recipe,
        package: Some("dashmap"),
        used: "a DashMap of 64 shards, of `Arc`s of tokio's `OnceCell` for tasks, or std's \
               `OnceLock` for threads; who filled it removes it",
        but: "tasks and threads need a map each",
    },
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Own,
    Peer,
    Floor,
}

pub(crate) struct Entrant {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Makes fresh state and measures about this many operations on it.
    pub(crate) sample: Box<dyn Fn(u64) -> Parts>,
}

impl Entrant {
    pub(crate) fn new(
        name: &'static str,
        kind: Kind,
        sample: impl Fn(u64) -> Parts + 'static,
    ) -> Self {
        Self { name, kind, sample: Box::new(sample) }
    }
}

/// One thing for each group that tasks can share, shardflight first: `$each` is evaluated with `$G`
/// as the group's type and `$name` as its name.
macro_rules! async_groups {
    ($K:ty, $V:ty, |$G:ident, $name:ident| $each:expr) => {
        $crate::contenders::async_groups!(@ $G, $name, $each,
            "shardflight" => shardflight::Group<$K, $V>,
            "mutex version" => kit::contenders::MutexGroup<$K, $V>,
            "async_singleflight" => $crate::contenders::AsyncSingleflight<$K, $V>,
            "singleflight-async" => $crate::contenders::SingleflightAsync<$K, $V>,
            "rs-singleflight" => $crate::contenders::RsSingleflight<$K, $V>,
            "uniflight" => $crate::contenders::Uniflight<$K, $V>,
            "asyncband" => $crate::contenders::Asyncband<$K, $V>,
            "moka + invalidate" => $crate::contenders::Moka<$K, $V>,
            "quick_cache + remove" => $crate::contenders::QuickCache<$K, $V>,
            "`Shared` recipe" => $crate::contenders::SharedRecipe<$K, $V>,
            "`OnceCell` recipe" => $crate::contenders::OnceCellRecipe<$K, $V>)
    };
    (@ $G:ident, $name:ident, $each:expr, $($text:literal => $type:ty),*) => {
        vec![$({
            type $G = $type;
            let $name = $text;
            $each
        }),*]
    };
}
pub(crate) use async_groups;

/// The same for groups that threads can share.
macro_rules! blocking_groups {
    (|$G:ident, $name:ident| $each:expr) => {
        $crate::contenders::async_groups!(@ $G, $name, $each,
            "shardflight" => shardflight::Group<u64, u64>,
            "mutex version" => kit::contenders::CondvarGroup<u64, u64, false>,
            "mutex version, counted" => kit::contenders::CondvarGroup<u64, u64, true>,
            "moka + invalidate" => $crate::contenders::MokaSync,
            "quick_cache + remove" => $crate::contenders::QuickCache<u64, u64>,
            "`OnceCell` recipe" => $crate::contenders::OnceLockRecipe)
    };
}
pub(crate) use blocking_groups;
