//! A thousand tasks need tokens for a few audiences, from an authority that is slow, and down at times.
//!
//! `cargo run --release -p examples --bin tokens`

use std::sync::Arc;

use clap::Parser;
use examples::tokens::{Authority, Timeline, cached};
use shardflight::Stats;

/// A thousand tasks need tokens for a few audiences, from an authority that is slow, and down at times
#[derive(Parser)]
struct Args {
    /// Tasks that need tokens, each about ten times a second
    #[arg(long, default_value_t = 1_000)]
    tasks: usize,
    /// Whom tokens are for
    #[arg(long, default_value_t = 5)]
    audiences: usize,
}

/// What to see.
const NOTE: &str = "\
In calm times a token is replaced before its end, by a task of its own: nobody waits. While the authority is
down the tokens that there are go on being used until shortly before their end. After that requests are refused
at once, but for those that come while somebody tries again: one for each audience, a tenth of a second after
the last has failed. A token that was taken back is not seen again, even if it was on its way.";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Args { tasks, audiences } = Args::parse();
    println!(
        "{tasks} tasks need tokens for {audiences} audiences; each is good for two to three seconds\n"
    );
    let stats = Arc::new(Stats::default());
    let authority = Authority::of(audiences);
    let timeline = Timeline::play(tasks, &authority, cached(stats.clone())).await;

    println!("{timeline}\n{NOTE}\n");
    let counted = stats.snapshot();
    let rate = counted.hit_rate().unwrap_or_default();
    println!(
        "{:.2} % of the look-ups waited for nothing; {} got a token that was to be replaced",
        rate * 100.,
        counted.stale_hits
    );
    timeline.check()
}
