//! What each path of the admin listener answers.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::entry::{self, Denial, HostRule, Token};
use super::held::BadCacheRequest;
use super::readiness::{Patience, Readiness, Wanted};
use super::{CacheRequest, ExplainRefused, ExplainRequest, Handles, Trial, page};
use crate::shutdown::Drain;
use crate::telemetry::{Gauges, UpstreamFacts, metrics};

/// How much a socket serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Everything.
    Full,
    /// Health and metrics.
    Probes,
}

/// What answering needs, shared by the connections of one socket.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) role: Role,
    pub(super) hosts: HostRule,
    pub(super) token: Option<Token>,
    pub(super) handles: Handles,
    pub(super) patience: Patience,
    pub(super) drain: Drain,
}

pub(super) type Answer = Response<Full<Bytes>>;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// The paths there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Alive,
    Ready,
    Metrics,
    Explain,
    Upstreams,
    Cache,
    Entries,
    Flush,
    Reload,
    Config,
    Page,
}

impl Path {
    /// What only tells is read; what does something is posted.
    const fn is_posted(self) -> bool {
        match self {
            Self::Flush | Self::Reload => true,
            Self::Alive
            | Self::Ready
            | Self::Metrics
            | Self::Explain
            | Self::Upstreams
            | Self::Cache
            | Self::Entries
            | Self::Config
            | Self::Page => false,
        }
    }

    fn understands(self, method: &Method) -> bool {
        if self.is_posted() { *method == Method::POST } else { matches!(*method, Method::GET | Method::HEAD) }
    }

    fn other_method(self) -> Answer {
        let (allowed, text) = if self.is_posted() {
            ("POST", "only POST is understood here\n")
        } else {
            ("GET, HEAD", "only GET is understood here\n")
        };
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, text);
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        answer
    }
}

impl Desk {
    /// Answers one request. Its body, if any, is not read.
    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Answer {
        if let Err(denial) = entry::admit(request, &self.hosts, self.token.as_ref()) {
            return denied(denial);
        }
        let Some(path) = self.path(request.uri().path()) else {
            return plain(StatusCode::NOT_FOUND, "no such page here\n");
        };
        if !path.understands(request.method()) {
            return path.other_method();
        }
        if path.is_posted() && !entry::is_deliberate(request) {
            return denied(Denial::Simple);
        }
        let query = request.uri().query().unwrap_or_default();
        match path {
            Path::Alive => plain(StatusCode::OK, "ok\n"),
            Path::Ready => self.ready(query),
            Path::Metrics => {
                made(StatusCode::OK, metrics::MEDIA_TYPE, metrics::encode(&self.handles.counters, self.gauges()))
            }
            Path::Upstreams => json(StatusCode::OK, &Upstreams { upstreams: (self.handles.gauges)().upstreams }),
            Path::Explain => self.explain(query).await,
            Path::Cache => self.cache(Ok(CacheRequest::Stats)).await,
            Path::Entries => self.cache(CacheRequest::show(query)).await,
            Path::Flush => self.cache(CacheRequest::flush(query)).await,
            Path::Reload => self.reload(query).await,
            Path::Config => json(StatusCode::OK, &(self.handles.keys)()),
            Path::Page => {
                let judged = self.judge(Wanted::Service);
                made(StatusCode::OK, HTML, page::render(&self.handles, &self.gauges(), &judged))
            }
        }
    }

    fn path(&self, path: &str) -> Option<Path> {
        match (path, self.role) {
            ("/healthz", _) => Some(Path::Alive),
            ("/readyz", _) => Some(Path::Ready),
            ("/metrics", _) => Some(Path::Metrics),
            ("/api/explain", Role::Full) => Some(Path::Explain),
            ("/api/upstreams", Role::Full) => Some(Path::Upstreams),
            ("/api/cache", Role::Full) => Some(Path::Cache),
            ("/api/cache/entries", Role::Full) => Some(Path::Entries),
            ("/api/cache/flush", Role::Full) => Some(Path::Flush),
            ("/api/reload", Role::Full) => Some(Path::Reload),
            ("/api/config", Role::Full) => Some(Path::Config),
            ("/", Role::Full) => Some(Path::Page),
            _ => None,
        }
    }

