//! Who may speak to the admin listener: no web page by way of somebody's browser, and nobody without the token where one is set.
//!
//! A page that rebinds its own name to 127.0.0.1 sends that name as `Host`; one that posts across sites sends its `Origin`.

use std::fmt;
use std::hint::black_box;
use std::net::IpAddr;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, ORIGIN};
use http::uri::Authority;
use http::{Request, Uri};

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// `Host` is no address of ours.
    Host,
    /// `Origin` is another site.
    Origin,
    /// It would change something, and any site's page could have sent it.
    Simple,
    /// The token is missing or wrong.
    Token,
}

/// How `Host` is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRule {
    /// `localhost`, a loopback address, or one of these; any address where we listen on the unspecified one: a name is what
    /// rebinding needs.
    Listening(Vec<IpAddr>),
    /// Not at all: Unix sockets, which no browser reaches, and probes, which are scraped under any name.
    Free,
}

/// The secret that callers must show.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Why text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token is at least 16 visible ASCII characters on one line; make one with `openssl rand -hex 32`")]
pub struct BadToken;

impl Token {
    /// The token in a file's text.
    ///
    /// # Errors
    /// It is too short, or could not stand in a header.
    pub fn parse(text: &str) -> Result<Self, BadToken> {
        let text = text.trim();
        let fit = text.len() >= 16 && text.bytes().all(|octet| octet.is_ascii_graphic());
        if fit { Ok(Self(text.to_owned())) } else { Err(BadToken) }
    }

    /// Is it `shown`? Takes as long for any wrong one of its length.
    fn is(&self, shown: &[u8]) -> bool {
        let differing = self.0.bytes().zip(shown).fold(0, |bits, (ours, theirs)| black_box(bits | (ours ^ theirs)));
        self.0.len() == shown.len() && differing == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Judges a request by its head.
///
/// # Errors
/// The [`Denial`].
pub fn admit<B>(request: &Request<B>, hosts: &HostRule, token: Option<&Token>) -> Result<(), Denial> {
    let headers = request.headers();
    let host = host(request.uri(), headers).ok_or(Denial::Host)?;
    let ours = match hosts {
        HostRule::Free => true,
        HostRule::Listening(addresses) => is_ours(&host, addresses),
    };
    if !ours {
        return Err(Denial::Host);
    }
    let same = |origin: &[u8]| origin.strip_prefix(b"http://").is_some_and(|rest| same_text(rest, host.as_str()));
    if !headers.get_all(ORIGIN).iter().all(|origin| same(origin.as_bytes())) {
        return Err(Denial::Origin);
    }
    if is_foreign(headers) {
        return Err(Denial::Origin);
    }
    match token {
        Some(token) if !bearer(headers).is_some_and(|shown| token.is(shown)) => Err(Denial::Token),
        Some(_) | None => Ok(()),
    }
}

/// Could only a program, or a page of our own, have sent this? What changes something must say that it is JSON: a page can say so to
/// another site only once that site has agreed (a CORS preflight), and we never do. Old browsers post forms without `Origin`.
pub fn is_deliberate<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let essence = |value: &[u8]| value.split(|&octet| octet == b';').next().unwrap_or_default().trim_ascii().to_vec();
    let is_json = headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| essence(value.as_bytes()).eq_ignore_ascii_case(b"application/json"));
    // `admit` has seen that it is the same site's.
    is_json || headers.contains_key(ORIGIN)
}

/// Does a browser say that another site's page makes this request? An image or script is fetched without Origin, and would spend
/// what `explain` spends. A person who follows a link is let through.
fn is_foreign(headers: &HeaderMap) -> bool {
    let says = |name: &str, value: &[u8]| headers.get(name).is_some_and(|said| said.as_bytes() == value);
    let ours = says("sec-fetch-site", b"same-origin") || says("sec-fetch-site", b"none");
    headers.contains_key("sec-fetch-site") && !ours && !says("sec-fetch-mode", b"navigate")
}

/// The one host that a request names; `None` where it names none, several, or different ones.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let mut named = headers.get_all(HOST).iter();
    let host: Authority = named.next()?.to_str().ok()?.parse().ok()?;
    let alone = named.next().is_none() && !host.as_str().contains('@');
    let agreed = uri.authority().is_none_or(|authority| same_text(authority.as_str().as_bytes(), host.as_str()));
    Some(host).filter(|_| alone && agreed)
}

