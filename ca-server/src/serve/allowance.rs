//! How much a connection may send: something to begin with, and more with each request that it begins. HTTP/2 bounds
//! requests, and nothing bounds the frames beside them: a flood of SETTINGS, PING or PRIORITY would never end.

use std::io::{Error, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is not used up: far more than an hour of pings and acknowledgements takes.
const AT_FIRST: usize = 1024 * 1024;
/// The largest body and the largest headers, and their frames.
const EACH_REQUEST: usize = 192 * 1024;
/// A hundred requests at once.
const AT_MOST: usize = AT_FIRST + 100 * EACH_REQUEST;

/// What a connection may still send.
#[derive(Clone)]
pub(super) struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(AT_FIRST)))
    }

    /// A request begins.
    pub(super) fn request(&self) {
        self.change(|left| Some((left + EACH_REQUEST).min(AT_MOST)));
    }

    /// Whether `octets` more were allowed.
    fn take(&self, octets: usize) -> bool {
        self.change(|left| left.checked_sub(octets))
    }

    fn change(&self, change: impl Fn(usize) -> Option<usize>) -> bool {
        let (ordering, left) = (Ordering::Relaxed, &self.0);
        left.fetch_update(ordering, ordering, change).is_ok()
    }
}

/// A stream that reads no further than its allowance goes.
pub(super) struct Metered<T> {
    stream: T,
    allowance: Allowance,
}

impl<T> Metered<T> {
    pub(super) fn new(stream: T, allowance: Allowance) -> Self {
        Self { stream, allowance }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Error>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        if self.allowance.take(read) {
            Poll::Ready(Ok(()))
        } else {
            Poll::Ready(Err(Error::other("it sends more than its requests take")))
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<Result<usize, Error>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, octets)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_sent_grows_with_requests_and_not_without_end() {
        let allowance = Allowance::new();
        assert!(allowance.take(AT_FIRST));
        assert!(!allowance.take(1));
        allowance.request();
        assert!(allowance.take(EACH_REQUEST));
        (0..1_000).for_each(|_| allowance.request());
        assert!(!allowance.take(AT_MOST + 1));
        assert!(allowance.take(AT_MOST));
    }
}
