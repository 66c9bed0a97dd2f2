//! What callers choose at random: the options of a call, and what its work does.

use std::{hash::RandomState, time::Duration};

use examples::ledger::{Key, Value};
use fastrand::Rng;
use shardflight::{Call, OnCancel};

/// What a call asks for, and what it may therefore be told.
#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    pub(crate) fails: bool,
    pub(crate) fresh: bool,
    pub(crate) max_followers: Option<usize>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) timeout: Option<Duration>,
}

impl Options {
    pub(crate) fn random(rng: &mut Rng, key: &Key) -> Self {
        let mut chosen = |one_in: u32| rng.u32(..one_in) == 0;
        Self {
            fails: chosen(5),
            fresh: chosen(4),
            max_followers: chosen(8).then_some(2),
            max_age: chosen(6).then_some(match key.is_forgettable() {
                true => Duration::from_micros(300),
                false => Duration::from_secs(3_600),
            }),
            timeout: chosen(3).then_some(Duration::from_micros(200)),
        }
    }

    pub(crate) fn apply<'a>(
        &self,
        mut call: Call<'a, Key, Value, RandomState, Key>,
    ) -> Call<'a, Key, Value, RandomState, Key> {
        if self.fails {
            call = call.on_cancel(OnCancel::Fail);
        }
        if self.fresh {
            call = call.fresh();
        }
        if let Some(n) = self.max_followers {
            call = call.max_followers(n);
        }
        if let Some(age) = self.max_age {
            call = call.max_age(age);
        }
        if let Some(patience) = self.timeout {
            call = call.timeout(patience);
        }
        call
    }
}

/// What a piece of work is going to do.
#[derive(Clone, Copy)]
pub(crate) struct Course {
    pub(crate) steps: u32,
    pub(crate) sleeps: bool,
    pub(crate) panics: bool,
    pub(crate) recurses: bool,
}

impl Course {
    pub(crate) fn random(rng: &mut Rng, key: &Key, in_runtime: bool) -> Self {
        Self {
            steps: if rng.bool() { 0 } else { rng.u32(..12) },
            sleeps: in_runtime && rng.u32(..40) == 0,
            panics: rng.u32(..30) == 0,
            recurses: !key.is_forgettable() && rng.u32(..20) == 0,
        }
    }
}
