//! What an attacker and a careful observer need: streams without a client library, the gateway's own counts, memory, noise.

use std::net::SocketAddr;

use hushgate::peer::Transport;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Rig, client};

/// Says that the test runs in a process of its own.
const ALONE: &str = "HUSHGATE_TEST_ALONE";

/// Has `test` been run, with success, in a process where all that is open and in memory is its own? There it goes on; here it is done.
pub fn has_run_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return false;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let ended = command.args(["--exact", test, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success() && said.contains("1 passed"), "{said}{wrong}");
    true
}

/// A port where connections are refused for as long as the socket is held: bound, so that nobody else comes to listen there.
pub fn refusing() -> (socket2::Socket, SocketAddr) {
    let held = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    held.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = held.local_addr().unwrap().as_socket().unwrap();
    (held, address)
}

/// A stream of any kind.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Io for S {}

/// A stream of any kind, owned.
pub type Stream = Box<dyn Io>;

/// DNS on a stream.
pub const FRAMED: [Transport; 2] = [Transport::Tcp, Transport::Dot];

/// DNS over HTTPS.
pub const HTTP: [Transport; 3] = [Transport::Doh1, Transport::Doh2, Transport::Doh3];

impl Rig {
    /// A connection for messages behind their length.
    pub async fn stream(&self, transport: Transport) -> Stream {
        match transport {
            Transport::Tcp => Box::new(self.tcp().await),
            _ => Box::new(self.dot_stream().await),
        }
    }

    /// A TCP connection to the plain door.
    pub async fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.dns()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// A TLS connection to the DoH door that speaks `alpn`.
    pub async fn https(&self, alpn: &[u8]) -> tokio_rustls::client::TlsStream<TcpStream> {
        client::tls(self.doh(), client::trust(&self.authority(), &[alpn])).await.unwrap()
    }

    /// Asks at the clear-text DoH door.
    pub async fn ask_clear(&self) {
        let stream = TcpStream::connect(self.doh_clear()).await.unwrap();
        let request = self.get(&super::Ask::a("clear.example.org").id(0).bytes());
        assert_eq!(client::http2(stream, request).await.unwrap().0, 200);
    }

    /// The sum of all series of a counter in `/metrics`.
    pub async fn metric(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(self.admin()).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let series = text.lines().filter(|line| line.split([' ', '{']).next() == Some(name));
        let values: Vec<f64> = series.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        assert!(!values.is_empty(), "no {name} in {text}");
        values.iter().sum::<f64>() as u64
    }

    /// Every transport answers, each within five seconds: a good answer takes a tenth of one, and a busy machine as much as it likes.
    pub async fn assert_well(&self, label: &str) {
        for transport in Transport::ALL {
            let name = format!("{label}-{}.well.example.org", transport.name());
            let ask = super::Ask::a(&name).id(0).bytes();
            let asking = tokio::time::timeout(std::time::Duration::from_secs(5), self.ask(transport, &ask));
            let answered = asking.await.unwrap_or_else(|_| panic!("{label}: {} is slow", transport.name()));
            assert_eq!(super::message::counts(&answered.message)[1], 1, "{label}: {}", transport.name());
        }
        assert_eq!(self.metric("hushgate_panics_total").await, 0, "{label}");
    }
}

/// `name` as a name to verify a certificate by.
pub fn server(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).unwrap()
}

/// The resident set of this process, in octets: the gateway's, and the test's own.
pub fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// The rest of `stream`, however it ends.
pub async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut octets = Vec::new();
    let reading = stream.read_to_end(&mut octets);
    _ = tokio::time::timeout(client::PATIENCE, reading).await.expect("the connection stays open");
    octets
}

/// `message` behind its length.
pub fn frame(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

/// Numbers that look random and are the same in every run.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// `length` octets.
    pub fn octets(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}
