//! Who asks behind a web server: `X-Forwarded-For`, or `Forwarded` (RFC 7239), of a request from one that is believed.
//!
//! Each hop writes the address it was asked from at the end, and what stood there before is the client's own to invent. So the
//! chain is read from its end, as far as the hops are believed, and the first address that is not one of theirs asks. A chain that
//! is broken up to there names nobody, and the request is refused: the web server's own rights are not its clients'.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};

use crate::guard::ForwardedHeader;

/// The header does not tell who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unnamed;

/// The client that the end of the chain in `header` names; `None` where there is no chain.
///
/// # Errors
/// [`Unnamed`].
pub fn client(
    headers: &HeaderMap,
    header: ForwardedHeader,
    is_believed: impl Fn(IpAddr) -> bool,
) -> Result<Option<IpAddr>, Unnamed> {
    let name = match header {
        ForwardedHeader::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
        ForwardedHeader::Forwarded => http::header::FORWARDED,
    };
    let mut hops = Vec::new();
    let mut is_there = false;
    for value in headers.get_all(name) {
        is_there = true;
        let text = value.to_str().map_err(|_| Unnamed)?;
        match header {
            ForwardedHeader::XForwardedFor => listed(text, &mut hops)?,
            ForwardedHeader::Forwarded => elements(text, &mut hops)?,
        }
    }
    if !is_there {
        return Ok(None);
    }
    let mut first = None;
    for hop in hops.into_iter().rev() {
        let address = hop.ok_or(Unnamed)?;
        first = Some(address);
        if !is_believed(address) {
            break;
        }
    }
    // Where every hop is believed, the first of them is who asks.
    first.ok_or(Unnamed).map(Some)
}

/// A hop's address, or that it tells none.
type Hop = Option<IpAddr>;

/// Appends a hop, if there is room for it.
fn push(hops: &mut Vec<Hop>, hop: Hop) -> Result<(), Unnamed> {
    if hops.len() == MOST_HOPS {
        return Err(Unnamed);
    }
    hops.push(hop);
    Ok(())
}

/// Appends the hops of one `X-Forwarded-For`.
fn listed(text: &str, hops: &mut Vec<Hop>) -> Result<(), Unnamed> {
    let items = text.split(',').map(|item| item.trim_matches(BLANK)).filter(|item| !item.is_empty());
    for item in items {
        push(hops, address(item))?;
    }
    Ok(())
}

/// Appends the hops of one `Forwarded`: elements between commas, their parameters between semicolons (RFC 7239 4).
fn elements(text: &str, hops: &mut Vec<Hop>) -> Result<(), Unnamed> {
    let mut rest = text.trim_matches(BLANK);
    let mut element = Element::default();
    while !rest.is_empty() {
        let stop = rest.find([',', ';', '=']).unwrap_or(rest.len());
        let (name, after) = rest.split_at_checked(stop).ok_or(Unnamed)?;
        let name = name.trim_matches(BLANK);
        rest = match after.strip_prefix('=') {
            Some(after) => {
                let (value, after) = value(after)?;
                element.add(name, value)?;
                after.trim_start_matches(BLANK)
            }
            None if name.is_empty() => after,
            None => return Err(Unnamed),
        };
        if let Some(after) = rest.strip_prefix(',') {
            element.end(hops)?;
            rest = after;
        } else if let Some(after) = rest.strip_prefix(';') {
            rest = after;
        } else if !rest.is_empty() {
            return Err(Unnamed);
        }
    }
    element.end(hops)
}

/// One element of `Forwarded` as far as it has been read.
#[derive(Default)]
struct Element<'t> {
    is_begun: bool,
    client: Option<&'t str>,
}

impl<'t> Element<'t> {
    /// Takes a parameter; each may be there once (RFC 7239 4), and only `for` matters here.
    fn add(&mut self, name: &str, value: &'t str) -> Result<(), Unnamed> {
        self.is_begun = true;
        if !name.eq_ignore_ascii_case("for") {
            return Ok(());
        }
        if self.client.replace(value).is_some() { Err(Unnamed) } else { Ok(()) }
    }

    /// Appends its hop and begins the next one.
    fn end(&mut self, hops: &mut Vec<Hop>) -> Result<(), Unnamed> {
        let Self { is_begun, client } = std::mem::take(self);
        if is_begun { push(hops, client.and_then(address)) } else { Ok(()) }
    }
}

/// A parameter's value, and what follows it. Nothing that an address is written with needs a backslash, so that what is quoted ends
/// at the next quote or is of no use.
fn value(text: &str) -> Result<(&str, &str), Unnamed> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (value, after) = quoted.split_once('"').ok_or(Unnamed)?;
        return if value.contains('\\') { Err(Unnamed) } else { Ok((value, after)) };
    }
    let stop = text.find([',', ';', '"']).unwrap_or(text.len());
    let (value, after) = text.split_at_checked(stop).ok_or(Unnamed)?;
    Ok((value.trim_end_matches(BLANK), after))
}

