//! The tables, and the bounds.

use std::process::ExitCode;

use kit::valgrind::{self, Executed, executed, shared};

/// A call of the table, and how many instructions it may take at most.
struct Row {
    what: &'static str,
    /// What is counted; without what is counted of the second, if there is one, over so many calls.
    call: &'static str,
    less: Option<(&'static str, f64)>,
    bound: Option<f64>,
}

impl Row {
    const fn of(call: &'static str, what: &'static str) -> Self {
        Self { what, call, less: None, bound: None }
    }

    const fn less(mut self, call: &'static str, over: f64) -> Self {
        self.less = Some((call, over));
        self
    }

    const fn bound(mut self, instructions: f64) -> Self {
        self.bound = Some(instructions);
        self
    }
}

/// The bounds are what was counted with rustc 1.95 and glibc 2.36, and one or two in a hundred more.
const ROWS: &[Row] = &[
    Row::of("run", "an unshared call, u64, async").bound(150.0),
    Row::of("mutex: run", "  mutex version"),
    Row::of("DashMap: insert, remove", "  raw DashMap, insert + remove"),
    Row::of("run_blocking", "an unshared call, u64, blocking").bound(125.0),
    Row::of("run_str", "an unshared call, 32 bytes by &str").bound(400.0),
    Row::of("mutex: run_str", "  mutex version"),
    Row::of("join_and_leave", "joining and leaving a hot key").bound(615.0),
    Row::of("mutex: join_and_leave", "  mutex version"),
    Row::of("flight of 1", "a flight with one follower").bound(2_430.0),
    Row::of("mutex: flight of 1", "  mutex version"),
    Row::of("flight of 9", "each further follower").less("flight of 1", 8.0).bound(630.0),
    Row::of("mutex: flight of 9", "  mutex version").less("mutex: flight of 1", 8.0),
];

/// Calls of two threads.
const PAIRS: &[(&str, &str)] = &[
    ("run", "unshared calls, u64, async"),
    ("mutex: run", "  mutex version"),
    ("DashMap: insert, remove", "  raw DashMap, insert + remove"),
    ("run_blocking", "unshared calls, u64, blocking"),
    ("run_str", "unshared calls, 32 bytes by &str"),
    ("mutex: run_str", "  mutex version"),
    ("join_and_leave", "joining and leaving a hot key"),
    ("mutex: join_and_leave", "  mutex version"),
];

pub(crate) fn print(arguments: &[&str]) -> ExitCode {
    let checks = arguments.contains(&"--check");
    let filter = arguments.iter().copied().find(|argument| !argument.starts_with('-'));
    // What is to be checked is everything.
    let wants = |call: &str| checks || filter.is_none_or(|filter| call.contains(filter));
    if !valgrind::is_there() {
        eprintln!("counts: there is no valgrind (`apt-get install valgrind`): nothing is counted");
        return if checks { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    match print_tables(checks, &wants) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("counts: a bound is exceeded, see above");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("counts: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all bounds are kept.
fn print_tables(checks: bool, wants: &dyn Fn(&str) -> bool) -> std::io::Result<bool> {
    let mut are_kept = true;
    if !ROWS.iter().any(|row| wants(row.call)) {
        return Ok(are_kept);
    }
    println!("{:<36} {:>12} {:>7}  bound", "one call", "instructions", "locked");
    let nothing = executed("nothing")?;
    for row in ROWS.iter().filter(|row| wants(row.call)) {
        let counted = executed(row.call)?;
        let counted = match row.less {
            None => difference(counted, nothing, 1.0),
            Some((other, over)) => difference(counted, executed(other)?, over),
        };
        let verdict = row.bound.map_or_else(String::new, |bound| {
            let is_kept = counted.instructions <= bound;
            are_kept &= is_kept;
            format!("<= {bound} {}", if is_kept { "kept" } else { "EXCEEDED" })
        });
        let locked = counted.locked.map_or_else(|| "?".to_owned(), |n| format!("{n:.1}"));
        println!("{:<36} {:>12.1} {locked:>7}  {verdict}", row.what, counted.instructions);
    }
    if checks {
        return Ok(are_kept);
    }
    println!("\nCache lines that calls of another thread write as well, per call:");
    println!("{:<36} {:>8} {:>12} {:>10}", "", "written", "by all calls", "only read");
    for (call, what) in PAIRS.iter().filter(|(call, _)| wants(call)) {
        let lines = shared(call)?;
        println!(
            "{what:<36} {:>8.2} {:>12} {:>10.2}",
            lines.written, lines.written_by_all, lines.read
        );
    }
    Ok(are_kept)
}

fn difference(counted: Executed, less: Executed, over: f64) -> Executed {
    Executed {
        instructions: (counted.instructions - less.instructions) / over,
        locked: counted.locked.zip(less.locked).map(|(counted, less)| (counted - less) / over),
    }
}
