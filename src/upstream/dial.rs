//! A stream to a server: found, connected from the right source, through a proxy if there is one.

use std::future::Future;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::error::Cause;
use super::eyeballs;
use super::kept::Home;
use super::proxy::{ProxyError, Through};
use super::resolve::{Addresses, most_telling};
use super::settings::Server;
use super::sockets;

/// How streams to one server are opened.
#[derive(Clone, Debug)]
pub struct Dialer {
    /// Where to connect to: the server, or its proxy.
    addresses: Addresses,
    through: Option<Through>,
}

impl Dialer {
    /// For streams to `server`.
    ///
    /// # Errors
    /// What is wrong with its proxy's settings.
    pub fn new(server: &Server, home: &Home) -> Result<Self, ProxyError> {
        Ok(match &server.proxy {
            None => Self { addresses: Addresses::of(server, &home.commons), through: None },
            Some(proxy) => Self {
                addresses: Addresses::of_proxy(proxy, server.source, &home.commons),
                through: Some(Through::new(server, proxy)?),
            },
        })
    }

    /// Connects, and shakes hands by `greet`, at whichever address of the server both succeed first (RFC 8305). `greet` is told the
    /// address that was connected to: through a proxy that is the proxy's. A proxy that fails is never gone around.
    ///
    /// # Errors
    /// Why the last one failed; [`Cause::Unknown`] where there is no address.
    pub async fn dial<T, F, R>(&self, until: Instant, greet: F) -> Result<T, Cause>
    where
        F: Fn(TcpStream, SocketAddr) -> R + Send + Sync,
        R: Future<Output = Result<T, Cause>> + Send,
    {
        let greet = &greet;
        let Some(through) = &self.through else {
            return self.addresses.race(until, |to| async move { greet(self.connect(to).await?, to).await }).await;
        };
        let race = eyeballs::race(through.targets(), |target| async move {
            let way = |proxy| async move {
                let stream = through.open(self.connect(proxy).await?, target).await?;
                greet(stream, proxy).await
            };
            self.addresses.race(until, way).await
        });
        match timeout_at(until, race).await {
            Ok(outcome) => outcome.map_err(|failures| most_telling(&failures)),
            Err(_) => Err(Cause::Timeout),
        }
    }

    async fn connect(&self, address: SocketAddr) -> Result<TcpStream, Cause> {
        self.addresses.origin().connect(address).await.map_err(|error| {
            debug!(%address, %error, "no connection to an upstream");
            sockets::fault(&error)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{Authority, ask, attempt, home, listener, plain, quic_server, serve_doq};
    use super::super::testing::{reply, serve_stream, tls_server, udp_server};
    use super::*;

    /// A port that 127.0.0.1 holds open in silence, and a server behind `serve` on 127.0.0.2.
    async fn half_silent() -> (tokio::net::TcpListener, tokio::net::TcpListener) {
        loop {
            let (silent, address) = listener().await;
            if let Ok(good) = tokio::net::TcpListener::bind(("127.0.0.2", address.port())).await {
                return (silent, good);
            }
        }
    }

    #[tokio::test]
    async fn an_address_that_accepts_and_never_shakes_hands_does_not_hold_up_the_other() {
        let authority = Authority::new();
        let (config, _) = authority.identity(&["dns.example"], &["dot"]);
        let (_silent, good) = half_silent().await;
        let port = good.local_addr().unwrap().port();
        tokio::spawn(async move {
            let acceptor = tokio_rustls::TlsAcceptor::from(config);
            while let Ok((stream, _)) = good.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    tokio::spawn(serve_stream(stream, |query| reply(query, 0)));
                }
            }
        });
        let mut server = Server::new(format!("tls://dns.example:{port}").parse().unwrap());
        server.ca = Some(authority.file.clone());
        server.addresses = vec!["127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap()];
        let delivered = attempt(&server, &ask("a.example")).await.0.unwrap();
        assert_eq!(delivered.facts.address.ip().to_string(), "127.0.0.2");
    }

    #[tokio::test]
    async fn quic_goes_on_to_the_next_address_when_one_is_silent() {
        let authority = Authority::new();
        let (config, _) = authority.identity(&["dns.example"], &["doq"]);
        let (address, _silent) = loop {
            let address = quic_server(config.clone(), |connection| serve_doq(connection, |query| reply(query, 0)));
            if let Ok(silent) = tokio::net::UdpSocket::bind(("127.0.0.2", address.port())).await {
                break (address, silent);
            }
        };
        let mut server = Server::new(format!("quic://dns.example:{}", address.port()).parse().unwrap());
        server.ca = Some(authority.file.clone());
        server.addresses = vec!["127.0.0.2".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        let delivered = attempt(&server, &ask("a.example")).await.0.unwrap();
        assert_eq!(delivered.facts.address, address);
    }

    #[tokio::test]
    async fn every_transport_leaves_from_the_source_that_was_chosen() {
        let source = "127.0.0.3".parse().unwrap();
        let from = move |mut server: Server| {
            server.source = Some(source);
            server
        };
        let (socket, address) = super::super::testing::datagrams().await;
        let asking = tokio::spawn(async move { attempt(&from(plain("udp", address)), &ask("a.example")).await.0 });
        let mut buffer = [0; 512];
        let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
        socket.send_to(&reply(&buffer[..length], 0), peer).await.unwrap();
        assert_eq!(peer.ip(), source);
        assert!(asking.await.unwrap().is_ok());

        let authority = Authority::new();
        let (seen, mut peers) = tokio::sync::mpsc::unbounded_channel();
        let (config, _) = authority.identity(&["127.0.0.1"], &["dot"]);
        let streams = seen.clone();
        let address = tls_server(config, move |stream| {
            streams.send(stream.get_ref().0.peer_addr().unwrap().ip()).unwrap();
            serve_stream(stream, |query| reply(query, 0))
        })
        .await;
        assert!(attempt(&from(authority.server("tls", address)), &ask("a.example")).await.0.is_ok());
        let (config, _) = authority.identity(&["127.0.0.1"], &["doq"]);
        let address = quic_server(config, move |connection| {
            seen.send(connection.remote_address().ip()).unwrap();
            serve_doq(connection, |query| reply(query, 0))
        });
        assert!(attempt(&from(authority.server("quic", address)), &ask("a.example")).await.0.is_ok());
        assert_eq!([peers.recv().await, peers.recv().await], [Some(source), Some(source)]);
    }

    #[tokio::test]
    async fn a_name_is_found_by_the_bootstrap_server_and_dialled() {
        let (bootstrap, heard) = udp_server(super::super::bootstrap::tests::here).await;
        let (address, _) = udp_server(|query| reply(query, 0)).await;
        let home = home();
        let commons = home.commons.with_bootstrap(&[plain("udp", bootstrap)]).unwrap();
        let server = Server::new(format!("udp://dns.example:{}", address.port()).parse().unwrap());
        let addresses = Addresses::of(&server, &commons);
        let until = Instant::now() + Duration::from_secs(5);
        assert_eq!(addresses.race(until, |address| async move { Ok(address) }).await, Ok(address));
        assert_eq!(heard.load(std::sync::atomic::Ordering::SeqCst), 2);
    }
}
