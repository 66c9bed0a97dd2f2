//! The authority: it takes its time to issue a token, may be down, and may take tokens back.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::time::{self, Instant};

/// Whom a token is for: a number below that of the authority's audiences.
pub type Audience = usize;

/// How long a token is good for: the next audience's for a quarter of a second more, up to three seconds.
fn lifetime(audience: Audience) -> Duration {
    Duration::from_millis(2_000 + 250 * (audience as u64 % 5))
}

/// How long the authority takes to issue one.
const WORK: Duration = Duration::from_millis(60);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub audience: Audience,
    /// Among the tokens of its audience.
    pub serial: u64,
    pub expires_at: Instant,
}

/// The authority did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsDown;

impl fmt::Display for IsDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the authority is down")
    }
}

impl std::error::Error for IsDown {}

/// Clones are handles of the same one.
#[derive(Clone)]
pub struct Authority(Arc<State>);

struct State {
    is_down: AtomicBool,
    asked: AtomicU64,
    refused: AtomicU64,
    books: Vec<Book>,
}

/// What is known of an audience.
#[derive(Default)]
struct Book {
    next: AtomicU64,
    /// All below have been taken back.
    good: AtomicU64,
}

impl Authority {
    pub fn of(audiences: usize) -> Self {
        let books = (0..audiences).map(|_| Book::default()).collect();
        let (is_down, asked, refused) = Default::default();
        Self(Arc::new(State { is_down, asked, refused, books }))
    }

    pub fn audiences(&self) -> usize {
        self.0.books.len()
    }

    /// A new token. It is entered in the books at once, so it may be taken back before it is here.
    pub async fn issue(self, audience: Audience) -> Result<Token, IsDown> {
        let state = &*self.0;
        state.asked.fetch_add(1, SeqCst);
        let serial = state.books[audience].next.fetch_add(1, SeqCst);
        time::sleep(WORK).await;
        if state.is_down.load(SeqCst) {
            state.refused.fetch_add(1, SeqCst);
            return Err(IsDown);
        }
        Ok(Token { audience, serial, expires_at: Instant::now() + lifetime(audience) })
    }

    /// Nobody gets a token until it is up again.
    pub fn go_down(&self) {
        self.0.is_down.store(true, SeqCst);
    }

    pub fn come_up(&self) {
        self.0.is_down.store(false, SeqCst);
    }

    /// Takes back all tokens of this audience that are in the books: what the first good one will be.
    pub fn take_back(&self, audience: Audience) -> u64 {
        let book = &self.0.books[audience];
        let good = book.next.load(SeqCst);
        book.good.fetch_max(good, SeqCst);
        good
    }

    /// How often it was asked so far, and how often it did not answer.
    pub fn asked(&self) -> (u64, u64) {
        (self.0.asked.load(SeqCst), self.0.refused.load(SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_lite::future::poll_once;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_being_issued_is_taken_back_with_the_rest() {
        let authority = Authority::of(2);
        let mut on_its_way = pin!(authority.clone().issue(1));
        assert!(poll_once(&mut on_its_way).await.is_none());
        let good = authority.take_back(1);
        assert!(on_its_way.await.unwrap().serial < good);
        assert!(authority.clone().issue(1).await.unwrap().serial >= good);
        assert_eq!(authority.take_back(0), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_down_until_it_is_up() {
        let authority = Authority::of(1);
        authority.go_down();
        assert_eq!(authority.clone().issue(0).await, Err(IsDown));
        authority.come_up();
        let token = authority.clone().issue(0).await.unwrap();
        assert_eq!(token.expires_at, Instant::now() + lifetime(0));
        assert_eq!(authority.asked(), (2, 1));
    }
}
