//! What a call that asks for the full answer gets: the value, and how it came by it.

/// The value of a flight together with the part the caller played in it.
///
/// ```
/// # futures_lite::future::block_on(async {
/// use shardflight::{Group, Role};
///
/// let group: Group<String, u32> = Group::new();
/// let outcome = group.call("answer").run(async { 42 }).await.unwrap();
/// assert_eq!(outcome.value, 42);
/// assert_eq!(outcome.role, Role::Led { followers: 0 });
/// assert!(!outcome.is_shared());
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub struct Outcome<V> {
    /// The flight's value: the caller's own to keep.
    pub value: V,
    /// Whether the caller's work made it, and for how many others.
    pub role: Role,
}

impl<V> Outcome<V> {
    /// Whether anybody else got the same value.
    pub fn is_shared(&self) -> bool {
        match self.role {
            Role::Led { followers } => followers > 0,
            Role::Joined => true,
        }
    }

    /// The value alone.
    pub fn into_value(self) -> V {
        self.value
    }
}

/// The part a caller played in the flight that answered it.
///
/// A flight that lands has exactly one leader; everybody else joined.
///
/// ```
/// use futures_lite::future;
/// use shardflight::{Group, Role};
///
/// future::block_on(async {
///     let group: Group<String, u32> = Group::new();
///     let slow = async { future::yield_now().await; 1 };
///     let (first, second) =
///         future::zip(group.call("key").run(slow), group.call("key").run(async { 2 })).await;
///     assert_eq!(first.unwrap().role, Role::Led { followers: 1 });
///     assert_eq!(second.unwrap().role, Role::Joined);
/// });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The caller's own work ran to completion, and its value went to `followers` others.
    ///
    /// Counted at the instant after which nobody could join any more. A follower that is dropped
    /// later, before it looked at the value, is still counted.
    Led {
        /// How many callers were waiting for the value.
        followers: usize,
    },
    /// Another caller's work made the value; this caller's own never ran.
    Joined,
}
