//! Tables: every contender once in each round, and each compared with the first.

use kit::rounds::{Parts, Rounds, Spread};

use crate::Options;

pub(crate) struct Contender<C> {
    pub(crate) name: &'static str,
    pub(crate) sample: fn(&C, ops: u64) -> Parts,
}

/// How long it takes.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) rounds: usize,
    pub(crate) ops: u64,
}

/// Measures and prints, if this table is wanted. `parts` are the names of what a sample consists of.
pub(crate) fn print<C>(
    options: &Options,
    name: &str,
    case: &C,
    contenders: &[Contender<C>],
    parts: &[&str],
    extent: Extent,
) {
    if !options.wants(name) {
        return;
    }
    let mut rounds = Rounds::none(contenders.len());
    for _ in 0..extent.rounds {
        rounds.next(|i| (contenders[i].sample)(case, extent.ops));
    }
    println!("\n{name}; {} rounds", rounds.count());
    print!("{:<36}", "");
    for part in parts {
        print!(" {:>9} {:<20}", format!("{part} ns"), "ratio");
    }
    println!();
    for (i, contender) in contenders.iter().enumerate() {
        print!("{:<36}", contender.name);
        for part in 0..parts.len() {
            let median = Spread::over(rounds.times(i, part)).median;
            let Spread { low, median: ratio, high } = rounds.ratio(i, 0, part);
            print!(" {median:>9.1} {:<20}", format!("{ratio:.3} ({low:.2}..{high:.2})"));
        }
        println!();
    }
}
