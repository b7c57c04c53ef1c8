//! DNS over TLS (RFC 7858, strict profile of RFC 8310): [`Mux`] over an authenticated stream.

use tokio::time::Instant;

use super::delivery::Facts;
use super::dial::Dialer;
use super::error::Cause;
use super::mux::{Mux, Streams};
use super::proof::Proof;
use super::tls::{Agreement, Tls, TlsError, Trust};
use crate::peer::Transport;

/// A server asked over TLS.
#[derive(Debug)]
pub struct Dot {
    dialer: Dialer,
    tls: Tls,
}

impl Dot {
    /// A server reached by `dialer` that proves itself by `trust`. A server that answers no ALPN is fine (RFC 7858 names none).
    ///
    /// # Errors
    /// As [`Tls::new`].
    pub fn new(dialer: Dialer, trust: &Trust) -> Result<Self, TlsError> {
        Ok(Self { dialer, tls: Tls::new(trust, b"dot", Agreement::Welcome)? })
    }

    /// What is known of the server's proof.
    #[must_use]
    pub fn proof(&self) -> &Proof {
        self.tls.proof()
    }
}

impl Streams for Dot {
    async fn connect(&self, until: Instant) -> Result<Mux, Cause> {
        self.dialer
            .dial(until, |stream, address| async move {
                let (stream, secured) = self.tls.secure(stream).await?;
                Ok(Mux::start(stream, Facts { address, transport: Transport::Dot, secured: Some(secured) }))
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use rustls::HandshakeKind;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsAcceptor;

    use super::super::server::Upstream;
    use super::super::testing::{
        Authority, ask as question, attempt, home, listener, read_frame, reply, serve_stream, tls_server, window,
        write_frame,
    };
    use super::*;
    use crate::trail::{Attempts, UpstreamId};
    use crate::wire::Flags;

    const ADDRESS: &str = "127.0.0.1";

    #[tokio::test]
    async fn a_verified_server_answers_and_rfc_8467_the_query_is_padded_to_128() {
        let authority = Authority::new();
        let (config, _) = authority.identity(&[ADDRESS], &["dot"]);
        let address = tls_server(config, |stream| {
            serve_stream(stream, |query| reply(query, if query.len() == 128 { Flags::AA } else { 0 }))
        })
        .await;
        let (result, _) = attempt(&authority.server("tls", address), &question("a.example")).await;
        let delivered = result.unwrap();
        let secured = delivered.facts.secured.unwrap();
        assert_eq!((secured.alpn, secured.version), (Some("dot"), rustls::ProtocolVersion::TLSv1_3));
        assert!(crate::wire::Header::parse(&delivered.message).unwrap().flags.has(Flags::AA), "not padded to 128");
    }

    #[tokio::test]
    async fn dot_04_a_server_without_alpn_is_fine_and_one_with_another_is_not() {
        let authority = Authority::new();
        for (alpn, expected) in [(&[][..], None), (&["h2"][..], Some(Cause::Tls))] {
            let (config, _) = authority.identity(&[ADDRESS], alpn);
            let address = tls_server(config, |stream| serve_stream(stream, |query| reply(query, 0))).await;
            let (result, _) = attempt(&authority.server("tls", address), &question("a.example")).await;
            assert_eq!(result.err().map(|error| error.cause), expected);
        }
    }

    /// What a server saw of a client that may not trust it: octets inside TLS, if it came to that.
    async fn octets_seen(config: Arc<rustls::ServerConfig>, server: super::super::Server) -> (Option<Cause>, usize) {
        let (listener, address) = listener().await;
        let seen = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut octets = Vec::new();
            if let Ok(mut stream) = TlsAcceptor::from(config).accept(stream).await {
                // The client's alert ends the reading with an error; what came before it counts.
                let _ = stream.read_to_end(&mut octets).await;
            }
            octets.len()
        });
        let mut server = server;
        server.url.port = address.port();
        let (result, _) = attempt(&server, &question("secret.example")).await;
        (result.err().map(|error| error.cause), seen.await.unwrap())
    }

    #[tokio::test]
    async fn dot_09_a_server_that_cannot_prove_itself_sees_no_octet_of_a_question() {
        let (authority, other) = (Authority::new(), Authority::new());
        let nowhere = "127.0.0.1:853".parse().unwrap();
        let (stranger, _) = other.identity(&[ADDRESS], &["dot"]);
        assert_eq!(octets_seen(stranger, authority.server("tls", nowhere)).await, (Some(Cause::Tls), 0));
        let (misnamed, _) = authority.identity(&["dns.example"], &["dot"]);
        assert_eq!(octets_seen(misnamed, authority.server("tls", nowhere)).await, (Some(Cause::Tls), 0));
    }

    #[tokio::test]
    async fn dot_10_a_common_name_alone_proves_nothing() {
        let authority = Authority::new();
        let (config, _) = authority.identity(&[], &["dot"]);
        let nowhere = "127.0.0.1:853".parse().unwrap();
        assert_eq!(octets_seen(config, authority.server("tls", nowhere)).await, (Some(Cause::Tls), 0));
    }

    #[tokio::test]
    async fn dot_17_sni_is_sent_for_a_name_and_not_for_an_address() {
        let authority = Authority::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (config, _) = authority.identity(&[ADDRESS, "dns.example"], &["dot"]);
        let names = Arc::clone(&seen);
        let address = tls_server(config, move |stream| {
            names.lock().unwrap().push(stream.get_ref().1.server_name().map(str::to_owned));
            serve_stream(stream, |query| reply(query, 0))
        })
        .await;
        let mut server = authority.server("tls", address);
        assert!(attempt(&server, &question("a.example")).await.0.is_ok());
        server.tls_name = Some("dns.example".into());
        assert!(attempt(&server, &question("a.example")).await.0.is_ok());
        assert_eq!(*seen.lock().unwrap(), [None, Some("dns.example".to_owned())]);
    }

    #[tokio::test]
    async fn dot_11_chain_and_name_and_pin_must_all_hold() {
        let (authority, other) = (Authority::new(), Authority::new());
        let (config, key) = authority.identity(&[ADDRESS], &["dot"]);
        let pin = super::super::tls::sha256(&key).unwrap();
        let address = tls_server(config, |stream| serve_stream(stream, |query| reply(query, 0))).await;
        for (trusted, name, pins, works) in [
            (&authority, None, vec![[0; 32], pin], true),
            (&authority, None, vec![[0; 32]], false),
            (&other, None, vec![pin], false),
            (&authority, Some("dns.example".into()), vec![pin], false),
        ] {
            let mut server = trusted.server("tls", address);
            (server.pins, server.tls_name) = (pins, name);
            let (result, _) = attempt(&server, &question("a.example")).await;
            assert_eq!(result.err().map(|error| error.cause), if works { None } else { Some(Cause::Tls) });
        }
    }

    #[tokio::test]
    async fn dot_07_a_second_connection_resumes_the_session() {
        let authority = Authority::new();
        let (config, _) = authority.identity(&[ADDRESS], &["dot"]);
        let (tell, mut told) = tokio::sync::mpsc::channel(4);
        let address = tls_server(config, move |mut stream| {
            let tell = tell.clone();
            async move {
                let query = read_frame(&mut stream).await.unwrap();
                write_frame(&mut stream, &reply(&query, 0)).await;
                let _ = stream.shutdown().await;
                tell.send(stream.get_ref().1.handshake_kind()).await.unwrap();
            }
        })
        .await;
        let upstream = Upstream::new(&authority.server("tls", address), UpstreamId(0), &home()).unwrap();
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let result = upstream.attempt(&question("a.example"), window(10_000, 2), &mut Attempts::default()).await;
            assert!(result.is_ok());
            kinds.push(told.recv().await.unwrap().unwrap());
        }
        assert_ne!(kinds[0], HandshakeKind::Resumed);
        assert_eq!(kinds[1], HandshakeKind::Resumed);
        assert_eq!((upstream.tally().handshakes.value(), upstream.tally().resumed.value()), (2, 1));
    }
}
