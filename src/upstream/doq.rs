//! DNS over QUIC toward servers (RFC 9250): a stream a question, id 0, one answer, FIN.
//!
//! A server that breaks these rules loses the connection, with `DOQ_PROTOCOL_ERROR` (RFC 9250 4.3.3, DOQ-30).
//! A connection that is dropped closes with code 0, `DOQ_NO_ERROR`.

use std::future::Future;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use quinn::{Connection, ReadToEndError, RecvStream, SendStream, StoppedError, VarInt, WriteError};
use tokio::time::Instant;

use super::Ask;
use super::ask::Leg;
use super::delivery::{Delivered, Facts, check_stream};
use super::error::Cause;
use super::kept::Carrier;
use super::proof::Proof;
use super::quic::{self, Quic};
use crate::wire::framing::{self, Frame};
use crate::wire::registry::rtype;
use crate::wire::{Edns, Header, MAX_MESSAGE, Records, patch};

/// A server asked over QUIC.
#[derive(Debug)]
pub struct Doq(Quic);

/// `DOQ_PROTOCOL_ERROR`.
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);

/// `DOQ_REQUEST_CANCELLED`.
const CANCELLED: VarInt = VarInt::from_u32(3);

impl Doq {
    /// What is known of the server's proof.
    #[must_use]
    pub fn proof(&self) -> &Proof {
        self.0.proof()
    }

    /// A server reached over `quic`.
    #[must_use]
    pub const fn new(quic: Quic) -> Self {
        Self(quic)
    }
}

impl Carrier for Doq {
    type Connection = (Connection, Facts);

    async fn open(&self, until: Instant) -> Result<(Connection, Facts), Cause> {
        self.0.connect(until).await
    }

    fn is_open(&self, (connection, _): &(Connection, Facts)) -> bool {
        connection.close_reason().is_none()
    }

    fn facts((_, facts): &(Connection, Facts)) -> &Facts {
        facts
    }

    async fn closed((connection, _): &(Connection, Facts)) {
        connection.closed().await;
    }

    async fn ask(&self, (connection, facts): &(Connection, Facts), ask: &Arc<Ask>) -> Result<Delivered, Cause> {
        let (sending, receiving) = connection.open_bi().await.map_err(|_| Cause::Closed)?;
        let mut stream = Stream { sending, receiving: Some(receiving) };
        let answered = async { open_frame(ask, &stream.exchange(&compose(ask)).await?) };
        let outcome = tokio::select! {
            biased;
            outcome = answered => outcome,
            () = quic::lost(connection) => Err(Cause::Closed),
        };
        let message = outcome.inspect_err(|cause| {
            if matches!(cause, Cause::Malformed | Cause::Mismatched) {
                connection.close(PROTOCOL_ERROR, b"");
            }
        })?;
        Ok(Delivered { message, age: 0, facts: *facts })
    }
}

fn compose(ask: &Ask) -> BytesMut {
    let mut query = BytesMut::with_capacity(512);
    query.put_u16(0);
    ask.compose(Leg { id: 0, encrypted: true, ..Leg::default() }, &mut query);
    let length = u16::try_from(query.len() - 2).unwrap_or(u16::MAX);
    patch::put_u16(&mut query, 0, length);
    query
}

/// The one answer that a stream must hold, no octet less or more, with id 0 and without edns-tcp-keepalive (RFC 9250 4.2, 5.5.2).
fn open_frame(ask: &Ask, frame: &Bytes) -> Result<Bytes, Cause> {
    let message = match framing::next(frame) {
        Frame::Whole { used, .. } if used == frame.len() => frame.slice(2..),
        Frame::Whole { .. } | Frame::Partial { .. } => return Err(Cause::Malformed),
    };
    let header = Header::parse(&message).map_err(|_| Cause::Malformed)?;
    if header.id != 0 || has_keepalive(&message, &header) {
        return Err(Cause::Malformed);
    }
    check_stream(ask, &message, 0)?;
    Ok(message)
}

fn has_keepalive(message: &[u8], header: &Header) -> bool {
    let Ok(records) = Records::new(message, header) else { return false };
    records.flatten().filter(|record| record.rtype == rtype::OPT).any(|record| {
        Edns::parse(message, record.class, record.ttl, record.rdata).is_ok_and(|edns| edns.keepalive.is_some())
    })
}

/// A question's stream; giving up on it tells the server so (RFC 9250 4.3.1).
struct Stream {
    sending: SendStream,
    /// None once it has ended.
    receiving: Option<RecvStream>,
}

impl Stream {
    async fn exchange(&mut self, query: &[u8]) -> Result<Bytes, Cause> {
        match self.sending.write_all(query).await {
            Ok(()) => self.sending.finish().map_err(|_| Cause::Closed)?,
            Err(WriteError::Stopped(_)) => return Err(Cause::Malformed),
            Err(_) => return Err(Cause::Closed),
        }
        let stopped = self.sending.stopped();
        tokio::select! {
            biased;
            answer = self.read() => answer,
            // A server must not stop a query (RFC 9250 4.3.3).
            () = refusal(stopped) => Err(Cause::Malformed),
        }
    }

    async fn read(&mut self) -> Result<Bytes, Cause> {
        let stream = self.receiving.as_mut().ok_or(Cause::Closed)?;
        let read = stream.read_to_end(MAX_MESSAGE + 2).await;
        if !matches!(read, Err(ReadToEndError::TooLong)) {
            self.receiving = None;
        }
        match read {
            Ok(frame) => Ok(frame.into()),
            Err(ReadToEndError::TooLong) => Err(Cause::Malformed),
            // Whatever code the stream was reset with, the question is unanswered (DOQ-19).
            Err(ReadToEndError::Read(_)) => Err(Cause::Closed),
        }
    }
}

