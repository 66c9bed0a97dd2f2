//! What `cache::ReadThrough` costs: beside the bare moka that it is made of where a value is found, and beside
//! caches that share their loads, too, where none is.
//!
//! `cargo run --release -p cache-load` prints the tables, in about five minutes. Of figures of time only the
//! ratios say something, and of those only what is more than the ratio of bare moka to itself, which stands
//! beside them.

mod caches;
mod counts;
mod herds;
mod hits;
mod misses;
mod table;
mod types;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: kit::count_alloc::Counting = kit::count_alloc::Counting;

/// Measures caches that load what they have not.
#[derive(Parser)]
pub(crate) struct Options {
    /// Few and short rounds: about half a minute. Says little of anything but the counts.
    #[arg(long)]
    short: bool,
    /// Fails if a bound is exceeded.
    #[arg(long)]
    check: bool,
    /// Only tables with this in their name ("hit", "1 thread", "herd", "counts", ...).
    table: Option<String>,
    /// Makes so many calls and ends: what valgrind is to count.
    #[arg(long, num_args = 2, value_names = ["NAME", "COUNT"], hide = true)]
    call: Option<Vec<String>>,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.table.as_ref().is_none_or(|filter| name.contains(filter))
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    if let Some(call) = &options.call {
        counts::make(&call[0], call[1].parse()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let are_kept = counts::print(&options)?;
    kit::pin::to_core(0);
    hits::print(&options);
    misses::print(&options);
    herds::print(&options);
    if options.check && !are_kept {
        eprintln!("cache-load: a bound is exceeded, see above");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
