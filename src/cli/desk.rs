//! One request to the admin API of a running gateway: for every command that asks one.

use std::fmt;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::admin::Place;

/// For everything: the gateway gives a question less.
const TIMEOUT: Duration = Duration::from_secs(20);
/// An explanation holds one DNS message at most, in text; a list is kept shorter by the gateway.
const ANSWER_LIMIT: usize = 4 << 20;

/// Where the gateway is, and how it answers.
#[derive(Clone, Debug, clap::Args)]
pub struct Desk {
    /// The gateway's admin listener: ADDRESS:PORT or unix:PATH
    #[arg(long, value_name = "WHERE", default_value = "127.0.0.1:8054", value_parser = parse_place)]
    pub admin: Place,
    /// The file with the admin token, where the gateway wants one
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print the gateway's JSON instead
    #[arg(long)]
    pub json: bool,
}

/// Why there is no answer, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// Nobody listens.
    #[error(
        "no gateway answers at {place} ({source}). Start one with `hushgate serve`, or say with --admin where its admin \
         listener is (admin.listen in its configuration)"
    )]
    NotRunning {
        /// Where.
        place: Shown,
        /// Why.
        source: io::Error,
    },
    /// It does not answer in time.
    #[error("the gateway at {0} did not answer within 20 s")]
    Timeout(Shown),
    /// Something else answers there.
    #[error("what answers at {0} is no hushgate admin listener, or one of another version")]
    Stranger(Shown),
    /// The token is missing or wrong.
    #[error("the gateway at {0} wants its token: give the file of admin.token_file with --token-file")]
    Token(Shown),
    /// The token cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    TokenFile {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The gateway says no.
    #[error("the gateway says: {0}")]
    Refused(Box<str>),
    /// No runtime from the system, or the answer cannot be printed.
    #[error("cannot print: {0}")]
    Print(io::Error),
}

/// A place as `--admin` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown(Place);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Address(address) => address.fmt(f),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Desk {
    /// Asks for `target`, and waits for the gateway's JSON. Makes its own runtime.
    ///
    /// # Errors
    /// What to do when no gateway answers, or it answers no.
    pub fn ask_now(&self, method: Method, target: &str) -> Result<String, DeskError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DeskError::Print)?;
        runtime.block_on(self.ask(method, target))
    }

    /// Asks for `target`; the gateway's JSON.
    async fn ask(&self, method: Method, target: &str) -> Result<String, DeskError> {
        let place = &self.admin;
        let shown = || Shown(place.clone());
        let token = self.token_file.as_deref().map(read_token).transpose()?;
        let unreachable = |source| DeskError::NotRunning { place: shown(), source };
        let head = head(place, token.as_deref(), method, target)?;
        let asking = async {
            match place {
                Place::Address(address) => {
                    converse(TcpStream::connect(address).await.map_err(unreachable)?, place, head).await
                }
                Place::Unix(path) => converse(UnixStream::connect(path).await.map_err(unreachable)?, place, head).await,
            }
        };
        timeout(TIMEOUT, asking).await.map_err(|_| DeskError::Timeout(shown()))?
    }

    /// What `json` says.
    ///
    /// # Errors
    /// It says something else: another program answered, or another version.
    pub fn read<T: DeserializeOwned>(&self, json: &str) -> Result<T, DeskError> {
        serde_json::from_str(json).map_err(|_| DeskError::Stranger(Shown(self.admin.clone())))
    }
}

/// Prints to standard output.
///
/// # Errors
/// It is closed for another reason than that `| head` has seen enough.
pub fn print(text: &str) -> Result<(), DeskError> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(DeskError::Print),
    }
}

/// The gateway's errors.
#[derive(Deserialize)]
struct Failure {
    error: Box<str>,
}

fn head(place: &Place, token: Option<&str>, method: Method, target: &str) -> Result<Request<Empty<Bytes>>, DeskError> {
    let host = match place {
        Place::Address(address) => address.to_string(),
        Place::Unix(_) => "localhost".to_owned(),
    };
    // What changes something has to say that it is JSON.
    let mut head =
        Request::builder().method(method).uri(target).header(HOST, host).header(CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        head = head.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    head.body(Empty::new()).map_err(|_| DeskError::Token(Shown(place.clone())))
}

async fn converse<S>(stream: S, place: &Place, message: Request<Empty<Bytes>>) -> Result<String, DeskError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stranger = move || DeskError::Stranger(Shown(place.clone()));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| stranger())?;
    // Owns the sender: a server that would keep the connection is let go of once it has answered.
    let answering = async move {
        let response = sender.send_request(message).await.map_err(|_| stranger())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await.map_err(|_| stranger())?;
        let text = String::from_utf8(body.to_bytes().into()).map_err(|_| stranger())?;
        Ok::<_, DeskError>((status, text))
    };
    let (outcome, _) = tokio::join!(answering, connection);
    let (status, text) = outcome?;
    match status {
        StatusCode::OK => Ok(text),
        StatusCode::UNAUTHORIZED => Err(DeskError::Token(Shown(place.clone()))),
        _ => {
            Err(serde_json::from_str(&text).map_or_else(|_| stranger(), |Failure { error }| DeskError::Refused(error)))
        }
    }
}

