//! A call from its start to its answer: as a future, and for threads.
//!
//! The future is written by hand because an `async fn` would keep the caller's work two or three
//! times over, and because the order in which its parts are dropped is part of the protocol.

use std::{
    borrow::Borrow,
    future::Future,
    hash::{BuildHasher, Hash},
    panic::resume_unwind,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use super::{
    Entry, Follower, Lead, OnCancel, Waited,
    work::{self, Work},
};
use crate::{
    error::CallError,
    group::Core,
    outcome::{Outcome, Role},
};

/// What every call comes to.
pub(crate) type Answer<V> = Result<Outcome<V>, CallError>;

pin_project! {
    /// `W` is the future of waiting, which only the compiler can name; `wait` makes one. `finish`
    /// turns the full answer into what the caller asked for.
    pub(crate) struct Fly<'a, 'k, K, V, S, Q, F, M, W, T>
    where
        K: Eq,
        K: Hash,
        Q: ?Sized,
    {
        core: &'a Core<K, V, S>,
        key: &'k Q,
        on_cancel: OnCancel,
        done: bool,
        wait: M,
        finish: T,
        // Before `stage`: cancelled work is dropped before the lead is passed on (G1). Fields are
        // dropped in their order here, also when one of them panics.
        #[pin]
        work: Work<F>,
        #[pin]
        stage: Stage<Lead<'a, K, V>, W>,
    }

    impl<K, V, S, Q, F, M, W, T> PinnedDrop for Fly<'_, '_, K, V, S, Q, F, M, W, T>
    where
        K: Eq,
        K: Hash,
        Q: ?Sized,
    {
        /// A follower leaves before its work, which never ran, is dropped: while that takes its time
        /// or calls the group, nobody must wait for this one to take over (G6).
        fn drop(this: Pin<&mut Self>) {
            let mut stage = this.project().stage;
            if let StageProj::Following { .. } = stage.as_mut().project() {
                stage.set(Stage::Entering);
            }
        }
    }
}

pin_project! {
    #[project = StageProj]
    enum Stage<L, W> {
        Entering,
        Leading { #[pin] lead: L },
        Following { #[pin] wait: W },
    }
}

impl<'a, 'k, K, V, S, Q, F, M, W, T> Fly<'a, 'k, K, V, S, Q, F, M, W, T>
where
    K: Eq + Hash,
    Q: ?Sized,
    M: Fn(Follower<'a, K, V>) -> W,
{
    pub(crate) fn new(
        core: &'a Core<K, V, S>,
        key: &'k Q,
        on_cancel: OnCancel,
        work: F,
        wait: M,
        finish: T,
    ) -> Self {
        let (work, stage) = (Work::new(work), Stage::Entering);
        Self { core, key, on_cancel, done: false, wait, finish, work, stage }
    }
}

impl<'a, K, V, S, Q, F, M, W, T, R> Future for Fly<'a, '_, K, V, S, Q, F, M, W, T>
where
    K: Eq + Hash + Borrow<Q>,
    V: Clone,
    S: BuildHasher,
    Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
    F: Future<Output = V>,
    M: Fn(Follower<'a, K, V>) -> W,
    W: Future<Output = Waited<'a, K, V>>,
    T: Fn(Answer<V>) -> R,
{
    type Output = R;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let mut this = self.project();
        assert!(!*this.done, "the future of a call was polled after it returned");
        if let StageProj::Leading { lead } = this.stage.as_mut().project() {
            lead.expect_end();
        }
        let answer = loop {
            match this.stage.as_mut().project() {
                StageProj::Entering => {
                    this.stage.set(Stage::Leading { lead: Lead::none() });
                    let StageProj::Leading { mut lead } = this.stage.as_mut().project() else {
                        unreachable!("just set")
                    };
                    let (table, hash) = this.core.locate(*this.key);
                    match lead.as_mut().enter(table, hash, *this.key, *this.on_cancel) {
                        Entry::Lead => this.work.as_mut().start(lead.id()),
                        Entry::Follow(follower) => {
                            this.stage.set(Stage::Following { wait: (this.wait)(follower) });
                        }
                        Entry::Reentrant => break Err(CallError::Reentrant),
                    }
                }
                StageProj::Following { wait } => match ready!(wait.poll(cx)) {
                    Waited::Lead(lead) => {
                        this.work.as_mut().start(lead.id());
                        this.stage.set(Stage::Leading { lead });
                    }
                    Waited::Landed(Ok(value)) => {
                        break Ok(Outcome { value, role: Role::Joined });
                    }
                    Waited::Landed(Err(panicked)) => break Err(CallError::Panicked(panicked)),
                    Waited::Cancelled => break Err(CallError::Cancelled),
                },
                StageProj::Leading { lead } => {
                    let returned = ready!(this.work.as_mut().poll(cx));
                    *this.done = true;
                    break finish_leading(lead, returned);
                }
            }
        };
        *this.done = true;
        Poll::Ready((this.finish)(answer))
    }
}

/// The same for threads.
pub(crate) fn fly_blocking<K, V, S, Q>(
    core: &Core<K, V, S>,
    key: &Q,
    on_cancel: OnCancel,
    work: impl FnOnce() -> V,
) -> Answer<V>
where
    K: Eq + Hash + Borrow<Q>,
    V: Clone,
    S: BuildHasher,
    Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
{
    let (table, hash) = core.locate(key);
    let mut lead = pin!(Lead::none());
    match lead.as_mut().enter(table, hash, key, on_cancel) {
        Entry::Lead => {}
        Entry::Follow(follower) => match follower.wait_blocking() {
            Waited::Lead(taken_over) => lead.set(taken_over),
            Waited::Landed(Ok(value)) => return Ok(Outcome { value, role: Role::Joined }),
            Waited::Landed(Err(panicked)) => return Err(CallError::Panicked(panicked)),
            Waited::Cancelled => return Err(CallError::Cancelled),
        },
        Entry::Reentrant => return Err(CallError::Reentrant),
    }
    let returned = work::call(lead.id(), work);
    finish_leading(lead, returned)
}

#[inline(always)]
fn finish_leading<K: Eq + Hash, V: Clone>(
    lead: Pin<&mut Lead<'_, K, V>>,
    returned: Result<V, work::Payload>,
) -> Answer<V> {
    match returned {
        Ok(value) => {
            let (value, followers) = lead.land(value);
            Ok(Outcome { value, role: Role::Led { followers } })
        }
        Err(payload) => {
            lead.panicked(&*payload);
            resume_unwind(payload)
        }
    }
}
