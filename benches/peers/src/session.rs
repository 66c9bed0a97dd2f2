//! Runs the workloads: for each, rounds in which all who take part run once, until its time is up.

use std::time::{Duration, Instant};

use kit::rounds::{Rounds, Spread};

use crate::{
    Options,
    contenders::{Entrant, Kind},
    lists::Workload,
    page,
};

pub(crate) struct Session {
    /// For each point of each workload.
    time: Duration,
    least: usize,
    most: usize,
}

/// A workload, and the rounds at each of its points.
pub(crate) struct Measured {
    pub(crate) workload: Workload,
    pub(crate) rounds: Vec<Rounds>,
}

impl Session {
    pub(crate) fn new(options: &Options) -> Self {
        if options.short {
            Self { time: Duration::from_millis(700), least: 2, most: 20 }
        } else {
            Self { time: Duration::from_secs(14), least: 5, most: 60 }
        }
    }

    pub(crate) fn measure(&mut self, workloads: Vec<Workload>) -> Vec<Measured> {
        let measure = |workload: Workload| {
            eprintln!("{}", workload.code);
            let rounds = (0..workload.points.len()).map(|at| self.rounds(&workload, at)).collect();
            let measured = Measured { workload, rounds };
            println!("\n{}", page::tables(&measured));
            measured
        };
        workloads.into_iter().map(measure).collect()
    }

    fn rounds(&self, workload: &Workload, at: usize) -> Rounds {
        let point = &workload.points[at];
        let mut rounds = Rounds::none(point.entrants.len());
        let start = Instant::now();
        while rounds.count() < self.least.min(point.most_rounds)
            || start.elapsed() < self.time && rounds.count() < self.most.min(point.most_rounds)
        {
            rounds.next(|entrant| {
                let parts = (point.entrants[entrant].sample)(point.ops);
                assert_eq!(parts.len(), workload.parts.len(), "{}", workload.code);
                parts
            });
        }
        rounds
    }
}

/// Of one who took part, at one point.
pub(crate) struct Result<'a> {
    pub(crate) entrant: &'a Entrant,
    pub(crate) parts: Vec<f64>,
    pub(crate) time: Spread,
    /// To shardflight's time.
    pub(crate) ratio: Spread,
}

impl Measured {
    /// Fastest first.
    pub(crate) fn results(&self, at: usize) -> Vec<Result<'_>> {
        let (rounds, entrants) = (&self.rounds[at], &self.workload.points[at].entrants);
        let last = self.workload.parts.len() - 1;
        let median = |entrant, part| Spread::over(rounds.times(entrant, part)).median;
        let result = |(i, entrant)| Result {
            entrant,
            parts: (0..=last).map(|part| median(i, part)).collect(),
            time: Spread::over(rounds.times(i, last)),
            ratio: rounds.ratio(i, 0, last),
        };
        let mut results: Vec<_> = entrants.iter().enumerate().map(result).collect();
        results.sort_by(|a, b| a.time.median.total_cmp(&b.time.median));
        results
    }

    /// Those of peers that were faster than shardflight.
    pub(crate) fn faster(&self, at: usize) -> Vec<Result<'_>> {
        let mut results = self.results(at);
        results.retain(|result| result.entrant.kind == Kind::Peer && result.ratio.median < 1.0);
        results
    }
}
