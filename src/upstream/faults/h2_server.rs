//! An HTTP/2 server that follows a script.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use rustls::ServerConfig;
use tokio::sync::mpsc::UnboundedSender;

use super::super::testing::{label, tls_server};
use super::{End, Play, Seen, good};

pub(super) async fn start(
    config: Arc<ServerConfig>,
    play: Play,
    streams: u32,
    tell: UnboundedSender<Seen>,
) -> SocketAddr {
    tls_server(config, move |stream| {
        let tell = tell.clone();
        async move {
            let _ = tell.send(Seen::Connection);
            let mut connection =
                Builder::new().max_concurrent_streams(streams).handshake::<_, Bytes>(stream).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(serve(request, respond, play, tell.clone()));
            }
        }
    })
    .await
}

async fn serve(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    play: Play,
    tell: UnboundedSender<Seen>,
) {
    let query = read(request).await;
    let _ = tell.send(Seen::Question(label(&query)));
    let script = if label(&query) == "good" { good(&query) } else { play(&query) };
    for _ in 0..script.interim {
        respond.send_informational(Response::builder().status(103).body(()).unwrap()).unwrap();
    }
    let Some(head) = script.head else {
        match script.end {
            End::Reset(code) => respond.send_reset(Reason::from(code)),
            _ => drop(std::future::poll_fn(|context| respond.poll_reset(context)).await),
        }
        let _ = tell.send(Seen::Cancelled);
        return;
    };
    // A client that has given up is told of below.
    let Ok(mut sending) = respond.send_response(head, false) else { return };
    let last = script.end == End::Fin && !script.trailers;
    if sending.send_data(script.body.into(), last).is_err() {
        return;
    }
    if script.trailers {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-trailer", "1".parse().unwrap());
        let _ = sending.send_trailers(trailers);
    }
    match script.end {
        End::Fin => {}
        End::Reset(code) => {
            // The body goes first.
            tokio::task::yield_now().await;
            sending.send_reset(Reason::from(code));
        }
        End::Never => {
            let _ = std::future::poll_fn(|context| sending.poll_reset(context)).await;
            let _ = tell.send(Seen::Cancelled);
        }
    }
}

pub(super) async fn read(request: Request<RecvStream>) -> Vec<u8> {
    let mut body = request.into_body();
    let mut query = Vec::new();
    while let Some(part) = body.data().await {
        let Ok(part) = part else { break };
        let _ = body.flow_control().release_capacity(part.len());
        query.extend_from_slice(&part);
    }
    query
}
