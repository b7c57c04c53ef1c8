//! A stream to a server through a proxy: SOCKS 5 (RFC 1928, RFC 1929) or HTTP CONNECT (RFC 9110 9.3.6).
//!
//! Between the connection to the proxy and the handshake with the server. A server known by name alone is named to the proxy, which
//! looks it up at its end: the name is asked for nowhere else.

use std::fmt;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_socks::TargetAddr;
use tokio_socks::tcp::Socks5Stream;
use tracing::debug;

use super::address::Host;
use super::error::Cause;
use super::eyeballs;
use super::settings::{Proxy, ProxyKind, Server};
use crate::identity::state_dir::is_open_to_others;

/// Why a server's proxy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The file of credentials.
    #[error("cannot read {}: {source}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could read the password.
    #[error("{} can be read by other users of this machine: chmod 600 it", file.display())]
    Open {
        /// Which.
        file: PathBuf,
    },
    /// Its content.
    #[error("{} must be one line, user:password, each of 1 to 255 octets without control characters", file.display())]
    Malformed {
        /// Which.
        file: PathBuf,
    },
    /// UDP and QUIC.
    #[error("a proxy carries streams alone: use tcp://, tls:// or https://")]
    Datagrams,
}

/// Who we are to a proxy.
#[derive(Clone)]
pub struct Login {
    user: String,
    password: String,
}

/// The way through one proxy to one server.
#[derive(Clone, Debug)]
pub struct Through {
    kind: ProxyKind,
    login: Option<Login>,
    targets: Vec<Target>,
    /// For people.
    name: String,
}

#[derive(Clone, Debug)]
struct Target {
    host: Host,
    port: u16,
}

/// Why a proxy did not open a way.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Socks(#[from] tokio_socks::Error),
    #[error(transparent)]
    Lost(#[from] io::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("the head of its answer is longer than {HEAD_LIMIT} octets")]
    TooLong,
    #[error("its answer is not HTTP/1")]
    NotHttp,
    #[error("it asks for other credentials (407)")]
    Credentials,
    #[error("it answered with status {0}")]
    Status(u16),
    #[error("something followed its answer before we had asked anything")]
    Early,
}

/// The longest head of an HTTP answer that we read.
const HEAD_LIMIT: usize = 8 * 1024;

/// A line of credentials.
const LOGIN_LIMIT: u64 = 1024;

