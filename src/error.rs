//! How a call can end without a value: `CallError`, and `Panicked` for the panic of another caller's
//! work.

use std::{any::Any, error::Error, fmt, sync::Arc};

/// Why a call got no value.
///
/// An error of the *work* is not among these: for fallible work the value is a `Result`, and every
/// caller gets it as it is.
///
/// ```
/// # futures_lite::future::block_on(async {
/// use shardflight::{CallError, Group};
///
/// let group: Group<String, u32> = Group::new();
/// let work = async {
///     // Work that asks its own group for its own key would wait for itself.
///     match group.call("key").run(async { 1 }).await {
///         Err(CallError::Reentrant) => 0,
///         other => unreachable!("{other:?}"),
///     }
/// };
/// assert_eq!(group.run("key", work).await, 0);
/// # });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// The work this caller followed panicked. The leader unwound with the original payload.
    Panicked(Panicked),
    /// The leader this caller followed was cancelled, and the caller had asked to be told
    /// ([`OnCancel::Fail`](crate::OnCancel::Fail)) instead of taking over; or it had no work to take
    /// over with, and nobody else was left who could. The handle of a call with a timeout also gets this when the
    /// call's task is dropped.
    Cancelled,
    /// There was no answer within the time that the caller was ready to wait for other calls' work
    /// ([`Call::timeout`](crate::Call::timeout), [`Handle::wait_timeout`](crate::Handle::wait_timeout)). That
    /// work goes on, unless nobody else is left who could go on with it.
    TimedOut,
    /// The flight had as many followers as the caller allowed
    /// ([`max_followers`](crate::Call::max_followers)).
    TooManyFollowers,
    /// The call was made, or its future is polled, inside the work it would have waited for.
    Reentrant,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(_) => f.write_str("the work of the leading call panicked"),
            Self::Cancelled => f.write_str("the leading call, or the task of this one, was cancelled"),
            Self::TimedOut => f.write_str("the leading call did not answer in time"),
            Self::TooManyFollowers => f.write_str("too many calls follow the leading call already"),
            Self::Reentrant => f.write_str(
                "recursive call: the work called its own group with its own key and would wait for itself",
            ),
        }
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Panicked(panicked) => Some(panicked),
            Self::Cancelled | Self::TimedOut | Self::TooManyFollowers | Self::Reentrant => None,
        }
    }
}

/// The panic of another caller's work, as its followers learn of it.
///
/// The payload itself belongs to the leader, which unwinds with it; followers get its text.
///
/// ```
/// use futures_lite::{FutureExt, future};
/// use shardflight::{CallError, Group};
/// use std::panic::AssertUnwindSafe;
///
/// future::block_on(async {
///     let group: Group<String, u32> = Group::new();
///     let work = async {
///         future::yield_now().await;
///         panic!("no such table")
///     };
///     let leader = AssertUnwindSafe(group.run("key", work)).catch_unwind();
///     let follower = group.call("key").run(async { 2 });
///     let (led, followed) = future::zip(leader, follower).await;
///     assert!(led.is_err());
///     match followed {
///         Err(CallError::Panicked(panicked)) => assert_eq!(panicked.message(), "no such table"),
///         other => unreachable!("{other:?}"),
///     }
/// });
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Panicked {
    message: Arc<str>,
}

impl Panicked {
    /// Takes the text out of a payload: `&str` and `String` are what `panic!` makes.
    pub(crate) fn from_payload(payload: &(dyn Any + Send)) -> Self {
        let message = if let Some(text) = payload.downcast_ref::<&str>() {
            text
        } else if let Some(text) = payload.downcast_ref::<String>() {
            text.as_str()
        } else {
            "the work panicked with a payload that is not text"
        };
        Self { message: message.into() }
    }

    /// The text of a `&str` or `String` payload, else a fixed sentence.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Debug for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panicked").field(&self.message()).finish()
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the work panicked: {}", self.message)
    }
}

impl Error for Panicked {}
