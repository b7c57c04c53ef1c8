//! An authority's validator at a TLS door (RFC 8737): it sees the proof that it came for in the handshake, and that is all there is.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use super::Context;
use super::tcp::Tcp;
use crate::identity::acme::Guest;

/// Shakes hands by `proof`, and says goodbye. Few come, so nothing is paced.
pub(super) async fn prove(hello: StartHandshake<Tcp>, proof: Arc<ServerConfig>) -> io::Result<()> {
    hello.into_stream(proof).await?.shutdown().await
}

/// Takes a connection from outside the access list as far as its client hello, and further only if that is a validator's: everybody
/// else is cut off there, as if no challenge were pending.
pub(super) async fn receive(stream: TcpStream, guest: Guest, context: Context) {
    let proving = async {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), Tcp(stream)).await?;
        if let Some(proof) = context.challenges.proof(&hello.client_hello()) {
            return prove(hello, proof).await.map(|()| true);
        }
        let _ = hello.io.0.set_zero_linger();
        Ok(false)
    };
    let proven = tokio::select! {
        proven = timeout(context.limits().handshake_timeout, Box::pin(proving)) => matches!(proven, Ok(Ok(true))),
        () = guest.outstayed() => false,
    };
    if !proven {
        context.counters.connections_refused.add_one();
    }
}
