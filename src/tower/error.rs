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
/// An error of the service is not among these: it is returned to the request that ran into it.
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
    /// as it would without the layer.
    Panicked(Panicked),
    /// There are as many followers as the policy [allows](super::Policy::max_followers).
    TooManyFollowers,
}

impl Refusal {
    /// 500 for a panic, 503 for too many followers.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Panicked(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::TooManyFollowers => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The default answer. It does not tell what the panic said: that is for the log.
    pub(super) fn response(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(format!("{self}\n")));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self == Self::TooManyFollowers {
            // Seconds. By then the flight has landed, or is about to be replaced.
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panicked(_) => "the request that this one shared an execution with panicked",
            Self::TooManyFollowers => "too many requests wait for the same response",
        })
    }
}

impl Error for Refusal {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Panicked(panicked) => Some(panicked),
            Self::TooManyFollowers => None,
        }
    }
}
