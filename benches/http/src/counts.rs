//! What can be counted rather than timed, and repeats to a few in a thousand: instructions and
//! allocations of a request.

use std::hint::black_box;

use anyhow::{Context, ensure};
use axum::{Router, body::Body, extract::Request};
use http_body_util::BodyExt;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use kit::{count_alloc, valgrind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime::{Builder, Runtime},
};
use tower::ServiceExt;

use crate::{
    Options,
    app::{Executions, Front, app},
    client::write_request,
    workloads::{ALL, Workload},
};

/// How far a request goes.
#[derive(Clone, Copy)]
enum Way {
    /// From a `Request` to the end of the response's body.
    App,
    /// As bytes through a pipe in memory, parsed and answered by hyper: all that the server does but
    /// for the kernel's part.
    Connection,
}

impl Way {
    const ALL: [Self; 2] = [Self::App, Self::Connection];

    fn name(self) -> &'static str {
        match self {
            Self::App => "the application",
            Self::Connection => "with hyper, HTTP/1.1",
        }
    }
}

#[derive(Clone, Copy)]
struct Call {
    way: Way,
    front: Front,
    workload: &'static Workload,
}

impl Call {
    /// Whether it is counted in the short form.
    fn is_essential(&self) -> bool {
        matches!(self.way, Way::Connection) && self.front != Front::Idle
    }

    fn all() -> impl Iterator<Item = Self> {
        Way::ALL.into_iter().flat_map(|way| {
            // The hot ones wait, or are shared by nobody here.
            let workloads = ALL.iter().filter(|workload| workload.is_distinct());
            workloads.flat_map(move |workload| {
                let fronts = Front::ALL.into_iter().filter(|front| *front != Front::NothingAgain);
                fronts.map(move |front| Self { way, front, workload })
            })
        })
    }

    fn name(&self) -> String {
        format!("{}; {}; {}", self.workload.name, self.way.name(), self.front.name())
    }
}

/// Serves so many requests of what has this name.
pub(crate) fn make(name: &str, count: u64) -> anyhow::Result<()> {
    let call = Call::all().find(|call| call.name() == name);
    let call = call.with_context(|| format!("no call is named {name}"))?;
    let mut served = Served::start(&call)?;
    (0..count).try_for_each(|number| served.answer(number))
}

/// A server in this thread.
struct Served {
    runtime: Runtime,
    workload: &'static Workload,
    by: By,
}

enum By {
    App(Router),
    Connection { pipe: DuplexStream, request: String, response: Vec<u8> },
}

impl Served {
    fn start(call: &Call) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        // As `axum::serve` does it, or each request would build its route anew.
        let app = app(call.front, &Executions::default()).with_state(());
        let by = match call.way {
            Way::App => By::App(app),
            Way::Connection => {
                let (pipe, end) = duplex(64 << 10);
                runtime.spawn(async {
                    let io = TokioIo::new(end);
                    let connection = auto::Builder::new(TokioExecutor::new());
                    // As `axum::serve` does it. It ends with the runtime.
                    let service = TowerToHyperService::new(app);
                    _ = connection.serve_connection_with_upgrades(io, service).await;
                });
                By::Connection { pipe, request: String::new(), response: Vec::new() }
            }
        };
        let mut served = Self { runtime, workload: call.workload, by };
        if let By::Connection { pipe, response, .. } = &mut served.by {
            // The first answer tells how long they all are.
            let mut request = String::new();
            write_request(&mut request, served.workload, 0);
            served.runtime.block_on(async {
                pipe.write_all(request.as_bytes()).await?;
                *response = vec![0; 64 << 10];
                // It is written in one piece, and so read in one.
                let length = pipe.read(response).await?;
                response.truncate(length);
                ensure!(response.starts_with(b"HTTP/1.1 200 OK\r\n"), "it is not answered");
                Ok(())
            })?;
        }
        Ok(served)
    }

    fn answer(&mut self, number: u64) -> anyhow::Result<()> {
        match &mut self.by {
            By::App(app) => {
                let mut path = String::new();
                self.workload.write_path(number, &mut path);
                let mut request = Request::get(path).body(Body::empty())?;
                *request.headers_mut() = self.workload.header_map();
                let response = self.runtime.block_on(async {
                    let response = app.clone().oneshot(request).await?;
                    anyhow::Ok(response.into_body().collect().await?.to_bytes())
                })?;
                black_box(response);
            }
            By::Connection { pipe, request, response } => {
                request.clear();
                write_request(request, self.workload, number);
                self.runtime.block_on(async {
                    pipe.write_all(request.as_bytes()).await?;
                    pipe.read_exact(response).await
                })?;
                black_box(response);
            }
        }
        Ok(())
    }
}

