//! DNS over HTTPS toward servers, on HTTP/3 (RFC 8484, RFC 9114).

mod bounded;

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use h3::ConnectionState as _;
use h3::client::{RequestStream, SendRequest};
use h3::error::{Code, ConnectionError, StreamError};
use h3::proto::frame::Frame;
use quinn::VarInt;
use tokio::sync::watch;
use tokio::time::Instant;

use self::bounded::{Carrier as Bounded, Opener};
use super::Ask;
use super::delivery::{Delivered, Facts, check_stream};
use super::error::Cause;
use super::http::{Target, check_head, check_length};
use super::kept::Carrier;
use super::proof::Proof;
use super::quic::{self, Quic};
use crate::wire::MAX_MESSAGE;

type Driver = h3::client::Connection<Bounded, Bytes>;

/// A server asked over HTTP/3.
#[derive(Debug)]
pub struct Doh3 {
    quic: Quic,
    target: Target,
}

/// A connection to it. Dropping it closes with `H3_NO_ERROR`.
pub struct Connection {
    sender: SendRequest<Opener, Bytes>,
    quic: quinn::Connection,
    /// Requests from this index on are not looked at: what GOAWAY said, all may be before it.
    end: watch::Receiver<u64>,
    facts: Facts,
}

/// The longest header section that we read.
const HEADER_LIMIT: u64 = 16 * 1024;

/// Interim responses (1xx) that may precede the one.
const INTERIM: usize = 8;

/// `H3_FRAME_UNEXPECTED`.
const FRAME_UNEXPECTED: VarInt = VarInt::from_u32(0x105);

impl Doh3 {
    /// What is known of the server's proof.
    #[must_use]
    pub fn proof(&self) -> &Proof {
        self.quic.proof()
    }

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
        let (driver, sender) = h3::client::builder()
            .max_field_section_size(HEADER_LIMIT)
            .send_grease(false)
            .build(Bounded::new(&quic))
            .await
            .map_err(|_| Cause::Connect)?;
        let (tell, end) = watch::channel(u64::MAX);
        // Ends with the connection, which ends with its last sender.
        tokio::spawn(follow(driver, quic.clone(), tell));
        Ok(Connection { sender, quic, end, facts })
    }

    fn is_open(&self, connection: &Connection) -> bool {
        connection.quic.close_reason().is_none() && *connection.end.borrow() == u64::MAX
    }

    fn facts(connection: &Connection) -> &Facts {
        &connection.facts
    }

    async fn closed(connection: &Connection) {
        connection.quic.closed().await;
    }

    async fn ask(&self, connection: &Connection, ask: &Arc<Ask>) -> Result<Delivered, Cause> {
        let (request, body) = self.target.request(ask)?;
        let mut sender = connection.sender.clone();
        let stream = tokio::select! {
            biased;
            opened = sender.send_request(request) => opened.map_err(|error| cause(&error, &connection.quic))?,
            () = connection.left_out(u64::MAX) => return Err(Cause::Closed),
        };
        let index = stream.id().index();
        let mut exchange = Exchange { stream, is_over: false };
        let (age, message) = tokio::select! {
            biased;
            outcome = exchange.run(body, &connection.quic) => outcome?,
            () = connection.left_out(index) => return Err(Cause::Closed),
            () = quic::lost(&connection.quic) => return Err(Cause::Closed),
        };
        check_stream(ask, &message, 0)?;
        Ok(Delivered { message, age, facts: connection.facts })
    }
}

impl Connection {
    /// Ends when GOAWAY says that the request of this index is not looked at; a request not made yet has the last.
    async fn left_out(&self, index: u64) {
        let mut end = self.end.clone();
        if end.wait_for(|&end| end != u64::MAX && end <= index).await.is_err() {
            // The connection is gone, and the stream tells why.
            std::future::pending::<()>().await;
        }
    }
}

/// Follows the control stream to the end of the connection, and tells where GOAWAY draws the line (RFC 9114 5.2).
async fn follow(mut driver: Driver, quic: quinn::Connection, tell: watch::Sender<u64>) {
    loop {
        match poll_fn(|context| driver.inner.poll_control(context)).await {
            Ok(Frame::Settings(_)) => {}
            Ok(Frame::Goaway(id)) => {
                driver.set_closing();
                tell.send_modify(|end| *end = (*end).min(id.into_inner() / 4));
            }
            Ok(_) => quic.close(FRAME_UNEXPECTED, b""),
            Err(_) => return,
        }
    }
}

/// A request's stream; giving up on it resets it.
struct Exchange {
    stream: RequestStream<bounded::Exchange, Bytes>,
    is_over: bool,
}

impl Exchange {
    /// Answers the age of the response and its body.
    async fn run(&mut self, body: Bytes, quic: &quinn::Connection) -> Result<(u32, Bytes), Cause> {
        let stream = &mut self.stream;
        // A server may answer without having read it all (RFC 9114 4.1): what went wrong is told by the response or its absence.
        if !body.is_empty() {
            let _ = stream.send_data(body).await;
        }
        let _ = stream.finish().await;
        let mut interim = 0;
        let head = loop {
            let head = stream.recv_response().await.map_err(|error| cause(&error, quic))?;
            if !head.status().is_informational() {
                break head;
            }
            interim += 1;
            if interim > INTERIM {
                return Err(Cause::Malformed);
            }
        };
        let age = check_head(head.status(), head.headers())?;
        let mut message = BytesMut::with_capacity(512);
        while let Some(mut part) = stream.recv_data().await.map_err(|error| cause(&error, quic))? {
            if message.len() + part.remaining() > MAX_MESSAGE {
                return Err(Cause::Malformed);
            }
            message.put(part.copy_to_bytes(part.remaining()));
        }
        self.is_over = true;
        check_length(head.headers(), message.len())?;
        Ok((age, message.freeze()))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.is_over {
            // The receiving half is stopped by the layer below.
            self.stream.stop_stream(Code::H3_REQUEST_CANCELLED);
        }
    }
}

/// The fault of this response, or the end of the connection. The library calls both an error of the connection; it is this
/// response's where the connection has not been closed yet.
fn cause(error: &StreamError, quic: &quinn::Connection) -> Cause {
    match error {
        StreamError::HeaderTooBig { .. } | StreamError::StreamError { .. } => Cause::Malformed,
        StreamError::Undefined(fault) if fault.is::<bounded::Excess>() => Cause::Malformed,
        StreamError::ConnectionError(ConnectionError::Local { .. }) if quic.close_reason().is_none() => {
            Cause::Malformed
        }
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

    use super::super::settings::Method;
    use super::super::testing::{
        Authority, Handler, ask as question, attempt, dns_response, quic_server, reply, serve_h3, strict,
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
    async fn doh_28_post_and_get_carry_the_padded_question_with_id_0_and_nothing_else() {
        let authority = Authority::new();
        let (config, _) = authority.identity(&["127.0.0.1"], &["h3"]);
        let mut server = authority.server("h3", quic_server(config, |connection| serve_h3(connection, strict)));
        for method in [Method::Post, Method::Get] {
            server.method = method;
            let delivered = attempt(&server, &question("a.example")).await.0.unwrap();
            assert_eq!(delivered.facts.secured.unwrap().alpn, Some("h3"));
        }
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
