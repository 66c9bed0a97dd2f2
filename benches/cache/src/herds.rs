//! Many who want the same missing key: by hand in phases, as tasks on tokio, and as threads.

mod contenders;

use kit::{
    contenders::{AsyncGroup, BlockingGroup},
    workloads::{herd, thread_herd},
};
use shardflight::cache::ReadThrough;

use self::contenders::{MokaFutureHerd, MokaHerd, QuickHerd, Renewed};
use crate::{
    Options,
    table::{self, Contender, Extent},
};

const MOKA: &str = "moka future get_with";
const MOKA_BLOCKING: &str = "moka get_with";
const AGAIN: &str = "the same, again: the noise";
const QUICK: &str = "quick_cache get_or_insert_async";
const QUICK_BLOCKING: &str = "quick_cache get_or_insert_with";
const OURS: &str = "ReadThrough get";
const OURS_BLOCKING: &str = "ReadThrough get_blocking";

/// Followers.
struct Size(u64);

fn in_phases() -> Vec<Contender<Size>> {
    fn one<G: AsyncGroup<u64>>(name: &'static str) -> Contender<Size> {
        Contender { name, sample: |&Size(size), ops| herd::phases::<G>(size, ops.max(size)) }
    }
    vec![
        one::<Renewed<MokaFutureHerd>>(MOKA),
        one::<Renewed<MokaFutureHerd>>(AGAIN),
        one::<Renewed<ReadThrough<u64, u64, ()>>>(OURS),
        one::<Renewed<QuickHerd>>(QUICK),
    ]
}

fn on_tokio() -> Vec<Contender<Size>> {
    fn one<G: AsyncGroup<u64>>(name: &'static str) -> Contender<Size> {
        Contender { name, sample: |&Size(size), _| herd::on_tokio::<G>(size) }
    }
    vec![
        one::<Renewed<MokaFutureHerd>>(MOKA),
        one::<Renewed<MokaFutureHerd>>(AGAIN),
        one::<Renewed<ReadThrough<u64, u64, ()>>>(OURS),
        one::<Renewed<QuickHerd>>(QUICK),
    ]
}

fn threads<const PINNED: bool>() -> Vec<Contender<Size>> {
    fn one<G: BlockingGroup, const PINNED: bool>(name: &'static str) -> Contender<Size> {
        Contender { name, sample: |&Size(size), _| thread_herd::resume::<G>(PINNED, size) }
    }
    vec![
        one::<MokaHerd, PINNED>(MOKA_BLOCKING),
        one::<MokaHerd, PINNED>(AGAIN),
        one::<Renewed<ReadThrough<u64, u64, ()>>, PINNED>(OURS_BLOCKING),
        one::<Renewed<QuickHerd>, PINNED>(QUICK_BLOCKING),
    ]
}

pub(crate) fn print(options: &Options) {
    let extent = |rounds, ops| match options.short {
        false => Extent { rounds, ops },
        true => Extent { rounds: 2, ops: ops / 10 },
    };
    for size in [64, 1_000, 10_000] {
        let name = format!("herd of {size}, polled by hand");
        let extent = extent(40, 20_000);
        table::print(options, &name, &Size(size), &in_phases(), &herd::PHASES, extent);
    }
    for size in [64, 1_000, 10_000] {
        let name = format!("herd of {size}, tasks of tokio");
        table::print(options, &name, &Size(size), &on_tokio(), &["all"], extent(40, 1));
    }
    for size in [64, 1_000] {
        let name = format!("herd of {size} threads");
        table::print(options, &name, &Size(size), &threads::<false>(), &["resume"], extent(16, 1));
        let name = format!("herd of {size} threads, pinned");
        table::print(options, &name, &Size(size), &threads::<true>(), &["resume"], extent(16, 1));
    }
}
