//! The three ways to a report: a cache alone, a group alone, and both.

use std::sync::Arc;

use moka::future::Cache;
use shardflight::{Group, cache::ReadThrough};

use super::editions::{Answer, Edition};
use crate::reports::Key;

#[derive(Clone)]
pub enum Way {
    Moka(Cache<Key, Edition>),
    Group(Group<Key, Answer>),
    Both(ReadThrough<Key, Edition, Arc<rusqlite::Error>>),
}

impl Way {
    /// Without a time to live: what is cached stays until it is invalidated.
    pub fn all() -> [Self; 3] {
        [
            Self::Moka(Cache::builder().build()),
            Self::Group(Group::new()),
            Self::Both(ReadThrough::builder().build()),
        ]
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Moka(_) => "moka alone",
            Self::Group(_) => "group alone",
            Self::Both(_) => "both: ReadThrough",
        }
    }

    /// The report. `load` is its query, if one is needed.
    pub async fn get(
        &self,
        key: Key,
        load: impl Future<Output = Answer> + Send + 'static,
    ) -> Answer {
        match self {
            Self::Moka(moka) => moka.try_get_with(key, load).await.map_err(Arc::unwrap_or_clone),
            Self::Group(group) => group.run(&key, load).await,
            Self::Both(cache) => cache.get_spawning(&key, load).await,
        }
    }

    /// Its data have changed.
    pub async fn invalidate(&self, key: Key) {
        match self {
            Self::Moka(moka) => moka.invalidate(&key).await,
            Self::Group(group) => drop(group.forget(&key)),
            Self::Both(cache) => cache.invalidate(&key),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Pending, pending, ready},
        pin::pin,
        time::Instant,
    };

    use futures_lite::future::{block_on, poll_once};
    use tokio::sync::oneshot;

    use super::*;

    const KEY: Key = Key { business: 1, region: "eu-west" };

    fn edition(number: u64) -> Answer {
        Ok(Edition { number, began: Instant::now(), report: Arc::new([]) })
    }

    /// The edition that is asked for when the data changed while the first was being loaded.
    fn after_a_change_during_a_load(way: &Way) -> u64 {
        block_on(async {
            let (land, landed) = oneshot::channel();
            let mut early = pin!(way.get(KEY, async { landed.await.unwrap() }));
            assert!(poll_once(&mut early).await.is_none(), "it is being loaded");
            way.invalidate(KEY).await;
            land.send(edition(0)).unwrap();
            assert_eq!(early.await.unwrap().number, 0);
            way.get(KEY, ready(edition(1))).await.unwrap().number
        })
    }

    #[test]
    fn an_invalidation_is_final_but_with_moka_alone() {
        let [moka, group, both] = Way::all().map(|way| after_a_change_during_a_load(&way));
        assert_eq!((group, both), (1, 1));
        // What the storm shows. If moka has learnt this, the storm has nothing left to show.
        assert_eq!(moka, 0);
    }

    #[test]
    fn all_share_a_load_and_caches_keep_it() {
        for way in Way::all() {
            block_on(async {
                let (land, landed) = oneshot::channel();
                let mut first = pin!(way.get(KEY, async { landed.await.unwrap() }));
                assert!(poll_once(&mut first).await.is_none());
                let never: Pending<Answer> = pending();
                let mut second = pin!(way.get(KEY, never));
                assert!(poll_once(&mut second).await.is_none());
                land.send(edition(7)).unwrap();
                assert_eq!(first.await.unwrap().number, 7);
                assert_eq!(second.await.unwrap().number, 7);
                let third = way.get(KEY, ready(edition(8))).await.unwrap().number;
                assert_eq!(third, if matches!(way, Way::Group(_)) { 8 } else { 7 });
            });
        }
    }

    #[test]
    fn an_error_goes_to_who_asked_and_is_not_kept() {
        for way in Way::all() {
            let error = Err(Arc::new(rusqlite::Error::InvalidQuery));
            block_on(way.get(KEY, ready(error))).unwrap_err();
            assert_eq!(block_on(way.get(KEY, ready(edition(1)))).unwrap().number, 1);
        }
    }
}
