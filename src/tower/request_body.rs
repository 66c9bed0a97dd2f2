//! Bodies of requests: how one is read for the key, and given back to the service.

#[cfg(feature = "axum")]
use std::any::{Any, TypeId};
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, request};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{
    Alone, Key, Policy, ResponseBody,
    body::{Gathered, gather},
    judge::Content,
    layer::Shared,
};

/// Bodies of requests are read for the key if the crate knows their type: with the feature `axum` those of axum.
/// Requests with another run alone, unless the [`CoalesceLayer`](super::CoalesceLayer) is told
/// [how to give them back](super::CoalesceLayer::request_bodies).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownBodies;

/// Bodies of requests are read for the key, and given back as a `B`: see
/// [`CoalesceLayer::request_bodies`](super::CoalesceLayer::request_bodies).
pub struct Replayed<B: Body> {
    pub(super) rebuild: fn(RequestBody<B>) -> B,
}

impl<B: Body> Clone for Replayed<B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Body> Copy for Replayed<B> {}

impl<B: Body> fmt::Debug for Replayed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replayed")
    }
}

pin_project! {
    /// The body of a request that was read for its key: what was read, and then the rest, if there is more. It has
    /// the data, the trailers and the error of the original.
    ///
    /// Constructors of body types take it: `axum::body::Body::new`, `tonic::body::Body::new`, and
    /// `http_body_util::BodyExt::boxed`.
    pub struct RequestBody<B>
    where
        B: Body,
    {
        #[pin]
        body: ResponseBody<B>,
    }
}

impl<B: Body<Data = Bytes>> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Body> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}

/// What the key of a request needs to know of its body.
pub(super) fn content_of(body: &impl Body, can_be_read: bool, policy: &Policy) -> Content {
    let most = policy.limits.max_request_body;
    match body.is_end_stream() {
        true => Content::Absent,
        // One that says that it is longer is not begun.
        false if can_be_read && most > 0 && body.size_hint().lower() <= most as u64 => {
            Content::Read
        }
        false => Content::Unread,
    }
}

/// A request whose body is read, and then its key.
pub(super) type Reading<B> = Pin<Box<dyn Future<Output = (Request<B>, Result<Key, Alone>)> + Send>>;

/// Reads the body of a request that has this key without it.
pub(super) fn read<B>(
    shared: &Arc<Shared>,
    key: Key,
    request: request::Parts,
    body: B,
    rebuild: fn(RequestBody<B>) -> B,
) -> Reading<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    let shared = Arc::clone(shared);
    Box::pin(async move {
        let most = shared.policy.limits.max_request_body;
        let length = body.size_hint().exact();
        // No client waits for what the service is given back.
        let (key, body) = match gather(body, length, most, false).await {
            Gathered::Whole(whole) => {
                let key = match &whole.trailers {
                    Some(_) => Err(Alone::Body),
                    None => shared.policy.key_with_content(&key, &request, &whole.data),
                };
                (key, ResponseBody::whole(whole))
            }
            Gathered::TooLarge(body) | Gathered::Broken(body) => (Err(Alone::Body), body),
        };
        (Request::from_parts(request, rebuild(RequestBody { body })), key)
    })
}

/// Whether the crate knows how to give back bodies of this type.
pub(super) fn is_known<B: 'static>(_: &B) -> bool {
    #[cfg(feature = "axum")]
    return TypeId::of::<B>() == TypeId::of::<axum::body::Body>();
    #[cfg(not(feature = "axum"))]
    return false;
}

/// The same for a body [that is known](is_known).
#[cfg(feature = "axum")]
pub(super) fn read_known<B: 'static>(
    shared: &Arc<Shared>,
    key: Key,
    request: request::Parts,
    body: B,
) -> Reading<B> {
    use axum::body::Body;

    let body = same::<B, Body>(body);
    let reading = read(shared, key, request, body, Body::new);
    Box::pin(async move {
        let (request, key) = reading.await;
        (request.map(same::<Body, B>), key)
    })
}

/// A value of a type that is the other, by another name.
#[cfg(feature = "axum")]
fn same<T: 'static, U: 'static>(value: T) -> U {
    let mut value = Some(value);
    let value = (&mut value as &mut dyn Any).downcast_mut::<Option<U>>();
    value.and_then(Option::take).expect("it is the same type")
}
