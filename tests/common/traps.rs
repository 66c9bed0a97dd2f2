//! Keys and values that tell when their code is run, and traps for that moment.

use std::{
    cell::RefCell,
    hash::{Hash, Hasher},
    panic::resume_unwind,
};

/// The places where groups and caches call their user's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    HashKey,
    EqKey,
    CloneKey,
    DropKey,
    CloneValue,
    DropValue,
    Weigh,
    TtlOf,
    Missed,
    DropWork,
    DropHasher,
    DropPayload,
}

struct Trap {
    place: Place,
    /// Visits that pass before it shuts.
    spared: usize,
    action: Box<dyn FnOnce()>,
}

thread_local! {
    /// What to do at each place, once. Every test has a thread of its own.
    static TRAPS: RefCell<Vec<Trap>> = const { RefCell::new(Vec::new()) };
}

/// Has `action` done at a visit of `place`, after as many as are spared.
pub(crate) fn trap(place: Place, spared: usize, action: impl FnOnce() + 'static) {
    TRAPS.with_borrow_mut(|traps| traps.push(Trap { place, spared, action: Box::new(action) }));
}

/// As `panic!`, without the report on standard error: there are many.
pub(crate) fn explode_at(place: Place, spared: usize) {
    trap(place, spared, move || resume_unwind(Box::new(format!("in {place:?}"))));
}

pub(crate) fn visit(place: Place) {
    let action = TRAPS.with_borrow_mut(|traps| {
        let i = traps.iter().position(|trap| trap.place == place)?;
        match traps[i].spared {
            0 => Some(traps.remove(i).action),
            _ => {
                traps[i].spared -= 1;
                None
            }
        }
    });
    if let Some(action) = action {
        action();
    }
}

pub(crate) fn assert_all_visited() {
    let left: Vec<_> = TRAPS.with_borrow(|traps| traps.iter().map(|trap| trap.place).collect());
    assert!(left.is_empty(), "never visited: {left:?}");
}

/// Nothing of it shuts any more; says whether something was left.
pub(crate) fn disarm() -> bool {
    !TRAPS.take().is_empty()
}

#[derive(Debug)]
pub(crate) struct Key(pub(crate) u64);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        visit(Place::HashKey);
        self.0.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        visit(Place::EqKey);
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Clone for Key {
    fn clone(&self) -> Self {
        visit(Place::CloneKey);
        Self(self.0)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        visit(Place::DropKey);
    }
}

#[derive(Debug, PartialEq)]
pub(crate) struct Value(pub(crate) u64);

impl Clone for Value {
    fn clone(&self) -> Self {
        visit(Place::CloneValue);
        Self(self.0)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        visit(Place::DropValue);
    }
}
