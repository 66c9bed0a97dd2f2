//! The calls of threads.

use std::{
    hint,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    slice,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use examples::ledger::{Execution, Key, Value};
use fastrand::Rng;
use futures_lite::future;
use shardflight::{Entry, Role};

use crate::{
    Answer, Soak,
    answers::{panic_on_purpose, told, untold},
    choices::{Course, Options},
    kind::Kind,
};

impl Soak {
    pub(crate) fn work_blocking(&self, key: &Key, own: &Arc<Execution>, course: Course) -> Value {
        let running = own.begin();
        for _ in 0..course.steps * 50 {
            hint::spin_loop();
        }
        if course.steps > 10 {
            thread::yield_now();
        }
        if course.recurses {
            let again = self.group.call(key).run_blocking(|| unreachable!("it would run twice"));
            self.is_recursion(key, again);
        }
        if course.panics {
            panic_on_purpose(slice::from_ref(key));
        }
        running.done()
    }

    /// A call of a thread.
    pub(crate) fn ask_blocking(&'static self, kind: Kind, rng: &mut Rng) {
        self.count(kind);
        let key = self.key(rng);
        let mut options = Options::random(rng, &key);
        match kind {
            Kind::CallBlocking => {}
            Kind::BlockOnRelay => options.timeout = None,
            _ => options = Options::default(),
        }
        let course = Course::random(rng, &key, false);
        let is_relay = kind == Kind::BlockOnRelay;
        let own = self.ledger.execution(&key, is_relay);
        let called = self.ledger.call(&key, options.fresh);
        let asked = catch_unwind(AssertUnwindSafe(|| -> Option<Answer> {
            let work = || self.work_blocking(&key, &own, course);
            match kind {
                Kind::RunBlocking => Some(Ok((self.group.run_blocking(&key, work), None))),
                Kind::CallBlocking => {
                    Some(options.apply(self.group.call(&key)).run_blocking(work).map(told))
                }
                Kind::JoinBlocking => {
                    let handle = self.group.join(&key)?;
                    if rng.bool() {
                        let patience = Duration::from_micros(rng.u64(..300));
                        options.timeout = Some(patience);
                        Some(handle.wait_timeout(patience).map(untold))
                    } else {
                        Some(handle.wait().map(untold))
                    }
                }
                Kind::LeadBlocking => {
                    if !key.is_leadable() {
                        return None;
                    }
                    match self.group.lead_or_join(&key) {
                        Entry::Join(handle) => Some(handle.wait().map(untold)),
                        Entry::Lead(lead) => {
                            let course = Course { recurses: false, ..course };
                            let value = self.work_blocking(&key, &own, course);
                            let followers = lead.land(value.clone());
                            Some(Ok((value, Some(Role::Led { followers }))))
                        }
                    }
                }
                Kind::BlockOnRun => Some(Ok((
                    future::block_on(self.group.run(&key, self.work(&key, &own, course))),
                    None,
                ))),
                Kind::BlockOnRelay => {
                    let relay = self.relay(&key, &own, course, options);
                    if rng.u32(..4) > 0 {
                        return Some(future::block_on(relay).map(told));
                    }
                    // It takes a look and goes.
                    let mut relay = pin!(relay);
                    let looked = relay.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                    match looked {
                        Poll::Ready(answer) => Some(answer.map(told)),
                        Poll::Pending => {
                            self.count(Kind::Dropped);
                            None
                        }
                    }
                }
                _ => unreachable!("threads block"),
            }
        }));
        match asked {
            Ok(Some(answer)) => {
                self.check_answer(kind, &key, &own, &called, options, answer);
            }
            Ok(None) => {}
            Err(payload) => self.is_on_purpose(&key, &*payload),
        }
    }
}
