#!/bin/sh
# Package: crates.io uniflight 0.8.0, with tokio 1.54.1.
# Surprise: a result stays as long as a future of its flight exists, even one that was never polled. A call that begins
# after the work has ended then gets the old result, and its own work does not run: what deduplicates calls becomes a
# cache of unlimited age. The flight ends when the last of its futures is dropped.
# Output seen:
#   first call: Ok(1)
#   later call, beside a future that was never polled: Ok(1)
#   call after that future was dropped: Ok(4)
# Exit status: 0 while this holds, 1 when it has changed.
set -eu
unset RUSTFLAGS CARGO_TARGET_DIR
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir" && mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2024"
[dependencies]
tokio = { version = "=1.54.1", features = ["macros", "rt"] }
uniflight = "=0.8.0"
[profile.dev]
debug = 0
TOML
cat > src/main.rs <<'RS'
use std::process::exit;
use uniflight::Merger;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let merger = Merger::<String, u32>::new();
    let leader = merger.execute("key", || async { 1 });
    let idle = merger.execute("key", || async { 2 });
    let first = leader.await;
    let later = merger.execute("key", || async { 3 }).await;
    drop(idle);
    let last = merger.execute("key", || async { 4 }).await;
    println!("first call: {first:?}");
    println!("later call, beside a future that was never polled: {later:?}");
    println!("call after that future was dropped: {last:?}");
    exit(((first, later, last) != (Ok(1), Ok(1), Ok(4))).into());
}
RS
cargo build --quiet
timeout 20 target/debug/finding
