//! The kinds of value a key may want: a TOML value in, a typed one out, or the sentence that says what is allowed.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::node::{Node, Value};
use super::unit;
use crate::guard::Network;
use crate::wire::name;

/// A sentence about a value: the value and what is allowed.
pub type What = String;

/// Text in quotes.
pub fn text(node: &Node) -> Result<&str, What> {
    node.text().ok_or_else(|| format!("{} must be text, in quotes", node.shown()))
}

/// `true` or `false`.
pub fn flag(node: &Node) -> Result<bool, What> {
    match node.value {
        Value::Boolean(value) => Ok(value),
        _ => Err(format!("{} must be true or false", node.shown())),
    }
}

/// A whole number in a range.
pub fn whole(range: RangeInclusive<u32>) -> impl Fn(&Node) -> Result<u32, What> {
    move |node| {
        let number = match node.value {
            Value::Integer(number) => u32::try_from(number).ok(),
            _ => None,
        };
        let allowed = || format!("{} must be a whole number from {} to {}", node.shown(), range.start(), range.end());
        number.filter(|number| range.contains(number)).ok_or_else(allowed)
    }
}

/// A share of one.
pub fn share(node: &Node) -> Result<f64, What> {
    let number = match node.value {
        Value::Float(number) => Some(number),
        Value::Integer(0) => Some(0.0),
        Value::Integer(1) => Some(1.0),
        _ => None,
    };
    number
        .filter(|number| (0.0..=1.0).contains(number))
        .ok_or_else(|| format!("{} must be a number from 0 to 1", node.shown()))
}

/// One of a few words.
pub fn choice<T: Copy>(choices: &[(&str, T)]) -> impl Fn(&Node) -> Result<T, What> {
    move |node| {
        let found = node.text().and_then(|text| choices.iter().find(|(word, _)| *word == text));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            format!("{} must be one of {}", node.shown(), words.join(", "))
        })
    }
}

/// A duration in a range.
pub fn duration(range: RangeInclusive<Duration>) -> impl Fn(&Node) -> Result<Duration, What> {
    move |node| {
        let parsed = match node.value {
            Value::Integer(0) => Some(Duration::ZERO),
            _ => node.text().and_then(unit::duration),
        };
        let Some(parsed) = parsed else {
            let example = "must be a duration like \"1500ms\", \"30s\", \"5m\", \"24h\" or \"7d\"";
            return Err(format!("{} {example}", node.shown()));
        };
        let (least, most) = (unit::show_duration(*range.start()), unit::show_duration(*range.end()));
        let allowed = || format!("{} must be from {least} to {most}", node.shown());
        Some(parsed).filter(|parsed| range.contains(parsed)).ok_or_else(allowed)
    }
}

/// A duration in whole seconds, as TTLs are counted (RFC 1035 3.2.1).
pub fn ttl(range: RangeInclusive<Duration>) -> impl Fn(&Node) -> Result<Duration, What> {
    let parse = duration(range);
    move |node| {
        let parsed = parse(node)?;
        if parsed.subsec_nanos() == 0 { Ok(parsed) } else { Err(format!("{} must be whole seconds", node.shown())) }
    }
}

/// Octets: 0, or a size in a range.
pub fn size(range: RangeInclusive<u64>) -> impl Fn(&Node) -> Result<usize, What> {
    move |node| {
        let parsed = match node.value {
            Value::Integer(0) => Some(0),
            _ => node.text().and_then(unit::size),
        };
        let parsed = parsed.ok_or_else(|| {
            format!("{} must be a size like \"512 KiB\", \"64 MiB\", \"1 GiB\" or \"0\"", node.shown())
        })?;
        let (least, most) = (unit::show_size(*range.start()), unit::show_size(*range.end()));
        let fitting = Some(parsed).filter(|&parsed| parsed == 0 || range.contains(&parsed));
        fitting
            .and_then(|parsed| usize::try_from(parsed).ok())
            .ok_or_else(|| format!("{} must be 0 or from {least} to {most}", node.shown()))
    }
}

/// `address:port`.
pub fn address(node: &Node) -> Result<SocketAddr, What> {
    parsed(node, |_| "must be an address and a port, like \"127.0.0.1:853\" or \"[::1]:853\"".to_owned())
}

/// A network or an address.
pub fn network(node: &Node) -> Result<Network, What> {
    parsed(node, |error| format!("must be a network like \"10.0.0.0/8\" or \"2001:db8::/32\": {error}"))
}

/// Text that its type can read.
pub fn parsed<T>(node: &Node, what: impl FnOnce(T::Err) -> String) -> Result<T, What>
where
    T: std::str::FromStr<Err: Display>,
{
    text(node)?.parse().map_err(|error| format!("{} {}", node.shown(), what(error)))
}

/// A domain name in its ASCII form.
pub fn domain(node: &Node) -> Result<String, What> {
    let text = text(node)?;
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.');
    let good = !text.is_empty() && text.bytes().all(plain) && name::from_text(text).is_ok();
    if good { Ok(text.to_owned()) } else { Err(format!("{} must be a domain name", node.shown())) }
}

/// A domain name or an address, as a certificate may hold.
pub fn host(node: &Node) -> Result<String, What> {
    let text = text(node)?;
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    if is_address || domain(node).is_ok() {
        return Ok(text.to_owned());
    }
    Err(format!("{} must be a domain name or an IP address", node.shown()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Origin, node};

    fn bare(text: &str) -> Node {
        node::parse_value(text, Origin::Set)
    }

    #[test]
    fn values_off_the_range_are_refused_at_both_ends_and_kept_on_them() {
        let parse = duration(Duration::from_secs(1)..=Duration::from_mins(1));
        assert_eq!(parse(&bare("1m")), Ok(Duration::from_mins(1)));
        assert_eq!(parse(&bare("1s")), Ok(Duration::from_secs(1)));
        assert_eq!(parse(&bare("999ms")).unwrap_err(), "\"999ms\" must be from 1s to 1m");
        assert_eq!(parse(&bare("61s")).unwrap_err(), "\"61s\" must be from 1s to 1m");
        assert!(parse(&bare("30")).unwrap_err().contains("a duration like"));
        assert_eq!(size(1024..=2048)(&bare("0")), Ok(0));
        assert!(size(1024..=2048)(&bare("1 B")).is_err());
        assert!(whole(1..=5)(&bare("-1")).is_err());
        assert!(ttl(Duration::ZERO..=Duration::MAX)(&bare("1500ms")).is_err());
        assert!(share(&bare("nan")).is_err());
    }

    #[test]
    fn a_bare_value_that_looks_like_a_number_is_text_where_text_is_wanted() {
        assert_eq!(choice(&[("1.2", 2), ("1.3", 3)])(&bare("1.3")), Ok(3));
    }
}
