//! The calls of tasks.

use std::{
    collections::HashMap,
    future::poll_fn,
    panic::AssertUnwindSafe,
    slice,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use examples::ledger::{Called, Execution, Key, Value};
use fastrand::Rng;
use futures_lite::{FutureExt, future};
use shardflight::{CallError, Entry, Handle, Outcome, Role};
use tokio::time::{sleep, timeout};

use crate::{
    Answer, AnyCall, Soak,
    answers::{panic_on_purpose, told, untold},
    choices::{Course, Options},
    kind::Kind,
};

/// Polls to the end, or to where the caller loses patience: never, if it is `u32::MAX`.
async fn poll_with_patience<T>(
    patience: u32,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    let mut left = patience;
    poll_fn(|cx| match poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if patience == u32::MAX => Poll::Pending,
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            // Patience ends whether anything happens or not.
            left -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

impl Soak {
    pub(crate) async fn work(&self, key: &Key, own: &Arc<Execution>, course: Course) -> Value {
        let running = own.begin();
        for _ in 0..course.steps {
            future::yield_now().await;
        }
        if course.sleeps {
            sleep(Duration::from_micros(200)).await;
        }
        if course.recurses {
            let again = self.group.call(key).run(async { unreachable!("it would run twice") });
            self.is_recursion(key, again.await);
        }
        if course.panics {
            panic_on_purpose(slice::from_ref(key));
        }
        running.done()
    }

    /// A call of a task.
    pub(crate) async fn ask(&'static self, kind: Kind, rng: &mut Rng) {
        self.count(kind);
        let key = self.key(rng);
        let mut options = Options::random(rng, &key);
        match kind {
            Kind::Run | Kind::LeadOrJoin | Kind::Join => options = Options::default(),
            // It is polled by smol's threads, which have no timer of tokio's.
            Kind::Task => options.timeout = None,
            Kind::Call | Kind::Relay | Kind::Spawn => {}
            Kind::RunMany => return self.ask_for_many(rng).await,
            _ => unreachable!("tasks do not block"),
        }
        // smol's threads are none of tokio's, and `task` does not bring its runtime along.
        let course = Course::random(rng, &key, kind != Kind::Task);
        let own = self.ledger.execution(&key, kind == Kind::Relay);
        let called = self.ledger.call(&key, options.fresh);
        let call: AnyCall = match kind {
            Kind::Run | Kind::Call | Kind::Relay => self.begin(kind, &key, &own, course, options),
            Kind::Spawn | Kind::Task => {
                let aborts = key.is_abortable() && rng.u32(..4) == 0;
                match self.board(kind, &key, &own, course, options, aborts, rng) {
                    Ok(handle) => Box::pin(async move { handle.await.map(untold) }),
                    Err(error) => return self.is_right(kind, &key, options, &error),
                }
            }
            Kind::Join => match self.group.join(&key) {
                Some(handle) => Box::pin(async move { handle.clone().await.map(untold) }),
                None => return,
            },
            Kind::LeadOrJoin => {
                if !key.is_leadable() {
                    return;
                }
                let gives_up = rng.u32(..8) == 0;
                let (key, own) = (key.clone(), Arc::clone(&own));
                match self.group.lead_or_join(&key) {
                    Entry::Join(handle) => Box::pin(async move { handle.await.map(untold) }),
                    Entry::Lead(lead) => Box::pin(async move {
                        let lead = lead;
                        let course = Course { recurses: false, ..course };
                        let value = self.work(&key, &own, course).await;
                        if gives_up {
                            return Err(CallError::Cancelled);
                        }
                        let followers = lead.land(value.clone());
                        Ok((value, Some(Role::Led { followers })))
                    }),
                }
            }
            _ => unreachable!("matched above"),
        };
        let answer = self.fly(call, &key, &own, options, rng).await;
        if let Some(answer) = answer {
            self.check_answer(kind, &key, &own, &called, options, answer);
        }
    }

    pub(crate) fn begin(
        &'static self,
        kind: Kind,
        key: &Key,
        own: &Arc<Execution>,
        course: Course,
        options: Options,
    ) -> AnyCall {
        let (key, own) = (key.clone(), Arc::clone(own));
        match kind {
            Kind::Call => Box::pin(async move {
                let call = options.apply(self.group.call(&key));
                call.run(self.work(&key, &own, course)).await.map(told)
            }),
            Kind::Relay => {
                Box::pin(async move { self.relay(&key, &own, course, options).await.map(told) })
            }
            _ => Box::pin(async move {
                Ok((self.group.run(&key, self.work(&key, &own, course)).await, None))
            }),
        }
    }

    pub(crate) fn relay<'a>(
        &'static self,
        key: &'a Key,
        own: &Arc<Execution>,
        course: Course,
        options: Options,
    ) -> impl Future<Output = Result<Outcome<Value>, CallError>> + Send + use<'a> {
        let (work_key, work_own) = (key.clone(), Arc::clone(own));
        let work = async move { self.work(&work_key, &work_own, course).await };
        options.apply(self.group.call(key)).relay(work)
    }

    #[expect(clippy::too_many_arguments, reason = "all that a call is")]
    pub(crate) fn board(
        &'static self,
        kind: Kind,
        key: &Key,
        own: &Arc<Execution>,
        course: Course,
        options: Options,
        aborts: bool,
        rng: &mut Rng,
    ) -> Result<Handle<Value>, CallError> {
        let (work_key, work_own) = (key.clone(), Arc::clone(own));
        let work = async move { self.work(&work_key, &work_own, course).await };
        let mut call = options.apply(self.group.call(key));
        if aborts {
            call = call.abort_when_abandoned();
        }
        match kind {
            Kind::Spawn => call.spawn(work),
            _ => {
                let (task, handle) = call.task(work)?;
                let polls = if rng.u32(..4) == 0 { rng.u32(..4) } else { u32::MAX };
                smol::spawn(self.see_to(task, polls)).detach();
                Ok(handle)
            }
        }
    }

    /// Polls a task to its end, or drops it after so many polls.
    pub(crate) async fn see_to(&self, task: impl Future<Output = ()>, polls: u32) {
        let mut task = Box::pin(AssertUnwindSafe(task).catch_unwind());
        let mut left = polls;
        let is_done = poll_fn(|cx| match left {
            0 => Poll::Ready(false),
            _ => {
                left -= 1;
                task.as_mut().poll(cx).map(|_| true)
            }
        });
        if !is_done.await {
            self.count(Kind::TaskDropped);
        }
    }

    /// Polls a call to its end, or to where its caller loses patience.
    pub(crate) async fn fly(
        &self,
        mut call: AnyCall,
        key: &Key,
        own: &Arc<Execution>,
        options: Options,
        rng: &mut Rng,
    ) -> Option<Answer> {
        let mut followed = false;
        let patience = match rng.u32(..8) {
            0 | 1 => rng.u32(..10),
            2 => {
                let polled = future::poll_once(AssertUnwindSafe(&mut call).catch_unwind()).await;
                match polled {
                    Some(Ok(answer)) => return Some(answer),
                    Some(Err(payload)) => self.is_on_purpose(key, &*payload),
                    None => {
                        self.count(Kind::Parked);
                        self.parked.lock().unwrap_or_else(PoisonError::into_inner).push(call);
                    }
                }
                return None;
            }
            _ => u32::MAX,
        };
        let polled = poll_with_patience(patience, |cx| {
            let polled = call.as_mut().poll(cx);
            followed |= polled.is_pending() && !own.has_begun();
            polled
        });
        let limit = Duration::from_micros(rng.u64(..2_000));
        let hurries = rng.u32(..10) == 0;
        let caught = match AssertUnwindSafe(async {
            match hurries {
                true => timeout(limit, polled).await.ok().flatten(),
                false => polled.await,
            }
        })
        .catch_unwind()
        .await
        {
            Ok(Some(answer)) => Some(answer),
            Ok(None) => {
                self.count(Kind::Dropped);
                None
            }
            Err(payload) => {
                self.is_on_purpose(key, &*payload);
                None
            }
        };
        drop(call);
        if followed && own.has_begun() && !options.fresh {
            self.count(Kind::TookOver);
        }
        caught
    }

    pub(crate) async fn ask_for_many(&self, rng: &mut Rng) {
        let mut keys: Vec<Key> = (0..rng.u64(1..12)).map(|_| self.key(rng)).collect();
        rng.shuffle(&mut keys);
        let called: HashMap<Key, Called> =
            keys.iter().map(|key| (key.clone(), self.ledger.call(key, false))).collect();
        let left_out = Mutex::new(Vec::new());
        let mut load_rng = rng.fork();
        let load = |keys: Vec<Key>| {
            let steps = load_rng.u32(..8);
            let panics = load_rng.u32(..30) == 0;
            let leaves_out = load_rng.u32(..10) == 0;
            let left_out = &left_out;
            async move {
                let own: Vec<_> =
                    keys.iter().map(|key| self.ledger.execution(key, false)).collect();
                let running: Vec<_> = own.iter().map(Execution::begin).collect();
                for _ in 0..steps {
                    future::yield_now().await;
                }
                if panics {
                    panic_on_purpose(&keys);
                }
                let mut loaded: Vec<(Key, Value)> = Vec::with_capacity(keys.len());
                loaded.extend(keys.into_iter().zip(running.iter().map(|running| running.done())));
                if leaves_out && let Some((key, _)) = loaded.pop() {
                    left_out.lock().unwrap_or_else(PoisonError::into_inner).push(key);
                }
                loaded
            }
        };
        let mut batch = Box::pin(self.group.run_many(keys, load));
        let patience = if rng.u32(..4) == 0 { rng.u32(..10) } else { u32::MAX };
        let polled = poll_with_patience(patience, |cx| batch.as_mut().poll(cx));
        let found = match AssertUnwindSafe(polled).catch_unwind().await {
            Ok(Some(found)) => found,
            Ok(None) => return self.count(Kind::Dropped),
            Err(payload) => return self.is_on_purpose_of_any(&*payload),
        };
        drop(batch);
        for (key, value) in &found {
            match called.get(key) {
                Some(called) => self.ledger.answered(called, value),
                None => self.ledger.blame(format!("run_many: nobody asked for key {}", key.id())),
            }
        }
        self.count(Kind::Answered);
        let left_out = left_out.into_inner().unwrap_or_else(PoisonError::into_inner);
        for key in called.keys().filter(|key| !found.contains_key(key)) {
            self.count(Kind::LeftOut);
            self.check(left_out.contains(key), || {
                format!("run_many: key {} was loaded and is absent", key.id())
            });
        }
    }
}