/// Allocations of a request.
fn allocations(call: &Call) -> anyhow::Result<f64> {
    const COUNT: u64 = 1_000;
    let mut served = Served::start(call)?;
    let mut result = (0..COUNT).try_for_each(|number| served.answer(number));
    let counts = count_alloc::count(|| {
        result = (COUNT..2 * COUNT).try_for_each(|number| served.answer(number));
    });
    result?;
    Ok(counts.allocations as f64 / COUNT as f64)
}

/// How often what exceeds its bound is counted again. Hash seeds differ between runs, and so do counts, by up to three
/// in a hundred of what the layer adds. The least of them counts.
const RECOUNTS: u32 = 2;

/// A few allocations in a thousand requests are the server's, not a request's.
const STRAY: f64 = 0.01;

/// What the layer may take more than there is without it.
struct Bound {
    instructions: f64,
    allocations: f64,
}

impl Bound {
    /// They are what was counted with rustc 1.95 and glibc 2.36, and one or two in a hundred more.
    fn of(call: &Call) -> Option<Self> {
        match (call.way, call.front) {
            (Way::Connection, Front::Coalesce) if call.workload.runs_alone() => {
                Some(Self { instructions: 5_150.0, allocations: 8.0 })
            }
            (Way::Connection, Front::Coalesce) => {
                Some(Self { instructions: 9_600.0, allocations: 12.0 })
            }
            _ => None,
        }
    }
}

/// Whether all bounds are kept.
pub(crate) fn print(options: &Options) -> anyhow::Result<bool> {
    let has_valgrind = valgrind::is_there();
    ensure!(has_valgrind || !options.check, "there is no valgrind (`apt-get install valgrind`)");
    let (mut bare, mut bare_allocations) = (f64::NAN, f64::NAN);
    let mut are_kept = true;
    for call in Call::all().filter(|call| !options.short || call.is_essential()) {
        let (mut instructions, locked) = match has_valgrind {
            true => {
                let executed = valgrind::executed(&call.name())?;
                (executed.instructions, executed.locked.unwrap_or(f64::NAN))
            }
            false => (f64::NAN, f64::NAN),
        };
        let allocations = allocations(&call)?;
        if call.front == Front::Nothing {
            (bare, bare_allocations) = (instructions, allocations);
            println!(
                "\n{:<60} {:>12} {:>7} {:>6} {:>7} {:>11}",
                format!("{}; {}", call.workload.name, call.way.name()),
                "instructions",
                "more",
                "ratio",
                "locked",
                "allocations"
            );
        }
        let bound = Bound::of(&call);
        for _ in 0..RECOUNTS {
            if has_valgrind
                && bound.as_ref().is_some_and(|bound| instructions - bare > bound.instructions)
            {
                instructions = instructions.min(valgrind::executed(&call.name())?.instructions);
            }
        }
        let more = instructions - bare;
        let verdict = bound.map_or_else(String::new, |bound| {
            let is_kept = more <= bound.instructions
                && allocations - bare_allocations <= bound.allocations + STRAY;
            are_kept &= is_kept;
            let Bound { instructions, allocations } = bound;
            let verdict = if is_kept { "kept" } else { "EXCEEDED" };
            format!("<= {instructions} and {allocations} more: {verdict}")
        });
        println!(
            "{:<60} {instructions:>12.0} {more:>7.0} {:>6.3} {locked:>7.1} {allocations:>11.1}  {verdict}",
            call.front.name(),
            instructions / bare,
        );
    }
    Ok(are_kept)
}
