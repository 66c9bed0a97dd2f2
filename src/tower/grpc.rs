//! gRPC: the status of a call, which is not that of the HTTP response that carries it.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};

use super::Refusal;

/// It is in the head of a response without a message, and in the trailers of others. A constant would be made and
/// dropped at each comparison.
pub(super) static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether these are the headers of a request that is a call.
pub(super) fn is_call(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    // `application/grpc-web` has its status in the body.
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The status of HTTP that means the same as one of a call that may be over soon. Others are about the call
/// itself, or about its deadline.
pub(super) fn status_of_call(status: &HeaderValue) -> Option<StatusCode> {
    match status.as_bytes() {
        // Unknown, and internal.
        b"2" | b"13" => Some(StatusCode::INTERNAL_SERVER_ERROR),
        // Resources are exhausted.
        b"8" => Some(StatusCode::TOO_MANY_REQUESTS),
        // Unavailable.
        b"14" => Some(StatusCode::SERVICE_UNAVAILABLE),
        _ => None,
    }
}

/// The default answer to a call: a client of gRPC would take a line of text for a broken message.
pub(super) fn response(refusal: &Refusal) -> Response<Bytes> {
    let status = match refusal.status() {
        StatusCode::INTERNAL_SERVER_ERROR => "13",
        StatusCode::TOO_MANY_REQUESTS => "8",
        _ => "14",
    };
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(&GRPC_STATUS, HeaderValue::from_static(status));
    // Our own sentences, which have no character that would have to be escaped.
    if let Ok(message) = HeaderValue::try_from(refusal.to_string()) {
        headers.insert(&GRPC_MESSAGE, message);
    }
    if let Some(retry_after) = refusal.retry_after() {
        headers.insert(RETRY_AFTER, retry_after);
    }
    response
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_content_of_grpc_is_a_call() {
        let is_call = |kind| is_call(&HeaderMap::from_iter([(CONTENT_TYPE, kind)]));
        for kind in ["application/grpc", "application/grpc+proto", "application/grpc;a=b"] {
            assert!(is_call(HeaderValue::from_static(kind)), "{kind}");
        }
        for kind in ["application/grpc-web", "application/grpc-web+proto", "text/plain"] {
            assert!(!is_call(HeaderValue::from_static(kind)), "{kind}");
        }
    }
}
