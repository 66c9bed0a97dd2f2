//! Headers that name one request: ignored in requests, and never passed on to another request's response.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Key, Policy};

/// What followers get of a header of a response.
///
/// ```
/// use http::HeaderName;
/// use shardflight::tower::{Policy, ResponseHeaderRule};
///
/// let policy = Policy::new()
///     .response_header(HeaderName::from_static("server-timing"), ResponseHeaderRule::Own);
/// # drop(policy);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResponseHeaderRule {
    /// The same values as the request that was executed. This is the rule of all headers without another.
    Shared,
    /// It names the request that was executed, and stays with it. If its values are those that the executed
    /// request sent under the same name, each follower gets the values that it sent itself. Otherwise
    /// followers get none.
    Own,
}

/// Names of one request, for logs and traces.
pub(super) const TRACES: [&str; 33] = [
    "b3",
    "cf-ray",
    "correlation-id",
    "elastic-apm-traceparent",
    "fly-request-id",
    "grpc-trace-bin",
    "newrelic",
    "request-id",
    "sentry-trace",
    "traceparent",
    "tracestate",
    "uber-trace-id",
    "x-amz-cf-id",
    "x-amzn-trace-id",
    "x-arr-log-id",
    "x-azure-ref",
    "x-b3-flags",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-spanid",
    "x-b3-traceid",
    "x-cloud-trace-context",
    "x-correlation-id",
    "x-datadog-origin",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "x-datadog-tags",
    "x-datadog-trace-id",
    "x-ot-span-context",
    "x-request-id",
    "x-trace-id",
    "x-varnish",
    "x-vercel-id",
];

impl Policy {
    /// What followers get of this header of a response.
    ///
    /// By default a header that names one request stays with that request
    /// ([`ResponseHeaderRule::Own`]): `b3`, `cf-ray`, `correlation-id`, `elastic-apm-traceparent`,
    /// `fly-request-id`, `grpc-trace-bin`, `newrelic`, `request-id`, `sentry-trace`, `traceparent`,
    /// `tracestate`, `uber-trace-id`, `x-amz-cf-id`, `x-amzn-trace-id`, `x-arr-log-id`, `x-azure-ref`,
    /// `x-b3-flags`, `x-b3-parentspanid`, `x-b3-sampled`, `x-b3-spanid`, `x-b3-traceid`,
    /// `x-cloud-trace-context`, `x-correlation-id`, `x-datadog-origin`, `x-datadog-parent-id`,
    /// `x-datadog-sampling-priority`, `x-datadog-tags`, `x-datadog-trace-id`, `x-ot-span-context`,
    /// `x-request-id`, `x-trace-id`, `x-varnish`, `x-vercel-id`. These are the headers that
    /// [`header`](Self::header) ignores in requests for the same reason.
    ///
    /// All other headers are shared. That includes `Server-Timing`, which is true of the execution that the
    /// followers waited for. The same rules hold for trailers. The request that was executed gets all headers
    /// in any case.
    ///
    /// For a header with a name that is unknown to this list, say that requests may differ in it, too. Then
    /// followers get their own value back where the service echoes it:
    ///
    /// ```
    /// use http::HeaderName;
    /// use shardflight::tower::{HeaderRule, Policy, ResponseHeaderRule};
    ///
    /// let name = HeaderName::from_static("x-client-reference");
    /// let policy = Policy::new()
    ///     .header(name.clone(), HeaderRule::Ignore)
    ///     .response_header(name, ResponseHeaderRule::Own);
    /// # drop(policy);
    /// ```
    pub fn response_header(mut self, name: HeaderName, rule: ResponseHeaderRule) -> Self {
        match rule {
            ResponseHeaderRule::Own => self.own_headers.insert(name),
            ResponseHeaderRule::Shared => self.own_headers.remove(&name),
        };
        self
    }

    /// Takes what names the request that was executed out of a follower's copy of the headers.
    pub(super) fn readdress(&self, headers: &mut HeaderMap, executed: &Key, follower: &Key) {
        let is_own = |name: &&HeaderName| self.own_headers.contains(*name);
        // Most responses have none, and the list then takes no memory.
        let own: Vec<HeaderName> = headers.keys().filter(is_own).cloned().collect();
        for name in own {
            let values = headers.get_all(&name).iter().map(HeaderValue::as_bytes);
            let is_echo = values.eq(executed.ignored(&name));
            headers.remove(&name);
            if is_echo {
                let values = follower.ignored(&name).map(HeaderValue::from_bytes);
                // They were values of a header before they were written into the key.
                for value in values.flatten() {
                    headers.append(name.clone(), value);
                }
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_page_lists_every_header_that_names_one_request() {
        let page = include_str!("own_headers.rs");
        for name in TRACES {
            assert!(page.contains(&format!("`{name}`")), "{name} is not on the page");
        }
    }
}
