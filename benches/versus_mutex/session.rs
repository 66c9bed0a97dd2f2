//! Measures workloads in rounds, with criterion or without, and puts them into the table.

use std::time::Duration;

use criterion::{Criterion, SamplingMode};
use kit::rounds::{Parts, Rounds};

use crate::{options::Options, table::Table};

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
    /// The last one is what criterion gets and what the goal is about.
    pub(crate) parts: &'static [&'static str],
    /// Operations per contender and round: enough to time, few enough to interleave finely.
    pub(crate) ops: u64,
    /// shardflight comes first; the table has one line for each of the others.
    pub(crate) contenders: Vec<Contender>,
}

impl Workload {
    fn round(&self, rounds: &mut Rounds) {
        rounds.next(|contender| {
            let parts = (self.contenders[contender].sample)(self.ops);
            assert_eq!(parts.len(), self.parts.len(), "{}", self.name);
            parts
        });
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
        let mut rounds = Rounds::none(workload.contenders.len());
        let mut group = self.criterion.benchmark_group(workload.name);
        group.sampling_mode(SamplingMode::Flat);
        for (own, contender) in workload.contenders.iter().enumerate() {
            group.bench_function(contender.name, |bencher| {
                // An iteration is a round, so that criterion plans with the time that all contenders
                // take; what it reports is this one's time per operation.
                bencher.iter_custom(|iterations| {
                    let mut own_time = 0.0;
                    for _ in 0..iterations {
                        workload.round(&mut rounds);
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
        let mut rounds = Rounds::none(workload.contenders.len());
        for _ in 0..count {
            workload.round(&mut rounds);
        }
        self.table.add(workload, &rounds);
        Some(rounds)
    }

    pub(crate) fn finish(self) {
        self.table.print();
    }
}
