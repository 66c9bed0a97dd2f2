//! The tasks of the service: each needs a token, over and over, now for one audience and now for another.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use fastrand::Rng;
use futures_lite::future::poll_once;
use tokio::{
    task::JoinSet,
    time::{self, Instant},
};

use super::{
    authority::{Audience, Authority, IsDown, Token},
    cache::Tokens,
    record::{Asked, Current},
};

/// What all tasks have at hand. Clones are handles of the same.
#[derive(Clone)]
pub struct Service {
    authority: Authority,
    tokens: Tokens,
    // For each audience: tokens below have been taken back.
    good: Arc<[AtomicU64]>,
    pub current: Arc<Current>,
}

impl Service {
    pub fn new(authority: Authority, tokens: Tokens) -> Self {
        let good = (0..authority.audiences()).map(|_| AtomicU64::new(0)).collect();
        Self { authority, tokens, good, current: Arc::default() }
    }

    /// Starts so many tasks, which end when this is dropped.
    pub fn start(&self, tasks: usize) -> JoinSet<()> {
        let task = |seed| self.clone().work(Rng::with_seed(seed as u64));
        (0..tasks).map(task).collect()
    }

    async fn work(self, mut rng: Rng) {
        loop {
            self.ask(rng.usize(..self.authority.audiences())).await;
            // What the token is for.
            time::sleep(Duration::from_millis(rng.u64(50..150))).await;
        }
    }

    async fn ask(&self, audience: Audience) {
        let asked = Asked { at: Instant::now(), owed: self.good[audience].load(SeqCst) };
        let mut token = pin!(self.token(audience));
        let at_once = poll_once(&mut token).await;
        let waited = at_once.is_none();
        let token = match at_once {
            Some(token) => token,
            None => token.await,
        };
        self.current.lock().answered(asked, waited, &token);
    }

    async fn token(&self, audience: Audience) -> Result<Token, IsDown> {
        self.tokens.get_spawning(&audience, self.authority.clone().issue(audience)).await
    }

    /// The tokens of this audience have become known to somebody. No request that begins after this gets one.
    pub fn take_back(&self, audience: Audience) {
        let good = self.authority.take_back(audience);
        self.tokens.invalidate(&audience);
        self.good[audience].fetch_max(good, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use shardflight::Stats;

    use super::*;
    use crate::tokens::cached;

    #[tokio::test(start_paused = true)]
    async fn a_token_that_was_on_its_way_when_it_was_taken_back_is_not_kept() {
        let service = Service::new(Authority::of(1), cached(Stats::default()));
        let mut early = pin!(service.token(0));
        assert!(poll_once(&mut early).await.is_none());
        service.take_back(0);
        assert_eq!(early.await.unwrap().serial, 0, "who waited for it already");
        assert_eq!(service.token(0).await.unwrap().serial, 1);
        assert_eq!(service.token(0).await.unwrap().serial, 1);
    }
}
