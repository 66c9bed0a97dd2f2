//! Feature `tokio`: values are refreshed by tasks of their own.

use std::{
    borrow::Borrow,
    future::Future,
    hash::{BuildHasher, Hash},
};

use super::{ReadThrough, read_through::Looked};

impl<K, V, E, S> ReadThrough<K, V, E, S>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    S: BuildHasher + Clone + Send + Sync + 'static,
{
    /// [`get`](Self::get) that never waits for a refresh: a value that is to be refreshed is returned at once,
    /// and `load` goes on as a task of its own, one for each key at a time. A value that is not there is loaded
    /// as by `get`, in the caller's own task.
    ///
    /// ```
    /// use shardflight::cache::ReadThrough;
    /// use std::{convert::Infallible, time::Duration};
    /// use tokio::time::sleep;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// async fn measure(degrees: i32) -> Result<i32, Infallible> {
    ///     sleep(Duration::from_secs(1)).await;
    ///     Ok(degrees)
    /// }
    ///
    /// let weather: ReadThrough<String, i32, Infallible> =
    ///     ReadThrough::builder().soft_ttl(Duration::from_secs(60)).build();
    /// assert_eq!(weather.get_spawning("Oslo", measure(4)).await, Ok(4));
    /// sleep(Duration::from_secs(61)).await;
    /// assert_eq!(weather.get_spawning("Oslo", measure(5)).await, Ok(4)); // at once
    /// sleep(Duration::from_secs(2)).await;
    /// assert_eq!(weather.get_spawning("Oslo", measure(6)).await, Ok(5));
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get). A refresh goes on whoever goes; when its runtime shuts down it is dropped, and the
    /// next look-up begins another.
    ///
    /// # Errors
    ///
    /// Those of the load. If a refresh fails the value stays; see
    /// [`negative_ttl`](super::ReadThroughBuilder::negative_ttl).
    ///
    /// # Panics
    ///
    /// As [`get`](Self::get). If there is something to refresh outside of a tokio runtime, as
    /// [`tokio::spawn`](::tokio::spawn). A refresh that panics does so in its own task.
    pub async fn get_spawning<Q, F>(&self, key: &Q, load: F) -> Result<V, E>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K> + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let core = &*self.core;
        match core.look_up(key) {
            Looked::Answer(answer) => {
                // Before the answer is returned (see `panics`).
                drop(load);
                answer
            }
            Looked::Due(value, of) => {
                core.tell(|observer| observer.stale_hit());
                let (cache, owned) = (self.clone(), key.to_owned());
                let work = async move { cache.core.load::<K, F>(&owned, Some(of), load).await };
                // If there are too many followers for it, somebody else has been quicker.
                drop(core.call(key).max_followers(0).spawn(work));
                Ok(value)
            }
            looked => core.fetch(key, looked, load).await,
        }
    }
}
