//! `hushgate query`: asks any server over any transport, with the client code that the gateway itself asks its upstreams with.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::crypto::aws_lc_rs;
use tokio::runtime::Handle;

use super::handshake::{FLAGS, Shown, explain};
use crate::presentation;
use crate::trail::{Attempts, UpstreamId};
use crate::upstream::address::AddressError;
use crate::upstream::commons::Commons;
use crate::upstream::delivery::{Delivered, Facts, Window};
use crate::upstream::doh::Version;
use crate::upstream::error::Cause;
use crate::upstream::http::Cover;
use crate::upstream::kept::Home;
use crate::upstream::proof::{Proof, TlsFault};
use crate::upstream::server::{BuildError, Upstream};
use crate::upstream::settings::Method;
use crate::upstream::{Ask, Server};
use crate::wire::name;

mod args;
mod render;

pub use args::{Args, run};
pub use render::{cipher_name, rcode_name, version_name};

/// A question for a server.
#[derive(Clone, Debug)]
pub struct Question {
    /// An upstream URL; also `https+h1://` for HTTP/1.1, and `http://` and `http+h2://` for DoH without TLS behind a proxy.
    pub url: String,
    /// The name to ask for.
    pub name: String,
    /// The type: a name (`AAAA`) or `TYPE28`.
    pub rtype: String,
    /// Where the URL's host is, instead of a look-up.
    pub addresses: Vec<IpAddr>,
    /// Authorities to trust instead of the system's, a PEM file.
    pub ca: Option<PathBuf>,
    /// The name to verify when it is not the URL's host.
    pub tls_name: Option<String>,
    /// How a DoH server is asked.
    pub method: Method,
    /// How long to wait in all.
    pub timeout: Duration,
    /// Ask for DNSSEC records (DO).
    pub dnssec: bool,
}

/// An answer, and how it came.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The server's URL as it was given.
    pub url: String,
    /// The message.
    pub message: Bytes,
    /// From the first packet to the last, handshakes included.
    pub took: Duration,
    /// Seconds the answer spent in HTTP caches.
    pub age: u32,
    /// The connection.
    pub facts: Facts,
    /// The certificate that the server proved itself with.
    pub certificate: Option<Shown>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The URL.
    #[error("{url}: {fault}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        fault: AddressError,
    },
    /// The name.
    #[error("{0} is no domain name")]
    Name(String),
    /// The type.
    #[error("{0} is no record type: use a mnemonic such as AAAA, or TYPE and a number")]
    Type(String),
    /// The TLS settings.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The exchange.
    #[error("{url}: {}", explain(*cause, fault.as_deref(), FLAGS))]
    Exchange {
        /// Whom.
        url: String,
        /// Why.
        cause: Cause,
        /// More of it, where it was the handshake.
        fault: Option<Box<TlsFault>>,
    },
}

impl Question {
    /// A question with the defaults of the command line.
    #[must_use]
    pub fn new(url: &str, name: &str, rtype: &str) -> Self {
        Self {
            url: url.into(),
            name: name.into(),
            rtype: rtype.into(),
            addresses: Vec::new(),
            ca: None,
            tls_name: None,
            method: Method::Post,
            timeout: Duration::from_secs(4),
            dnssec: false,
        }
    }

    fn ask(&self) -> Result<Ask, QueryError> {
        let name = name::from_text(&self.name).map_err(|_| QueryError::Name(self.name.clone()))?;
        let ask = Ask::new(&name, parse_type(&self.rtype)?);
        Ok(Ask { authentic_data: true, dnssec_ok: self.dnssec, ..ask })
    }

    fn upstream(&self, home: &Home) -> Result<Upstream, QueryError> {
        let (url, http) = split_http(&self.url);
        let url = url.parse().map_err(|fault| QueryError::Url { url: self.url.clone(), fault })?;
        let server = Server {
            addresses: self.addresses.clone(),
            tls_name: self.tls_name.clone(),
            ca: self.ca.clone(),
            method: self.method,
            ..Server::new(url)
        };
        Ok(match http {
            None => Upstream::new(&server, UpstreamId::default(), home)?,
            Some((version, cover)) => Upstream::over_http(&server, version, cover, home)?,
        })
    }
}

/// Asks `question` once (a lost datagram is sent again). Must run on a tokio runtime.
///
/// # Errors
/// What is wrong with the question, or why there is no answer.
pub async fn ask(question: &Question) -> Result<Outcome, QueryError> {
    let ask = Arc::new(question.ask()?);
    let upstream = question.upstream(&Home::new(&Commons::new(Handle::current()), question.timeout))?;
    warm_up();
    let start = Instant::now();
    let window = Window { until: tokio::time::Instant::now() + question.timeout, sends: 2 };
    let outcome = upstream.attempt(&ask, window, &mut Attempts::default()).await;
    let took = start.elapsed();
    match outcome {
        Ok((Delivered { message, age, facts }, _)) => {
            let certificate = upstream.proof().and_then(Proof::certificate).as_ref().and_then(Shown::of);
            Ok(Outcome { url: question.url.clone(), message, took, age, facts, certificate })
        }
        Err(error) => {
            let fault = upstream.proof().and_then(Proof::fault).map(Box::new);
            Err(QueryError::Exchange { url: question.url.clone(), cause: error.cause, fault })
        }
    }
}

/// Seeds the generator of random numbers: its first use in a process takes longer than most answers, and is not the server's.
pub(super) fn warm_up() {
    // Where there is no randomness, the exchange fails by itself.
    let _ = aws_lc_rs::default_provider().secure_random.fill(&mut [0]);
}

