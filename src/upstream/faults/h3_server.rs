//! An HTTP/3 server that follows a script, its frames written out here so that they can be wrong.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderMap;
use quinn::{Connection, SendStream, VarInt};
use rustls::ServerConfig;
use tokio::sync::mpsc::UnboundedSender;

use super::super::testing::{label, quic_server_with};
use super::{End, Play, Script, Seen, good};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

pub(super) fn start(config: Arc<ServerConfig>, play: Play, streams: u32, tell: UnboundedSender<Seen>) -> SocketAddr {
    quic_server_with(config, "127.0.0.1:0".parse().unwrap(), streams, move |connection| {
        let tell = tell.clone();
        async move {
            let _ = tell.send(Seen::Connection);
            let _control = greet(&connection).await;
            while let Ok((sending, mut receiving)) = connection.accept_bi().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let Ok(request) = receiving.read_to_end(65_536).await else { return };
                    let query = body(&request);
                    let _ = tell.send(Seen::Question(label(&query)));
                    let script = if label(&query) == "good" { good(&query) } else { play(&query) };
                    respond(sending, script, tell).await;
                });
            }
        }
    })
}

/// Opens the control stream.
pub(super) async fn greet(connection: &Connection) -> SendStream {
    let mut control = connection.open_uni().await.unwrap();
    control.write_all(&[&[0][..], &frame(SETTINGS, &[])].concat()).await.unwrap();
    control
}

/// Says GOAWAY from this stream on.
pub(super) async fn leave(control: &mut SendStream, stream: u8) {
    control.write_all(&frame(GOAWAY, &[stream])).await.unwrap();
}

pub(super) async fn respond(mut sending: SendStream, script: Script, tell: UnboundedSender<Seen>) {
    let mut octets = Vec::new();
    for _ in 0..script.interim {
        octets.extend(frame(HEADERS, &fields("103", &HeaderMap::new())));
    }
    if let Some(head) = &script.head {
        octets.extend(frame(HEADERS, &fields(head.status().as_str(), head.headers())));
        octets.extend(frame(DATA, &script.body));
    }
    if script.trailers {
        octets.extend(frame(HEADERS, &[&[0, 0][..], &field("x-trailer", "1")].concat()));
    }
    // A client that has given up is told of below.
    let _ = sending.write_all(&octets).await;
    match script.end {
        End::Fin => drop(sending.finish()),
        End::Reset(code) => drop(sending.reset(VarInt::from_u32(code))),
        End::Never => {
            let _ = sending.stopped().await;
            let _ = tell.send(Seen::Cancelled);
        }
    }
}

/// The octets of the DATA frames of a request.
pub(super) fn body(mut request: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let [kind, rest @ ..] = request {
        let (length, rest) = match rest {
            [first @ 0..0x40, rest @ ..] => (usize::from(*first), rest),
            [first, second, rest @ ..] => (usize::from(u16::from_be_bytes([first & 0x3f, *second])), rest),
            _ => panic!("a frame without a length"),
        };
        if *kind == DATA {
            body.extend_from_slice(&rest[..length]);
        }
        request = &rest[length..];
    }
    body
}

pub(super) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap() | 0x8000_0000;
    [&[kind][..], &length.to_be_bytes(), payload].concat()
}

/// A field section without reference to any table (RFC 9204 4.5.6).
fn fields(status: &str, headers: &HeaderMap) -> Vec<u8> {
    let mut section = vec![0, 0];
    section.extend(field(":status", status));
    for (name, value) in headers {
        section.extend(field(name.as_str(), value.to_str().unwrap()));
    }
    section
}

fn field(name: &str, value: &str) -> Vec<u8> {
    [&integer(0x20, 3, name.len())[..], name.as_bytes(), &integer(0, 7, value.len()), value.as_bytes()].concat()
}

/// RFC 7541 5.1.
fn integer(first: u8, bits: u32, value: usize) -> Vec<u8> {
    let most = 2_usize.pow(bits) - 1;
    if value < most {
        return vec![first | u8::try_from(value).unwrap()];
    }
    let mut octets = vec![first | u8::try_from(most).unwrap()];
    let mut rest = value - most;
    while rest >= 128 {
        octets.push(u8::try_from(rest % 128).unwrap() | 0x80);
        rest /= 128;
    }
    octets.push(u8::try_from(rest).unwrap());
    octets
}
