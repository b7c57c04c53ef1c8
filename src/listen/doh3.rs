//! DNS over HTTP/3: holds the place of the protocol; every connection is closed.

use super::{Context, session::Session};

/// Closes `connection`.
#[expect(clippy::unused_async, reason = "the protocol that belongs here waits for its peer")]
pub async fn serve(connection: quinn::Connection, session: Session, context: Context) {
    connection.close(0x100_u32.into(), b"");
    drop((session, context));
}