impl Login {
    /// The credentials in `file`, which nobody else may read.
    ///
    /// # Errors
    /// The file, and what is wrong with it; never what stands there.
    pub fn read(file: &Path) -> Result<Self, ProxyError> {
        let mut text = String::new();
        std::fs::File::open(file)
            .and_then(|opened| opened.take(LOGIN_LIMIT).read_to_string(&mut text))
            .map_err(|source| ProxyError::Unreadable { file: file.into(), source })?;
        if is_open_to_others(file) {
            return Err(ProxyError::Open { file: file.into() });
        }
        Self::parse(&text).ok_or_else(|| ProxyError::Malformed { file: file.into() })
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        let (user, password) = line.strip_suffix('\r').unwrap_or(line).split_once(':')?;
        let fits = |word: &str| (1..=255).contains(&word.len()) && !word.chars().any(char::is_control);
        (fits(user) && fits(password)).then(|| Self { user: user.to_owned(), password: password.to_owned() })
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

impl Through {
    /// The way through `proxy` to `server`.
    ///
    /// # Errors
    /// The credentials.
    pub fn new(server: &Server, proxy: &Proxy) -> Result<Self, ProxyError> {
        let port = server.url.port;
        let given = server.addresses.iter().take(eyeballs::MOST);
        let mut targets: Vec<_> = given.map(|&address| Target { host: Host::Address(address), port }).collect();
        if targets.is_empty() {
            targets.push(Target { host: server.url.host.clone(), port });
        }
        let login = proxy.credentials.as_deref().map(Login::read).transpose()?;
        let scheme = match proxy.kind {
            ProxyKind::Socks5 => "socks5",
            ProxyKind::Connect => "http",
        };
        let at = Target { host: proxy.host.clone(), port: proxy.port };
        Ok(Self { kind: proxy.kind, login, targets, name: format!("{scheme}://{}", at.authority()) })
    }

    /// What the proxy may be asked to connect to, by index.
    #[must_use]
    pub fn targets(&self) -> Vec<usize> {
        (0..self.targets.len()).collect()
    }

    /// Has the proxy at the end of `stream` connect to a target. The caller sets the deadline.
    ///
    /// # Errors
    /// [`Cause::Connect`]; the log says why.
    pub async fn open(&self, stream: TcpStream, target: usize) -> Result<TcpStream, Cause> {
        let target = self.targets.get(target).ok_or(Cause::Unknown)?;
        let opened = match self.kind {
            ProxyKind::Socks5 => socks(stream, target, self.login.as_ref()).await,
            ProxyKind::Connect => connect(stream, target, self.login.as_ref()).await,
        };
        opened.map_err(|error| {
            debug!(proxy = self.name, target = target.authority(), %error, "the proxy opens no way to an upstream");
            Cause::Connect
        })
    }
}

impl Target {
    /// `host:port`, as HTTP writes it.
    fn authority(&self) -> String {
        match &self.host {
            Host::Address(IpAddr::V6(v6)) => format!("[{v6}]:{}", self.port),
            Host::Address(v4) => format!("{v4}:{}", self.port),
            Host::Name(name) => format!("{name}:{}", self.port),
        }
    }
}

async fn socks(stream: TcpStream, target: &Target, login: Option<&Login>) -> Result<TcpStream, Refusal> {
    let target = match &target.host {
        Host::Address(address) => TargetAddr::Ip(SocketAddr::new(*address, target.port)),
        Host::Name(name) => TargetAddr::Domain(name.as_ref().into(), target.port),
    };
    let opened = match login {
        None => Socks5Stream::connect_with_socket(stream, target).await?,
        Some(login) => {
            Socks5Stream::connect_with_password_and_socket(stream, target, &login.user, &login.password).await?
        }
    };
    Ok(opened.into_inner())
}

async fn connect(mut stream: TcpStream, target: &Target, login: Option<&Login>) -> Result<TcpStream, Refusal> {
    let authority = target.authority();
    let login = login.map_or_else(String::new, |login| {
        let word = STANDARD.encode(format!("{}:{}", login.user, login.password));
        format!("Proxy-Authorization: Basic {word}\r\n")
    });
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{login}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let head = read_head(&mut stream).await?;
    match status(&head).ok_or(Refusal::NotHttp)? {
        200..=299 => Ok(stream),
        407 => Err(Refusal::Credentials),
        other => Err(Refusal::Status(other)),
    }
}

/// Reads up to the empty line that ends a head. Nothing may follow it: neither TLS nor DNS servers speak first.
async fn read_head(stream: &mut TcpStream) -> Result<Vec<u8>, Refusal> {
    const END: &[u8] = b"\r\n\r\n";
    let mut head = Vec::with_capacity(HEAD_LIMIT);
    while head.len() < HEAD_LIMIT {
        let seen = head.len().saturating_sub(END.len() - 1);
        if (&mut *stream).take((HEAD_LIMIT - head.len()) as u64).read_buf(&mut head).await? == 0 {
            return Err(Refusal::Closed);
        }
        let fresh = head.get(seen..).unwrap_or_default();
        if let Some(at) = fresh.windows(END.len()).position(|window| window == END) {
            return if seen + at + END.len() == head.len() { Ok(head) } else { Err(Refusal::Early) };
        }
    }
    Err(Refusal::TooLong)
}

/// The status of an answer (RFC 9112 4).
fn status(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head.get(..12)?).ok()?;
    let (version, code) = line.split_once(' ')?;
    let plain = matches!(version, "HTTP/1.1" | "HTTP/1.0") && code.bytes().all(|octet| octet.is_ascii_digit());
    code.parse().ok().filter(|_| plain && matches!(head.get(12), Some(b' ' | b'\r')))
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use tokio::io::{AsyncRead, AsyncWrite};

    use super::super::error::ExchangeError;
    use super::super::kept::Home;
    use super::super::server::{BuildFault, Upstream};
    use super::super::testing::{
        Authority, ask, attempt, home, listener, plain, refusing, reply, serve_stream, tcp_server, tls_server, window,
    };
    use super::*;
    use crate::identity::scratch::Scratch;
    use crate::trail::{Attempts, UpstreamId};

    /// A proxy that hands every connection to `serve`.
    async fn proxy<F, R>(serve: F) -> SocketAddr
    where
        F: Fn(TcpStream) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let (listener, address) = listener().await;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        address
    }

    fn through(mut server: Server, kind: ProxyKind, at: SocketAddr, credentials: Option<PathBuf>) -> Server {
        server.proxy = Some(Proxy { kind, host: Host::Address(at.ip()), port: at.port(), credentials });
        server
    }

    /// A server that is nowhere but behind a proxy.
    fn unreachable(scheme: &str) -> Server {
        Server::new(format!("{scheme}://only.behind.example:8853").parse().unwrap())
    }

    fn credentials(scratch: &Scratch, text: &str) -> PathBuf {
        let file = scratch.write("login", text);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        file
    }

    async fn join(mut one: impl AsyncRead + AsyncWrite + Unpin, address: SocketAddr) {
        let mut other = TcpStream::connect(address).await.unwrap();
        // Ends with either end.
        let _ = tokio::io::copy_bidirectional(&mut one, &mut other).await;
    }

