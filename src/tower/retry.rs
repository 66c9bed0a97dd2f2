//! `Retry`: what all followers of a failed flight share, so that they are one execution and not several.
//!
//! A flight that fails wakes all its followers. They enter the group again with the same key: the first of them
//! leads a new flight, the *retry*, and those that come while it runs join it. But a follower may be polled only
//! after the retry has landed, if that was quick and its thread was busy. It must not execute once more: under
//! load most followers could be that late. Nor may anybody join a landed flight, because a newcomer would
//! get an answer that is older than its request.
//!
//! So the failure that all followers get has a `Retry` in it:
//!
//! 1. The execution of a retry stores its result here, and then its flight lands, which removes the flight from
//!    the table.
//! 2. A follower of the failed flight looks here first, then it enters the group.
//! 3. If it leads, it looks here again before it executes. The retry may have landed between 2 and 3. The table
//!    orders this look after the removal, so the result is seen. Its flight then lands with
//!    [`Landed::Nothing`]: the follower takes the result from here, and a newcomer that joined asks again.
//!
//! The result is never older than a follower's request: the retry began after the failed flight had landed,
//! and the follower had joined that.
//!
//! A result is kept as long as a follower of the failed flight has not looked. If it is a failure, it has a new
//! `Retry`, not that of its own flight: otherwise one follower that is never polled would keep alive a
//! list of all failures since.

use std::sync::{Arc, OnceLock};

use super::answer::{Landed, Own};

/// Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Retry(Arc<OnceLock<Landed>>);

impl Retry {
    /// If a retry has landed.
    pub(super) fn landed(&self) -> Option<Landed> {
        self.0.get().cloned()
    }

    /// Keeps the result of a retry for those that missed it. The first counts: if its leader was cancelled or lost
    /// its patience, there may be another.
    pub(super) fn store(&self, landed: &Landed) {
        if self.0.get().is_some() {
            return;
        }
        // Cloned before, because it has extensions of the user's types: nobody waits for their `Clone` (G9).
        let kept = match landed {
            Landed::Shared(answer, _) => Landed::Shared(answer.clone(), Own::NOTHING),
            Landed::Alone(why, _) => Landed::Alone(why.clone(), Own::NOTHING),
            Landed::Failed(failure, _) => {
                Landed::Failed(Box::new(failure.with_new_retry()), Own::NOTHING)
            }
            Landed::Nothing => Landed::Nothing,
        };
        let _ = self.0.set(kept);
    }
}
