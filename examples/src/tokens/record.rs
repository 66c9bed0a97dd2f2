//! What became of the requests of a while, and whether one got a token that was no good.

use std::{
    mem::take,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::authority::{IsDown, Token};

/// A request that has begun.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub at: Instant,
    /// Tokens below had been taken back by then, and the cache told of it.
    pub owed: u64,
}

/// Requests that have been answered.
pub struct Record {
    pub requests: u64,
    /// Those whose answer was not there at once.
    pub waited: u64,
    pub refused: u64,
    pub expired: u64,
    pub taken_back: u64,
    // Nanoseconds.
    latencies: Histogram<u64>,
}

impl Default for Record {
    fn default() -> Self {
        let latencies = Histogram::new(2).expect("a histogram has between 0 and 5 digits");
        let (requests, waited, refused, expired, taken_back) = Default::default();
        Self { requests, waited, refused, expired, taken_back, latencies }
    }
}

impl Record {
    pub fn answered(&mut self, asked: Asked, waited: bool, answer: &Result<Token, IsDown>) {
        let now = Instant::now();
        self.requests += 1;
        self.waited += u64::from(waited);
        let latency = (now - asked.at).as_nanos() as u64;
        self.latencies.record(latency).expect("the histogram grows");
        match answer {
            Ok(token) => {
                self.expired += u64::from(token.expires_at <= now);
                self.taken_back += u64::from(token.serial < asked.owed);
            }
            Err(IsDown) => self.refused += 1,
        }
    }

    /// The latency that so many of a hundred requests did not exceed.
    pub fn percentile(&self, percent: u8) -> Duration {
        Duration::from_nanos(self.latencies.value_at_percentile(percent.into()))
    }
}

/// That of now.
#[derive(Default)]
pub struct Current(Mutex<Record>);

impl Current {
    pub fn lock(&self) -> MutexGuard<'_, Record> {
        // A record that is half done by a panic is still one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the next one.
    pub fn take(&self) -> Record {
        take(&mut self.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tokens_that_are_no_good_are_noticed() {
        let now = Instant::now();
        let token = |serial, left| {
            Ok(Token { audience: 0, serial, expires_at: now + Duration::from_millis(left) })
        };
        let asked = Asked { at: now, owed: 3 };
        let mut record = Record::default();
        record.answered(asked, false, &token(3, 1));
        assert_eq!((record.expired, record.taken_back), (0, 0));
        record.answered(asked, true, &token(3, 0));
        record.answered(asked, true, &token(2, 1));
        record.answered(asked, true, &Err(IsDown));
        assert_eq!((record.expired, record.taken_back, record.refused), (1, 1, 1));
        assert_eq!((record.requests, record.waited), (4, 3));
    }
}
