//! Scenes from the life of a cache, each with moka alone, with the group alone, and with both.

mod cold_start;
mod editions;
mod expiry;
mod storm;
mod table;
mod traffic;
mod ways;

pub use self::{
    cold_start::cold_start, editions::Editions, expiry::expiry, storm::storm, table::Table,
    traffic::Pace,
};

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{database::Database, orders, reports::Reports};

    /// Small enough for a moment of each scene. What it promises holds however slow the machine is.
    #[tokio::test(flavor = "multi_thread")]
    async fn scenes_keep_their_promises() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders.sqlite");
        orders::create(&path, 4_000, |_| ()).unwrap();
        let database = Database::open(&path, 4).unwrap();
        let editions = Editions::new(database.clone(), Reports::new(database));
        let pace = Pace { per_second: 1_000, time: Duration::from_millis(300) };

        let scenes = [
            cold_start(100, &editions).await.unwrap(),
            expiry(pace, &editions).await.unwrap(),
            storm(pace, &editions).await.unwrap(),
        ];
        for scene in scenes {
            scene.check().unwrap();
            assert_eq!(scene.lines.len(), 3);
            let shown = scene.to_string();
            assert!(shown.contains("moka alone") && shown.contains(scene.columns[0]), "{shown}");
        }
    }
}
