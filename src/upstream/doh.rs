//! DNS over HTTPS toward servers, on HTTP/2 (RFC 8484, [`doh2`](super::doh2)); HTTP/1.1 and cleartext for `hushgate query` alone.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::Ask;
use super::delivery::{Delivered, Facts, check_stream};
use super::dial::Dialer;
use super::doh2::Session;
use super::error::Cause;
use super::http::{Cover, Target, check_head};
use super::kept::{Carrier, Terms};
use super::proof::Proof;
use super::tls::Tls;
use crate::peer::Transport;
use crate::wire::MAX_MESSAGE;

/// The version of HTTP on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1: one question at a time, one a connection.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Version {
    /// Its ALPN name.
    #[must_use]
    pub const fn alpn(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }
}

/// A server asked over HTTP.
#[derive(Debug)]
pub struct Doh {
    dialer: Dialer,
    target: Target,
    version: Version,
    /// None: cleartext.
    tls: Option<Tls>,
}

/// A connection to it.
pub struct Connection {
    sender: Sender,
    facts: Facts,
    /// Its task hears when this is gone, and ends at once when anything is said.
    held: watch::Sender<()>,
}

enum Sender {
    /// Gone once it has been used.
    One(Mutex<Option<http1::SendRequest<Full<Bytes>>>>),
    Many(Session),
}

/// How long the last words (`RST_STREAM`, GOAWAY, `close_notify`) may take.
const FAREWELL: Duration = Duration::from_secs(1);

impl Doh {
    /// A server reached by `dialer` asked at `target`, under TLS unless `tls` is missing.
    #[must_use]
    pub const fn new(dialer: Dialer, target: Target, version: Version, tls: Option<Tls>) -> Self {
        Self { dialer, target, version, tls }
    }

    /// What is known of the server's proof; None without TLS.
    #[must_use]
    pub fn proof(&self) -> Option<&Proof> {
        self.tls.as_ref().map(Tls::proof)
    }

    /// Is there TLS around it?
    #[must_use]
    pub const fn cover(&self) -> Cover {
        if self.tls.is_some() { Cover::Tls } else { Cover::Clear }
    }

    async fn greet(&self, stream: TcpStream, address: SocketAddr) -> Result<Connection, Cause> {
        let transport = match self.version {
            Version::Http1 => Transport::Doh1,
            Version::Http2 => Transport::Doh2,
        };
        let mut facts = Facts { address, transport, secured: None };
        let Some(tls) = &self.tls else { return self.start(stream, facts).await };
        let (stream, secured) = tls.secure(stream).await?;
        if secured.alpn != Some(self.version.alpn()) {
            return Err(Cause::Tls);
        }
        facts.secured = Some(secured);
        self.start(stream, facts).await
    }

    /// Starts HTTP.
    async fn start<S>(&self, stream: S, facts: Facts) -> Result<Connection, Cause>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (held, hold) = watch::channel(());
        let sender = match self.version {
            Version::Http1 => {
                let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| Cause::Connect)?;
                drive(driver, hold);
                Sender::One(Mutex::new(Some(sender)))
            }
            Version::Http2 => {
                let (session, driver) = Session::start(stream).await?;
                drive(driver, hold);
                Sender::Many(session)
            }
        };
        Ok(Connection { sender, facts, held })
    }
}

/// Starts the task of a connection. Nobody asks any more once the connection is dropped; a server that takes no octets does not
/// hold up the end.
fn drive(driver: impl Future<Output: Send> + Send + 'static, mut held: watch::Receiver<()>) {
    tokio::spawn(async move {
        let mut driver = pin!(driver);
        tokio::select! {
            _ = driver.as_mut() => {}
            cut = held.changed() => if cut.is_err() {
                let _ = timeout(FAREWELL, driver).await;
            },
        }
    });
}

impl Sender {
    /// Answers the age of the response and its body.
    async fn exchange(&self, request: Request<()>, body: Bytes) -> Result<(u32, Bytes), Cause> {
        match self {
            Self::One(place) => {
                let taken = place.lock().unwrap_or_else(PoisonError::into_inner).take();
                exchange_once(taken.ok_or(Cause::Closed)?, request, body).await
            }
            Self::Many(session) => session.exchange(&request, &body).await,
        }
    }
}

async fn exchange_once(
    mut sender: http1::SendRequest<Full<Bytes>>,
    mut request: Request<()>,
    body: Bytes,
) -> Result<(u32, Bytes), Cause> {
    origin_form(&mut request)?;
    let sent = sender.send_request(request.map(|()| Full::new(body))).await;
    let response = sent.map_err(|error| if error.is_parse() { Cause::Malformed } else { Cause::Closed })?;
    let age = check_head(response.status(), response.headers())?;
    let body = Limited::new(response.into_body(), MAX_MESSAGE).collect().await;
    let message = body.map_err(|error| if error.is::<hyper::Error>() { Cause::Closed } else { Cause::Malformed })?;
    Ok((age, message.to_bytes()))
}

