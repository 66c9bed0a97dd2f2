//! The service over HTTP: a report as JSON, made by SQLite for each request that gets here.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{
        StatusCode,
        header::{CACHE_CONTROL, SET_COOKIE},
    },
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use crate::{
    orders::{BUSINESSES, REGIONS},
    reports::{Answer, Key, Month, Reports},
};

/// What may come after the question mark.
#[derive(Default, Deserialize)]
pub struct Options {
    #[serde(default)]
    business: u32,
}

#[derive(Serialize)]
struct Report<'a> {
    region: &'a str,
    business: u32,
    months: &'a [Month],
}

/// `GET /report/{region}?business={number}`
pub async fn report(
    State(reports): State<Reports>,
    Path(region): Path<String>,
    Query(options): Query<Options>,
) -> Response {
    match key(&region, &options) {
        Ok(key) => response(key, reports.report(key).await),
        Err(unknown) => unknown.into_response(),
    }
}

/// What is asked for, if there is such a report.
pub fn key(region: &str, options: &Options) -> Result<Key, (StatusCode, String)> {
    let Options { business } = *options;
    let known = REGIONS.into_iter().find(|&known| known == region);
    let Some(region) = known.filter(|_| business < BUSINESSES) else {
        let regions = REGIONS.join(", ");
        let what = format!("There are the regions {regions}, and businesses below {BUSINESSES}.\n");
        return Err((StatusCode::NOT_FOUND, what));
    };
    Ok(Key { business, region })
}

/// The answer, as JSON.
pub fn response(Key { business, region }: Key, answer: Answer) -> Response {
    match answer {
        Ok(months) => Json(Report { region, business, months: &months }).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// The same for a visitor of whom the service knows nothing: the answer makes it one that it knows.
pub async fn session(
    reports: State<Reports>,
    region: Path<String>,
    options: Query<Options>,
) -> Response {
    static VISITORS: AtomicU64 = AtomicU64::new(0);
    let visitor = VISITORS.fetch_add(1, Relaxed);
    let cookie = format!("visitor={visitor}; Path=/session; HttpOnly; SameSite=Lax");
    let head = [(SET_COOKIE, cookie), (CACHE_CONTROL, "private".to_owned())];
    (head, report(reports, region, options).await).into_response()
}