fn read_token(file: &Path) -> Result<String, DeskError> {
    let text = std::fs::read_to_string(file);
    text.map(|text| text.trim().to_owned()).map_err(|source| DeskError::TokenFile { file: file.into(), source })
}

/// Why text is no place to ask at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be ADDRESS:PORT, such as 127.0.0.1:8054 or [::1]:8054, or unix:PATH")]
pub struct BadPlace;

/// Reads `127.0.0.1:8054`, `localhost:8054` or `unix:admin.sock`.
///
/// # Errors
/// It is none of them.
pub fn parse_place(text: &str) -> Result<Place, BadPlace> {
    if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        return Ok(Place::Unix(path.into()));
    }
    let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address: SocketAddr = local.as_deref().unwrap_or(text).parse().map_err(|_| BadPlace)?;
    Ok(Place::Address(address))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::*;
    use crate::admin::held::Flushed;
    use crate::admin::{
        Admin, Asked, CacheAnswer, ExplainRefused, ExplainRequest, Explained, Handles, Reached, Settings, Vitals,
        explained,
    };
    use crate::identity::scratch::Scratch;
    use crate::reply::Why;
    use crate::shutdown::Stop;

    fn desk(place: &Place, token: Option<&PathBuf>) -> Desk {
        Desk { admin: place.clone(), token_file: token.cloned(), json: false }
    }

    fn target(request: &ExplainRequest) -> String {
        format!("/api/explain?{}", request.to_query())
    }

    fn handles() -> Handles {
        Handles {
            counters: Vec::new(),
            gauges: Arc::new(crate::telemetry::Gauges::default),
            vitals: Arc::new(Vitals::default),
            explain: Arc::new(|request| {
                Box::pin(async move {
                    let client = request.from.unwrap_or(IpAddr::from([127, 0, 0, 1]));
                    let asked = Asked {
                        request: &request,
                        client,
                        door: "127.0.0.1:53".into(),
                        route: 1,
                        pool: "default",
                        micros: 2,
                    };
                    let road = explained(&asked, Reached::Silence(Why::Limit), &|_| None);
                    if request.door.is_none() { Ok(road) } else { Err(ExplainRefused::NoSuchDoor) }
                })
            }),
            cache: Arc::new(|_| Box::pin(std::future::ready(CacheAnswer::Flushed(Flushed::default())))),
            reload: Arc::new(|_| Box::pin(async { None })),
            keys: Arc::new(Vec::new),
            doors: Arc::new(Vec::new),
        }
    }

    #[tokio::test]
    async fn running_gateway_is_asked_over_tcp_and_unix_sockets_with_its_token() {
        let scratch = Scratch::new();
        let token = scratch.write("token", "0123456789abcdef\n");
        let settings = Settings {
            listen: vec![Place::Address(([127, 0, 0, 1], 0).into()), Place::Unix(scratch.path().join("sock"))],
            probes: Vec::new(),
            token_file: Some(token.clone()),
            ready_wait: Duration::ZERO,
            self_probe: false,
        };
        let admin = Admin::bind(&settings).unwrap();
        let places = admin.addresses();
        let (_stop, drain) = Stop::new();
        tokio::spawn(admin.serve(handles(), drain));
        let request = ExplainRequest::parse("name=A.example&type=65400&from=2001:db8::1").unwrap();
        for place in &places {
            let json = desk(place, Some(&token)).ask(Method::GET, &target(&request)).await.unwrap();
            let road: Explained = desk(place, None).read(&json).unwrap();
            assert_eq!((road.question.as_str(), road.client), ("A.example. TYPE65400 IN", request.from.unwrap()));
            assert!(matches!(desk(place, None).ask(Method::GET, &target(&request)).await, Err(DeskError::Token(_))));
            let elsewhere = ExplainRequest { door: Some(crate::peer::Transport::Doq), ..request.clone() };
            let message =
                desk(place, Some(&token)).ask(Method::GET, &target(&elsewhere)).await.unwrap_err().to_string();
            assert!(message.contains("no such door"), "{message}");
            let flush = crate::admin::CacheRequest::Flush(crate::cache::Selection::All).target();
            let json = desk(place, Some(&token)).ask(Method::POST, &flush).await.unwrap();
            assert_eq!(desk(place, None).read::<Flushed>(&json).unwrap(), Flushed::default());
        }
    }

    #[tokio::test]
    async fn gateway_that_does_not_run_is_said_with_what_to_do() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let place = Place::Address(free.local_addr().unwrap());
        drop(free);
        let request = ExplainRequest::parse("name=a.example").unwrap();
        let message = desk(&place, None).ask(Method::GET, &target(&request)).await.unwrap_err().to_string();
        assert!(message.contains("hushgate serve") && message.contains("--admin"), "{message}");
    }

    #[test]
    fn places_are_addresses_and_sockets() {
        assert_eq!(parse_place("localhost:8054"), parse_place("127.0.0.1:8054"));
        assert_eq!(parse_place("unix:a/b.sock"), Ok(Place::Unix("a/b.sock".into())));
        for text in ["", "unix:", "127.0.0.1", "gateway.example:8054", "http://127.0.0.1:8054"] {
            assert_eq!(parse_place(text), Err(BadPlace), "{text}");
        }
    }
}
