//! What the command line asks for, and how long each form measures.
//!
//! Parsed here because criterion's own parser refuses arguments it does not know.

use std::time::Duration;

pub(crate) struct Options {
    pub(crate) short: bool,
    filter: Option<String>,
}

impl Options {
    /// `None` if this is not a run of `cargo bench`, which always passes `--bench`.
    pub(crate) fn of_cargo_bench() -> Option<Self> {
        let mut options = Self { short: false, filter: None };
        let mut is_bench = false;
        for argument in std::env::args().skip(1) {
            match argument.as_str() {
                "--bench" => is_bench = true,
                "--short" => options.short = true,
                flag if flag.starts_with('-') => eprintln!("versus_mutex: {flag} is ignored"),
                _ => options.filter = Some(argument),
            }
        }
        is_bench.then_some(options)
    }

    pub(crate) fn wants(&self, workload: &str) -> bool {
        self.filter.as_deref().is_none_or(|filter| workload.contains(filter))
    }

    /// How long criterion measures one contender, including the others' part in the rounds.
    pub(crate) fn measurement_time(&self) -> Duration {
        Duration::from_millis(if self.short { 800 } else { 8_000 })
    }

    pub(crate) fn warm_up_time(&self) -> Duration {
        Duration::from_millis(if self.short { 50 } else { 300 })
    }

    pub(crate) fn sample_size(&self) -> usize {
        if self.short { 10 } else { 20 }
    }

    /// Rounds of what is measured without criterion.
    pub(crate) fn rounds(&self) -> usize {
        if self.short { 5 } else { 15 }
    }
}