/// Ends when the server stops the query; never when it has all of it.
async fn refusal(stopped: impl Future<Output = Result<Option<VarInt>, StoppedError>>) {
    if !matches!(stopped.await, Ok(Some(_))) {
        std::future::pending::<()>().await;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(mut stream) = self.receiving.take() {
            // Errors mean that a half has ended already. A query cut short must not look like a whole one.
            let _ = self.sending.reset(CANCELLED);
            let _ = stream.stop(CANCELLED);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use quinn::ConnectionError;
    use tokio::sync::mpsc;

    use super::super::testing::{Authority, Respond, ask as question, attempt, quic_server, reply, reply_as};
    use super::*;
    use crate::wire::OptWriter;
    use crate::wire::registry::option;

    fn frame(message: &[u8]) -> Vec<u8> {
        let mut frame = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(message);
        frame
    }

    /// A server that writes `respond`'s octets to every stream; tells how connections end.
    fn server(authority: &Authority, respond: Respond) -> (SocketAddr, mpsc::Receiver<ConnectionError>) {
        let (config, _) = authority.identity(&["127.0.0.1"], &["doq"]);
        let (tell, told) = mpsc::channel(8);
        let address = quic_server(config, move |connection| {
            let tell = tell.clone();
            async move {
                while let Ok((mut sending, mut receiving)) = connection.accept_bi().await {
                    let query = receiving.read_to_end(65_537).await.unwrap();
                    assert_eq!(query[2..4], [0, 0], "the id is not 0");
                    sending.write_all(&respond(&query[2..])).await.unwrap();
                    sending.finish().unwrap();
                }
                let _ = tell.send(connection.closed().await).await;
            }
        });
        (address, told)
    }

    fn code(error: &ConnectionError) -> Option<u64> {
        match error {
            ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
            _ => None,
        }
    }

    #[tokio::test]
    async fn doq_08_a_question_with_id_0_is_answered_and_the_connection_closes_with_no_error() {
        let authority = Authority::new();
        let (address, mut told) = server(&authority, |query| frame(&reply(query, 0)));
        let (result, _) = attempt(&authority.server("quic", address), &question("a.example")).await;
        assert_eq!(result.unwrap().facts.secured.unwrap().alpn, Some("doq"));
        assert_eq!(code(&told.recv().await.unwrap()), Some(0));
    }

    #[tokio::test]
    async fn doq_30_a_server_that_breaks_the_protocol_loses_the_connection() {
        let faults: [Respond; 5] = [
            |query| frame(&reply_as(1, query)),
            |query| [frame(&reply(query, 0)), frame(&reply(query, 0))].concat(),
            |query| frame(&reply(query, 0))[..20].to_vec(),
            |_| Vec::new(),
            |query| {
                let mut message = BytesMut::from(&reply(query, 0)[..]);
                let mut writer = OptWriter::start(&mut message, 1232, 0, false);
                writer.option(option::KEEPALIVE, &[&[0, 1]]);
                writer.finish();
                patch::add_additional(&mut message);
                frame(&message)
            },
        ];
        for respond in faults {
            let authority = Authority::new();
            let (address, mut told) = server(&authority, respond);
            let (result, _) = attempt(&authority.server("quic", address), &question("a.example")).await;
            assert_eq!(result.unwrap_err().cause, Cause::Malformed);
            assert_eq!(code(&told.recv().await.unwrap()), Some(2));
        }
    }

    #[tokio::test]
    async fn doq_19_a_stream_reset_with_an_unknown_code_is_asked_again_elsewhere_and_nothing_else_happens() {
        let authority = Authority::new();
        let (config, _) = authority.identity(&["127.0.0.1"], &["doq"]);
        let address = quic_server(config, |connection| async move {
            while let Ok((mut sending, mut receiving)) = connection.accept_bi().await {
                let query = receiving.read_to_end(65_537).await.unwrap();
                sending.write_all(&frame(&reply(&query[2..], 0))[..9]).await.unwrap();
                sending.reset(VarInt::from_u32(0x3098_ea5e)).unwrap();
            }
        });
        let server = authority.server("quic", address);
        let (result, attempts) = attempt(&server, &question("a.example")).await;
        assert_eq!(result.unwrap_err().cause, Cause::Closed);
        assert_eq!(attempts.kept().len(), 1);
    }

    #[tokio::test]
    async fn doq_21_a_connection_that_closes_under_a_question_is_replaced_unnoticed() {
        let authority = Authority::new();
        let (config, _) = authority.identity(&["127.0.0.1"], &["doq"]);
        let accepted = std::sync::atomic::AtomicU32::new(0);
        let address = quic_server(config, move |connection| {
            let first = accepted.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
            async move {
                let (mut sending, mut receiving) = connection.accept_bi().await.unwrap();
                let query = receiving.read_to_end(65_537).await.unwrap();
                if first {
                    return connection.close(VarInt::from_u32(0), b"");
                }
                sending.write_all(&frame(&reply(&query[2..], 0))).await.unwrap();
                sending.finish().unwrap();
                connection.closed().await;
            }
        });
        assert!(attempt(&authority.server("quic", address), &question("a.example")).await.0.is_ok());
    }

    #[tokio::test]
    async fn doq_01_another_protocol_is_not_spoken_to() {
        let authority = Authority::new();
        let (config, _) = authority.identity(&["127.0.0.1"], &["h3"]);
        let address = quic_server(config, |_| async { panic!("the handshake succeeded") });
        let (result, _) = attempt(&authority.server("quic", address), &question("a.example")).await;
        assert_eq!(result.unwrap_err().cause, Cause::Tls);
    }
}