fn is_ours(host: &Authority, listening: &[IpAddr]) -> bool {
    let name = host.host();
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    let Ok(address) = bare.parse::<IpAddr>() else { return false };
    let address = address.to_canonical();
    let matches = |ours: &IpAddr| ours.is_unspecified() || ours.to_canonical() == address;
    address.is_loopback() || listening.iter().any(matches)
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

fn same_text(left: &[u8], right: &str) -> bool {
    left.eq_ignore_ascii_case(right.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(headers: &[(&str, &str)], token: Option<&str>) -> Result<(), Denial> {
        let mut request = Request::get("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let hosts = HostRule::Listening(vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]);
        let token = token.map(|text| Token::parse(text).unwrap());
        admit(&request.body(()).unwrap(), &hosts, token.as_ref())
    }

    #[test]
    fn hosts_are_loopback_localhost_and_what_we_listen_on() {
        for host in
            ["localhost", "LOCALHOST:8054", "127.0.0.1:9", "127.9.9.9", "[::1]:8054", "192.0.2.1", "[2001:db8::1]"]
        {
            assert_eq!(judge(&[("host", host)], None), Ok(()), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "192.0.2.2", "a@localhost", "", "127.0.0.1.nip.io", "[::2]"]
        {
            assert_eq!(judge(&[("host", host)], None), Err(Denial::Host), "{host}");
        }
        assert_eq!(judge(&[], None), Err(Denial::Host));
        assert_eq!(judge(&[("host", "localhost"), ("host", "evil.example")], None), Err(Denial::Host));
    }

    #[test]
    fn unspecified_listener_takes_any_address_but_no_name() {
        let hosts = HostRule::Listening(vec!["0.0.0.0".parse().unwrap()]);
        let ask = |host: &str| admit(&Request::get("/").header("host", host).body(()).unwrap(), &hosts, None);
        assert_eq!(ask("198.51.100.7:8054"), Ok(()));
        assert_eq!(ask("gateway.example"), Err(Denial::Host));
    }

    #[test]
    fn target_in_absolute_form_must_agree_with_host() {
        let ask = Request::get("http://evil.example/").header("host", "localhost").body(()).unwrap();
        assert_eq!(admit(&ask, &HostRule::Listening(Vec::new()), None), Err(Denial::Host));
    }

    #[test]
    fn origin_is_absent_or_the_same() {
        let host = ("host", "localhost:8054");
        assert_eq!(judge(&[host, ("origin", "http://localhost:8054")], None), Ok(()));
        for origin in ["null", "http://localhost", "https://localhost:8054", "http://evil.example", ""] {
            assert_eq!(judge(&[host, ("origin", origin)], None), Err(Denial::Origin), "{origin}");
        }
    }

    #[test]
    fn another_sites_page_may_link_here_and_fetch_nothing() {
        let host = ("host", "localhost:8054");
        for site in ["same-origin", "none"] {
            assert_eq!(judge(&[host, ("sec-fetch-site", site), ("sec-fetch-mode", "no-cors")], None), Ok(()));
        }
        for site in ["cross-site", "same-site"] {
            let image = [host, ("sec-fetch-site", site), ("sec-fetch-mode", "no-cors")];
            assert_eq!(judge(&image, None), Err(Denial::Origin));
            assert_eq!(judge(&[host, ("sec-fetch-site", site), ("sec-fetch-mode", "navigate")], None), Ok(()));
        }
    }

    #[test]
    fn what_changes_something_is_json_or_from_a_page_of_our_own() {
        let ask = |name: &str, value: &str| is_deliberate(&Request::post("/").header(name, value).body(()).unwrap());
        assert!(ask("content-type", "application/json") && ask("content-type", "Application/JSON; charset=utf-8"));
        assert!(ask("origin", "http://localhost"), "which `admit` has compared");
        for form in
            ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain;application/json"]
        {
            assert!(!ask("content-type", form), "{form}");
        }
        assert!(!ask("accept", "application/json"));
    }

    #[test]
    fn token_is_needed_whole() {
        let (host, secret) = (("host", "localhost"), "0123456789abcdef");
        assert_eq!(judge(&[host, ("authorization", "Bearer 0123456789abcdef")], Some(secret)), Ok(()));
        assert_eq!(judge(&[host, ("authorization", "bearer 0123456789abcdef")], Some(secret)), Ok(()));
        assert_eq!(judge(&[host], Some(secret)), Err(Denial::Token));
        for wrong in [
            "Bearer ",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdeg",
            "Bearer 0123456789abcdef0",
            "Basic x",
            "Bé",
        ] {
            assert_eq!(judge(&[host, ("authorization", wrong)], Some(secret)), Err(Denial::Token), "{wrong}");
        }
    }

    #[test]
    fn short_and_odd_tokens_are_no_tokens() {
        for text in ["", "short", "0123456789abcdef with space", "0123456789abcdef\nsecond line"] {
            assert_eq!(Token::parse(text), Err(BadToken), "{text}");
        }
        assert!(!format!("{:?}", Token::parse("0123456789abcdef\n").unwrap()).contains("0123"));
    }
}
