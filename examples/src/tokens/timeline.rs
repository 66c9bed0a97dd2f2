//! A few seconds in the life of the service: calm, the authority down for a moment and for long, and tokens
//! that are taken back.

use std::{fmt, time::Duration};

use anyhow::ensure;
use tokio::time::{self, Instant};

use super::{
    authority::Authority,
    cache::{FIRST_REFRESH, RETRY, Tokens},
    record::Record,
    tasks::Service,
};

/// How often tokens are taken back, those of the audiences in turn.
const TAKEN_BACK: Duration = Duration::from_millis(100);

/// A while of which there is a line in the table.
struct Phase {
    name: &'static str,
    lasts: Duration,
    what: What,
}

/// What happens in it.
#[derive(Clone, Copy, PartialEq)]
enum What {
    Nothing,
    AuthorityIsDown,
    TokensAreTakenBack,
}

const PHASES: [Phase; 7] = [
    Phase { name: "cold start", lasts: Duration::from_millis(500), what: What::Nothing },
    Phase { name: "calm", lasts: Duration::from_millis(2_000), what: What::Nothing },
    Phase {
        name: "down, a moment",
        lasts: Duration::from_millis(300),
        what: What::AuthorityIsDown,
    },
    Phase { name: "up again", lasts: Duration::from_millis(800), what: What::Nothing },
    Phase {
        name: "down, for long",
        lasts: Duration::from_millis(2_200),
        what: What::AuthorityIsDown,
    },
    Phase { name: "up again", lasts: Duration::from_millis(800), what: What::Nothing },
    Phase {
        name: "taken back",
        lasts: Duration::from_millis(1_500),
        what: What::TokensAreTakenBack,
    },
];

/// What has happened so far, as a table.
pub struct Timeline {
    audiences: usize,
    lines: Vec<Line>,
}

struct Line {
    name: &'static str,
    from: Duration,
    record: Record,
    fetches: u64,
    failed: u64,
    /// How many fetches there may be.
    most: u64,
}

impl Timeline {
    /// Plays it.
    pub async fn play(tasks: usize, authority: &Authority, tokens: Tokens) -> Self {
        let service = Service::new(authority.clone(), tokens);
        let start = Instant::now();
        let mut timeline = Self { audiences: authority.audiences(), lines: Vec::new() };
        let (mut next, mut before) = (start, authority.asked());
        let _tasks = service.start(tasks);
        for Phase { name, lasts, what } in PHASES {
            let begun = next;
            let taken_back = happen(what, lasts, authority, &service).await;
            // Fetches are counted for no longer than the time that is taken for them.
            next = Instant::now();
            let (record, after) = (service.current.take(), authority.asked());
            timeline.lines.push(Line {
                name,
                from: begun - start,
                record,
                fetches: after.0 - before.0,
                failed: after.1 - before.1,
                most: timeline.most(what, begun.elapsed(), taken_back),
            });
            before = after;
        }
        timeline
    }

    /// How many fetches there may be in such a while: one for each audience and time that a token is good for, or
    /// that an error is believed, and one for each that is taken back.
    fn most(&self, what: What, lasted: Duration, taken_back: u64) -> u64 {
        let at_least = if what == What::AuthorityIsDown { RETRY } else { FIRST_REFRESH };
        let of_each = 1 + lasted.div_duration_f64(at_least) as u64;
        self.audiences as u64 * of_each + taken_back
    }

    /// Whether what was promised was kept.
    pub fn check(&self) -> anyhow::Result<()> {
        for Line { name, record, fetches, most, .. } in &self.lines {
            ensure!(record.requests > 0, "{name}: no request was answered");
            ensure!(record.expired == 0, "{name}: {} tokens were over", record.expired);
            ensure!(
                record.taken_back == 0,
                "{name}: {} tokens had been taken back",
                record.taken_back
            );
            ensure!(fetches <= most, "{name}: {fetches} fetches, and {most} were promised");
        }
        Ok(())
    }
}

/// How many tokens were taken back.
async fn happen(what: What, lasts: Duration, authority: &Authority, service: &Service) -> u64 {
    match what {
        What::Nothing => time::sleep(lasts).await,
        What::AuthorityIsDown => {
            authority.go_down();
            time::sleep(lasts).await;
            authority.come_up();
        }
        What::TokensAreTakenBack => {
            let times = lasts.div_duration_f64(TAKEN_BACK) as u64;
            for time in 0..times {
                service.take_back(time as usize % authority.audiences());
                time::sleep(TAKEN_BACK).await;
            }
            return times;
        }
    }
    0
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "from                   requests   fetches  at most    failed    waited   refused       p50       p99"
        )?;
        for Line { name, from, record, fetches, failed, most } in &self.lines {
            let Record { requests, waited, refused, .. } = record;
            let (p50, p99) = (record.percentile(50), record.percentile(99));
            writeln!(
                f,
                "{:>5.1} s  {name:<14}{requests:>8}{fetches:>10}{most:>9}{failed:>10}{waited:>10}{refused:>10}\
                 {p50:>10.1?}{p99:>10.1?}",
                from.as_secs_f64()
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use shardflight::Stats;

    use super::*;
    use crate::tokens::cached;

    #[tokio::test(start_paused = true)]
    async fn it_is_as_promised() {
        let authority = Authority::of(3);
        let timeline = Timeline::play(30, &authority, cached(Stats::default())).await;
        timeline.check().unwrap();

        let [cold, calm, moment, _, long, _, back] = &timeline.lines[..] else { unreachable!() };
        assert_eq!((cold.fetches, cold.record.waited), (3, 30), "{timeline}");
        assert!(calm.fetches > 0 && calm.record.waited == 0, "{timeline}");
        assert_eq!((moment.record.refused, moment.record.waited), (0, 0), "{timeline}");
        assert!(long.record.refused > 0 && long.failed > 3, "{timeline}");
        assert!(back.fetches > 3, "{timeline}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_broken_is_told() {
        let authority = Authority::of(3);
        let mut timeline = Timeline::play(3, &authority, cached(Stats::default())).await;
        timeline.lines[1].fetches = 1_000;
        assert!(timeline.check().unwrap_err().to_string().starts_with("calm: 1000 fetches"));
        timeline.lines[0].record.expired = 1;
        assert_eq!(timeline.check().unwrap_err().to_string(), "cold start: 1 tokens were over");
    }
}
