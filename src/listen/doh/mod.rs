//! DNS over HTTPS on a stream: HTTP/2 and HTTP/1.1 (RFC 8484).
//!
//! Chooses the version, then `h2` or `h1` turns requests into questions at the `Desk`. In clear text a client that speaks HTTP/2
//! by prior knowledge is known by its preface (RFC 9113 3.3).

mod h1;
mod h2;
mod line;

use std::io;
use std::sync::Arc;

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use self::line::Line;
use super::Context;
use super::deadline;
use super::http::Desk;
use super::presence::Presence;
use super::session::Session;
use super::unread::Unread;
use crate::guard::Permit;
use crate::peer::Transport;

/// What is the same for all connections of one door.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// Where the same is answered over HTTP/3 (RFC 7838 3); none while it is not.
    pub alt_svc: Option<HeaderValue>,
}

/// One connection: shared by its loop and the questions that wait.
struct Visit {
    desk: Desk,
    context: Context,
    unread: Unread,
    _presence: Presence,
    _permit: Permit,
}

/// The HTTP of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Serves one connection until either side ends it.
pub async fn serve<S>(stream: S, session: Session, site: Arc<Site>, context: Context)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut line = Line::new(stream, deadline::WRITE);
    let Session { mut peer, permit, alpn } = session;
    let version = match alpn.as_deref() {
        Some(b"h2") => Ok(Version::Two),
        Some(_) => Ok(Version::One),
        None => first_words(&mut line, &context).await,
    };
    let Ok(version) = version else { return };
    peer.transport = match version {
        Version::One => Transport::Doh1,
        Version::Two => Transport::Doh2,
    };
    let presence = Presence::of(&context.counters, peer.transport);
    let desk = Desk::new(&context, peer, site.alt_svc.clone());
    let unread = Unread::of(permit.purse());
    let visit = Arc::new(Visit { desk, context, unread, _presence: presence, _permit: permit });
    match version {
        Version::One => h1::serve(line, visit).await,
        Version::Two => h2::serve(line, visit).await,
    }
}

/// Waits for as much as tells the versions apart, and leaves it to be read again.
async fn first_words<S>(line: &mut Line<S>, context: &Context) -> io::Result<Version>
where
    S: AsyncRead + Unpin,
{
    let started = timeout(context.limits().idle_timeout, line.starts_with(PREFACE)).await;
    Ok(if started?? { Version::Two } else { Version::One })
}

/// The client connection preface of HTTP/2 (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[cfg(test)]
mod tests;
