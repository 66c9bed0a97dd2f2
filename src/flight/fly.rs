//! A call from its start to its answer: as a future, and for threads.
//!
//! The future is written by hand because an `async fn` would keep the caller's work two or three
//! times over, and because the order in which its parts are dropped is part of the protocol.

use std::{
    borrow::Borrow,
    future::Future,
    hash::{BuildHasher, Hash},
    panic::resume_unwind,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use super::{
    Follower, Lead, OnCancel, Waited,
    work::{self, Work},
};
use crate::{
    error::CallError,
    group::Core,
    outcome::{Outcome, Role},
};

/// What every call comes to.
pub(crate) type Landed<V> = Result<Outcome<V>, CallError>;

pin_project! {
    /// `W` is the future of waiting, which only the compiler can name; `wait` makes one. `finish`
    /// turns the full answer into what the caller asked for.
    pub(crate) struct Fly<'a, K, V, S, Q, F, M, W, T>
    where
        K: Eq,
        K: Hash,
        Q: ?Sized,
    {
        core: &'a Core<K, V, S>,
        key: &'a Q,
        on_cancel: OnCancel,
        wait: M,
        finish: T,
        // Before `stage`: cancelled work is dropped before the lead is passed on (G1). Fields are
        // dropped in their order here, also when one of them panics.
        #[pin]
        work: Work<F>,
        #[pin]
        stage: Stage<Lead<'a, K, V>, W>,
    }
}

pin_project! {
    #[project = StageProj]
    #[project_replace = StageOwn]
    enum Stage<L, W> {
        Entering,
        Leading { lead: L },
        Following { #[pin] wait: W },
        Done,
    }
}

/// What `Core::enter` found for a caller.
pub(crate) enum Entry<'a, K: Eq + Hash, V> {
    Lead(Lead<'a, K, V>),
    Follow(Follower<'a, K, V>),
    Reentrant,
}

impl<'a, K, V, S, Q, F, M, W, T> Fly<'a, K, V, S, Q, F, M, W, T>
where
    K: Eq + Hash,
    Q: ?Sized,
    M: Fn(Follower<'a, K, V>) -> W,
{
    pub(crate) fn new(
        core: &'a Core<K, V, S>,
        key: &'a Q,
        on_cancel: OnCancel,
        work: F,
        wait: M,
        finish: T,
    ) -> Self {
        Self { core, key, on_cancel, wait, finish, work: Work::new(work), stage: Stage::Entering }
    }
}

impl<'a, K, V, S, Q, F, M, W, T, R> Future for Fly<'a, K, V, S, Q, F, M, W, T>
where
    K: Eq + Hash + Borrow<Q>,
    V: Clone,
    S: BuildHasher,
    Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
    F: Future<Output = V>,
    M: Fn(Follower<'a, K, V>) -> W,
    W: Future<Output = Waited<'a, K, V>>,
    T: Fn(Landed<V>) -> R,
{
    type Output = R;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let mut this = self.project();
        let landed = loop {
            match this.stage.as_mut().project() {
                StageProj::Entering => match this.core.enter(*this.key, *this.on_cancel) {
                    Entry::Lead(lead) => {
                        this.work.as_mut().start(lead.id());
                        this.stage.set(Stage::Leading { lead });
                    }
                    Entry::Follow(follower) => {
                        this.stage.set(Stage::Following { wait: (this.wait)(follower) });
                    }
                    Entry::Reentrant => break Err(CallError::Reentrant),
                },
                StageProj::Leading { .. } => {
                    let returned = ready!(this.work.as_mut().poll(cx));
                    let StageOwn::Leading { lead } =
                        this.stage.as_mut().project_replace(Stage::Done)
                    else {
                        unreachable!("matched above")
                    };
                    break Ok(finish_leading(lead, returned));
                }
                StageProj::Following { wait } => match ready!(wait.poll(cx)) {
                    Waited::Lead(lead) => {
                        this.work.as_mut().start(lead.id());
                        this.stage.set(Stage::Leading { lead });
                    }
                    Waited::Landed(Ok(value)) => break Ok(Outcome { value, role: Role::Joined }),
                    Waited::Landed(Err(panicked)) => break Err(CallError::Panicked(panicked)),
                    Waited::Cancelled => break Err(CallError::Cancelled),
                },
                StageProj::Done => panic!("the future of a call was polled after it returned"),
            }
        };
        this.stage.set(Stage::Done);
        Poll::Ready((this.finish)(landed))
    }
}

/// The same for threads.
pub(crate) fn fly_blocking<K, V, S, Q>(
    core: &Core<K, V, S>,
    key: &Q,
    on_cancel: OnCancel,
    work: impl FnOnce() -> V,
) -> Landed<V>
where
    K: Eq + Hash + Borrow<Q>,
    V: Clone,
    S: BuildHasher,
    Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
{
    let lead = match core.enter(key, on_cancel) {
        Entry::Lead(lead) => lead,
        Entry::Reentrant => return Err(CallError::Reentrant),
        Entry::Follow(follower) => match follower.wait_blocking() {
            Waited::Lead(lead) => lead,
            Waited::Landed(Ok(value)) => return Ok(Outcome { value, role: Role::Joined }),
            Waited::Landed(Err(panicked)) => return Err(CallError::Panicked(panicked)),
            Waited::Cancelled => return Err(CallError::Cancelled),
        },
    };
    let returned = work::call(lead.id(), work);
    Ok(finish_leading(lead, returned))
}

fn finish_leading<K: Eq + Hash, V: Clone>(
    lead: Lead<'_, K, V>,
    returned: Result<V, work::Payload>,
) -> Outcome<V> {
    match returned {
        Ok(value) => {
            let (value, followers) = lead.land(value);
            Outcome { value, role: Role::Led { followers } }
        }
        Err(payload) => {
            lead.panicked(&*payload);
            resume_unwind(payload)
        }
    }
}
