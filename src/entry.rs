//! `Entry` and `Lead`: the lead of a flight as a value, for work that is no future and no closure.

use std::{
    fmt,
    hash::{BuildHasher, Hash},
};

use ahash::RandomState;

use crate::{
    flight::{Handle, Permit},
    group::Owned,
};

/// What [`Group::lead_or_join`](crate::Group::lead_or_join) found. It borrows nothing, and may go to
/// another thread or task.
///
/// ```
/// use shardflight::{Entry, Group};
///
/// let group: Group<u32, String> = Group::new();
/// match group.lead_or_join(&7) {
///     Entry::Lead(lead) => assert_eq!(lead.land("seven".to_owned()), 0), // followers
///     Entry::Join(handle) => println!("{:?}", handle.wait()),
/// }
/// ```
pub enum Entry<K: Eq + Hash, V, S: BuildHasher = RandomState> {
    /// The caller is to make the value.
    Lead(Lead<K, V, S>),
    /// Somebody else is at it.
    Join(Handle<V>),
}

impl<K: Eq + Hash, V, S: BuildHasher> fmt::Debug for Entry<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lead(lead) => f.debug_tuple("Lead").field(lead).finish(),
            Self::Join(handle) => f.debug_tuple("Join").field(handle).finish(),
        }
    }
}

/// The right and duty to end a flight, made by [`Group::lead_or_join`](crate::Group::lead_or_join).
///
/// Dropping it abandons the flight: a follower with work of its own takes over; those without, if
/// nobody is left who could, get [`CallError::Cancelled`](crate::CallError::Cancelled) at once. A
/// panic that unwinds through its owner does the same; the followers do not learn its text.
#[must_use = "dropping a lead abandons its flight"]
pub struct Lead<K: Eq + Hash, V, S: BuildHasher = RandomState> {
    permit: Permit<Owned<K, V, S>>,
}

impl<K: Eq + Hash, V, S: BuildHasher> Lead<K, V, S> {
    pub(crate) fn new(permit: Permit<Owned<K, V, S>>) -> Self {
        Self { permit }
    }

    /// A handle to the flight that this leads. It counts as a follower.
    ///
    /// Unlike [`Group::join`](crate::Group::join) it needs no table lookup that a concurrent
    /// [`forget`](crate::Group::forget) could leave without a flight: the handle always belongs to this
    /// lead. Take it before the lead goes to whoever makes the value.
    ///
    /// The handle gets its answer when the lead lands or is dropped. A thread or task that keeps the lead
    /// and waits for the handle waits forever.
    ///
    /// ```
    /// use shardflight::{Entry, Group};
    ///
    /// let group: Group<&str, u32> = Group::new();
    /// let Entry::Lead(lead) = group.lead_or_join(&"key") else { unreachable!("the key is free") };
    /// let handle = lead.handle();
    /// group.forget(&"key");
    /// let callback = std::thread::spawn(move || lead.land(1));
    /// assert_eq!(handle.wait(), Ok(1));
    /// assert_eq!(callback.join().unwrap(), 1); // follower
    /// ```
    pub fn handle(&self) -> Handle<V> {
        self.permit.handle()
    }

    /// Ends the flight: its followers get the value, and the key is free. Returns how many they were;
    /// without any the value is dropped.
    ///
    /// ```
    /// use shardflight::{Entry, Group};
    ///
    /// let group: Group<&str, u32> = Group::new();
    /// let Entry::Lead(lead) = group.lead_or_join(&"key") else { unreachable!("the key is free") };
    /// let handle = lead.handle();
    /// assert_eq!(lead.land(1), 1);
    /// assert_eq!(handle.wait(), Ok(1));
    /// assert!(group.is_empty());
    /// ```
    pub fn land(self, value: V) -> usize {
        self.permit.give(value)
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> fmt::Debug for Lead<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lead").field("flight", &self.permit.id().0).finish_non_exhaustive()
    }
}
