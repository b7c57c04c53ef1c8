//! DNS over HTTPS on a stream (RFC 8484).

use std::sync::Arc;

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Context, Session};

/// What one DoH door says about itself.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// Where HTTP/3 is spoken (RFC 7838).
    pub alt_svc: Option<HeaderValue>,
}

/// Serves one connection.
#[allow(clippy::unused_async, reason = "the connection is closed at once")]
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    _stream: S,
    _session: Session,
    _site: Arc<Site>,
    _context: Context,
) {
}
