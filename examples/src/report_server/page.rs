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
    load::{Load, Viewer},
    plan::Plan,
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

/// `GET /events`: the last minute, then each moment as it comes. Whoever reads them is a viewer of the load.
pub async fn events(
    State((moments, load)): State<(Moments, Load)>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let points = json("minute", &moments.points()).retry(Duration::from_secs(1));
    let next = |(mut moments, viewer): (Moments, Viewer)| async {
        let moment = moments.next().await?;
        Some((json("moment", &*moment), (moments, viewer)))
    };
    let moments = stream::unfold((moments, load.viewer()), next);
    let events = stream::once(async { points }).chain(moments);
    Sse::new(events.map(Ok))
}

fn json(name: &str, data: &impl serde::Serialize) -> Event {
    Event::default().event(name).json_data(data).expect("it has no maps, so no keys but strings")
}

/// `POST /load`: starts a load in place of the one that runs.
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::response::IntoResponse;
    use tokio::{net::TcpListener, time};

    use super::*;
    use crate::{
        database::Database,
        orders,
        report_server::{cached::Cached, load::LENGTH, plan::Way, traffic::Traffic},
        reports::Reports,
    };

    #[tokio::test(start_paused = true)]
    async fn a_reader_of_the_events_is_a_viewer_of_the_load() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders.sqlite");
        orders::create(&path, 4, |_| ()).unwrap();
        let database = Database::open(&path, 1).unwrap();
        let traffic = Traffic::default();
        let cached = Cached::new(Reports::new(database.clone()), traffic.clone());
        // Clients of the load get no response.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let load = Load::new(listener.local_addr().unwrap(), traffic.clone());
        let moments = Moments::start(traffic, load.clone(), database, cached);

        let events = events(State((moments, load.clone()))).await.into_response();
        load.start(Plan { way: Way::Plain, clients: 1, reports: 1 });
        time::sleep(LENGTH / 3).await;
        assert!(load.running().is_some());
        drop(events);
        time::sleep(LENGTH / 3).await;
        assert_eq!(load.running(), None);
    }
}
