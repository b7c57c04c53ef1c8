//! The stream under HTTP: what was read ahead is read again, a peer that takes nothing is given up, and the end waits for the peer's.
//!
//! Without the second a client that asks and never reads would hold its answers in memory for as long as it likes. Without the third
//! a refusal would not arrive: octets that we leave unread turn our FIN into a reset, which may overtake it (RFC 9112 9.6).

use std::future::Future as _;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// See above.
#[derive(Debug)]
pub(super) struct Line<S> {
    stream: S,
    ahead: Bytes,
    patience: Duration,
    /// Runs while a write waits; kept for the next wait.
    timer: Option<Pin<Box<Sleep>>>,
    stalled: bool,
    farewell: Option<Farewell>,
}

/// The end has been said: how long, and for how many octets more, the peer's is waited for.
#[derive(Debug)]
struct Farewell {
    until: Pin<Box<Sleep>>,
    octets: usize,
}

impl<S> Line<S> {
    /// A line over `stream` on which a write may wait for `patience`.
    pub(super) const fn new(stream: S, patience: Duration) -> Self {
        Self { stream, ahead: Bytes::new(), patience, timer: None, stalled: false, farewell: None }
    }

    /// Turns a write that has waited too long into an error.
    fn watched<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = false;
            return written;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.patience)));
        if !self.stalled {
            self.stalled = true;
            timer.as_mut().reset(Instant::now() + self.patience);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> Line<S> {
    /// Does the stream start with `words`? Reads until that is sure; what was read will be read again.
    pub(super) async fn starts_with(&mut self, words: &[u8]) -> io::Result<bool> {
        let mut read = BytesMut::with_capacity(AHEAD);
        while read.len() < words.len() && words.starts_with(&read) {
            if self.stream.read_buf(&mut read).await? == 0 {
                break;
            }
        }
        let starts = read.starts_with(words);
        self.ahead = read.freeze();
        Ok(starts)
    }
}

impl<S: AsyncRead + Unpin> Line<S> {
    /// Throws away what comes until the peer ends too, or has had enough.
    fn wait_for_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let farewell =
            self.farewell.get_or_insert_with(|| Farewell { until: Box::pin(sleep(LINGER)), octets: LINGER_OCTETS });
        let mut octets = [MaybeUninit::uninit(); 1024];
        while farewell.octets > 0 && farewell.until.as_mut().poll(cx).is_pending() {
            let mut read = ReadBuf::uninit(&mut octets);
            if ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read)).is_err() || read.filled().is_empty() {
                break;
            }
            farewell.octets = farewell.octets.saturating_sub(read.filled().len());
        }
        farewell.octets = 0;
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let length = this.ahead.len().min(buf.remaining());
        buf.put_slice(this.ahead.get(..length).unwrap_or_default());
        this.ahead.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.watched(written, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.watched(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.watched(flushed, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.farewell.is_none() {
            let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.watched(shut, cx))?;
        }
        this.wait_for_end(cx).map(Ok)
    }
}

/// The longest a peer's end is waited for.
const LINGER: Duration = Duration::from_secs(1);

/// Octets thrown away meanwhile.
const LINGER_OCTETS: usize = 256 * 1024;

/// Room for what is read ahead: a small request whole.
const AHEAD: usize = 512;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn what_was_read_ahead_is_read_again_however_it_was_cut() {
        let (mut client, server) = duplex(64);
        let mut line = Line::new(server, Duration::from_secs(1));
        for part in [&b"PR"[..], b"I *", b" HTTP"] {
            client.write_all(part).await.unwrap();
        }
        drop(client);
        assert!(!line.starts_with(b"PRI * HTTP/2.0").await.unwrap(), "it ended too early");
        let mut read = String::new();
        line.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "PRI * HTTP");
    }

    #[tokio::test]
    async fn a_difference_is_known_at_the_first_octet() {
        let (mut client, server) = duplex(64);
        let mut line = Line::new(server, Duration::from_secs(1));
        client.write_all(b"G").await.unwrap();
        assert!(!line.starts_with(b"PRI").await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_the_peers_for_a_time_and_reads_what_it_still_says() {
        let (mut client, server) = duplex(8);
        let mut line = Line::new(server, Duration::from_secs(1));
        let (shut, sent) = tokio::join!(line.shutdown(), async {
            client.write_all(&[0; 100]).await?;
            client.shutdown().await
        });
        assert!(shut.is_ok() && sent.is_ok());
        let (_silent, server) = duplex(8);
        let started = Instant::now();
        Line::new(server, Duration::from_secs(9)).shutdown().await.unwrap();
        assert_eq!(started.elapsed(), LINGER);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_and_progress_is_forgiven() {
        let (mut client, server) = duplex(8);
        let mut line = Line::new(server, Duration::from_secs(1));
        line.write_all(&[0; 8]).await.unwrap();
        let started = Instant::now();
        let error = line.write_all(&[0; 8]).await.unwrap_err();
        assert_eq!((error.kind(), started.elapsed().as_secs()), (io::ErrorKind::TimedOut, 1));
        client.read_exact(&mut [0; 8]).await.unwrap();
        line.write_all(&[0; 8]).await.unwrap();
    }
}
