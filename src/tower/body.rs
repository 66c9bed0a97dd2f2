//! Bodies: those that are shared, those that pass through, and how one is gathered to be shared.

use std::{
    fmt,
    future::poll_fn,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::pause::Pause;

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
        Resumed { resumed: Box<Resumed<B, E>> },
    }
}

/// What was gathered, and what comes after it.
struct Resumed<B, E> {
    begun: Whole,
    /// The piece that was too much, or what there was before it broke off.
    next: Option<Frame<Bytes>>,
    /// Before the end of a body that broke off.
    pause: Option<Pause>,
    error: Option<E>,
    rest: Option<Pin<Box<B>>>,
    /// So much is still to come, as was said in advance. If it does not, the server tells the client.
    left: Option<u64>,
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

    pub(super) fn streamed(body: B) -> Self {
        Self { source: Source::Streamed { body } }
    }
}

/// An empty one.
impl<B: Body> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::whole(Whole::default())
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
            SourceProj::Whole { whole } => Poll::Ready(whole.next_frame().map(Ok)),
            SourceProj::Streamed { body } => body.poll_frame(cx),
            SourceProj::Resumed { resumed } => resumed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole { whole } => whole.is_empty(),
            Source::Streamed { body } => body.is_end_stream(),
            Source::Resumed { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            // In HTTP/1.1 there are no trailers where the length is said in advance.
            Source::Whole { whole: Whole { trailers: Some(_), .. } } => SizeHint::default(),
            Source::Whole { whole } => SizeHint::with_exact(whole.data.len() as u64),
            Source::Streamed { body } => body.size_hint(),
            Source::Resumed { resumed } => {
                resumed.left.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}

impl<B: Body> From<Resumed<B, B::Error>> for ResponseBody<B> {
    fn from(resumed: Resumed<B, B::Error>) -> Self {
        Self { source: Source::Resumed { resumed: Box::new(resumed) } }
    }
}

impl Whole {
    fn is_empty(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }

    fn next_frame(&mut self) -> Option<Frame<Bytes>> {
        match mem::take(&mut self.data) {
            data if !data.is_empty() => Some(Frame::data(data)),
            _ => self.trailers.take().map(Frame::trailers),
        }
    }
}

impl<B: Body<Data = Bytes>> Resumed<B, B::Error> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = match self.begun.next_frame().or_else(|| self.next.take()) {
            Some(frame) => Some(Ok(frame)),
            None if self.pause.as_mut().is_some_and(|pause| pause.poll(cx).is_pending()) => {
                return Poll::Pending;
            }
            None => match (self.error.take(), &mut self.rest) {
                (Some(error), _) => Some(Err(error)),
                (None, Some(rest)) => ready!(rest.as_mut().poll_frame(cx)),
                (None, None) => None,
            },
        };
        if let (Some(left), Some(Ok(frame))) = (&mut self.left, &frame) {
            *left = left.saturating_sub(length_of(frame) as u64);
        }
        Poll::Ready(frame)
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

/// Reads a body to its end, unless it has more than `most` bytes; `length` is what was said in advance. Never
/// holds more than `most` bytes and one frame. One that breaks off might [use the timer](Pause).
pub(super) async fn gather<B>(
    body: B,
    length: Option<u64>,
    most: usize,
    may_use_timer: bool,
) -> Gathered<B>
where
    B: Body<Data = Bytes>,
{
    let mut begun = Begun::default();
    let mut ends = body.is_end_stream();
    let mut body = Box::pin(body);
    let mut error = None;
    while !ends {
        match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            Some(Ok(frame)) if begun.len() + length_of(&frame) > most => {
                let (begun, next, rest) = (begun.done(), Some(frame), Some(body));
                let resumed = Resumed { begun, next, pause: None, error: None, rest, left: length };
                return Gathered::TooLarge(resumed.into());
            }
            Some(Ok(frame)) => begun.push(frame),
            Some(Err(broken)) => error = Some(broken),
            None => ends = true,
        }
        ends |= error.is_some() || body.is_end_stream();
    }
    let begun = begun.done();
    if error.is_none() && length.is_none_or(|length| length == begun.data.len() as u64) {
        return Gathered::Whole(begun);
    }
    // It ends as this one did, once the server has sent the rest.
    let (data, pause) = Pause::until_sent(begun.data, may_use_timer);
    let (begun, next) = (Whole::default(), Some(Frame::data(data)));
    let resumed = Resumed { begun, next, pause: Some(pause), error, rest: None, left: length };
    Gathered::Broken(resumed.into())
}

fn length_of(frame: &Frame<Bytes>) -> usize {
    frame.data_ref().map_or(0, Bytes::len)
}

/// A body that is being gathered. Most are one piece, which is not copied; of many only the bytes are kept.
#[derive(Default)]
struct Begun {
    whole: Whole,
    /// The first piece and those after it.
    pieces: BytesMut,
}

impl Begun {
    fn len(&self) -> usize {
        self.whole.data.len().max(self.pieces.len())
    }

    fn push(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) if self.len() == 0 => self.whole.data = data,
            Ok(data) => {
                if self.pieces.is_empty() {
                    self.pieces = mem::take(&mut self.whole.data).into();
                }
                self.pieces.extend_from_slice(&data);
            }
            // There are no others than data and trailers; what is neither says nothing to anybody.
            Err(frame) => {
                self.whole.trailers = frame.into_trailers().ok().or(self.whole.trailers.take())
            }
        }
    }

    fn done(mut self) -> Whole {
        if !self.pieces.is_empty() {
            self.whole.data = self.pieces.freeze();
        }
        self.whole
    }
}
