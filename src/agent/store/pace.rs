//! How slowly bytes may go before a connection is given up: one that stands still, and one that trickles.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use object_store::client::{HttpError, HttpErrorKind, HttpRequestBody};
use tokio::time::{Instant, Sleep};

/// Bytes that are given to a connection at once, which is the step in which progress is seen.
pub(super) const PIECE: usize = 64 << 10;

/// What is still progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// In each such time of waiting for the connection ...
    pub(super) window: Duration,
    /// ... so many bytes go or come.
    pub(super) least: u64,
    /// How long a store may take to answer when it has everything: putting parts together takes minutes.
    pub(super) answer: Duration,
}

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stalled {
    #[error("no byte went or came for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("only {bytes} bytes went or came in {} s", window.as_secs())]
    Slow { bytes: u64, window: Duration },
}

impl Stalled {
    fn of(bytes: u64, window: Duration) -> Self {
        if bytes == 0 { Self::Silent(window) } else { Self::Slow { bytes, window } }
    }
}

impl From<Stalled> for HttpError {
    fn from(stalled: Stalled) -> Self {
        HttpError::new(HttpErrorKind::Timeout, stalled)
    }
}

/// Ends when a request of `total` bytes is given up, of which `sent` have gone.
pub(super) async fn stalled(sent: &AtomicU64, total: u64, pace: Pace) -> Stalled {
    // Whoever sends nothing asks for something that is there.
    let answer = if total == 0 { pace.window } else { pace.answer };
    loop {
        let before = sent.load(Ordering::Relaxed);
        if before >= total {
            tokio::time::sleep(answer).await;
            return Stalled::Silent(answer);
        }
        tokio::time::sleep(pace.window).await;
        let now = sent.load(Ordering::Relaxed);
        if now < total && now - before < pace.least {
            return Stalled::of(now - before, pace.window);
        }
    }
}

/// A request's content in small pieces, counted as the connection takes them.
#[derive(Debug)]
pub(super) struct Pieces {
    body: HttpRequestBody,
    left: Bytes,
    sent: Arc<AtomicU64>,
}

impl Pieces {
    pub(super) fn of(body: HttpRequestBody, sent: Arc<AtomicU64>) -> Self {
        Self { body, left: Bytes::new(), sent }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        while self.left.is_empty() {
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(content) => self.left = content,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
            }
        }
        let length = PIECE.min(self.left.len());
        let piece = self.left.split_to(length);
        self.sent.fetch_add(length as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.size_hint().exact().map(|rest| rest + self.left.len() as u64);
        rest.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// An answer's content. The time in which nobody asks for it does not count: who reads may be held up, too.
#[derive(Debug)]
pub(super) struct Awaited {
    body: reqwest::Body,
    pace: Pace,
    timer: Pin<Box<Sleep>>,
    /// Since when it is waited for.
    since: Option<Instant>,
    /// How long it was waited for, and what came, since the last progress.
    waited: Duration,
    came: u64,
}

impl Awaited {
    pub(super) fn of(body: reqwest::Body, pace: Pace) -> Self {
        let timer = Box::pin(tokio::time::sleep(pace.window));
        Self { body, pace, timer, since: None, waited: Duration::ZERO, came: 0 }
    }
}

impl Body for Awaited {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let now = Instant::now();
        if let Some(since) = self.since.take() {
            self.waited += now - since;
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if let Some(Ok(frame)) = &frame {
                self.came += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            if self.came >= self.pace.least {
                (self.came, self.waited) = (0, Duration::ZERO);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(super::transport::trouble)));
        }
        let left = self.pace.window.saturating_sub(self.waited);
        if !left.is_zero() {
            self.since = Some(now);
            self.timer.as_mut().reset(now + left);
            std::task::ready!(self.timer.as_mut().poll(cx));
        }
        Poll::Ready(Some(Err(Stalled::of(self.came, self.pace.window).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
