//! Pages that each list fifty customers: a query for each of them ("N+1"), one query for each page, and
//! one for what no other page has asked for already.
//!
//! `cargo run --release -p examples --bin batch`

use std::time::Instant;

use anyhow::Context;
use clap::Parser;
use examples::{
    customers::{Answer, Customer, Customers, Id},
    database::Database,
    measure::{HEADER, Row, Run},
    orders::{self, CUSTOMERS},
};
use fastrand::Rng;
use shardflight::Group;
use tokio::{runtime::Runtime, task::JoinSet};

/// What the service has for all pages together.
const CONNECTIONS: usize = 4;

/// Pages that each list fifty customers: a query for each, one for each page, and shared ones
#[derive(Parser)]
struct Args {
    /// Orders in the database: the more, the longer a query takes
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Pages that are asked for at once
    #[arg(long, default_value_t = 400)]
    pages: usize,
    /// Customers on each page
    #[arg(long, default_value_t = 50)]
    customers: usize,
    /// Customers that pages are about: the fewer, the more of them two pages have in common
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(Id).range(1..=CUSTOMERS as i64))]
    among: Id,
}

/// What every page has at hand.
#[derive(Clone)]
struct App {
    database: Database,
    customers: Customers,
    group: Group<Id, Answer>,
}

type Page = anyhow::Result<Vec<Customer>>;

// The three ways to make a page.

async fn one_by_one(app: App, ids: Vec<Id>) -> Page {
    let mut page = Vec::new();
    for id in ids {
        page.push(app.customers.one(id).await?);
    }
    Ok(page)
}

async fn by_page(app: App, ids: Vec<Id>) -> Page {
    let found = app.customers.many(ids).await;
    found.into_iter().map(|(_, answer)| Ok(answer?)).collect()
}

async fn shared(app: App, ids: Vec<Id>) -> Page {
    let found = app.group.run_many(ids, |missing| app.customers.many(missing)).await;
    found.into_values().map(|answer| Ok(answer?)).collect()
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let path = orders::find(args.rows)?;
    let database = Database::open(&path, CONNECTIONS).with_context(orders::unusable(&path))?;
    let customers = Customers::new(database.clone());
    let app = App { database, customers, group: Group::new() };

    let Args { pages, customers, among, .. } = args;
    println!("{pages} pages of {customers} customers among {among}; {CONNECTIONS} connections\n");
    let runtime = Runtime::new()?;
    let table = [
        runtime.block_on(ask("a query for each id", &args, &app, one_by_one))?,
        runtime.block_on(ask("a query for each page", &args, &app, by_page))?,
        runtime.block_on(ask("run_many", &args, &app, shared))?,
    ];

    println!("\n{HEADER}");
    for row in table {
        println!("{row}");
    }
    Ok(())
}

/// All pages at once, each a task of its own, and the same pages each time.
async fn ask<F>(
    name: &'static str,
    args: &Args,
    app: &App,
    make: impl Fn(App, Vec<Id>) -> F,
) -> anyhow::Result<Row>
where
    F: Future<Output = Page> + Send + 'static,
{
    let mut rng = Rng::with_seed(7);
    let mut run = Run::start(name, args.pages, &app.database);
    let mut tasks = JoinSet::new();
    for _ in 0..args.pages {
        let ids = (0..args.customers).map(|_| rng.u32(..args.among)).collect();
        let (asked, page) = (Instant::now(), make(app.clone(), ids));
        tasks.spawn(async move { page.await.map(|_| asked.elapsed()) });
    }
    while let Some(latency) = tasks.join_next().await {
        run.answered(latency??);
    }
    Ok(run.finish())
}