impl Carrier for Doh {
    type Connection = Connection;

    async fn open(&self, until: Instant) -> Result<Connection, Cause> {
        self.dialer.dial(until, |stream, address| self.greet(stream, address)).await
    }

    fn is_open(&self, connection: &Connection) -> bool {
        match &connection.sender {
            Sender::One(place) => place.lock().unwrap_or_else(PoisonError::into_inner).is_some(),
            Sender::Many(session) => session.is_open(),
        }
    }

    fn facts(connection: &Connection) -> &Facts {
        &connection.facts
    }

    fn terms(connection: &Connection) -> Terms {
        let flights = match &connection.sender {
            Sender::One(_) => Some(1),
            Sender::Many(session) => session.capacity(),
        };
        Terms { rest: None, flights }
    }

    async fn closed(connection: &Connection) {
        connection.held.closed().await;
    }

    fn cut(connection: &Connection) {
        connection.held.send_replace(());
    }

    async fn ask(&self, connection: &Connection, ask: &Arc<Ask>) -> Result<Delivered, Cause> {
        let (request, body) = self.target.request(ask)?;
        let (age, message) = connection.sender.exchange(request, body).await?;
        check_stream(ask, &message, 0)?;
        Ok(Delivered { message, age, facts: connection.facts })
    }
}

