//! `Answered`: how a request was answered, in words that need no type of the layer that answered it.

/// How an HTTP request was answered, for [`Observer::request`](crate::Observer::request). The feature `tower` has
/// the layer that reports it.
///
/// A reason is one of a fixed set of words. Some are followed by a colon and a detail: the name of a header that the
/// layer's policy lists, or the status of a response. Neither is ever a client's choice, so a reason can be a
/// label of a metric.
///
/// ```
/// use shardflight::Answered;
///
/// let answered = Answered::Alone { reason: "header:authorization" };
/// assert_eq!(answered.as_str(), "alone");
/// assert_eq!(answered.reason(), Some("header:authorization"));
/// assert_eq!(Answered::Joined.reason(), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answered<'a> {
    /// By an execution of its own that others could share.
    Led {
        /// How many did.
        followers: usize,
    },
    /// By the execution of another request: one execution saved.
    Joined,
    /// By an execution for itself alone.
    Alone {
        /// Why it did not share: `method`, `body`, `header`, `authority`, `policy`, `remembered`, `status`,
        /// `response_header`, `too_large`, `stream`, `error`, `reentrant` or `varies`. `header`, `response_header`
        /// and `status` have a detail, as in `header:cookie` and `status:503`.
        reason: &'a str,
    },
    /// By the layer itself, without an execution.
    Refused {
        /// Why: `failed` with the status, as in `failed:503`, `panicked`, or `too_many_followers`.
        reason: &'a str,
    },
}

impl<'a> Answered<'a> {
    /// The name of the variant: `led`, `joined`, `alone` or `refused`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Led { .. } => "led",
            Self::Joined => "joined",
            Self::Alone { .. } => "alone",
            Self::Refused { .. } => "refused",
        }
    }

    /// Why it ran alone or was refused.
    pub fn reason(&self) -> Option<&'a str> {
        match self {
            Self::Led { .. } | Self::Joined => None,
            Self::Alone { reason } | Self::Refused { reason } => Some(reason),
        }
    }
}
