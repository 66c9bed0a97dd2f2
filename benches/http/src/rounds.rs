//! Rounds in which the server runs once with each front, and the tables of them.

use std::{cell::RefCell, time::Duration};

use kit::rounds::{Rounds, Spread};

use crate::{
    Options,
    app::Front,
    client::Protocol,
    load::{CPU, EXECUTIONS, MEDIAN, P99, TIME, sample},
    workloads::{ALL, Workload},
};

/// Whether all bounds are kept.
pub(crate) fn print(options: &Options) -> anyhow::Result<bool> {
    let mut are_kept = true;
    for protocol in Protocol::ALL {
        for workload in ALL {
            let name = format!("{}; {}", workload.name, protocol.name());
            if options.wants(&name) {
                let rounds = measure(protocol, workload, options)?;
                println!("\n{name}; {} rounds", rounds.count());
                print_table(&rounds);
                are_kept &= executes_as_it_should(workload, &rounds);
            }
        }
    }
    Ok(are_kept)
}

fn measure(
    protocol: Protocol,
    workload: &'static Workload,
    options: &Options,
) -> anyhow::Result<Rounds> {
    // Many short ones rather than few long ones, because the machine's pace changes by the second.
    let (count, time) = match (options.short, workload.is_slow()) {
        (false, false) => (80, 50),
        (false, true) => (16, 250),
        (true, false) => (9, 30),
        (true, true) => (2, 130),
    };
    let time = Duration::from_millis(time);
    let mut rounds = Rounds::none(Front::ALL.len());
    let failure = RefCell::new(None);
    while rounds.count() < count {
        rounds.next(|front| {
            sample(Front::ALL[front], protocol, workload, time).unwrap_or_else(|error| {
                failure.replace(Some(error));
                vec![f64::NAN; TIME + 1]
            })
        });
        if let Some(error) = failure.take() {
            return Err(error.context(workload.name));
        }
    }
    Ok(rounds)
}

fn print_table(rounds: &Rounds) {
    println!(
        "{:<28} {:>10} {:>8} {:>8} {:>8} {:>8}  ratio: {:<19} {:<19} {:<19}",
        "", "requests/s", "p50 us", "p99 us", "CPU us", "executed", "time", "CPU", "p99"
    );
    for (i, front) in Front::ALL.into_iter().enumerate() {
        let median = |part| Spread::over(rounds.times(i, part)).median;
        print!(
            "{:<28} {:>10.0} {:>8.0} {:>8.0} {:>8.2} {:>8.4}",
            front.name(),
            1e9 / median(TIME),
            median(MEDIAN) / 1e3,
            median(P99) / 1e3,
            median(CPU) / 1e3,
            median(EXECUTIONS),
        );
        if i > 0 {
            print!("        ");
            for part in [TIME, CPU, P99] {
                let Spread { low, median, high } = rounds.ratio(i, 0, part);
                print!(" {:<19}", format!("{median:.3} ({low:.2}..{high:.2})"));
            }
        }
        println!();
    }
}

/// Distinct requests are all executed, and of those for one slow thing few: or it is something else that
/// was measured.
fn executes_as_it_should(workload: &Workload, rounds: &Rounds) -> bool {
    let is_as_it_should = |(i, front)| {
        let mut executed = rounds.times(i, EXECUTIONS);
        match (front, workload.is_distinct(), workload.is_slow()) {
            (_, true, _) => executed.all(|executed| executed == 1.0),
            (Front::Coalesce, _, true) => executed.all(|executed| executed < 0.25),
            _ => true,
        }
    };
    let is_kept = Front::ALL.into_iter().enumerate().all(is_as_it_should);
    if !is_kept {
        println!("EXCEEDED: distinct requests are executed once, those for one slow thing rarely");
    }
    is_kept
}
