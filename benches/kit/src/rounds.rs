//! Interleaved rounds: in each, every contender runs once, so that drift hits all of them.

use std::time::{Duration, Instant};

/// Nanoseconds per operation of the parts of a workload. The last one is the workload's figure.
pub type Parts = Vec<f64>;

/// What was measured, by contender and round.
pub struct Rounds {
    pub of: Vec<Vec<Parts>>,
}

impl Rounds {
    pub fn none(contenders: usize) -> Self {
        Self { of: vec![Vec::new(); contenders] }
    }

    pub fn count(&self) -> usize {
        self.of[0].len()
    }

    pub fn next(&mut self, sample: impl Fn(usize) -> Parts) {
        let contenders = self.of.len();
        let done = self.count();
        for i in 0..contenders {
            // Everyone is first equally often.
            let i = (done + i) % contenders;
            self.of[i].push(sample(i));
        }
    }

    pub fn last_figure(&self, contender: usize) -> f64 {
        let parts = self.of[contender].last().expect("a round has been run");
        *parts.last().expect("a workload has parts")
    }

    /// Of one part, in the order of the rounds.
    pub fn times(&self, contender: usize, part: usize) -> impl Iterator<Item = f64> {
        self.of[contender].iter().map(move |parts| parts[part])
    }

    /// Time of one contender divided by that of another, round by round.
    pub fn ratio(&self, contender: usize, to: usize, part: usize) -> Spread {
        let pairs = self.times(contender, part).zip(self.times(to, part));
        Spread::over(pairs.map(|(time, other)| time / other))
    }
}

/// Medians rather than means: what else runs on the machine makes rounds slower, never faster.
#[derive(Clone, Copy)]
pub struct Spread {
    /// The 10th percentile.
    pub low: f64,
    pub median: f64,
    /// The 90th.
    pub high: f64,
}

impl Spread {
    pub fn over(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        // The nearest, so that the spread of two is both of them.
        let at = |per_cent: usize| values[((values.len() - 1) * per_cent + 50) / 100];
        Self { low: at(10), median: at(50), high: at(90) }
    }
}

/// Nanoseconds per operation.
pub fn per_op(took: Duration, ops: u64) -> f64 {
    took.as_nanos() as f64 / ops as f64
}

/// Times `op` in a loop on this thread, after a sixteenth of it that is not timed: the first calls
/// of a fresh group allocate its shards.
pub fn timed(ops: u64, mut op: impl FnMut(u64) -> u64) -> Parts {
    for i in 0..ops / 16 {
        std::hint::black_box(op(std::hint::black_box(i)));
    }
    let start = Instant::now();
    for i in 0..ops {
        std::hint::black_box(op(std::hint::black_box(i)));
    }
    vec![per_op(start.elapsed(), ops)]
}
