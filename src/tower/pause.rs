//! `Pause`: time for a server to send what there is of a body before it learns that the body breaks off.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::{
    runtime::Handle,
    time::{Sleep, sleep},
};

/// Between the last data of a body and its error. A server that meets both in one poll throws the data away, and
/// the head of the response with it: hyper closes the connection of HTTP/1.1, and h2 empties the queue of the
/// stream before it resets it.
pub(super) struct Pause {
    sent: Arc<Sent>,
    is_first: bool,
    may_use_timer: bool,
    limit: Option<Pin<Box<Sleep>>>,
}

/// For readers that keep the data that they have read, and clients that do not take it: what tells that data has
/// been sent is that it is dropped.
const LIMIT: Duration = Duration::from_millis(250);

#[derive(Default)]
struct Sent {
    is_sent: AtomicBool,
    waker: AtomicWaker,
}

/// The data, which tells when it is dropped.
struct Tracked {
    data: Bytes,
    sent: Arc<Sent>,
}

impl AsRef<[u8]> for Tracked {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `poll`, which comes after the waker is registered.
        self.sent.is_sent.store(true, Ordering::Release);
        self.sent.waker.wake();
    }
}

impl Pause {
    /// The same data, and a pause that lasts until it has been sent. Without a timer it lasts
    /// for one poll.
    pub(super) fn until_sent(data: Bytes, may_use_timer: bool) -> (Bytes, Self) {
        let sent = Arc::new(Sent::default());
        let tracked = Bytes::from_owner(Tracked { data, sent: Arc::clone(&sent) });
        (tracked, Self { sent, is_first: true, may_use_timer, limit: None })
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_first {
            // A server of HTTP/1.1 copies the data, and writes it when the body has nothing more.
            self.is_first = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.sent.waker.register(cx.waker());
        let may_wait = self.may_use_timer && Handle::try_current().is_ok();
        if may_wait && !self.sent.is_sent.load(Ordering::Acquire) {
            let limit = self.limit.get_or_insert_with(|| Box::pin(sleep(LIMIT)));
            ready!(limit.as_mut().poll(cx));
        }
        Poll::Ready(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::future::poll_fn;

    use tokio::time::Instant;

    use super::*;

    async fn lasts(pause: &mut Pause) -> Duration {
        let begun = Instant::now();
        poll_fn(|cx| pause.poll(cx)).await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn it_lasts_until_the_data_is_dropped_or_kept_for_too_long() {
        let (data, mut pause) = Pause::until_sent("data".into(), true);
        assert_eq!(data, "data");
        assert_eq!(lasts(&mut pause).await, LIMIT);

        let (data, mut pause) = Pause::until_sent(Bytes::new(), true);
        let soon = Duration::from_millis(1);
        tokio::spawn(async move {
            sleep(soon).await;
            drop(data);
        });
        assert_eq!(lasts(&mut pause).await, soon);

        let (kept, mut pause) = Pause::until_sent("data".into(), false);
        assert_eq!(lasts(&mut pause).await, Duration::ZERO);
        drop(kept);
    }
}
