//! One GET to the admin API of a running gateway.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::admin::request::BadRequest;
use crate::admin::{ExplainRequest, Explained, Place};

/// For everything: the gateway gives a question less.
const TIMEOUT: Duration = Duration::from_secs(20);
/// An explanation holds one DNS message at most, in text.
const ANSWER_LIMIT: usize = 4 << 20;

/// Why there is no explanation, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The question makes no sense.
    #[error(transparent)]
    Question(#[from] BadRequest),
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
    /// The road cannot be printed.
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

/// Asks; the gateway's JSON.
pub(super) async fn ask(place: &Place, token: Option<&Path>, request: &ExplainRequest) -> Result<String, ExplainError> {
    let shown = || Shown(place.clone());
    let token = token.map(read_token).transpose()?;
    let unreachable = |source| ExplainError::NotRunning { place: shown(), source };
    let asking = async {
        match place {
            Place::Address(address) => {
                let stream = TcpStream::connect(address).await.map_err(unreachable)?;
                get(stream, place, token.as_deref(), request).await
            }
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(unreachable)?;
                get(stream, place, token.as_deref(), request).await
            }
        }
    };
    timeout(TIMEOUT, asking).await.map_err(|_| ExplainError::Timeout(shown()))?
}

/// The road in `json`.
pub(super) fn read(place: &Place, json: &str) -> Result<Explained, ExplainError> {
    serde_json::from_str(json).map_err(|_| ExplainError::Stranger(Shown(place.clone())))
}

/// The gateway's errors.
#[derive(Deserialize)]
struct Failure {
    error: Box<str>,
}

async fn get<S>(stream: S, place: &Place, token: Option<&str>, request: &ExplainRequest) -> Result<String, ExplainError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stranger = move || ExplainError::Stranger(Shown(place.clone()));
    let host = match place {
        Place::Address(address) => address.to_string(),
        Place::Unix(_) => "localhost".to_owned(),
    };
    let mut message = Request::get(format!("/api/explain?{}", request.to_query())).header(HOST, host);
    if let Some(token) = token {
        message = message.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let message = message.body(Empty::<Bytes>::new()).map_err(|_| ExplainError::Token(Shown(place.clone())))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| stranger())?;
    // Owns the sender: a server that would keep the connection is let go of once it has answered.
    let answering = async move {
        let response = sender.send_request(message).await.map_err(|_| stranger())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await.map_err(|_| stranger())?;
        let text = String::from_utf8(body.to_bytes().into()).map_err(|_| stranger())?;
        Ok::<_, ExplainError>((status, text))
    };
    let (outcome, _) = tokio::join!(answering, connection);
    let (status, text) = outcome?;
    match status {
        StatusCode::OK => Ok(text),
        StatusCode::UNAUTHORIZED => Err(ExplainError::Token(Shown(place.clone()))),
        _ => {
            Err(serde_json::from_str(&text)
                .map_or_else(|_| stranger(), |Failure { error }| ExplainError::Refused(error)))
        }
    }
}

fn read_token(file: &Path) -> Result<String, ExplainError> {
    let text = std::fs::read_to_string(file);
    text.map(|text| text.trim().to_owned()).map_err(|source| ExplainError::TokenFile { file: file.into(), source })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::*;
    use crate::admin::held::Flushed;
    use crate::admin::{Admin, Asked, CacheAnswer, ExplainRefused, Handles, Reached, Settings, Vitals, explained};
    use crate::identity::scratch::Scratch;
    use crate::reply::Why;
    use crate::shutdown::Stop;

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
            doors: Vec::new(),
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
        };
        let admin = Admin::bind(&settings).unwrap();
        let places = admin.addresses();
        let (_stop, drain) = Stop::new();
        tokio::spawn(admin.serve(handles(), drain));
        let request = ExplainRequest::parse("name=A.example&type=65400&from=2001:db8::1").unwrap();
        for place in &places {
            let json = ask(place, Some(&token), &request).await.unwrap();
            let road = read(place, &json).unwrap();
            assert_eq!((road.question.as_str(), road.client), ("A.example. TYPE65400 IN", request.from.unwrap()));
            assert!(matches!(ask(place, None, &request).await, Err(ExplainError::Token(_))));
            let elsewhere = ExplainRequest { door: Some(crate::peer::Transport::Doq), ..request.clone() };
            let message = ask(place, Some(&token), &elsewhere).await.unwrap_err().to_string();
            assert!(message.contains("no such door"), "{message}");
        }
    }

    #[tokio::test]
    async fn gateway_that_does_not_run_is_said_with_what_to_do() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let place = Place::Address(free.local_addr().unwrap());
        drop(free);
        let request = ExplainRequest::parse("name=a.example").unwrap();
        let message = ask(&place, None, &request).await.unwrap_err().to_string();
        assert!(message.contains("hushgate serve") && message.contains("--admin"), "{message}");
    }
}
