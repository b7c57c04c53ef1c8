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
