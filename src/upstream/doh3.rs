//! DNS over HTTPS toward servers, on HTTP/3 (RFC 8484, RFC 9114).

use std::fmt;
use std::sync::Arc;

use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use h3::client::SendRequest;
use h3::error::StreamError;
use h3_quinn::OpenStreams;
use tokio::time::Instant;

use super::Ask;
use super::delivery::{Delivered, Facts, check_stream};
use super::error::Cause;
use super::http::{Target, check_head};
use super::kept::Carrier;
use super::quic::Quic;
use crate::wire::MAX_MESSAGE;

/// A server asked over HTTP/3.
#[derive(Debug)]
pub struct Doh3 {
    quic: Quic,
    target: Target,
}

/// A connection to it. Dropping it closes with `H3_NO_ERROR`.
pub struct Connection {
    sender: SendRequest<OpenStreams, Bytes>,
    quic: quinn::Connection,
    facts: Facts,
}

/// The longest header section that we read.
const HEADER_LIMIT: u64 = 16 * 1024;

impl Doh3 {
    /// A server reached over `quic` and asked at `target`.
    #[must_use]
    pub const fn new(quic: Quic, target: Target) -> Self {
        Self { quic, target }
    }
}

impl Carrier for Doh3 {
    type Connection = Connection;

    async fn open(&self, until: Instant) -> Result<Connection, Cause> {
        let (quic, facts) = self.quic.connect(until).await?;
        let (mut driver, sender) = h3::client::builder()
            .max_field_section_size(HEADER_LIMIT)
            .send_grease(false)
            .build(h3_quinn::Connection::new(quic.clone()))
            .await
            .map_err(|_| Cause::Connect)?;
        // Ends with the connection, which ends with its last sender.
        tokio::spawn(async move { std::future::poll_fn(|context| driver.poll_close(context)).await });
        Ok(Connection { sender, quic, facts })
    }

    fn is_open(&self, connection: &Connection) -> bool {
        connection.quic.close_reason().is_none()
    }

    fn facts(connection: &Connection) -> &Facts {
        &connection.facts
    }

    async fn closed(connection: &Connection) {
        connection.quic.closed().await;
    }

    async fn ask(&self, connection: &Connection, ask: &Arc<Ask>) -> Result<Delivered, Cause> {
        let (request, body) = self.target.request(ask)?;
        let mut stream = connection.sender.clone().send_request(request).await.map_err(|error| cause(&error))?;
        if !body.is_empty() {
            stream.send_data(body).await.map_err(|error| cause(&error))?;
        }
        stream.finish().await.map_err(|error| cause(&error))?;
        let response = stream.recv_response().await.map_err(|error| cause(&error))?;
        let age = check_head(response.status(), response.headers())?;
        let mut message = BytesMut::with_capacity(512);
        while let Some(mut part) = stream.recv_data().await.map_err(|error| cause(&error))? {
            if message.len() + part.remaining() > MAX_MESSAGE {
                return Err(Cause::Malformed);
            }
            message.put(part.copy_to_bytes(part.remaining()));
        }
        check_stream(ask, &message, 0)?;
        Ok(Delivered { message: message.freeze(), age, facts: connection.facts })
    }
}

fn cause(error: &StreamError) -> Cause {
    match error {
        StreamError::HeaderTooBig { .. } => Cause::Malformed,
        _ => Cause::Closed,
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.facts).finish()
    }
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::super::testing::{
        Authority, Handler, ask as question, attempt, dns_response, quic_server, reply, serve_h3,
    };
    use super::*;
    use crate::peer::Transport;

    async fn outcome(handler: Handler) -> Result<Delivered, Cause> {
        let authority = Authority::new();
        let (config, _) = authority.identity(&["127.0.0.1"], &["h3"]);
        let address = quic_server(config, move |connection| serve_h3(connection, handler));
        let (result, _) = attempt(&authority.server("h3", address), &question("a.example")).await;
        result.map_err(|error| error.cause)
    }

    #[tokio::test]
    async fn a_verified_server_answers_and_its_age_is_handed_on() {
        let delivered = outcome(|_, body| {
            assert_eq!((body.len(), &body[..2]), (128, &[0, 0][..]));
            let mut response = dns_response(reply(body, 0));
            response.headers_mut().insert("age", 7.into());
            response
        })
        .await
        .unwrap();
        assert_eq!((delivered.age, delivered.facts.transport), (7, Transport::Doh3));
    }

    #[tokio::test]
    async fn doh_27_statuses_types_and_lengths_are_checked() {
        let unavailable = |_: &http::Request<()>, body: &[u8]| {
            let mut response = dns_response(reply(body, 0));
            *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
            response
        };
        assert_eq!(outcome(unavailable).await.unwrap_err(), Cause::Malformed);
        let untyped = |_: &http::Request<()>, body: &[u8]| Response::new(reply(body, 0).into());
        assert_eq!(outcome(untyped).await.unwrap_err(), Cause::Malformed);
        assert_eq!(outcome(|_, _| dns_response(vec![0; 65_536])).await.unwrap_err(), Cause::Malformed);
    }

    #[tokio::test]
    async fn dot_09_an_unknown_authority_ends_the_handshake() {
        let (authority, other) = (Authority::new(), Authority::new());
        let (config, _) = other.identity(&["127.0.0.1"], &["h3"]);
        let address = quic_server(config, |_| async { panic!("the handshake succeeded") });
        let (result, _) = attempt(&authority.server("h3", address), &question("a.example")).await;
        assert_eq!(result.unwrap_err().cause, Cause::Tls);
    }
}
