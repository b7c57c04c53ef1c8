//! A DNS question as an HTTP request, and the DNS answer out of its response (RFC 8484), whatever HTTP carries them.
//!
//! No cookies, no user agent, no redirects: nothing but the question goes out (DOH-28), and only a success of the right media
//! type is read as DNS (DOH-27).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, StatusCode, Uri};

use super::Ask;
use super::address::{Address, Host};
use super::ask::Leg;
use super::error::Cause;
use super::settings::Method;

const DNS_MESSAGE: &str = "application/dns-message";

/// Where a DoH server's requests go, and how.
#[derive(Clone, Debug)]
pub struct Target {
    base: Uri,
    path: Box<str>,
    method: Method,
}

/// Whether there is TLS around HTTP: cleartext exists for tests of doors behind a proxy (DOH-17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cover {
    /// `https`.
    Tls,
    /// `http`.
    Clear,
}

impl Target {
    /// The target of `url`.
    ///
    /// # Errors
    /// A path that HTTP does not allow.
    pub fn new(url: &Address, method: Method, cover: Cover) -> Result<Self, http::Error> {
        let (scheme, port) = match cover {
            Cover::Tls => ("https", 443),
            Cover::Clear => ("http", 80),
        };
        let host = match &url.host {
            Host::Address(std::net::IpAddr::V6(v6)) => format!("[{v6}]"),
            Host::Address(v4) => v4.to_string(),
            Host::Name(name) => name.to_string(),
        };
        let authority = if url.port == port { host } else { format!("{host}:{}", url.port) };
        let base = Uri::builder().scheme(scheme).authority(authority).path_and_query(url.path.as_ref()).build()?;
        Ok(Self { base, path: url.path.clone(), method })
    }

    /// The request that asks `ask`, id 0 so that HTTP caches see equal questions as equal (RFC 8484 4.1), and its body.
    ///
    /// # Errors
    /// [`Cause::Malformed`] where a GET would be no URI.
    pub fn request(&self, ask: &Ask) -> Result<(Request<()>, Bytes), Cause> {
        let mut message = BytesMut::with_capacity(512);
        ask.compose(Leg { id: 0, encrypted: true, ..Leg::default() }, &mut message);
        let request = match self.method {
            Method::Post => {
                Request::post(self.uri(None)?).header(CONTENT_TYPE, DNS_MESSAGE).header(CONTENT_LENGTH, message.len())
            }
            Method::Get => Request::get(self.uri(Some(&message))?),
        };
        let request = request.header(ACCEPT, DNS_MESSAGE).body(()).map_err(|_| Cause::Malformed)?;
        let body = match self.method {
            Method::Post => message.freeze(),
            Method::Get => Bytes::new(),
        };
        Ok((request, body))
    }

    fn uri(&self, message: Option<&[u8]>) -> Result<Uri, Cause> {
        let Some(message) = message else { return Ok(self.base.clone()) };
        let join = if self.path.contains('?') { '&' } else { '?' };
        let path = format!("{}{join}dns={}", self.path, URL_SAFE_NO_PAD.encode(message));
        let mut parts = self.base.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(path).map_err(|_| Cause::Malformed)?);
        Uri::from_parts(parts).map_err(|_| Cause::Malformed)
    }
}

/// Judges the head of a response and answers the seconds it has aged in caches (DOH-26).
///
/// # Errors
/// [`Cause::Malformed`] unless it is a success that carries a DNS message.
pub fn check_head(status: StatusCode, headers: &HeaderMap) -> Result<u32, Cause> {
    let media = headers.get(CONTENT_TYPE).and_then(media_type).unwrap_or_default();
    // We accept no coding, so that a body never grows under our hands.
    let coded = headers.get_all(CONTENT_ENCODING).iter().any(|coding| coding != "identity");
    if !status.is_success() || !media.eq_ignore_ascii_case(DNS_MESSAGE) || coded {
        return Err(Cause::Malformed);
    }
    Ok(headers.get(AGE).map_or(0, age))
}

/// Judges the length of a body that no layer below has judged (RFC 9114 4.1.2).
///
/// # Errors
/// [`Cause::Malformed`] where the response said another.
pub fn check_length(headers: &HeaderMap, length: usize) -> Result<(), Cause> {
    let said = |value: &HeaderValue| value.to_str().ok().and_then(|text| text.parse().ok()) == Some(length);
    if headers.get_all(CONTENT_LENGTH).iter().all(said) { Ok(()) } else { Err(Cause::Malformed) }
}

fn media_type(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()?.split(';').next().map(str::trim)
}

/// An Age that is no number is ignored; one too large for us is as old as can be (RFC 9111 1.2.2).
fn age(value: &HeaderValue) -> u32 {
    match value.to_str().map(str::trim) {
        Ok(text) if !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit()) => {
            text.parse().unwrap_or(u32::MAX)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(content_type: &str, age: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        headers.insert(AGE, age.parse().unwrap());
        headers
    }

    #[test]
    fn doh_27_only_a_success_of_the_right_media_type_is_dns() {
        let good = headers("Application/DNS-Message; charset=x", "250");
        assert_eq!(check_head(StatusCode::OK, &good), Ok(250));
        assert_eq!(check_head(StatusCode::SERVICE_UNAVAILABLE, &good), Err(Cause::Malformed));
        assert_eq!(check_head(StatusCode::FOUND, &good), Err(Cause::Malformed));
        assert_eq!(check_head(StatusCode::OK, &headers("text/html", "1")), Err(Cause::Malformed));
        assert_eq!(check_head(StatusCode::OK, &HeaderMap::new()), Err(Cause::Malformed));
        let mut coded = good;
        coded.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
        assert_eq!(check_head(StatusCode::OK, &coded), Err(Cause::Malformed));
    }

    #[test]
    fn doh_26_ages_saturate_and_nonsense_is_no_age() {
        assert_eq!(check_head(StatusCode::OK, &headers(DNS_MESSAGE, "99999999999")), Ok(u32::MAX));
        assert_eq!(check_head(StatusCode::OK, &headers(DNS_MESSAGE, "-3")), Ok(0));
    }
}
