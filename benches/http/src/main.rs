//! What the tower layer costs an axum server, and what it saves one: over loopback sockets with and
//! without it, by turns, and counted in instructions and allocations.
//!
//! `cargo run --release -p http-load` prints the tables, in about five minutes. The server has one
//! core and the clients have another. Of figures of time only the ratios say something, and of those
//! only what is more than the ratio of the bare server to itself, which stands beside them.

mod app;
mod client;
mod counts;
mod load;
mod rounds;
mod server;
mod workloads;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: kit::count_alloc::Counting = kit::count_alloc::Counting;

/// Measures an axum server with and without the layer.
#[derive(Parser)]
pub(crate) struct Options {
    /// Few and short rounds: about 20 seconds. Says little of anything but the counts.
    #[arg(long)]
    short: bool,
    /// Fails if a bound is exceeded.
    #[arg(long)]
    check: bool,
    /// Only workloads with this in their name ("distinct", "HTTP/2", ...); of "counts" the counts.
    workload: Option<String>,
    /// Serves so many requests and ends: what valgrind is to count.
    #[arg(long, num_args = 2, value_names = ["NAME", "COUNT"], hide = true)]
    call: Option<Vec<String>>,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.workload.as_ref().is_none_or(|filter| name.contains(filter))
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    if let Some(call) = &options.call {
        counts::make(&call[0], call[1].parse()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut are_kept = true;
    if options.wants("counts") {
        are_kept &= counts::print(&options)?;
    }
    are_kept &= rounds::print(&options)?;
    if options.check && !are_kept {
        eprintln!("http-load: a bound is exceeded, see above");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
