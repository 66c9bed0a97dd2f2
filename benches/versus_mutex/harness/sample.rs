//! Interleaved rounds: in each, every contender runs once, so that drift hits all of them.

use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode};

use super::{options::Options, table::Table};

/// Nanoseconds per operation of the parts of a workload. The last one is the workload's figure:
/// what criterion gets and what the goal is about.
pub(crate) type Parts = Vec<f64>;

pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// Makes fresh state and measures about this many operations on it. State that lives longer
    /// keeps one lucky or unlucky address and hash seed.
    pub(crate) sample: fn(ops: u64) -> Parts,
    /// The firm goal: shardflight's time divided by this contender's.
    pub(crate) goal: Option<f64>,
}

impl Contender {
    pub(crate) fn new(name: &'static str, sample: fn(ops: u64) -> Parts) -> Self {
        Self { name, sample, goal: None }
    }

    pub(crate) fn goal(mut self, ratio: f64) -> Self {
        self.goal = Some(ratio);
        self
    }
}

pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) parts: &'static [&'static str],
    /// Operations per contender and round: enough to time, few enough to interleave finely.
    pub(crate) ops: u64,
    /// shardflight comes first; the table has one line for each of the others.
    pub(crate) contenders: Vec<Contender>,
}

/// What was measured, by contender and round.
pub(crate) struct Rounds {
    pub(crate) of: Vec<Vec<Parts>>,
}

impl Rounds {
    fn none(workload: &Workload) -> Self {
        Self { of: workload.contenders.iter().map(|_| Vec::new()).collect() }
    }

    fn next(&mut self, workload: &Workload) {
        let contenders = workload.contenders.len();
        let done = self.of[0].len();
        for i in 0..contenders {
            // Everyone is first equally often.
            let i = (done + i) % contenders;
            let parts = (workload.contenders[i].sample)(workload.ops);
            assert_eq!(parts.len(), workload.parts.len(), "{}", workload.name);
            self.of[i].push(parts);
        }
    }

    fn last_figure(&self, contender: usize) -> f64 {
        let parts = self.of[contender].last().expect("a round has been run");
        *parts.last().expect("a workload has parts")
    }
}

pub(crate) struct Session {
    pub(crate) options: Options,
    pub(crate) table: Table,
    criterion: Criterion,
}

impl Session {
    pub(crate) fn new(options: Options) -> Self {
        let criterion = Criterion::default()
            .without_plots()
            .sample_size(options.sample_size())
            .warm_up_time(options.warm_up_time())
            .measurement_time(options.measurement_time())
            .nresamples(10_000)
            // Compares with a baseline that nobody saves: ratios of one run are what counts, the
            // change of nanoseconds since the last one is mostly the machine's.
            .retain_baseline("none".to_owned(), false);
        Self { options, table: Table::new(), criterion }
    }

    /// Measures with criterion: one benchmark per contender, during which all of them run.
    pub(crate) fn compare(&mut self, workload: &Workload) {
        if !self.options.wants(workload.name) {
            return;
        }
        let mut rounds = Rounds::none(workload);
        let mut group = self.criterion.benchmark_group(workload.name);
        group.sampling_mode(SamplingMode::Flat);
        for (own, contender) in workload.contenders.iter().enumerate() {
            group.bench_function(contender.name, |bencher| {
                // An iteration is a round, so that criterion plans with the time that all contenders
                // take; what it reports is this one's time per operation.
                bencher.iter_custom(|iterations| {
                    let mut own_time = 0.0;
                    for _ in 0..iterations {
                        rounds.next(workload);
                        own_time += rounds.last_figure(own);
                    }
                    Duration::from_secs_f64(own_time / 1e9)
                });
            });
        }
        group.finish();
        self.table.add(workload, &rounds);
    }

    /// Measures without criterion what takes too long, or too much set-up, for its many samples.
    pub(crate) fn compare_rounds(&mut self, workload: &Workload, count: usize) -> Option<Rounds> {
        if !self.options.wants(workload.name) {
            return None;
        }
        println!("{}: {count} rounds", workload.name);
        let mut rounds = Rounds::none(workload);
        for _ in 0..count {
            rounds.next(workload);
        }
        self.table.add(workload, &rounds);
        Some(rounds)
    }

    pub(crate) fn finish(self) {
        self.table.print();
    }
}

/// Nanoseconds per operation.
pub(crate) fn per_op(took: Duration, ops: u64) -> f64 {
    took.as_nanos() as f64 / ops as f64
}

/// Times `op` in a loop on this thread, after a sixteenth of it that is not timed: the first calls
/// of a fresh group allocate its shards.
pub(crate) fn timed(ops: u64, mut op: impl FnMut(u64) -> u64) -> Parts {
    for i in 0..ops / 16 {
        std::hint::black_box(op(std::hint::black_box(i)));
    }
    let start = Instant::now();
    for i in 0..ops {
        std::hint::black_box(op(std::hint::black_box(i)));
    }
    vec![per_op(start.elapsed(), ops)]
}
