//! W8: calls while up to a million keys are in flight.

use kit::{
    contenders::{BareCells, MutexGroup},
    rounds::{Parts, Spread},
    workloads::in_flight::{turnover, wave},
};
use shardflight::Group;

use crate::{
    session::{Contender, Session, Workload},
    table::Figure,
};

/// Keys in flight. The short form leaves the last out.
const SIZES: [usize; 3] = [1_000, 100_000, 1_000_000];
const PARTS: [&str; 3] = ["1e3", "1e5", "1e6"];

pub(crate) fn measure(session: &mut Session) {
    let rounds = session.options.rounds();
    let sizes = if session.options.short { 2 } else { 3 };
    let workload = |name, own: fn(u64) -> Parts, mutex: fn(u64) -> Parts| Workload {
        name,
        parts: &PARTS[..sizes],
        ops: SIZES[sizes - 1] as u64,
        contenders: vec![Contender::new("shardflight", own), Contender::new("mutex", mutex)],
    };

    let mut warm = workload(
        "W8 wave of keys",
        |up_to| sample(up_to, |size| wave::<Group<u64, u64>>(size, size)),
        |up_to| sample(up_to, |size| wave::<MutexGroup<u64, u64>>(size, size)),
    );
    warm.contenders.push(Contender::new("floor: two compare-exchange", |up_to| {
        sample(up_to, |size| wave::<BareCells>(size, size))
    }));
    if !session.options.short {
        // The goal is about a million keys.
        warm.contenders[1].goal = Some(0.45);
    }
    if let Some(measured) = session.compare_rounds(&warm, rounds) {
        let growth = |contender: usize| {
            let rounds = measured.of[contender].iter();
            Spread::over(rounds.map(|parts| parts[sizes - 1] / parts[0])).median
        };
        session.table.add_figure(Figure {
            what: ["", "W8 wave, time 1e5 / 1e3", "W8 wave, time 1e6 / 1e3"][sizes - 1],
            own: growth(0),
            mutex: growth(1),
            goal: (!session.options.short).then_some(3.0),
        });
    }
    session.compare_rounds(
        &workload(
            "W8 wave, no capacity asked for",
            |up_to| sample(up_to, |size| wave::<Group<u64, u64>>(size, 0)),
            |up_to| sample(up_to, |size| wave::<MutexGroup<u64, u64>>(size, 0)),
        ),
        rounds,
    );
    session.compare_rounds(
        &workload(
            "W8 turnover, keys in flight",
            |up_to| sample(up_to, turnover::<Group<u64, u64>>),
            |up_to| sample(up_to, turnover::<MutexGroup<u64, u64>>),
        ),
        rounds,
    );
}

fn sample(up_to: u64, one: fn(usize) -> f64) -> Parts {
    SIZES.into_iter().filter(|&size| size as u64 <= up_to).map(one).collect()
}