/// HTTP/1.1 names the authority in a Host header, and only the path in its request line (RFC 9112 3.2.1).
fn origin_form(request: &mut Request<()>) -> Result<(), Cause> {
    let uri = request.uri();
    let host = uri.authority().and_then(|authority| authority.as_str().parse().ok()).ok_or(Cause::Malformed)?;
    let path = uri.path_and_query().cloned().ok_or(Cause::Malformed)?;
    *request.uri_mut() = path.into();
    request.headers_mut().insert(http::header::HOST, host);
    Ok(())
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.facts).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use http::Response;
    use http::StatusCode;
    use hyper::body::Incoming;
    use hyper_util::rt::TokioExecutor;

    use super::super::proof::TlsFault;
    use super::super::server::Upstream;
    use super::super::settings::Method;
    use super::super::testing::{
        Authority, Handler, ask as question, attempt, dns_response, home, https_server, reply, reply_as, strict,
        tls_server, window,
    };
    use super::super::tls::{Agreement, Trust};
    use super::super::{Server, verdict::Verdict};
    use super::*;
    use crate::trail::{Attempts, UpstreamId};

    async fn server(authority: &Authority, handler: Handler) -> Server {
        let (config, _) = authority.identity(&["127.0.0.1"], &["h2", "http/1.1"]);
        authority.server("https", https_server(config, handler).await)
    }

    async fn outcome(handler: Handler) -> Result<Delivered, Cause> {
        let authority = Authority::new();
        let server = server(&authority, handler).await;
        attempt(&server, &question("a.example")).await.0.map_err(|error| error.cause)
    }

    fn status(code: StatusCode) -> Response<Bytes> {
        let mut response = dns_response(vec![0; 12]);
        *response.status_mut() = code;
        response
    }

    #[tokio::test]
    async fn doh_28_post_and_get_carry_the_padded_question_with_id_0_and_nothing_else() {
        let authority = Authority::new();
        let mut server = server(&authority, strict).await;
        for method in [Method::Post, Method::Get] {
            server.method = method;
            let delivered = attempt(&server, &question("a.example")).await.0.unwrap();
            assert_eq!(delivered.facts.transport, Transport::Doh2);
            assert_eq!(delivered.facts.secured.unwrap().alpn, Some("h2"));
        }
    }

    #[tokio::test]
    async fn http_1_1_is_spoken_when_asked_for() {
        let authority = Authority::new();
        let server = server(&authority, strict).await;
        let upstream = Upstream::over_http(&server, Version::Http1, Cover::Tls, &home()).unwrap();
        for _ in 0..2 {
            let result = upstream.attempt(&question("a.example"), window(10_000, 1), &mut Attempts::default()).await;
            let (delivered, verdict) = result.unwrap();
            assert_eq!((delivered.facts.transport, verdict), (Transport::Doh1, Verdict::Final));
        }
        assert!(upstream.is_trusted());
    }

    #[tokio::test]
    async fn doh_27_an_error_status_a_redirect_and_a_foreign_type_are_failures() {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        assert_eq!(outcome(|_, _| status(StatusCode::SERVICE_UNAVAILABLE)).await.unwrap_err(), Cause::Malformed);
        let html = |_: &Request<()>, body: &[u8]| {
            Response::builder().header("content-type", "text/html").body(reply(body, 0).into()).unwrap()
        };
        assert_eq!(outcome(html).await.unwrap_err(), Cause::Malformed);
        let redirect = |_: &Request<()>, _: &[u8]| {
            ASKED.fetch_add(1, Ordering::SeqCst);
            Response::builder().status(307).header("location", "/dns-query?again").body(Bytes::new()).unwrap()
        };
        assert_eq!(outcome(redirect).await.unwrap_err(), Cause::Malformed);
        assert_eq!(ASKED.load(Ordering::SeqCst), 1, "the redirect was followed");
    }

    #[tokio::test]
    async fn answers_that_are_too_long_or_carry_another_id_are_refused() {
        assert_eq!(outcome(|_, _| dns_response(vec![0; 65_536])).await.unwrap_err(), Cause::Malformed);
        assert_eq!(outcome(|_, body| dns_response(reply_as(9, body))).await.unwrap_err(), Cause::Mismatched);
    }

    #[tokio::test]
    async fn doh_26_the_age_header_is_handed_on() {
        let aged = |_: &Request<()>, body: &[u8]| {
            let mut response = dns_response(reply(body, 0));
            response.headers_mut().insert("age", 250.into());
            response
        };
        assert_eq!(outcome(aged).await.unwrap().age, 250);
    }

    #[tokio::test]
    async fn a_server_that_does_not_agree_on_h2_is_not_spoken_to() {
        let authority = Authority::new();
        let (config, _) = authority.identity(&["127.0.0.1"], &[]);
        let server = authority.server("https", https_server(config, strict).await);
        let upstream = Upstream::new(&server, UpstreamId(0), &home()).unwrap();
        let result = upstream.attempt(&question("a.example"), window(10_000, 1), &mut Attempts::default()).await;
        assert_eq!(result.unwrap_err().cause, Cause::Tls);
        assert_eq!(upstream.proof().unwrap().fault(), Some(TlsFault::Protocol), "why is not told");
    }

    #[tokio::test]
    async fn doh_29_a_server_that_says_goaway_after_each_answer_is_not_noticed() {
        let authority = Authority::new();
        let (config, _) = authority.identity(&["127.0.0.1"], &["h2"]);
        let address = tls_server(config, |stream| async move {
            let answered = Arc::new(tokio::sync::Notify::new());
            let done = Arc::clone(&answered);
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let done = Arc::clone(&done);
                async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    done.notify_one();
                    Ok::<_, hyper::Error>(dns_response(reply(&body, 0)).map(Full::new))
                }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
            tokio::select! {
                _ = connection.as_mut() => return,
                () = answered.notified() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        })
        .await;
        let upstream = Upstream::new(&authority.server("https", address), UpstreamId(0), &home()).unwrap();
        for _ in 0..5 {
            let result = upstream.attempt(&question("a.example"), window(10_000, 2), &mut Attempts::default()).await;
            assert!(result.is_ok(), "{result:?}");
        }
    }

    #[tokio::test]
    async fn doh_29_questions_on_a_connection_that_is_cut_hear_of_it_at_once() {
        let authority = Authority::new();
        let (config, _) = authority.identity(&["127.0.0.1"], &["h2"]);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let address = tls_server(config, move |mut stream| {
            let tell = tell.clone();
            async move {
                let mut octets = [0; 4096];
                // Reads, as a path does that has died: nothing comes back.
                while tokio::io::AsyncReadExt::read(&mut stream, &mut octets).await.is_ok_and(|read| read > 0) {
                    let _ = tell.send(());
                }
            }
        })
        .await;
        let server = authority.server("https", address);
        let trust = Trust::new(&server, &Arc::default()).unwrap();
        let tls = Tls::new(&trust, b"h2", Agreement::Needed).unwrap();
        let target = Target::new(&server.url, Method::Post, Cover::Tls).unwrap();
        let doh = Doh::new(Dialer::new(&server, &home()).unwrap(), target, Version::Http2, Some(tls));
        let connection = doh.open(Instant::now() + Duration::from_secs(10)).await.unwrap();
        let question = question("a.example");
        let cut = async {
            told.recv().await.unwrap();
            Doh::cut(&connection);
        };
        let (outcome, ()) = tokio::join!(timeout(Duration::from_secs(10), doh.ask(&connection, &question)), cut);
        assert_eq!(outcome.expect("it waits on").map(drop), Err(Cause::Closed));
        assert!(!doh.is_open(&connection));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_takes_nothing_any_more_ends_with_its_askers() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let server = Server::new("https://127.0.0.1".parse().unwrap());
        let target = Target::new(&server.url, Method::Post, Cover::Clear).unwrap();
        let doh = Doh::new(Dialer::new(&server, &home()).unwrap(), target, Version::Http2, None);
        let facts = Facts { address: "127.0.0.1:443".parse().unwrap(), transport: Transport::Doh2, secured: None };
        drop(doh.start(ours, facts).await.unwrap());
        tokio::time::sleep(2 * FAREWELL).await;
        assert!(tokio::io::AsyncWriteExt::write_all(&mut theirs, b"\0").await.is_err(), "the stream is still held");
    }
}
