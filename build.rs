//! Tells rustdoc, which does not get `RUSTFLAGS`, that the library is built for loom: its doctests
//! would run outside a model. With this, `RUSTFLAGS="--cfg loom" cargo test` finds none of them.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_CFG_LOOM").is_some() {
        println!("cargo::rustc-cfg=loom");
    }
}
