#!/bin/sh
# Package: crates.io quick_cache 0.7.0, with tokio 1.54.1 on one thread.
# Surprise: when a load fails, the waiter that came last tries next. Six calls of `get_or_insert_async` for one key,
# whose loads all fail, load in the order 0, 5, 4, 3, 2, 1: with an unreliable backend and a steady stream of callers the
# oldest waiter is served last.
# Output seen:
#   order of loads: [0, 5, 4, 3, 2, 1]
# Exit status: 0 while this holds, 1 when it has changed.
set -eu
unset RUSTFLAGS CARGO_TARGET_DIR
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir" && mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"
[dependencies]
quick_cache = "=0.7.0"
tokio = { version = "=1.54.1", features = ["macros", "rt", "sync"] }
[profile.dev]
debug = 0
TOML
cat > src/main.rs <<'RS'
use quick_cache::sync::Cache;
use std::{cell::RefCell, process::exit, rc::Rc};
use tokio::{
    sync::Notify,
    task::{yield_now, LocalSet},
};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let tasks = LocalSet::new();
    let cache = Rc::new(Cache::<u32, u32>::new(10));
    let (order, fail) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Notify::new()));
    for caller in 0..6 {
        let (cache, order, fail) = (cache.clone(), order.clone(), fail.clone());
        tasks.spawn_local(async move {
            let load = async {
                order.borrow_mut().push(caller);
                fail.notified().await;
                Err(())
            };
            let _ = cache.get_or_insert_async(&1, load).await;
        });
    }
    let opened = async {
        for load in 1..=6 {
            while order.borrow().len() < load {
                yield_now().await;
            }
            // The first load goes on until all callers wait.
            for _ in 0..100 {
                yield_now().await;
            }
            fail.notify_one();
        }
    };
    tasks.run_until(opened).await;
    tasks.await;
    println!("order of loads: {:?}", order.borrow());
    exit((*order.borrow() != [0, 5, 4, 3, 2, 1]).into());
}
RS
cargo build --quiet
timeout 20 target/debug/finding
