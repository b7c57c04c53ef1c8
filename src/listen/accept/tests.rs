//! Accepting over real sockets and real TLS.

use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientStream;

use super::*;
use crate::listen::scripted::{Script, framed, header, query, until};
use crate::listen::{Absent, Door, DoorKind, Limits, bind};
use crate::telemetry::{Counter, Counters};

/// Both ends' TLS, for one certificate made here.
struct Trust {
    server: Arc<ServerConfig>,
    roots: RootCertStore,
}

impl Trust {
    fn new(alpn: &[&[u8]]) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let certificate = made.cert.der().clone();
        let mut server =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
        server.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        Self { server: Arc::new(server), roots }
    }

    async fn connect(&self, address: SocketAddr, alpn: &[&[u8]]) -> io::Result<ClientStream<TcpStream>> {
        let mut client = ClientConfig::builder().with_root_certificates(self.roots.clone()).with_no_client_auth();
        client.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(client)).connect(name, stream).await
    }
}

/// A served door.
struct Doors {
    script: Arc<Script>,
    counters: Arc<Counters>,
    address: SocketAddr,
    stop: Stop,
    serving: JoinHandle<()>,
}

fn serve_with(service: Service, limits: Limits, allow: &str) -> Doors {
    let script = Script::new();
    let (stop, drain) = Stop::new();
    let context = script.context_with(drain, allow, limits);
    let counters = Arc::clone(&context.counters);
    let door = Door { kind: DoorKind::Dot, address: "127.0.0.1:0".parse().unwrap() };
    let bound = bind::bind(&[door], 1, Absent::Refuse).unwrap().remove(0);
    let serving = tokio::spawn(serve(bound.tcp.into_iter().next().unwrap(), DoorId(0), service, context));
    Doors { script, counters, address: bound.address, stop, serving }
}

fn serve_dot(trust: &Trust) -> Doors {
    serve_with(Service::Dot { tls: Arc::clone(&trust.server) }, Limits::default(), "127.0.0.0/8")
}

fn serve_tcp() -> Doors {
    serve_with(Service::Tcp, Limits::default(), "127.0.0.0/8")
}

fn of(counters: &[Counter; Transport::ALL.len()], transport: Transport) -> u64 {
    counters[transport as usize].value()
}

async fn exchange(stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin), id: u16) {
    stream.write_all(&framed(&query(id, "now"))).await.unwrap();
    let reply = async {
        let mut message = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut message).await.unwrap();
        message
    };
    let message = timeout(Duration::from_secs(5), reply).await.expect("no reply");
    assert_eq!(header(&message).id, id);
}

/// Everything the server sends until it closes; a reset counts as that.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut octets = Vec::new();
    let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut octets)).await.expect("not closed");
    octets
}

#[tokio::test]
async fn plain_tcp_is_served_and_counted() {
    let doors = serve_tcp();
    let mut client = TcpStream::connect(doors.address).await.unwrap();
    exchange(&mut client, 1).await;
    assert_eq!(of(&doors.counters.connections_open, Transport::Tcp), 1);
    let peer = doors.script.peers.lock().unwrap()[0].clone();
    assert_eq!((peer.remote, peer.local), (client.local_addr().unwrap(), doors.address));
    assert_eq!(peer.transport, Transport::Tcp);
    drop(client);
    until(|| of(&doors.counters.connections_open, Transport::Tcp) == 0).await;
    assert_eq!(of(&doors.counters.connections, Transport::Tcp), 1);
}

#[tokio::test]
async fn dot_01_clear_text_gets_no_dns_octet() {
    let trust = Trust::new(tls::DOT_ALPN);
    let doors = serve_dot(&trust);
    let mut client = TcpStream::connect(doors.address).await.unwrap();
    client.write_all(&framed(&query(0x4242, "now"))).await.unwrap();
    let sent = rest(&mut client).await;
    // Nothing, or one alert record (RFC 8446 5.1).
    assert!(sent.is_empty() || (sent.len() == 7 && sent[0] == 21), "{sent:?}");
    until(|| doors.counters.failed_handshakes(|_| true) == 1).await;
    assert_eq!(doors.script.count(), 0);
    exchange(&mut trust.connect(doors.address, &[b"dot"]).await.unwrap(), 1).await;
}

