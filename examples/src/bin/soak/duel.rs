//! Two threads that drop the last two calls of a flight in the same instant.

use std::{
    hint,
    sync::{
        Mutex, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::{Context, Waker},
    thread,
};

use examples::ledger::Key;
use fastrand::Rng;

use crate::{
    AnyCall, Soak,
    choices::{Course, Options},
    kind::Kind,
};

/// Who drops the follower.
#[derive(Default)]
pub(crate) struct Rival {
    call: Mutex<Option<AnyCall>>,
    turn: AtomicU64,
}

#[derive(Clone, Copy)]
pub(crate) enum Turn {
    Rest,
    Aim,
    Drop,
    Leave,
}

impl Rival {
    pub(crate) fn give_turn(&self, turn: Turn) {
        self.turn.store(turn as u64, SeqCst);
    }

    /// Spins, because to be woken takes longer than what is to happen at once.
    pub(crate) fn wait_while(&self, holds: impl Fn(u64) -> bool) -> u64 {
        let mut spins = 0_u32;
        loop {
            let now = self.turn.load(SeqCst);
            if !holds(now) {
                return now;
            }
            spins = spins.wrapping_add(1);
            if spins.is_multiple_of(256) {
                thread::yield_now();
            }
            hint::spin_loop();
        }
    }

    pub(crate) fn fight(&self, rng: &mut Rng) {
        while self.wait_while(|now| now == Turn::Rest as u64) != Turn::Leave as u64 {
            let call = self.call.lock().unwrap_or_else(PoisonError::into_inner).take();
            self.give_turn(Turn::Drop);
            wait_a_little(rng);
            drop(call);
            self.give_turn(Turn::Rest);
        }
    }
}

fn wait_a_little(rng: &mut Rng) {
    for _ in 0..rng.u32(..40) {
        hint::spin_loop();
    }
}

impl Soak {
    /// A leader and its only follower are dropped in the same instant, by two threads.
    pub(crate) fn duel(&'static self, rival: &Rival, rng: &mut Rng) {
        let key = self.key(rng);
        // No other caller comes near enough.
        let key = Key::new(self.newest.fetch_add(16, Relaxed) + 4 + key.id() % 2);
        let course = Course { steps: 9, sleeps: false, panics: false, recurses: false };
        let mut call = || {
            let kind = [Kind::Run, Kind::Call, Kind::Relay, Kind::Relay][rng.usize(..4)];
            let own = self.ledger.execution(&key, kind == Kind::Relay);
            let options = Options { max_age: None, ..Options::random(rng, &key) };
            // This thread has no timer.
            let options = Options { max_followers: None, timeout: None, ..options };
            let mut call = self.begin(kind, &key, &own, course, options);
            let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            self.check(polled.is_pending(), || format!("a duel for key {} was over", key.id()));
            call
        };
        let (leader, follower) = (call(), call());
        *rival.call.lock().unwrap_or_else(PoisonError::into_inner) = Some(follower);
        rival.give_turn(Turn::Aim);
        // It may have dropped its own by now.
        rival.wait_while(|now| now == Turn::Aim as u64);
        wait_a_little(rng);
        drop(leader);
        rival.wait_while(|now| now != Turn::Rest as u64);
        self.count(Kind::Duel);
        self.check(!self.group.is_in_flight(&key), || {
            format!("G4: nobody is left in the flight of key {}, and it is there", key.id())
        });
    }
}
