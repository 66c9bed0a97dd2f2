//! Failures: which executions failed, and what the requests that waited for one are told.

use http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER, response};

use super::{
    Alone, Policy, Refusal,
    grpc::{GRPC_STATUS, status_of_call},
    retry::Retry,
};

/// A failed execution, as its followers learn of it. It has nothing of the response except the status and
/// `Retry-After`: the rest might be private.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// For the request that was executed.
    pub(super) why: Alone,
    status: StatusCode,
    retry_after: Option<HeaderValue>,
    /// Where its followers meet.
    pub(super) retry: Retry,
}

impl Failure {
    fn new(why: Alone, status: StatusCode, retry_after: Option<HeaderValue>) -> Self {
        Self { why, status, retry_after, retry: Retry::default() }
    }

    /// The service returned an error, or a body that broke off.
    pub(super) fn without_response() -> Self {
        Self::new(Alone::Failed, StatusCode::BAD_GATEWAY, None)
    }

    pub(super) fn with_new_retry(&self) -> Self {
        Self { retry: Retry::default(), ..self.clone() }
    }

    /// What a follower is answered that has no retries left.
    pub(super) fn into_refusal(self) -> Refusal {
        Refusal::Failed { status: self.status, retry_after: self.retry_after }
    }
}

impl Policy {
    /// Whether a response of this status is a failure: by default 408, 429, and 500 to 599 are.
    ///
    /// The request that was executed gets a failure as it is. The requests that waited for it meet in a new
    /// flight ([`retries`](Self::retries)), and newcomers join them. If that fails too, they are answered
    /// with [`Refusal::Failed`], which copies the failure's status and `Retry-After`. So a service that fails
    /// is asked by one request for a key at a time, as one that is healthy.
    ///
    /// A call of gRPC that ends with `UNKNOWN` or `INTERNAL` counts as 500, one with `RESOURCE_EXHAUSTED` as 429, and
    /// one with `UNAVAILABLE` as 503. Its other statuses are about the call, and are not failures.
    ///
    /// An error of the service and a body that breaks off are failures, too. A panic is not: its followers
    /// are answered with [`Refusal::Panicked`] immediately.
    ///
    /// With `false`, a response of this status releases its followers, which run by themselves. This is
    /// for a status that depends on the client: a 429 by the client's address, if the service and not an outer
    /// layer counts requests. A status that is [shared](Self::status) is shared, whatever is said here.
    ///
    /// ```
    /// use http::StatusCode;
    /// use shardflight::tower::Policy;
    ///
    /// let policy = Policy::new()
    ///     .failure(StatusCode::TOO_MANY_REQUESTS, false) // this service counts for each client
    ///     .failure(StatusCode::CONFLICT, true); // and its lock is taken by an import at times
    /// # drop(policy);
    /// ```
    pub fn failure(mut self, status: StatusCode, is_failure: bool) -> Self {
        self.failures.retain(|(other, _)| *other != status);
        self.failures.push((status, is_failure));
        self
    }

    /// How many further flights a request waits for after the one that it joined has
    /// [failed](Self::failure): 1 by default. All requests that waited for the same flight share each of
    /// them, and the first of them is executed.
    ///
    /// A request waits for `1 + retries` executions at most before it is answered. With 0 it is answered
    /// with [`Refusal::Failed`] as soon as the flight that it joined fails.
    ///
    /// ```
    /// use shardflight::tower::Policy;
    ///
    /// // The layer behind this one retries already.
    /// let policy = Policy::new().retries(0);
    /// # drop(policy);
    /// ```
    pub fn retries(mut self, retries: u32) -> Self {
        self.limits.retries = retries;
        self
    }

    pub(super) fn is_failure(&self, status: StatusCode) -> bool {
        let stated = self.failures.iter().find(|(other, _)| *other == status);
        stated.map_or_else(|| is_failure_by_default(status), |(_, is_failure)| *is_failure)
    }

    /// The failure that keeps a response from being shared, if it is one. The trailers are those that were judged.
    pub(super) fn failure_of(
        &self,
        head: &response::Parts,
        trailers: Option<&HeaderMap>,
        why: &Alone,
    ) -> Option<Failure> {
        let of_call = || {
            let trailer = trailers.and_then(|trailers| trailers.get(&GRPC_STATUS));
            status_of_call(trailer.or_else(|| head.headers.get(&GRPC_STATUS))?)
        };
        let is_of_call = matches!(why, Alone::ResponseHeader(name) if *name == GRPC_STATUS);
        let status = Some(head.status).filter(|_| !is_of_call).or_else(of_call)?;
        if self.is_failure(status) {
            let retry_after = head.headers.get(RETRY_AFTER).cloned();
            return Some(Failure::new(why.clone(), status, retry_after));
        }
        (*why == Alone::Failed).then(Failure::without_response)
    }
}

/// These may be over soon, and all who ask for the same run into them.
fn is_failure_by_default(status: StatusCode) -> bool {
    [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status)
        || status.is_server_error()
}
