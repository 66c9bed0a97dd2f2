//! The cache of tokens: this is all there is to it.
//!
//! ```text
//! issued       0.6 s          0.9 s   1.3 s             1.8 s    2 s
//!   │            │              │       │                 │       │
//!   ├────────────┼──────────────┼───────┼─────────────────┼───────┤
//!   │ fresh      │ a refresh    │ while │ is used only if │ is    │
//!   │            │ begins       │ it is │ the authority   │ over  │
//!   │            │ somewhere    │ under │ is down         │ soon  │
//!   │            │ here         │ way   │                 │       │
//! ```
//!
//! This is a token of two seconds. One that says that it is good for longer is used for longer.

use std::time::Duration;

use shardflight::{
    Observer,
    cache::{EarlyRefresh, ReadThrough},
};
use tokio::time::Instant;

use super::authority::{Audience, IsDown, Token};

/// So long before its end a token is not used any more: it still has to get to whom it is for.
const MARGIN: Duration = Duration::from_millis(200);
/// And so long before that only if the authority is down.
const SPARE: Duration = Duration::from_millis(500);
/// After so long it is refreshed: early enough that it is not needed any more when that is done.
const SOFT: Duration = Duration::from_millis(900);
/// Or up to so much earlier, each at another moment.
const EARLY: Duration = Duration::from_millis(300);
/// No earlier.
pub const FIRST_REFRESH: Duration = SOFT.saturating_sub(EARLY);
/// An authority that is down is asked again after so long.
pub const RETRY: Duration = Duration::from_millis(100);

pub type Tokens = ReadThrough<Audience, Token, IsDown>;

pub fn cached(observer: impl Observer) -> Tokens {
    ReadThrough::builder()
        .time_to_live_of(|_, token: &Token| {
            let left = token.expires_at - Instant::now();
            Some(left.saturating_sub(MARGIN + SPARE))
        })
        .soft_ttl(SOFT)
        .early_refresh(EarlyRefresh::Jitter(EARLY))
        .stale_if_error(SPARE)
        .negative_ttl(RETRY)
        .observer(observer)
        .build()
}