    async fn take(stream: &mut TcpStream, expected: &[u8]) {
        let mut octets = vec![0; expected.len()];
        stream.read_exact(&mut octets).await.unwrap();
        assert_eq!(octets, expected);
    }

    /// SOCKS 5 as RFC 1928 and RFC 1929 write it: `login` is wanted if there is one; leads to `target` whatever name is asked for.
    async fn socks5(mut stream: TcpStream, login: Option<&'static [u8]>, asked: &[u8], target: SocketAddr) {
        match login {
            None => {
                take(&mut stream, &[5, 1, 0]).await;
                stream.write_all(&[5, 0]).await.unwrap();
            }
            Some(login) => {
                take(&mut stream, &[5, 2, 0, 2]).await;
                stream.write_all(&[5, 2]).await.unwrap();
                take(&mut stream, login).await;
                stream.write_all(&[1, 0]).await.unwrap();
            }
        }
        take(&mut stream, asked).await;
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
        join(stream, target).await;
    }

    /// By name: its length, itself, port 8853.
    const BY_NAME: &[u8] = b"\x05\x01\x00\x03\x13only.behind.example\x22\x95";

    #[tokio::test]
    async fn socks_5_resolves_the_name_at_its_end_with_and_without_credentials() {
        let target = tcp_server(|query| reply(query, 0)).await;
        let open = proxy(move |stream| socks5(stream, None, BY_NAME, target)).await;
        let server = through(unreachable("tcp"), ProxyKind::Socks5, open, None);
        let delivered = attempt(&server, &ask("a.example")).await.0.unwrap();
        assert_eq!(delivered.facts.address, open, "who was connected to");

        let scratch = Scratch::new();
        let guarded = proxy(move |stream| socks5(stream, Some(b"\x01\x03joe\x03a:b"), BY_NAME, target)).await;
        let server = through(unreachable("tcp"), ProxyKind::Socks5, guarded, Some(credentials(&scratch, "joe:a:b\n")));
        assert!(attempt(&server, &ask("a.example")).await.0.is_ok());
    }

    #[tokio::test]
    async fn a_server_with_addresses_is_named_to_the_proxy_by_them() {
        let target = tcp_server(|query| reply(query, 0)).await;
        let open = proxy(move |stream| socks5(stream, None, b"\x05\x01\x00\x01\xc0\x00\x02\x01\x22\x95", target)).await;
        let mut server = through(unreachable("tcp"), ProxyKind::Socks5, open, None);
        server.addresses = vec!["192.0.2.1".parse().unwrap()];
        assert!(attempt(&server, &ask("a.example")).await.0.is_ok());
    }

    /// HTTP CONNECT: answers the request with `head`, and leads to `target` if it says 200.
    async fn http(mut stream: TcpStream, asked: String, head: &'static [u8], target: SocketAddr) {
        take(&mut stream, asked.as_bytes()).await;
        stream.write_all(head).await.unwrap();
        if head.starts_with(b"HTTP/1.1 200") {
            join(stream, target).await;
        }
    }

    const ASKED: &str = "CONNECT only.behind.example:8853 HTTP/1.1\r\nHost: only.behind.example:8853\r\n";

