//! The table at the end: ratios of times, and figures that are not times.

use kit::rounds::{Rounds, Spread};

use crate::session::Workload;

const EXPLANATION: &str = "
Time per operation: ratio of shardflight to a contender, below 1 is faster.
Median and 10th to 90th percentile over interleaved rounds; medians in ns.
What else runs on the machine distorts most the lines with threads and tasks: see the spread.";

pub(crate) struct Table {
    /// Of the machine, before this run added to it. Empty where the system does not tell.
    load_before: String,
    ratios: Vec<Ratio>,
    figures: Vec<Figure>,
}

struct Ratio {
    what: String,
    own: f64,
    rival: &'static str,
    rivals: f64,
    spread: Spread,
    rounds: usize,
    goal: Option<f64>,
}

/// What is counted, or derived from what was timed.
pub(crate) struct Figure {
    pub(crate) what: &'static str,
    pub(crate) own: f64,
    pub(crate) mutex: f64,
    /// The firm goal: shardflight's figure at most.
    pub(crate) goal: Option<f64>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            load_before: std::fs::read_to_string("/proc/loadavg").unwrap_or_default(),
            ratios: Vec::new(),
            figures: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, workload: &Workload, rounds: &Rounds) {
        let last = workload.parts.len() - 1;
        for (part, name) in workload.parts.iter().enumerate() {
            for (i, rival) in workload.contenders.iter().enumerate().skip(1) {
                self.ratios.push(Ratio {
                    what: format!("{} {name}", workload.name),
                    own: Spread::over(rounds.times(0, part)).median,
                    rival: rival.name,
                    rivals: Spread::over(rounds.times(i, part)).median,
                    spread: rounds.ratio(0, i, part),
                    rounds: rounds.count(),
                    goal: rival.goal.filter(|_| part == last),
                });
            }
        }
    }

    pub(crate) fn add_figure(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    pub(crate) fn print(&self) {
        if !self.ratios.is_empty() {
            println!("{EXPLANATION}");
            println!("Load averages when it began: {}", self.load_before);
            println!(
                "{:<36} {:>11}  {:<19} {:>7}  {:>6}  {:<12} {:>6}  firm goal",
                "workload", "shardflight", "contender", "ns", "ratio", "p10..p90", "rounds"
            );
        }
        for row in &self.ratios {
            let Spread { low, median, high } = row.spread;
            println!(
                "{:<36} {:>11.1}  {:<19} {:>7.1}  {median:>6.3}  {:<12} {:>6}  {}",
                row.what,
                row.own,
                row.rival,
                row.rivals,
                format!("{low:.2}..{high:.2}"),
                row.rounds,
                judged(median, row.goal),
            );
        }
        if !self.figures.is_empty() {
            println!("\n{:<48} {:>11} {:>9}  firm goal", "figure", "shardflight", "mutex");
        }
        for row in &self.figures {
            println!(
                "{:<48} {:>11.2} {:>9.2}  {}",
                row.what,
                row.own,
                row.mutex,
                judged(row.own, row.goal),
            );
        }
    }
}

fn judged(measured: f64, goal: Option<f64>) -> String {
    goal.map_or_else(String::new, |goal| {
        let verdict = if measured <= goal { "met" } else { "MISSED" };
        format!("<= {goal:<5} {verdict}")
    })
}
