//! shardflight against Go's singleflight algorithm (one global mutex), side by side in one run.
//!
//! `cargo bench` measures workloads W1 to W6 and W8 and ends with one table of ratios;
//! `cargo bench -- --short` is the form for CI, `cargo bench -- W6` runs what has W6 in its name.
//! Nanoseconds of two runs say little on a shared machine. Only the ratios are meant to be read:
//! each is the median over rounds in which all contenders ran one right after the other.

// Under loom there is nothing to measure, and the dev-dependencies are left out.
#[cfg(not(loom))]
mod lists;
#[cfg(not(loom))]
mod options;
#[cfg(not(loom))]
mod session;
#[cfg(not(loom))]
mod table;

#[cfg(not(loom))]
#[global_allocator]
static ALLOCATOR: kit::count_alloc::Counting = kit::count_alloc::Counting;

#[cfg(not(loom))]
fn main() {
    use self::{options::Options, session::Session};

    // `cargo test --all-targets` runs benches without `--bench`: there is nothing to test here.
    let Some(options) = Options::of_cargo_bench() else {
        return;
    };
    kit::pin::to_core(0);
    let mut session = Session::new(options);
    lists::measure(&mut session);
    session.finish();
}

#[cfg(loom)]
fn main() {}