    #[tokio::test]
    async fn tls_runs_through_connect_with_and_without_credentials_and_is_verified_all_the_same() {
        let authority = Authority::new();
        let scratch = Scratch::new();
        for (name, works) in [("only.behind.example", true), ("other.example", false)] {
            let (config, _) = authority.identity(&[name], &["dot"]);
            let target = tls_server(config, |stream| serve_stream(stream, |query| reply(query, 0))).await;
            for login in ["", "Proxy-Authorization: Basic am9lOnNlY3JldA==\r\n"] {
                let asked = format!("{ASKED}{login}\r\n");
                let open = proxy(move |stream| {
                    http(stream, asked.clone(), b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n", target)
                })
                .await;
                let file = (!login.is_empty()).then(|| credentials(&scratch, "joe:secret"));
                let mut server = through(unreachable("tls"), ProxyKind::Connect, open, file);
                server.ca = Some(authority.file.clone());
                let result = attempt(&server, &ask("a.example")).await.0;
                assert_eq!(result.err().map(|error| error.cause), if works { None } else { Some(Cause::Tls) });
            }
        }
    }

    #[tokio::test]
    async fn a_failed_proof_behind_a_proxy_is_told_before_an_address_it_cannot_reach() {
        let authority = Authority::new();
        let (config, _) = authority.identity(&["other.example"], &["dot"]);
        let target = tls_server(config, |stream| serve_stream(stream, |query| reply(query, 0))).await;
        let open = proxy(move |mut stream| async move {
            let mut request = [0; 512];
            let length = stream.read(&mut request).await.unwrap();
            if request[..length].starts_with(b"CONNECT 192.0.2.1:") {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                return join(stream, target).await;
            }
            stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await.unwrap();
        })
        .await;
        let mut server = through(unreachable("tls"), ProxyKind::Connect, open, None);
        server.ca = Some(authority.file.clone());
        server.addresses = vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        assert_eq!(attempt(&server, &ask("a.example")).await.0.unwrap_err().cause, Cause::Tls);
    }

    #[tokio::test]
    async fn a_proxy_that_refuses_or_talks_nonsense_is_no_connection_and_is_not_gone_around() {
        let (direct, address) = listener().await;
        let answers: [&'static [u8]; 8] = [
            b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\nearly",
            b"HTTP/2.0 200 OK\r\n\r\n",
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"SSH-2.0-x\r\n\r\n",
            b"\r\n\r\n",
            b"",
        ];
        for answer in answers {
            let at = proxy(move |mut stream| async move {
                let mut request = [0; 512];
                let _ = stream.read(&mut request).await;
                stream.write_all(answer).await.unwrap();
            })
            .await;
            for kind in [ProxyKind::Connect, ProxyKind::Socks5] {
                let server = through(plain("tcp", address), kind, at, None);
                let error = attempt(&server, &ask("a.example")).await.0.unwrap_err();
                assert_eq!(error.cause, Cause::Connect, "{answer:?}");
            }
        }
        let (_held, closed) = refusing();
        let server = through(plain("tcp", address), ProxyKind::Connect, closed, None);
        assert_eq!(attempt(&server, &ask("a.example")).await.0.unwrap_err().cause, Cause::Connect);
        let passed = tokio::time::timeout(Duration::from_millis(20), direct.accept()).await;
        assert!(passed.is_err(), "somebody came past the proxy");
    }

    /// How an attempt with little time ends at a proxy that does this.
    async fn hurried(at: SocketAddr, kind: ProxyKind) -> ExchangeError {
        let server = through(unreachable("tcp"), kind, at, None);
        let upstream =
            Upstream::new(&server, UpstreamId(0), &Home { patience: Duration::from_millis(100), ..home() }).unwrap();
        upstream.attempt(&ask("a.example"), window(150, 1), &mut Attempts::default()).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_proxy_that_is_silent_or_never_comes_to_an_end_is_left_in_time() {
        let silent = proxy(|stream| async move {
            let _held = stream;
            std::future::pending::<()>().await;
        })
        .await;
        let dripping = proxy(|mut stream| async move {
            while stream.write_all(b"H").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(hurried(silent, ProxyKind::Socks5).await.cause, Cause::Timeout);
        assert_eq!(hurried(silent, ProxyKind::Connect).await.cause, Cause::Timeout);
        assert_eq!(hurried(dripping, ProxyKind::Connect).await.cause, Cause::Timeout);
        let endless = proxy(|mut stream| async move { while stream.write_all(&[b'x'; 4096]).await.is_ok() {} }).await;
        let server = through(unreachable("tcp"), ProxyKind::Connect, endless, None);
        assert_eq!(attempt(&server, &ask("a.example")).await.0.unwrap_err().cause, Cause::Connect);
    }

    #[tokio::test]
    async fn datagrams_have_no_way_through_a_proxy_and_take_none_past_it() {
        let nowhere = "127.0.0.1:1080".parse().unwrap();
        for scheme in ["udp", "h3", "quic"] {
            let server = through(unreachable(scheme), ProxyKind::Socks5, nowhere, None);
            let error = Upstream::new(&server, UpstreamId(0), &home()).unwrap_err();
            assert!(matches!(error.fault, BuildFault::Proxy(ProxyError::Datagrams)), "{error}");
        }
    }

    #[test]
    fn credentials_are_one_line_in_a_file_for_nobody_else_and_never_shown() {
        let scratch = Scratch::new();
        let login = Login::read(&credentials(&scratch, "joe:a:b c\r\n")).unwrap();
        assert_eq!((login.user.as_str(), login.password.as_str()), ("joe", "a:b c"));
        assert!(!format!("{login:?}").contains("joe"));
        let long = format!("joe:{}", "x".repeat(256));
        for text in ["", "joe", "joe:", ":secret", "joe:secret\njim:other\n", "joe:\u{1}", &long] {
            let error = Login::read(&credentials(&scratch, text)).unwrap_err();
            assert!(matches!(error, ProxyError::Malformed { .. }), "{text:?}");
            assert!(!error.to_string().contains("secret"));
        }
        let file = credentials(&scratch, "joe:secret");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Login::read(&file), Err(ProxyError::Open { .. })));
    }
}
