//! An HTTP request, judged by its head: where its question is, or why there is none.

use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, Version};

use super::json::{self, Media};
use super::response::DNS_MESSAGE;
use super::{QueryStringError, Refusal, decode_query_string};
use crate::guard::Clients;
use crate::peer::ClientId;
use crate::wire::MAX_MESSAGE;

/// What the head of a request settles: how the response is to look, and who asks where its path says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How much of it the method asks for.
    pub part: Part,
    /// What the reply is given as.
    pub form: Form,
    /// Who asks, where a web server that is believed has told; `None`: the other end of the connection.
    pub forwarded: Option<IpAddr>,
    /// Whose token is in the path; None: whose connection it is.
    pub client: Option<ClientId>,
}

/// How much of a response the method asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// HEAD: all but the body (RFC 9110 9.3.2).
    HeadOnly,
}

/// What a reply is given as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `application/dns-message`: the only form where the question is one too.
    Message,
    /// The form that the client likes best of those that the same URL is answered in.
    Chosen(Media),
}

impl Shape {
    /// What `method` asks for.
    #[must_use]
    pub fn of(method: &Method) -> Self {
        let part = if method == Method::HEAD { Part::HeadOnly } else { Part::Whole };
        Self { part, form: Form::Message, forwarded: None, client: None }
    }

    /// `body`, if it is asked for.
    #[must_use]
    pub fn body(self, body: Bytes) -> Bytes {
        match self.part {
            Part::Whole => body,
            Part::HeadOnly => Bytes::new(),
        }
    }
}

/// Where the question of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// In the query string: it has been decoded. The reply is wanted in this form.
    Here(Form),
    /// In the body, whose announced length is this.
    InBody(Option<usize>),
}

/// Whose token ends `path`, below one of `paths`? A token of nobody's makes a path like any other that nothing is at.
#[must_use]
pub fn bearer(path: &str, paths: &[String], clients: &Clients) -> Option<ClientId> {
    let (above, token) = path.rsplit_once('/')?;
    let is_below = paths.iter().any(|path| path.trim_end_matches('/') == above);
    is_below.then(|| clients.by_token(token.as_bytes())).flatten()
}

/// Judges the head of `request`, whose path ends in the token of `bearer` if there is one; decodes the question of a GET into
/// `question`.
///
/// # Errors
/// The [`Refusal`].
pub fn judge<B>(
    request: &Request<B>,
    paths: &[String],
    bearer: Option<ClientId>,
    question: &mut BytesMut,
) -> Result<Asked, Refusal> {
    let (uri, headers) = (request.uri(), request.headers());
    if request.version() == Version::HTTP_11 && headers.get_all(HOST).iter().count() != 1 {
        return Err(Refusal::Host);
    }
    if bearer.is_none() && !paths.iter().any(|path| path == uri.path()) {
        return Err(Refusal::Path);
    }
    match *request.method() {
        Method::GET | Method::HEAD => {
            let query = uri.query().unwrap_or_default();
            if query.len() > MAX_QUERY_STRING {
                return Err(Refusal::TargetTooLong);
            }
            in_query(query, headers, question).map(Asked::Here)
        }
        Method::POST => in_body(headers),
        ref other if is_registered(other) => Err(Refusal::Method),
        _ => Err(Refusal::UnknownMethod),
    }
}

fn in_query(query: &str, headers: &HeaderMap, question: &mut BytesMut) -> Result<Form, Refusal> {
    match decode_query_string(query, question) {
        Ok(()) => Ok(Form::Message),
        Err(QueryStringError::Missing) => json::read(query, headers, question).map(Form::Chosen),
        Err(other) => Err(Refusal::QueryString(other)),
    }
}

