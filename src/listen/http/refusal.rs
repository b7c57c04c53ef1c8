//! Requests that get no DNS reply, and how HTTP says so (RFC 9110 15.5, 15.6).

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, DATE};
use http::{HeaderValue, Response, StatusCode};

use super::json::VariableError;
use super::{QueryStringError, Shape, date};
use crate::reply::Why;

/// Why a request gets no DNS reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The path is none that DNS is answered at.
    Path,
    /// The method is registered, but of no use here.
    Method,
    /// The method is registered, but a page is only read.
    PageMethod,
    /// The method is not registered.
    UnknownMethod,
    /// HTTP/1.1 without exactly one `host` (RFC 9112 3.2).
    Host,
    /// The request target is too long.
    TargetTooLong,
    /// A GET without a usable `dns`.
    QueryString(QueryStringError),
    /// A GET with a `name` that makes no question.
    Variable(VariableError),
    /// A GET with a `name` by a client that takes no form it is answered in.
    NotAcceptable,
    /// A POST of something else than a DNS message.
    MediaType,
    /// A body longer than a DNS message can be.
    TooLarge,
    /// The body did not come in time.
    Slow,
    /// No query: under twelve octets, or a response.
    NotAQuery,
    /// The web server in front does not tell who asks.
    Unnamed,
    /// The client, or its network, may not ask here.
    Access,
    /// The client asks too much.
    Limit,
}

impl From<Why> for Refusal {
    fn from(why: Why) -> Self {
        match why {
            Why::NotAQuery => Self::NotAQuery,
            Why::Access => Self::Access,
            Why::Limit => Self::Limit,
        }
    }
}

impl Refusal {
    /// The status.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Path => StatusCode::NOT_FOUND,
            Self::Method | Self::PageMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnknownMethod => StatusCode::NOT_IMPLEMENTED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Host | Self::QueryString(_) | Self::Variable(_) | Self::NotAQuery => StatusCode::BAD_REQUEST,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::Unnamed | Self::Access => StatusCode::FORBIDDEN,
            Self::Limit => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// What would be accepted instead, for whoever reads the body.
    const fn text(self) -> &'static str {
        match self {
            Self::Path => "DNS is not answered at this path.\n",
            Self::Method | Self::UnknownMethod => "Use GET with ?dns= or ?name=, HEAD, or POST.\n",
            Self::PageMethod => "Use GET or HEAD.\n",
            Self::Host => "HTTP/1.1 needs exactly one host header.\n",
            Self::TargetTooLong => "The request target is too long; a DNS message may come as POST.\n",
            Self::QueryString(QueryStringError::Missing) => {
                "GET needs the variable dns or name: ?dns=<base64url>, or ?name=example.com&type=AAAA for JSON.\n"
            }
            Self::QueryString(QueryStringError::Encoding) => "dns must be base64url without padding.\n",
            Self::QueryString(QueryStringError::Long) => "dns is longer than a DNS message.\n",
            Self::Variable(VariableError::Name) => {
                "name must be a domain name: labels of 1 to 63 octets, IDNs as xn--.\n"
            }
            Self::Variable(VariableError::Type) => {
                "type must be a record type that can be looked up, such as AAAA, or its number; not OPT, TSIG and kin.\n"
            }
            Self::Variable(VariableError::Flag) => "cd and do must be 0, 1, false or true.\n",
            Self::Variable(VariableError::Subnet) => {
                "edns_client_subnet must be an address and its bits: 192.0.2.0/24.\n"
            }
            Self::NotAcceptable => {
                "A name is answered as application/dns-json, application/json or application/dns-message.\n"
            }
            Self::MediaType => "POST needs content-type: application/dns-message.\n",
            Self::TooLarge => "A DNS message has at most 65535 octets.\n",
            Self::Slow => "The body did not come in time.\n",
            Self::NotAQuery => "The message is not a DNS query: it needs twelve octets and QR clear.\n",
            Self::Unnamed => "The header about forwarding does not tell who asks.\n",
            Self::Access => "You may not ask here.\n",
            Self::Limit => "Too many questions; try again later.\n",
        }
    }

    /// The response that says so, never to be cached (DOH-13).
    #[must_use]
    pub fn response(self, shape: Shape) -> Response<Bytes> {
        let text = self.text();
        let mut response = Response::new(shape.body(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(DATE, date::now());
        match self {
            Self::Method => _ = headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST")),
            Self::PageMethod => _ = headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD")),
            _ => {}
        }
        response
    }
}
