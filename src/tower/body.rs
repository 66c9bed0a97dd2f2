//! Bodies: those that are shared, those that pass through, and how one is gathered to be shared.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of a response that comes out of [`Coalesce`](super::Coalesce): one that was gathered to be
    /// shared, whose clones cost a reference count, or that of the service itself, untouched.
    pub struct ResponseBody<B>
    where
        B: Body,
    {
        #[pin]
        source: Source<B, B::Error>,
    }
}

pin_project! {
    #[project = SourceProj]
    enum Source<B, E> {
        Whole { whole: Whole },
        Streamed { #[pin] body: B },
        // Begun to be gathered, until it turned out to be too much.
        Resumed { begun: VecDeque<Frame<Bytes>>, error: Option<E>, rest: Option<Pin<Box<B>>> },
    }
}

/// A body as it is shared.
#[derive(Debug, Clone, Default)]
pub(super) struct Whole {
    pub(super) data: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

impl<B: Body> ResponseBody<B> {
    pub(super) fn whole(whole: Whole) -> Self {
        Self { source: Source::Whole { whole } }
    }

    /// One that does not say how long it is, because something else was declared.
    pub(super) fn unfinished(whole: Whole) -> Self {
        let trailers = whole.trailers.map(Frame::trailers);
        let begun = std::iter::once(Frame::data(whole.data)).chain(trailers).collect();
        Self { source: Source::Resumed { begun, error: None, rest: None } }
    }

    pub(super) fn streamed(body: B) -> Self {
        Self { source: Source::Streamed { body } }
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().source.project() {
            SourceProj::Whole { whole: Whole { data, trailers } } => {
                let data = std::mem::take(data);
                Poll::Ready(match data.is_empty() {
                    false => Some(Ok(Frame::data(data))),
                    true => trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
                })
            }
            SourceProj::Streamed { body } => body.poll_frame(cx),
            SourceProj::Resumed { begun, error, rest } => {
                if let Some(frame) = begun.pop_front() {
                    return Poll::Ready(Some(Ok(frame)));
                }
                if let Some(error) = error.take() {
                    return Poll::Ready(Some(Err(error)));
                }
                match rest {
                    Some(rest) => rest.as_mut().poll_frame(cx),
                    None => Poll::Ready(None),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole { whole } => whole.data.is_empty() && whole.trailers.is_none(),
            Source::Streamed { body } => body.is_end_stream(),
            Source::Resumed { begun, error, rest } => {
                begun.is_empty()
                    && error.is_none()
                    && rest.as_ref().is_none_or(|rest| rest.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            // In HTTP/1.1 there are no trailers where the length is said in advance.
            Source::Whole { whole: Whole { trailers: Some(_), .. } } => SizeHint::default(),
            Source::Whole { whole } => SizeHint::with_exact(whole.data.len() as u64),
            Source::Streamed { body } => body.size_hint(),
            Source::Resumed { .. } => SizeHint::default(),
        }
    }
}

impl<B: Body> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.source {
            Source::Whole { .. } => "ResponseBody(whole)",
            Source::Streamed { .. } | Source::Resumed { .. } => "ResponseBody(streamed)",
        })
    }
}

/// What comes of gathering a body.
pub(super) enum Gathered<B: Body> {
    Whole(Whole),
    /// There is more than was allowed. It has all of it nevertheless.
    TooLarge(ResponseBody<B>),
    /// It broke off, and this one does the same.
    Broken(ResponseBody<B>),
}

/// Reads a body to its end, unless it has more than `most` bytes.
pub(super) async fn gather<B: Body<Data = Bytes>>(body: B, most: usize) -> Gathered<B> {
    if body.is_end_stream() {
        return Gathered::Whole(Whole::default());
    }
    let mut body = Box::pin(body);
    let mut begun = VecDeque::new();
    let mut length = 0;
    loop {
        let frame = match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Gathered::Broken(resumed(begun, Some(error), None)),
            None => return Gathered::Whole(join(begun, length)),
        };
        length += frame.data_ref().map_or(0, Bytes::len);
        if length > most {
            begun.push_back(frame);
            return Gathered::TooLarge(resumed(begun, None, Some(body)));
        }
        // Most bodies are one piece.
        if body.is_end_stream() {
            return Gathered::Whole(join(begun.into_iter().chain([frame]), length));
        }
        begun.push_back(frame);
    }
}

fn resumed<B: Body>(
    begun: VecDeque<Frame<Bytes>>,
    error: Option<B::Error>,
    rest: Option<Pin<Box<B>>>,
) -> ResponseBody<B> {
    ResponseBody { source: Source::Resumed { begun, error, rest } }
}

/// One piece of data, which is copied only if it came in several.
fn join(frames: impl IntoIterator<Item = Frame<Bytes>>, length: usize) -> Whole {
    let mut pieces = BytesMut::new();
    let mut whole = Whole::default();
    for frame in frames {
        match frame.into_data() {
            Ok(data) if data.len() == length => whole.data = data,
            Ok(data) => {
                pieces.reserve(length - pieces.len());
                pieces.extend_from_slice(&data);
            }
            Err(frame) => whole.trailers = frame.into_trailers().ok(),
        }
    }
    if !pieces.is_empty() {
        whole.data = pieces.freeze();
    }
    whole
}
