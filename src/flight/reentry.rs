//! Which flights' work is running on this thread's stack right now (G13).
//!
//! Work that would wait for a flight on this list would wait for itself. The list is by flight, not
//! by key, so a call after `forget` is legal, and work on the stack twice removed (a -> b -> a) is
//! found. It sees one stack: recursion through another task or thread is invisible to it.

use std::{
    cell::{Cell, RefCell},
    // Not those of the models: it is shared by nobody else's doing.
    sync::Arc,
};

use super::FlightId;
use crate::sync::plain_thread_local;

/// How many nested flights are kept without allocating.
const INLINE: usize = 16;

struct Stack {
    depth: Cell<usize>,
    inline: [Cell<u64>; INLINE],
    /// How many batches are on this stack.
    batches: Cell<usize>,
}

plain_thread_local! {
    static STACK: Stack = Stack {
        depth: Cell::new(0),
        inline: [const { Cell::new(0) }; INLINE],
        batches: Cell::new(0),
    }
}

thread_local! {
    /// Flights nested deeper than `INLINE`, and after them such as were. Each of them has, or had, a stack
    /// frame, so there cannot be many.
    static DEEPER: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };

    static BATCHES: RefCell<Vec<Batch>> = const { RefCell::new(Vec::new()) };
}

/// Flights that have one work together.
#[derive(Clone)]
pub(crate) struct Batch {
    /// Sorted.
    flights: Arc<[FlightId]>,
}

impl Batch {
    pub(crate) fn new(flights: impl Iterator<Item = FlightId>) -> Self {
        let mut flights: Vec<FlightId> = flights.collect();
        flights.sort_unstable();
        Self { flights: flights.into() }
    }

    pub(crate) fn flights(&self) -> &[FlightId] {
        &self.flights
    }

    /// Runs a part of their work.
    pub(crate) fn within<R>(&self, part: impl FnOnce() -> R) -> R {
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                STACK.with(|stack| stack.batches.set(stack.batches.get() - 1));
                // Dropped outside of the borrow.
                let _batch = BATCHES.try_with(|batches| batches.borrow_mut().pop());
            }
        }

        let _ = BATCHES.try_with(|batches| batches.borrow_mut().push(self.clone()));
        STACK.with(|stack| stack.batches.set(stack.batches.get() + 1));
        let _leave = Leave;
        part()
    }

    fn is_running(id: FlightId) -> bool {
        let is_in = |batch: &Batch| batch.flights.binary_search(&id).is_ok();
        BATCHES.try_with(|batches| batches.borrow().iter().any(is_in)).unwrap_or(false)
    }
}

/// Runs a part of a flight's work: its poll, its call, or its drop.
#[inline]
pub(crate) fn within<R>(id: FlightId, part: impl FnOnce() -> R) -> R {
    struct Leave {
        depth: usize,
    }
    impl Drop for Leave {
        #[inline]
        fn drop(&mut self) {
            // Those in `DEEPER` stay until others come into their place.
            STACK.with(|stack| stack.depth.set(self.depth));
        }
    }

    let depth = STACK.with(|stack| {
        let depth = stack.depth.get();
        match stack.inline.get(depth) {
            Some(place) => place.set(id.0),
            None => go_deeper(depth, id),
        }
        stack.depth.set(depth + 1);
        depth
    });
    let _leave = Leave { depth };
    part()
}

/// Whether no flight's work is running on this stack.
#[inline(always)]
pub(crate) fn is_idle() -> bool {
    STACK.with(|stack| stack.depth.get() | stack.batches.get() == 0)
}

/// Whether a part of this flight's work is running on this stack.
#[inline]
pub(crate) fn is_within(id: FlightId) -> bool {
    !is_idle() && is_on_the_stack(id)
}

fn is_on_the_stack(id: FlightId) -> bool {
    STACK.with(|stack| {
        let depth = stack.depth.get();
        stack.inline[..depth.min(INLINE)].iter().any(|place| place.get() == id.0)
            || depth > INLINE && is_deeper(depth, id)
            || stack.batches.get() > 0 && Batch::is_running(id)
    })
}

/// While the thread's locals are being destroyed, recursion this deep goes unseen.
#[cold]
fn go_deeper(depth: usize, id: FlightId) {
    let _ = DEEPER.try_with(|flights| {
        let mut flights = flights.borrow_mut();
        flights.truncate(depth - INLINE);
        flights.push(id.0);
    });
}

#[cold]
fn is_deeper(depth: usize, id: FlightId) -> bool {
    let is_there = |flights: &RefCell<Vec<u64>>| {
        flights.borrow().iter().take(depth - INLINE).any(|&flight| flight == id.0)
    };
    DEEPER.try_with(is_there).unwrap_or(false)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Flights `first` to `last`, each within the one before.
    fn nest(first: u64, last: u64) {
        fn go_on(first: u64, level: u64, last: u64) {
            within(FlightId(level), || {
                assert!((first..=level).all(|id| is_within(FlightId(id))));
                assert!(!is_within(FlightId(first - 1)));
                assert!(!is_within(FlightId(level + 1)));
                if level < last {
                    go_on(first, level + 1, last);
                }
                assert!(!is_within(FlightId(level + 1)));
            });
        }
        go_on(first, first, last);
    }

    #[test]
    fn g13_every_level_is_seen_however_deep() {
        nest(1, 3 * INLINE as u64);
        assert!(!is_within(FlightId(1)));
    }

    #[test]
    fn g13_levels_are_seen_where_there_were_deeper_ones_before() {
        let depth = INLINE as u64 + 3;
        nest(1, depth);
        nest(101, 100 + depth);
        assert!(!is_within(FlightId(depth)));
    }

    #[test]
    fn g13_a_panic_leaves_the_list_as_it_was() {
        let panicked = std::panic::catch_unwind(|| within(FlightId(1), || panic!("inside")));
        assert!(panicked.is_err());
        assert!(!is_within(FlightId(1)));
    }
}
