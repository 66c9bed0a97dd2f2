//! What a flight of requests comes to, and what a response says about how it was come by.

use std::{
    any::Any,
    fmt, mem,
    sync::{Arc, Mutex, PoisonError},
};

use http::{Extensions, HeaderMap, HeaderName, Response, StatusCode, Version};
use http_body::Body;

use super::{
    Key, Policy, Refusal, ResponseBody,
    body::Whole,
    connection::{nominated, remove_hop_by_hop},
    failure::Failure,
};

/// How a response was come by; every response of [`Coalesce`](super::Coalesce) has it among its extensions.
///
/// So executions are the responses with `Led` and `Alone`, and what was saved are those with `Joined`. An
/// [observer](super::CoalesceLayer::observer) is told the same.
///
/// ```
/// use http::Response;
/// use shardflight::tower::Coalesced;
///
/// fn count<B>(response: &Response<B>) {
///     match response.extensions().get() {
///         Some(Coalesced::Led { followers }) => println!("executed, for {followers} others, too"),
///         Some(Coalesced::Joined) => println!("the response of another request"),
///         Some(Coalesced::Alone(why)) => println!("executed alone: {why:?}"),
///         Some(Coalesced::Refused(refusal)) => println!("not executed: {refusal}"),
///         _ => println!("the layer is not there"),
///     }
/// }
/// # count(&Response::new(()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coalesced {
    /// The request was executed, or went on with an execution whose own request had gone, and
    /// `followers` others got the response, too.
    Led {
        /// How many. Those among them that vary from this request run again.
        followers: usize,
    },
    /// Another request was executed.
    Joined,
    /// The request was executed for itself.
    Alone(Alone),
    /// The layer has made the response.
    Refused(Refusal),
}

/// Why a request was executed for itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Alone {
    /// Its method is not shared.
    Method,
    /// It has a body, or declares one. If bodies are [read](super#requests-with-a-body): it has one of
    /// more than [so many bytes](super::Policy::max_request_body), one with trailers, or one that broke off.
    Body,
    /// It has this header, whose rule is `Alone`, or whose value forbids it: directives of `Cache-Control`, headers
    /// that `Connection` nominates, `Incremental: ?1`, or what has no normal form.
    Header(HeaderName),
    /// It names more than one host, or one in its URI and another in `Host`.
    Authority,
    /// One of the policy's functions said so.
    Policy,
    /// Responses to its key were not to be shared, a short while ago.
    Remembered,
    /// The response had a status that is not shared.
    Status(StatusCode),
    /// The response had this header or trailer, or its value forbids it: `Set-Cookie`, `Cache-Control`, `Vary`,
    /// `Incremental`, `grpc-status`.
    ResponseHeader(HeaderName),
    /// The body was larger than is gathered.
    TooLarge,
    /// The body was of unknown length, or a stream of events.
    Stream,
    /// The service returned an error, or the body broke off.
    Failed,
    /// It was made by the execution that it would have waited for: the layer is there twice, or the service
    /// asks itself.
    Reentrant,
    /// The responses varied on one header after the other.
    Varies,
}

/// What everybody in a flight gets.
#[derive(Debug, Clone)]
pub(super) enum Landed {
    /// With the extensions that are not shared. In a box because it is moved a dozen times.
    Shared(Box<Answer>, Own),
    /// The response is for the request that was executed; all others run by themselves.
    Alone(Alone, Own),
    /// The response is for the request that was executed; all others try again together.
    Failed(Box<Failure>, Own),
    /// Nobody was executed: the leader found the result of a [`Retry`](super::retry::Retry) that it had missed. All
    /// others ask again.
    Nothing,
}

/// What is only for the request that was executed, and of a type that its flight does not know. Its clones
/// are the same one, which is taken once.
#[derive(Clone)]
pub(super) struct Own(Option<Arc<Slot>>);

type Slot = Mutex<Option<Box<dyn Any + Send>>>;

impl Own {
    pub(super) const NOTHING: Self = Self(None);

    pub(super) fn of<T: Send + 'static>(own: T) -> Self {
        Self(Some(Arc::new(Mutex::new(Some(Box::new(own))))))
    }

    pub(super) fn take<T: 'static>(self) -> Option<T> {
        let own = self.0?.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(*own.downcast().expect("it is taken by whose it is"))
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").finish_non_exhaustive()
    }
}

/// A response as it is shared: each clone is for one who follows.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    /// Those that the policy shares.
    pub(super) extensions: Extensions,
    pub(super) body: Whole,
    /// What the response varies on beside its key.
    pub(super) varies: Vec<HeaderName>,
    /// That of the request that was executed.
    pub(super) key: Key,
}

impl Answer {
    /// Whether it is an answer to a request with this key, too (RFC 9111, 4.1).
    pub(super) fn is_for(&self, key: &Key) -> bool {
        self.varies.iter().all(|name| self.key.ignored(name).eq(key.ignored(name)))
    }

    /// The response of the request that was executed.
    #[inline]
    pub(super) fn into_own<B: Body>(self, extensions: Extensions) -> Response<ResponseBody<B>> {
        // Of types that the user chose, whose `Drop` may panic.
        drop(self.extensions);
        let mut response = Response::new(ResponseBody::whole(self.body));
        *response.status_mut() = self.status;
        *response.version_mut() = self.version;
        *response.headers_mut() = self.headers;
        *response.extensions_mut() = extensions;
        response
    }

    /// The response of any other, which has this key.
    pub(super) fn for_follower<B: Body>(
        mut self,
        policy: &Policy,
        key: &Key,
    ) -> Response<ResponseBody<B>> {
        let of_head = nominated(&self.headers);
        remove_hop_by_hop(&mut self.headers, &of_head);
        policy.readdress(&mut self.headers, &self.key, key);
        self.body.trailers = self.body.trailers.and_then(|mut trailers| {
            let named = [of_head, nominated(&trailers)].concat();
            remove_hop_by_hop(&mut trailers, &named);
            policy.readdress(&mut trailers, &self.key, key);
            Some(trailers).filter(|trailers| !trailers.is_empty())
        });
        // The other's connection may have been of HTTP/1.0; servers know their own.
        self.version = Version::default();
        let extensions = mem::take(&mut self.extensions);
        self.into_own(extensions)
    }
}