/// An address, bare or in brackets, with or without a port; `None` for `unknown`, names and whatever else.
fn address(node: &str) -> Hop {
    let bare = || node.parse::<IpAddr>().ok();
    let with_port = || node.parse::<SocketAddr>().ok().map(|address| address.ip());
    let bracketed = || node.strip_prefix('[')?.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6);
    bare().or_else(with_port).or_else(bracketed).map(|address| address.to_canonical())
}

/// Optional white space (RFC 9110 5.6.3).
const BLANK: [char; 2] = [' ', '\t'];

/// Hops of a chain; a longer one is nobody's but an attacker's.
const MOST_HOPS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(header: ForwardedHeader, name: &'static str, values: &[&str]) -> Result<Option<String>, Unnamed> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let believed = |hop: IpAddr| hop.is_loopback() || hop.to_string().starts_with("10.");
        client(&headers, header, believed).map(|found| found.map(|address| address.to_string()))
    }

    fn listed(values: &[&str]) -> Result<Option<String>, Unnamed> {
        asked(ForwardedHeader::XForwardedFor, "x-forwarded-for", values)
    }

    fn elements(values: &[&str]) -> Result<Option<String>, Unnamed> {
        asked(ForwardedHeader::Forwarded, "forwarded", values)
    }

    #[test]
    fn doh_32_the_right_most_hop_that_is_no_proxy_asks_whatever_stands_left_of_it() {
        for (values, client) in [
            (&["192.0.2.1"][..], "192.0.2.1"),
            (&["192.0.2.66, 192.0.2.1"], "192.0.2.1"),
            (&["127.0.0.1, 192.0.2.1, 10.0.0.1"], "192.0.2.1"),
            (&["nonsense,,unknown, 2001:db8::1 ,10.0.0.1,"], "2001:db8::1"),
            (&["192.0.2.66", "192.0.2.1", "10.0.0.1, 10.0.0.2"], "192.0.2.1"),
            (&["192.0.2.1:4711"], "192.0.2.1"),
            (&["[2001:db8::1]:4711"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["::ffff:192.0.2.1"], "192.0.2.1"),
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ] {
            assert_eq!(listed(values), Ok(Some(client.into())), "{values:?}");
        }
        assert_eq!(listed(&[]), Ok(None));
    }

    #[test]
    fn doh_32_forwarded_is_read_with_its_quotes_ports_and_other_parameters() {
        for (values, client) in [
            (&["for=192.0.2.60;proto=http;by=203.0.113.43"][..], "192.0.2.60"),
            (&["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
            (&["for=192.0.2.66, for=192.0.2.43"], "192.0.2.43"),
            (&["for=unknown, for=192.0.2.43 ; by=\"a,b;c=d\" ,\tfor=10.1.1.1"], "192.0.2.43"),
            (&["for=_hidden", "for=192.0.2.43", "for=10.0.0.1"], "192.0.2.43"),
            (&["proto=https;for=\"192.0.2.1:_obf\", for=\"192.0.2.2:80\""], "192.0.2.2"),
            (&[", for=192.0.2.1,"], "192.0.2.1"),
        ] {
            assert_eq!(elements(values), Ok(Some(client.into())), "{values:?}");
        }
        assert_eq!(elements(&[]), Ok(None));
    }

    #[test]
    fn doh_32_a_chain_that_does_not_tell_names_nobody() {
        for value in
            ["", ",", "unknown", "192.0.2.1, unix:", "192.0.2.1 192.0.2.2", "host.example", "fe80::1%eth0", "ä"]
        {
            assert_eq!(listed(&[value]), Err(Unnamed), "{value}");
        }
        for value in [
            "",
            "for=unknown",
            "for=_secret",
            "by=192.0.2.1",
            "for=192.0.2.1, by=10.0.0.1",
            "for=192.0.2.1;for=192.0.2.2",
            "192.0.2.1",
            "for=\"192.0.2.1",
            "for=\"192.0.2.1\"x",
            "for=\"192\\.0.2.1\"",
            // A quote that a client leaves open must not swallow what a proxy writes after it.
            "for=\"192.0.2.66, for=\"[2001:db8::1]\"",
            "for=192.0.2.66;x=\", for=192.0.2.1",
        ] {
            assert_eq!(elements(&[value]), Err(Unnamed), "{value}");
        }
        let chain = |hops| vec!["10.0.0.1"; hops].join(",");
        assert_eq!(listed(&[&chain(MOST_HOPS + 1)]), Err(Unnamed));
        assert_eq!(listed(&[&chain(MOST_HOPS)]), Ok(Some("10.0.0.1".into())));
    }
}
