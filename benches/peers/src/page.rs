//! The page: its fixed text, and everything that is computed from what was measured.

use std::{fmt::Write, fs, path::Path};

use kit::pin;

use crate::{
    Options, charts,
    conduct::OTHERS,
    contenders::{Kind, OWN, Origin, PRESENTED},
    facts::{Fact, Facts},
    lists::Axis,
    machine,
    session::{Measured, Result},
};

const COMMAND: &str = "cargo run --release -p peers";

pub(crate) struct Page<'a> {
    pub(crate) options: &'a Options,
    pub(crate) measured: &'a [Measured],
    pub(crate) facts: Option<&'a Facts>,
}

impl Page<'_> {
    pub(crate) fn write(&self, out: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(out)?;
        let mut page = self.opening();
        page += &in_short(self.measured);
        page += &faster_peers(self.measured);
        page += &overview(self.measured);
        page += &contenders();
        for measured in self.measured {
            let file = charts::file(measured, charts::Form::Bars);
            page += &format!("\n## {}\n\n", measured.workload.title);
            page += &format!(
                "{}.\n\n![{}](charts/{file})\n\n",
                measured.workload.about, measured.workload.title
            );
            if let Some(axis) = measured.workload.axis {
                let file = charts::file(measured, charts::Form::Lines);
                page += &format!("![by {}](charts/{file})\n\n", axis.name());
            }
            page += &tables(measured);
        }
        if let Some(facts) = self.facts {
            page += &counted(facts);
        }
        fs::write(out.join("benchmarks.md"), page)?;
        Ok(())
    }

    fn opening(&self) -> String {
        let form = if self.options.short { "short" } else { "full" };
        let filter = self.options.workload.as_deref();
        let part = filter.map_or_else(String::new, |part| format!(", only of {part}"));
        let rounds = || self.measured.iter().flat_map(|measured| &measured.rounds);
        let least = rounds().map(|rounds| rounds.count()).min().unwrap_or(0);
        let most = rounds().map(|rounds| rounds.count()).max().unwrap_or(0);
        format!(
            "# Benchmarks\n\n\
             Written by `{COMMAND}`, wholly: whoever doubts a line can run it. A {form} run{part}, on \
             {date}, on {cores} cores of {processor}, {os}, with {rustc}.\n\n\
             In each round all contenders run one after the other, each on fresh state; who is first \
             changes from round to round. Threads are pinned to cores, but where said. Times are \
             nanoseconds, medians over {least} to {most} rounds. Ratios are a contender's time divided \
             by shardflight's of the same round, so above 1 is slower than shardflight, with their \
             median and 10th to 90th percentile. Nanoseconds of two machines, or of two runs, say \
             little; ratios of one run are what counts. The same code under two names has been seen \
             to differ by 5 % in W1, W2, W4 and W5, and by 20 % and more where threads meet (W3, W6, \
             W5 with OS threads) and in W8.\n\n\
             A *floor* is no singleflight but a part that one may be made of, alone: a contender that is \
             faster than a floor does without that part. Of the *raw* maps it is to insert the key before \
             the work and to remove it after.\n",
            date = machine::today(),
            cores = pin::cores(),
            processor = machine::processor(),
            os = std::env::consts::OS,
            rustc = env!("PEERS_RUSTC"),
        )
    }
}

