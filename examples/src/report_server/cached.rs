//! The same through a cache: nobody waits for a report that somebody has asked for lately.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use shardflight::{Stats, cache::ReadThrough};

use super::{
    endpoints::{self, Options},
    moment::Counted,
    traffic::Traffic,
};
use crate::reports::{Answer, Key, Month, Reports};

/// Who asks for a report that is older gets it, and a task makes it anew.
pub const RENEWED: Duration = Duration::from_secs(1);
/// Who asks for one that is even older, because nobody has asked for it since, waits.
const KEPT: Duration = Duration::from_secs(10);
/// Unless the database fails, which is tried again each second.
const SPARE: Duration = Duration::from_secs(60);
const RETRIED: Duration = Duration::from_secs(1);

/// The service behind the cache. Clones are handles of the same.
#[derive(Clone)]
pub struct Cached {
    reports: Reports,
    traffic: Traffic,
    cache: ReadThrough<Key, Arc<[Month]>, Arc<rusqlite::Error>>,
    stats: Arc<Stats>,
}

impl Cached {
    pub fn new(reports: Reports, traffic: Traffic) -> Self {
        let stats = Arc::new(Stats::default());
        let cache = ReadThrough::builder()
            .soft_ttl(RENEWED)
            .time_to_live(KEPT)
            .stale_if_error(SPARE)
            .negative_ttl(RETRIED)
            .observer(Arc::clone(&stats))
            .build();
        Self { reports, traffic, cache, stats }
    }

    async fn report(&self, key: Key) -> Answer {
        let Self { reports, traffic, .. } = self.clone();
        let load = async move {
            let Key { business, region } = key;
            let _load = traffic.load(format!("/cached/report/{region}?business={business}"));
            reports.report(key).await
        };
        self.cache.get_spawning(&key, load).await
    }

    pub fn counted(&self) -> Counted {
        Counted::new(&self.stats.snapshot())
    }
}

/// `GET /cached/report/{region}?business={number}`
pub async fn report(
    State(cached): State<Cached>,
    Path(region): Path<String>,
    Query(options): Query<Options>,
) -> Response {
    match endpoints::key(&region, &options) {
        Ok(key) => endpoints::response(key, cached.report(key).await),
        Err(unknown) => unknown.into_response(),
    }
}

/// `DELETE` of the same: its orders have changed.
pub async fn invalidate(
    State(cached): State<Cached>,
    Path(region): Path<String>,
    Query(options): Query<Options>,
) -> Result<StatusCode, (StatusCode, String)> {
    cached.cache.invalidate(&endpoints::key(&region, &options)?);
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /cached/report`: all have.
pub async fn invalidate_all(State(cached): State<Cached>) -> StatusCode {
    cached.cache.invalidate_all();
    StatusCode::NO_CONTENT
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;
    use crate::{database::Database, orders};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_report_is_made_once_until_it_is_invalidated() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders.sqlite");
        orders::create(&path, 4_000, |_| ()).unwrap();
        let database = Database::open(&path, 1).unwrap();
        let traffic = Traffic::default();
        let cached = Cached::new(Reports::new(database), traffic.clone());
        let path = || Path("eu-west".to_owned());
        let ask = || report(State(cached.clone()), path(), Query::default());

        let body = async || to_bytes(ask().await.into_body(), 1 << 20).await.unwrap();
        let first = body().await;
        assert_eq!(body().await, first);
        // However long that took: there has been no other load than the first that it waited for.
        assert_eq!(cached.stats.snapshot().misses, 1);

        let gone = invalidate(State(cached.clone()), path(), Query::default()).await;
        assert_eq!(gone, Ok(StatusCode::NO_CONTENT));
        assert_eq!(body().await, first);
        assert_eq!(cached.stats.snapshot().misses, 2);

        assert_eq!(invalidate_all(State(cached.clone())).await, StatusCode::NO_CONTENT);
        assert_eq!(body().await, first);
        assert_eq!(cached.stats.snapshot().misses, 3);
        assert!(traffic.news().into_iter().map(|tally| tally.loads).sum::<u64>() >= 3);

        let unknown = Path("atlantis".to_owned());
        let unknown = invalidate(State(cached.clone()), unknown, Query::default()).await;
        assert_eq!(unknown.unwrap_err().0, StatusCode::NOT_FOUND);
    }
}
