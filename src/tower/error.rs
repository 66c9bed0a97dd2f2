//! `Refusal`: what the layer answers itself, where there is no answer to pass on.

use std::{error::Error, fmt};

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};

use crate::Panicked;

/// Why the layer answers a request itself. [`Policy::refusal`](super::Policy::refusal) makes the response;
/// by default it has the [status](Self::status) and one line of text.
///
/// A request that is executed is never refused: it gets the service's own response, error or panic.
///
/// ```
/// use http::StatusCode;
/// use shardflight::tower::Refusal;
///
/// assert_eq!(Refusal::TooManyFollowers.status(), StatusCode::SERVICE_UNAVAILABLE);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The request that this one followed panicked in the service. That request itself goes on panicking,
    /// as it would without the layer; the panic hook runs for that one alone.
    Panicked(Panicked),
    /// There are as many followers as the policy [allows](super::Policy::max_followers).
    TooManyFollowers,
    /// The execution that this request waited for [failed](super::Policy::failure), and so did the
    /// [retries](super::Policy::retries) that it waited for.
    Failed {
        /// That of the failed response. It is 502 if there was no whole response: the service returned an
        /// error, or the body broke off.
        status: StatusCode,
        /// The failed response's `Retry-After`, as it was: a number of seconds or a date.
        retry_after: Option<HeaderValue>,
    },
}

impl Refusal {
    /// 500 for a panic, 503 for too many followers, and the failure's own status for a failure.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Failed { status, .. } => *status,
            Self::Panicked(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::TooManyFollowers => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// `Retry-After`: one second for too many followers, and what a failure said. A policy that makes its own
    /// [responses](super::Policy::refusal) should pass it on.
    ///
    /// ```
    /// use shardflight::tower::Refusal;
    ///
    /// assert_eq!(Refusal::TooManyFollowers.retry_after().expect("it has one"), "1");
    /// ```
    pub fn retry_after(&self) -> Option<HeaderValue> {
        match self {
            Self::Panicked(_) => None,
            // By then the flight has landed, or is about to be replaced.
            Self::TooManyFollowers => Some(HeaderValue::from_static("1")),
            Self::Failed { retry_after, .. } => retry_after.clone(),
        }
    }

    /// The default answer. It does not tell what the panic said: that is for the log.
    pub(super) fn response(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(format!("{self}\n")));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(retry_after) = self.retry_after() {
            headers.insert(RETRY_AFTER, retry_after);
        }
        response
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panicked(_) => "the request that this one shared an execution with panicked",
            Self::TooManyFollowers => "too many requests wait for the same response",
            Self::Failed { .. } => "the request that this one shared an execution with failed",
        })
    }
}

impl Error for Refusal {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Panicked(panicked) => Some(panicked),
            Self::TooManyFollowers | Self::Failed { .. } => None,
        }
    }
}