/// 1234567 as 1,234,567; small numbers with as many digits as are worth it.
pub(crate) fn thousands(number: f64) -> String {
    if number.fract() != 0.0 && number < 10.0 {
        return format!("{number:.1}");
    }
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

pub(crate) fn ratio(number: f64) -> String {
    match number {
        0.0..1.95 => format!("{number:.2}"),
        0.0..9.95 => format!("{number:.1}"),
        _ => thousands(number.round()),
    }
}

fn with_spread(result: &Result<'_>) -> String {
    let kit::rounds::Spread { low, median, high } = result.ratio;
    format!("{} ({}..{})", ratio(median), ratio(low), ratio(high))
}

fn points(measured: &Measured) -> impl Iterator<Item = (usize, String)> {
    let workload = &measured.workload;
    workload.points.iter().enumerate().map(|(at, point)| {
        let x = workload.axis.map_or_else(String::new, |axis| format!(", {}", axis.at(point.x)));
        (at, format!("{}{x}", workload.title))
    })
}

/// The table that the README has, too.
fn in_short(measured: &[Measured]) -> String {
    let mut rows = vec![
        ["time, times shardflight's", "mutex version", "the fastest crate", "the faster recipe"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for measured in measured {
        let (at, title) = points(measured).nth(measured.workload.shown).expect("it is one of them");
        let results = measured.results(at);
        let fastest = |origin| {
            let is_one = |name| PRESENTED.iter().any(|it| it.origin == origin && it.name == name);
            let found = results.iter().filter(|result| is_one(result.entrant.name));
            let by_ratio =
                |a: &&Result<'_>, b: &&Result<'_>| a.ratio.median.total_cmp(&b.ratio.median);
            let Some(result) = found.min_by(by_ratio) else { return String::new() };
            let ratio = match result.ratio.median {
                faster @ ..1.0 => format!("**{}**", ratio(faster)),
                slower => ratio(slower),
            };
            if origin == Origin::Go { ratio } else { format!("{ratio} {}", result.entrant.name) }
        };
        rows.push(vec![
            title,
            fastest(Origin::Go),
            fastest(Origin::Crate),
            fastest(Origin::Recipe),
        ]);
    }
    format!(
        "\n## In short\n\nTime divided by shardflight's, medians; bold where it is below 1. With \
         OS threads the mutex version is the faster of its two.\n\n{}",
        table(&rows)
    )
}

fn faster_peers(measured: &[Measured]) -> String {
    let mut lines = String::new();
    let (mut of, mut lost) = (0, 0);
    for measured in measured {
        for (at, title) in points(measured) {
            of += 1;
            let faster = measured.faster(at);
            if !faster.is_empty() {
                lost += 1;
                writeln!(lines, "- {title}: {}", list(&faster)).expect("a string");
            }
        }
    }
    let mut text = "\n## Where a peer is faster\n\n".to_owned();
    if lost == 0 {
        writeln!(text, "Nowhere, at none of the {of} points measured, by the median of its ratio.")
    } else {
        write!(
            text,
            "At {lost} of {of} points measured, with the ratio to shardflight's time (below 1, the \
             peer is faster; where the second number in brackets is above 1, not in every round):\n\n\
             {lines}"
        )
    }
    .expect("a string");
    text
}

fn list(results: &[Result<'_>]) -> String {
    let each = |result: &Result<'_>| format!("{} {}", result.entrant.name, with_spread(result));
    results.iter().map(each).collect::<Vec<_>>().join("; ")
}

/// All who can be shared by tasks, in all workloads.
fn overview(measured: &[Measured]) -> String {
    let mut rows = vec![vec![String::new()]];
    rows[0].extend(measured.iter().map(|measured| measured.workload.code.to_owned()));
    for presented in PRESENTED {
        let name = presented.name;
        let mut row = vec![if name == OWN { format!("**{name}**") } else { name.to_owned() }];
        for measured in measured {
            let results = measured.results(measured.workload.shown);
            let found = results.iter().find(|result| result.entrant.name == presented.name);
            row.push(found.map_or_else(String::new, |result| {
                let ratio = ratio(result.ratio.median);
                if result.ratio.median < 1.0 { format!("**{ratio}**") } else { ratio }
            }));
        }
        rows.push(row);
    }
    format!(
        "\n## All at once\n\nTime divided by shardflight's, medians; bold where it is below 1; empty \
         where a contender cannot take part. What each workload is follows below; of those with \
         several points it is the one with a table of its own.\n\n{}",
        table(&rows)
    )
}

fn contenders() -> String {
    let mut rows = vec![["contender", "version", "used", "but"].map(str::to_owned).to_vec()];
    for presented in PRESENTED {
        let version = presented.package.map(|package| match machine::version(package) {
            Some(version) if presented.name.contains(package) => version.to_owned(),
            version => format!("{package} {}", version.unwrap_or_default()),
        });
        rows.push(vec![
            presented.name.to_owned(),
            version.unwrap_or_default(),
            presented.used.to_owned(),
            presented.but.to_owned(),
        ]);
    }
    format!(
        "\n## Contenders\n\nEach is used as its documentation advises, with the same hasher (ahash) \
         where it lets one choose, and is tested to share one execution among callers that overlap, \
         and to keep nothing.\n\n{}",
        table(&rows)
    )
}

/// Tables and sentences of a workload.
pub(crate) fn tables(measured: &Measured) -> String {
    let workload = &measured.workload;
    let shown = workload.shown;
    let x = workload.points[shown].x;
    let mut text = String::new();
    if let Some(axis) = workload.axis {
        write!(text, "{}", axis.at(x)).expect("a string");
        text += ", ";
    }
    writeln!(text, "{} rounds:\n", measured.rounds[shown].count()).expect("a string");

    let results = measured.results(shown);
    let several = workload.parts.len() > 1;
    let mut head = vec![workload.title.to_owned()];
    if several {
        head.extend(workload.parts.iter().map(|part| format!("{part}, ns")));
    } else {
        head.push("ns".to_owned());
    }
    head.extend(["to shardflight", "p10..p90"].map(str::to_owned));
    let mut rows = vec![head];
    for kind in [false, true] {
        for result in results.iter().filter(|it| (it.entrant.kind == Kind::Floor) == kind) {
            let mut row = vec![named(result)];
            row.extend(result.parts.iter().map(|&time| thousands(time)));
            row.push(ratio(result.ratio.median));
            row.push(format!("{}..{}", ratio(result.ratio.low), ratio(result.ratio.high)));
            rows.push(row);
        }
    }
    text += &table(&rows);
    text += &sentences(measured);
    if let Some(axis) = workload.axis {
        text += &by_point(measured, axis);
    }
    text
}

fn named(result: &Result<'_>) -> String {
    match result.entrant.kind {
        Kind::Own => format!("**{OWN}**"),
        Kind::Peer => result.entrant.name.to_owned(),
        Kind::Floor => format!("floor: {}", result.entrant.name),
    }
}

fn sentences(measured: &Measured) -> String {
    let shown = measured.workload.shown;
    let results = measured.results(shown);
    let faster = measured.faster(shown);
    let mut text = "\n".to_owned();
    if faster.is_empty() {
        if let Some(next) = results.iter().find(|result| result.entrant.kind == Kind::Peer) {
            let ratio = ratio(next.ratio.median);
            write!(
                text,
                "No peer is faster here; the next, {}, takes {ratio} times as long.",
                next.entrant.name
            )
            .expect("a string");
        }
    } else {
        write!(text, "Faster than shardflight here: {}.", list(&faster)).expect("a string");
    }
    for floor in results.iter().filter(|result| result.entrant.kind == Kind::Floor) {
        let ratio = ratio(1.0 / floor.ratio.median);
        write!(text, " shardflight takes {ratio} times the floor *{}*.", floor.entrant.name)
            .expect("a string");
    }
    text + "\n"
}

fn by_point(measured: &Measured, axis: Axis) -> String {
    let workload = &measured.workload;
    let cores = pin::cores();
    let mut head = vec![format!("ns, by {}", axis.name())];
    head.extend(workload.points.iter().map(|point| thousands(point.x as f64)));
    let mut rows = vec![head];
    for result in measured.results(workload.shown) {
        let mut row = vec![named(&result)];
        for at in 0..workload.points.len() {
            let results = measured.results(at);
            let same = results.iter().find(|it| it.entrant.name == result.entrant.name);
            row.push(same.map_or_else(String::new, |same| thousands(same.time.median)));
        }
        rows.push(row);
    }
    let mut text = format!("\n{}", table(&rows));
    if axis == Axis::Threads && workload.points.iter().any(|point| point.x > cores) {
        write!(
            text,
            "\nMore than {cores} threads share the {cores} cores: there they take turns, and what is \
             shown is how a contender bears that a thread is preempted, not how it scales.\n"
        )
        .expect("a string");
    }
    text
}

fn counted(facts: &Facts) -> String {
    let number = |number: f64| {
        if number.fract().abs() < 0.005 {
            thousands(number.round())
        } else {
            format!("{number:.2}")
        }
    };
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let of = |head: &[&str], row: &dyn Fn(&Fact) -> Vec<String>| {
        let mut rows = vec![head.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>()];
        for fact in &facts.rows {
            let name = if fact.name == OWN { format!("**{OWN}**") } else { fact.name.to_owned() };
            rows.push([vec![name], row(fact)].concat());
        }
        table(&rows)
    };
    let memory = of(
        &[
            "allocations, bytes",
            "unshared call, u64",
            "unshared call, String",
            "first follower adds",
            "each later one adds",
            "future of a call, bytes",
            "heap of a waiting follower, bytes",
            "heap per key in flight, bytes",
        ],
        &|Fact { memory, .. }| {
            vec![
                number(memory.unshared),
                number(memory.unshared_string),
                number(memory.first_follower),
                number(memory.later_follower),
                number(memory.future as f64),
                number(memory.heap),
                number(memory.per_key),
            ]
        },
    );
    let clones = of(
        &["clones", "unshared call", "flight with one follower", "for each of 100 followers"],
        &|Fact { clones, .. }| {
            vec![number(clones.unshared), number(clones.one_follower), number(clones.each_follower)]
        },
    );
    let held_up = format!("of {OTHERS} followers, held up by one that is not polled");
    let conduct =
        of(&["conduct", "serves a landed value", "a follower takes over", &held_up], &|fact| {
            vec![yes(fact.serves_landed), yes(fact.takes_over), fact.held_up.to_string()]
        });
    format!(
        "\n## Memory\n\nAllocations of a call in a warm group, counted. The future of a call is that \
         of leaders and followers alike, around work of 8 bytes, which some box; a follower that waits may hold some \
         of the heap besides. Heap per key is with {keys} keys in flight, capacity asked for where \
         that can be done, without the futures themselves.\n\n{memory}\
         \n## W7: values of 64 KiB\n\nHow often the value is cloned. Work that lands in an `Arc` makes \
         clones cheap everywhere, and as many.\n\n{clones}\
         \n## Conduct\n\nFound by asking, in this run. *Serves a landed value*: who calls after a \
         flight has landed, while one of its followers has yet to go on, gets the old value. *A \
         follower takes over*: polled after its leader was dropped, it runs its own work. *Held up*: \
         followers that get no value of a flight that has landed, although each is polled whenever it is \
         woken, as long as one other is not polled; of all places of that one the worst.\n\n{conduct}",
        keys = thousands(facts.keys as f64),
    )
}

/// Aligned, so that it reads well where it is printed, too.
fn table(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().expect("a head").max(3)
    };
    let widths: Vec<_> = (0..rows[0].len()).map(width).collect();
    let is_number = |cell: &String| !cell.chars().any(char::is_alphabetic);
    let is_text =
        |column: usize| column == 0 || !rows[1..].iter().all(|row| is_number(&row[column]));
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            if is_text(column) {
                write!(text, "| {cell:<width$} ")
            } else {
                write!(text, "| {cell:>width$} ")
            }
            .expect("a string");
        }
        text += "|\n";
        if i == 0 {
            for (column, width) in widths.iter().enumerate() {
                let line = "-".repeat(width + 1);
                if is_text(column) { write!(text, "|:{line}") } else { write!(text, "|{line}:") }
                    .expect("a string");
            }
            text += "|\n";
        }
    }
    text
}