fn in_body(headers: &HeaderMap) -> Result<Asked, Refusal> {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default();
    if !essence.trim().eq_ignore_ascii_case(DNS_MESSAGE) {
        return Err(Refusal::MediaType);
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match announced.map(usize::try_from) {
        Some(Ok(length)) if length <= MAX_MESSAGE => Ok(Asked::InBody(Some(length))),
        Some(_) => Err(Refusal::TooLarge),
        None => Ok(Asked::InBody(None)),
    }
}

/// Is `method` in the IANA registry? Then the answer is 405, else 501 (RFC 9110 15.5.6, 15.6.2).
pub(super) fn is_registered(method: &Method) -> bool {
    REGISTERED.contains(&method.as_str())
}

/// A query of this many octets of base64url has some 4600 octets: far more than any question. What is longer belongs in a POST.
const MAX_QUERY_STRING: usize = 6 * 1024;

/// HTTP Method Registry, all but those served.
const REGISTERED: [&str; 37] = [
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "PRI",
    "PROPFIND",
    "PROPPATCH",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "TRACE",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::clients;
    use crate::listen::http::QueryStringError;

    fn judged(request: http::request::Builder) -> Result<Asked, Refusal> {
        let request = request.version(Version::HTTP_2).body(()).unwrap();
        judge(&request, &["/dns-query".into(), "/other".into()], None, &mut BytesMut::new())
    }

    #[test]
    fn doh_01_get_head_and_post_are_taken_at_each_path() {
        assert_eq!(judged(Request::get("/dns-query?dns=AAAA")), Ok(Asked::Here(Form::Message)));
        assert_eq!(judged(Request::head("https://a.example/other?dns=AAAA")), Ok(Asked::Here(Form::Message)));
        let post = Request::post("/dns-query").header("content-type", "application/dns-message");
        assert_eq!(judged(post), Ok(Asked::InBody(None)));
    }

    #[test]
    fn doh_05_get_without_a_usable_dns_is_a_bad_request() {
        let missing = Err(Refusal::QueryString(QueryStringError::Missing));
        assert_eq!(judged(Request::get("/dns-query")), missing);
        assert_eq!(judged(Request::get("/dns-query?x=1")), missing);
    }

    #[test]
    fn doh_06_media_types_compare_without_case_and_parameters() {
        let post = |media_type: &str| judged(Request::post("/dns-query").header("content-type", media_type));
        for good in ["application/dns-message", "Application/DNS-Message", "application/dns-message; charset=x"] {
            assert_eq!(post(good), Ok(Asked::InBody(None)), "{good}");
        }
        for bad in ["application/dns-json", "application/dns-messages", "text/plain", ""] {
            assert_eq!(post(bad), Err(Refusal::MediaType), "{bad}");
        }
        assert_eq!(judged(Request::post("/dns-query")), Err(Refusal::MediaType));
    }

    #[test]
    fn doh_07_registered_methods_are_not_allowed_and_others_not_implemented() {
        for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "QUERY"] {
            assert_eq!(judged(Request::builder().method(method).uri("/dns-query")), Err(Refusal::Method), "{method}");
        }
        for method in ["BREW", "get", "POSTS"] {
            let request = Request::builder().method(method).uri("/dns-query");
            assert_eq!(judged(request), Err(Refusal::UnknownMethod), "{method}");
        }
        assert_eq!(
            Refusal::Method.response(Shape::of(&Method::GET)).headers().get("allow").unwrap(),
            "GET, HEAD, POST"
        );
    }

    #[test]
    fn doh_08_an_announced_body_over_65535_octets_is_refused_unread() {
        let post = |length: &str| {
            let request = Request::post("/dns-query").header("content-type", DNS_MESSAGE);
            judged(request.header("content-length", length))
        };
        assert_eq!(post("65535"), Ok(Asked::InBody(Some(65_535))));
        assert_eq!(post("65536"), Err(Refusal::TooLarge));
        assert_eq!(post("18446744073709551615"), Err(Refusal::TooLarge));
    }

    #[test]
    fn doh_09_other_paths_are_not_found_and_long_targets_too_long() {
        for path in ["/", "/dns-query/", "/DNS-QUERY", "/dns-quer", "*"] {
            assert_eq!(judged(Request::get(path)), Err(Refusal::Path), "{path}");
        }
        let long = format!("/dns-query?dns={}", "A".repeat(MAX_QUERY_STRING));
        assert_eq!(judged(Request::get(long)), Err(Refusal::TargetTooLong));
    }

    #[test]
    fn a_token_counts_as_the_last_segment_below_a_path_of_ours_and_nowhere_else() {
        const TOKEN: &str = "0123456789abcdef";
        let list = vec![clients::Client {
            name: "tablet".into(),
            credentials: vec![clients::Credential::Token(clients::TokenHash::of(TOKEN.as_bytes()))],
            allow: None,
        }];
        let known = Clients::new(clients::Settings { list, ..clients::Settings::default() });
        let bearer = |path: &str| bearer(path, &["/dns-query".into(), "/".into()], &known).is_some();
        assert!(bearer("/dns-query/0123456789abcdef") && bearer("/0123456789abcdef"));
        for path in [
            "/dns-query",
            "/dns-query/",
            "/dns-query/0123456789abcdef/",
            "/dns-query/0123456789abcdeF",
            "/dns-query//0123456789abcdef",
            "/dns-query/x/0123456789abcdef",
            "/other/0123456789abcdef",
            "0123456789abcdef",
        ] {
            assert!(!bearer(path), "{path}");
        }
    }

    #[test]
    fn doh_24_http_1_1_needs_exactly_one_host() {
        let judged = |request: http::request::Builder| {
            let request = request.version(Version::HTTP_11).uri("/dns-query?dns=AAAA").body(()).unwrap();
            judge(&request, &["/dns-query".into()], None, &mut BytesMut::new())
        };
        assert_eq!(judged(Request::builder()), Err(Refusal::Host));
        assert_eq!(judged(Request::builder().header("host", "a").header("host", "b")), Err(Refusal::Host));
        assert_eq!(judged(Request::builder().header("host", "a.example")), Ok(Asked::Here(Form::Message)));
    }
}
