//! Tells the page which compiler built what was measured.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = std::env::var_os("RUSTC").expect("cargo sets it");
    let output = Command::new(rustc).arg("--version").output().expect("cargo has just run it");
    println!("cargo::rustc-env=PEERS_RUSTC={}", String::from_utf8_lossy(&output.stdout).trim());
}
