//! shardflight beside its peers and beside the floors, in one interleaved and pinned run.
//!
//! `cargo run --release -p peers` prints the tables and writes `docs/benchmarks.md` with its charts.

mod charts;
mod conduct;
mod contenders;
mod facts;
mod lists;
mod machine;
mod page;
#[cfg(test)]
mod sanity;
mod session;

use std::path::PathBuf;

use clap::Parser;

use self::session::Session;

#[global_allocator]
static ALLOCATOR: kit::count_alloc::Counting = kit::count_alloc::Counting;

/// Measures shardflight, its peers and the floors side by side.
#[derive(Parser)]
pub(crate) struct Options {
    /// Few rounds and no million keys: about a minute. Says little of anything that takes threads.
    #[arg(long)]
    short: bool,
    /// Writes benchmarks.md and its charts there. Without it only a whole run writes, to docs/.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Only workloads with this in their name (W3, W5-tokio, ...), and no other figures.
    workload: Option<String>,
}

impl Options {
    fn is_whole(&self) -> bool {
        !self.short && self.workload.is_none()
    }

    fn out(&self) -> Option<PathBuf> {
        let docs = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs"));
        self.out.clone().or_else(|| self.is_whole().then(docs))
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    kit::pin::to_core(0);
    let mut session = Session::new(&options);
    let measured = session.measure(lists::workloads(&options));
    let facts = options.workload.is_none().then(|| facts::Facts::count(options.short));
    let page = page::Page { options: &options, measured: &measured, facts: facts.as_ref() };
    if let Some(out) = options.out() {
        page.write(&out)?;
        charts::draw(&measured, &out.join("charts"))?;
        eprintln!("written to {}", out.display());
    }
    Ok(())
}
