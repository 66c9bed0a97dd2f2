//! The live page: the file itself, the events that keep it up to date, and its switch for the load.

use std::{convert::Infallible, time::Duration};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{
        Html,
        sse::{Event, Sse},
    },
};
use futures_util::{Stream, StreamExt, stream};

use super::{
    clock::Moments,
    load::{Load, Plan},
};

/// In one piece, and with nothing from elsewhere.
const PAGE: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<style>\n",
    include_str!("page/page.css"),
    "</style>\n",
    include_str!("page/page.html"),
    "<script type=\"module\">\n",
    include_str!("page/format.js"),
    include_str!("page/chart.js"),
    include_str!("page/page.js"),
    "</script>\n",
);

/// `GET /`
pub async fn page() -> Html<&'static str> {
    Html(PAGE)
}

/// `GET /events`: the last minute at once, then each moment as it comes.
pub async fn events(
    State(moments): State<Moments>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let points = json("minute", &moments.points()).retry(Duration::from_secs(1));
    let next = |mut moments: Moments| async {
        let moment = moments.next().await?;
        Some((json("moment", &*moment), moments))
    };
    let events = stream::once(async { points }).chain(stream::unfold(moments, next));
    Sse::new(events.map(Ok))
}

fn json(name: &str, data: &impl serde::Serialize) -> Event {
    Event::default().event(name).json_data(data).expect("it has no maps, so no keys but strings")
}

/// `POST /load`: one in place of the one that runs.
pub async fn start_load(
    State(load): State<Load>,
    Json(plan): Json<Plan>,
) -> Result<StatusCode, (StatusCode, String)> {
    plan.check().map_err(|error| (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    load.start(plan);
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /load`
pub async fn stop_load(State(load): State<Load>) -> StatusCode {
    load.stop();
    StatusCode::NO_CONTENT
}