#[tokio::test]
async fn dot_04_alpn_is_chosen_or_absent_and_without_overlap_refused() {
    let trust = Trust::new(tls::DOT_ALPN);
    let doors = serve_dot(&trust);
    for (offered, chosen) in [(&[b"h2".as_slice(), b"dot"][..], Some(b"dot".as_slice())), (&[], None)] {
        let mut client = trust.connect(doors.address, offered).await.unwrap();
        assert_eq!(client.get_ref().1.alpn_protocol(), chosen);
        exchange(&mut client, 1).await;
    }
    let error = trust.connect(doors.address, &[b"h2"]).await.unwrap_err();
    let alert = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    assert_eq!(alert, Some(&rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)));
    until(|| doors.counters.failed_handshakes(|_| true) == 1).await;
    assert_eq!(doors.counters.handshakes.value(), 2);
}

#[tokio::test]
async fn dot_06_the_server_says_goodbye_before_it_closes() {
    let trust = Trust::new(tls::DOT_ALPN);
    let limits = Limits { tcp_idle_timeout: Duration::from_millis(50), ..Limits::default() };
    let doors = serve_with(Service::Dot { tls: Arc::clone(&trust.server) }, limits, "127.0.0.0/8");
    let mut client = trust.connect(doors.address, &[b"dot"]).await.unwrap();
    exchange(&mut client, 1).await;
    // An end without close_notify would be an error here.
    assert_eq!(client.read(&mut [0; 64]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_session_knows_name_and_transport() {
    let trust = Trust::new(tls::DOT_ALPN);
    let doors = serve_dot(&trust);
    exchange(&mut trust.connect(doors.address, &[b"dot"]).await.unwrap(), 1).await;
    let peer = doors.script.peers.lock().unwrap()[0].clone();
    assert_eq!((peer.server_name.as_deref(), peer.transport), (Some("localhost"), Transport::Dot));
    assert_eq!(of(&doors.counters.connections, Transport::Dot), 1);
}

#[tokio::test]
async fn doh_connections_are_counted_by_what_alpn_chose() {
    let trust = Trust::new(tls::DOH_ALPN);
    let service = Service::Doh { tls: Arc::clone(&trust.server), site: Arc::default() };
    let doors = serve_with(service, Limits::default(), "127.0.0.0/8");
    for (alpn, transport) in [(b"h2".as_slice(), Transport::Doh2), (b"http/1.1", Transport::Doh1)] {
        let client = trust.connect(doors.address, &[alpn]).await.unwrap();
        until(|| of(&doors.counters.connections, transport) == 1).await;
        drop(client);
    }
}

#[tokio::test]
async fn stalled_and_broken_handshakes_delay_nobody() {
    let trust = Trust::new(tls::DOT_ALPN);
    let limits = Limits { handshake_timeout: Duration::from_millis(200), ..Limits::default() };
    let doors = serve_with(Service::Dot { tls: Arc::clone(&trust.server) }, limits, "127.0.0.0/8");
    let mut stalled = Vec::new();
    for octets in 0..20_usize {
        let mut client = TcpStream::connect(doors.address).await.unwrap();
        // Up to the header of a TLS record and its first octets.
        client.write_all(&[22, 3, 1, 1, 0, 1, 0, 0, 252, 3][..octets / 2]).await.unwrap();
        stalled.push(client);
    }
    let reset = TcpStream::connect(doors.address).await.unwrap();
    reset.set_zero_linger().unwrap();
    drop(reset);
    // A client that does not trust our certificate.
    let stranger = Trust::new(tls::DOT_ALPN);
    stranger.connect(doors.address, &[b"dot"]).await.unwrap_err();
    exchange(&mut trust.connect(doors.address, &[b"dot"]).await.unwrap(), 1).await;
    for client in &mut stalled {
        assert!(rest(client).await.is_empty());
    }
    until(|| doors.counters.failed_handshakes(|_| true) >= 21).await;
}

#[tokio::test]
async fn many_clients_shake_hands_at_once() {
    let trust = Arc::new(Trust::new(tls::DOT_ALPN));
    let doors = serve_dot(&trust);
    let mut clients = JoinSet::new();
    for id in 0..40 {
        let (trust, address) = (Arc::clone(&trust), doors.address);
        clients.spawn(async move { exchange(&mut trust.connect(address, &[b"dot"]).await.unwrap(), id).await });
    }
    clients.join_all().await;
    assert_eq!(doors.counters.handshakes.value(), 40);
}

#[tokio::test]
async fn garbage_on_one_connection_is_no_matter_to_the_next() {
    let doors = serve_tcp();
    let mut bad = TcpStream::connect(doors.address).await.unwrap();
    bad.write_all(&[0, 3, 1, 2, 3]).await.unwrap();
    assert!(rest(&mut bad).await.is_empty());
    assert_eq!(doors.counters.protocol_errors.value(), 1);
    exchange(&mut TcpStream::connect(doors.address).await.unwrap(), 1).await;
}

#[tokio::test]
async fn a_panic_ends_one_connection_and_is_counted() {
    let doors = serve_tcp();
    let mut other = TcpStream::connect(doors.address).await.unwrap();
    let mut client = TcpStream::connect(doors.address).await.unwrap();
    client.write_all(&framed(&query(1, "panic"))).await.unwrap();
    assert!(rest(&mut client).await.is_empty());
    until(|| doors.counters.panics.value() == 1).await;
    exchange(&mut other, 2).await;
    exchange(&mut TcpStream::connect(doors.address).await.unwrap(), 3).await;
    until(|| of(&doors.counters.connections_open, Transport::Tcp) == 2).await;
}

#[tokio::test]
async fn tcp_11_a_reset_connection_is_forgotten() {
    let doors = serve_tcp();
    let mut client = TcpStream::connect(doors.address).await.unwrap();
    client.write_all(&framed(&query(1, "later"))).await.unwrap();
    doors.script.asked(1).await;
    client.set_zero_linger().unwrap();
    drop(client);
    until(|| of(&doors.counters.connections_open, Transport::Tcp) == 0).await;
}

#[tokio::test]
async fn a_client_without_a_permit_is_closed_before_the_handshake() {
    let trust = Trust::new(tls::DOT_ALPN);
    let service = Service::Dot { tls: Arc::clone(&trust.server) };
    let doors = serve_with(service, Limits::default(), "192.0.2.0/24");
    let mut client = TcpStream::connect(doors.address).await.unwrap();
    assert!(rest(&mut client).await.is_empty());
    assert_eq!(doors.counters.connections_refused.value(), 1);
    assert_eq!(doors.counters.failed_handshakes(|_| true), 0);
}

#[tokio::test]
async fn draining_closes_the_door_and_finishes_what_is_in_flight() {
    let doors = serve_tcp();
    let mut idle = TcpStream::connect(doors.address).await.unwrap();
    let mut busy = TcpStream::connect(doors.address).await.unwrap();
    exchange(&mut idle, 1).await;
    busy.write_all(&framed(&query(2, "later"))).await.unwrap();
    doors.script.asked(2).await;
    doors.stop.begin();
    assert!(rest(&mut idle).await.is_empty());
    drop(idle);
    TcpStream::connect(doors.address).await.unwrap_err();
    assert!(!doors.serving.is_finished());
    doors.script.open();
    let octets = rest(&mut busy).await;
    assert_eq!(header(&octets[2..]).id, 2);
    drop(busy);
    timeout(Duration::from_secs(5), doors.serving).await.unwrap().unwrap();
}