/// Reads `AAAA`, `aaaa` or `TYPE28`.
fn parse_type(text: &str) -> Result<u16, QueryError> {
    presentation::type_number(text).ok_or_else(|| QueryError::Type(text.into()))
}

/// The URL as an upstream's, and which HTTP it names beyond what an upstream's can.
fn split_http(url: &str) -> (String, Option<(Version, Cover)>) {
    let forms = [
        ("https+h1://", Version::Http1, Cover::Tls),
        ("http+h2://", Version::Http2, Cover::Clear),
        ("http://", Version::Http1, Cover::Clear),
    ];
    for (prefix, version, cover) in forms {
        let Some(rest) = url.strip_prefix(prefix) else { continue };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let has_port = authority.rsplit_once(':').is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'));
        let port = if cover == Cover::Clear && !has_port { ":80" } else { "" };
        return (format!("https://{authority}{port}{path}"), Some((version, cover)));
    }
    (url.into(), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::testing::{
        Authority, Handler, Respond, dns_response, https_server, listener, quic_server, refusing, reply, serve_doq,
        serve_h3, serve_http, serve_stream, tcp_server, tls_server, udp_server,
    };

    #[test]
    fn types_are_read_by_name_and_number() {
        for (text, number) in [("A", 1), ("aaaa", 28), ("TYPE65", 65), ("HTTPS", 65), ("resinfo", 261), ("type0", 0)] {
            assert_eq!(parse_type(text).unwrap(), number, "{text}");
        }
        assert!(parse_type("BOGUS").is_err());
        assert!(parse_type("TYPE65536").is_err());
    }

    #[test]
    fn http_forms_become_upstream_urls() {
        assert_eq!(split_http("tls://a.example"), ("tls://a.example".into(), None));
        let clear = Some((Version::Http1, Cover::Clear));
        assert_eq!(split_http("http://[::1]/q"), ("https://[::1]:80/q".into(), clear));
        assert_eq!(split_http("http://127.0.0.1:8080"), ("https://127.0.0.1:8080".into(), clear));
        let old = Some((Version::Http1, Cover::Tls));
        assert_eq!(split_http("https+h1://a.example/q"), ("https://a.example/q".into(), old));
    }

    #[tokio::test]
    async fn mistakes_are_told_before_anything_is_sent() {
        let tell = async |url: &str, name: &str| ask(&Question::new(url, name, "A")).await.unwrap_err().to_string();
        assert!(tell("dns.example", "a").await.starts_with("dns.example: must start with one of"));
        assert_eq!(tell("udp://127.0.0.1", "a..b").await, "a..b is no domain name");
    }

    /// Asks `url` with the authority's trust and answers what `json` says of it.
    async fn asked(authority: &Authority, url: String) -> serde_json::Value {
        let question = Question { ca: Some(authority.file.clone()), ..Question::new(&url, "a.example", "AAAA") };
        ask(&question).await.unwrap().json()
    }

    #[tokio::test]
    async fn one_client_speaks_all_seven_transports() {
        let authority = Authority::new();
        let dns: Respond = |query| reply(query, 0);
        let http: Handler = |_, body| dns_response(reply(body, 0));
        let identity = |alpn: &[&str]| authority.identity(&["127.0.0.1"], alpn).0;
        let (udp, _) = udp_server(dns).await;
        let tcp = tcp_server(dns).await;
        let dot = tls_server(identity(&["dot"]), move |stream| serve_stream(stream, dns)).await;
        let doh = https_server(identity(&["h2", "http/1.1"]), http).await;
        let doh3 = quic_server(identity(&["h3"]), move |connection| serve_h3(connection, http));
        let doq = quic_server(identity(&["doq"]), move |connection| serve_doq(connection, dns));
        for (url, transport, alpn) in [
            (format!("udp://{udp}"), "udp", None),
            (format!("tcp://{tcp}"), "tcp", None),
            (format!("tls://{dot}"), "dot", Some("dot")),
            (format!("https+h1://{doh}"), "doh1", Some("http/1.1")),
            (format!("https://{doh}"), "doh2", Some("h2")),
            (format!("h3://{doh3}"), "doh3", Some("h3")),
            (format!("quic://{doq}"), "doq", Some("doq")),
        ] {
            let json = asked(&authority, url).await;
            assert_eq!((&json["transport"], &json["rcode"]), (&transport.into(), &"NOERROR".into()));
            assert_eq!(json["tls"]["alpn"].as_str(), alpn, "{transport}");
            assert_eq!(json["question"]["type"], "AAAA");
        }
    }

    #[tokio::test]
    async fn http_without_tls_is_asked_in_both_versions() {
        let http: Handler = |request, body| {
            assert_eq!(request.uri().path(), "/q");
            dns_response(reply(body, 0))
        };
        for (url, old, transport) in [("http://", Version::Http1, "doh1"), ("http+h2://", Version::Http2, "doh2")] {
            let (listener, address) = listener().await;
            tokio::spawn(async move {
                let (stream, _) = listener.accept().await.unwrap();
                serve_http(stream, old, http).await;
            });
            let outcome = ask(&Question::new(&format!("{url}{address}/q"), "a.example", "A")).await.unwrap();
            assert_eq!(outcome.json()["transport"], transport);
            assert!(outcome.facts.secured.is_none());
        }
    }

    #[tokio::test]
    async fn a_failure_says_whom_and_why() {
        let (_held, address) = refusing();
        let error = ask(&Question::new(&format!("tcp://{address}"), "a.example", "A")).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("tcp://{address}: cannot connect: nothing listens there, or a firewall is between")
        );
    }
}