    fn judge(&self, wanted: Wanted) -> Readiness {
        let mut vitals = (self.handles.vitals)();
        vitals.stopping |= self.drain.is_wanted();
        self.patience.judge(vitals, wanted)
    }

    fn gauges(&self) -> Gauges {
        Gauges { ready: self.judge(Wanted::Service).ready, ..(self.handles.gauges)() }
    }

    fn ready(&self, query: &str) -> Answer {
        let wanted = match query {
            "" => Wanted::Service,
            "upstream" => Wanted::Upstream,
            _ => return plain(StatusCode::BAD_REQUEST, "only /readyz and /readyz?upstream are known\n"),
        };
        let judged = self.judge(wanted);
        json(if judged.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &judged)
    }

    async fn cache(&self, request: Result<CacheRequest, BadCacheRequest>) -> Answer {
        match request {
            Ok(request) => json(StatusCode::OK, &(self.handles.cache)(request).await),
            Err(fault) => failed(StatusCode::BAD_REQUEST, &fault),
        }
    }

    /// What could not be put in force is no error of whoever asks: the answer says why.
    async fn reload(&self, query: &str) -> Answer {
        let trial = match query {
            "" => Trial::No,
            "dry_run=1" => Trial::Yes,
            _ => return plain(StatusCode::BAD_REQUEST, "only /api/reload and /api/reload?dry_run=1 are known\n"),
        };
        match (self.handles.reload)(trial).await {
            Some(reloaded) => json(StatusCode::OK, &reloaded),
            None => plain(StatusCode::SERVICE_UNAVAILABLE, "the reload was lost: see the log\n"),
        }
    }

    async fn explain(&self, query: &str) -> Answer {
        let request = match ExplainRequest::parse(query) {
            Ok(request) => request,
            Err(fault) => return failed(StatusCode::BAD_REQUEST, &fault),
        };
        match (self.handles.explain)(request).await {
            Ok(explained) => json(StatusCode::OK, &explained),
            Err(refused @ ExplainRefused::NoSuchDoor) => failed(StatusCode::BAD_REQUEST, &refused),
            Err(refused @ ExplainRefused::Busy) => failed(StatusCode::SERVICE_UNAVAILABLE, &refused),
        }
    }
}

fn denied(denial: Denial) -> Answer {
    match denial {
        Denial::Host => plain(StatusCode::FORBIDDEN, "ask by localhost or by an address this gateway listens on\n"),
        Denial::Origin => plain(StatusCode::FORBIDDEN, "not from another site's page\n"),
        Denial::Simple => plain(
            StatusCode::FORBIDDEN,
            "say Content-Type: application/json, so that it is known that no other site's page asks for this\n",
        ),
        Denial::Token => {
            let mut answer = plain(StatusCode::UNAUTHORIZED, "send the token of admin.token_file as a bearer token\n");
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            answer
        }
    }
}

/// What `/api/upstreams` answers.
#[derive(Serialize)]
struct Upstreams {
    upstreams: Vec<UpstreamFacts>,
}

/// What an error looks like in JSON.
#[derive(Serialize)]
struct Failure {
    error: String,
}

fn failed(status: StatusCode, error: &dyn std::error::Error) -> Answer {
    json(status, &Failure { error: error.to_string() })
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_string_pretty(value) {
        Ok(text) => made(status, JSON, text + "\n"),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written as JSON\n"),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    made(status, TEXT, text)
}

fn made(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers: [(HeaderName, &'static str); 5] = [
        (CONTENT_TYPE, media_type),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
        ),
    ];
    for (name, value) in headers {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}
