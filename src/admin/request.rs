//! What `explain` is asked: a name, a type, and on whose behalf.

use std::net::IpAddr;

use crate::peer::Transport;
use crate::presentation::{type_name, type_number};
use crate::upstream::ask::UDP_SIZE;
use crate::wire::registry::{class, rtype};
use crate::wire::{Flags, Header, OptWriter, name, patch};

/// A question to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainRequest {
    /// QNAME in wire form.
    pub name: Box<[u8]>,
    /// QTYPE.
    pub rtype: u16,
    /// The client it is asked for; the admin's own machine where none is given.
    pub from: Option<IpAddr>,
    /// The transport it is asked over; any where none is given.
    pub door: Option<Transport>,
}

/// Why a request is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// No name.
    #[error("name is missing: /api/explain?name=example.com&type=AAAA")]
    NoName,
    /// No domain name.
    #[error("name is not a domain name (IDNs must be in their xn-- form)")]
    Name,
    /// No record type.
    #[error("type is not a record type: use a mnemonic such as AAAA, or a number")]
    Type,
    /// No address.
    #[error("from is not an IP address")]
    From,
    /// No transport.
    #[error("door must be one of udp tcp dot doh1 doh2 doh3 doq (doh means doh2)")]
    Door,
    /// A parameter that means nothing.
    #[error("unknown parameter: only name, type, from and door are known")]
    Parameter,
}

impl ExplainRequest {
    /// Reads the query part of a URL.
    ///
    /// # Errors
    /// What is not understood.
    pub fn parse(query: &str) -> Result<Self, BadRequest> {
        let mut request = Self { name: Box::default(), rtype: rtype::A, from: None, door: None };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value);
            match key {
                "name" => request.name = qname(&value)?,
                "type" => request.rtype = rtype(&value).ok_or(BadRequest::Type)?,
                "from" => request.from = Some(value.parse().map_err(|_| BadRequest::From)?),
                "door" => request.door = Some(door(&value).ok_or(BadRequest::Door)?),
                _ => return Err(BadRequest::Parameter),
            }
        }
        if request.name.is_empty() { Err(BadRequest::NoName) } else { Ok(request) }
    }

    /// The same as the query part of a URL.
    #[must_use]
    pub fn to_query(&self) -> String {
        let name = name::Shown(&self.name).to_string();
        let mut query = format!("name={}&type={}", encode(&name), type_name(self.rtype));
        if let Some(from) = self.from {
            query.push_str("&from=");
            query.push_str(&encode(&from.to_string()));
        }
        if let Some(door) = self.door {
            query.push_str("&door=");
            query.push_str(door.name());
        }
        query
    }

    /// QNAME, QTYPE, QCLASS.
    #[must_use]
    pub fn question(&self) -> Vec<u8> {
        let mut question = self.name.to_vec();
        question.extend_from_slice(&self.rtype.to_be_bytes());
        question.extend_from_slice(&class::IN.to_be_bytes());
        question
    }

    /// The message that a client would send: RD, class IN, an OPT record without options.
    #[must_use]
    pub fn to_message(&self) -> Vec<u8> {
        let header = Header { flags: Flags(Flags::RD), questions: 1, ..Header::default() };
        let mut message = header.to_octets().to_vec();
        message.extend_from_slice(&self.question());
        OptWriter::start(&mut message, UDP_SIZE, 0, false).finish();
        patch::add_additional(&mut message);
        message
    }
}

/// A domain name as people type it, in wire form.
///
/// # Errors
/// It is none.
pub fn qname(text: &str) -> Result<Box<[u8]>, BadRequest> {
    // The wire would carry any octet, but a name typed in Unicode means its xn-- form, and would be looked up in vain.
    if text.is_empty() || !text.is_ascii() {
        return Err(BadRequest::Name);
    }
    name::from_text(text).map(Into::into).map_err(|_| BadRequest::Name)
}

/// A record type by mnemonic, `TYPE65` (RFC 3597) or number.
#[must_use]
pub fn rtype(text: &str) -> Option<u16> {
    type_number(text).or_else(|| text.parse().ok())
}

/// A transport by name.
#[must_use]
pub fn door(text: &str) -> Option<Transport> {
    match text {
        "dns" => Some(Transport::Udp),
        "doh" => Some(Transport::Doh2),
        other => Transport::ALL.into_iter().find(|transport| transport.name() == other),
    }
}

/// Undoes percent-encoding; what is no such code stands for itself.
pub(super) fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&octet, tail)) = rest.split_first() {
        let code = tail
            .first_chunk::<2>()
            .filter(|_| octet == b'%')
            .and_then(|code| std::str::from_utf8(code).ok().and_then(|code| u8::from_str_radix(code, 16).ok()));
        out.push(code.unwrap_or(octet));
        let taken = if code.is_some() { 2 } else { 0 };
        rest = tail.get(taken..).unwrap_or_default();
    }
    String::from_utf8_lossy(&out).into_owned()
}

pub(super) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(octet));
        } else {
            let _ = write!(out, "%{octet:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Parsed;

    #[test]
    fn request_survives_the_way_through_a_url() {
        for (name, rtype) in [("Example.COM", 28), ("a\\.b%.\\000\\255&=.example.", 65400), (".", 2)] {
            let request = ExplainRequest {
                name: qname(name).unwrap(),
                rtype,
                from: Some("2001:db8::1".parse().unwrap()),
                door: Some(Transport::Doq),
            };
            assert_eq!(ExplainRequest::parse(&request.to_query()).unwrap(), request);
        }
    }

    #[test]
    fn defaults_are_type_a_from_nowhere_special() {
        let request = ExplainRequest::parse("name=example.com").unwrap();
        assert_eq!((request.rtype, request.from, request.door), (1, None, None));
        assert_eq!(ExplainRequest::parse("name=a&type=type65&door=doh").unwrap().door, Some(Transport::Doh2));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (query, fault) in [
            ("", BadRequest::NoName),
            ("name=", BadRequest::Name),
            ("name=a..b", BadRequest::Name),
            ("name=b%C3%BCcher.example", BadRequest::Name),
            ("name=a&type=WHAT", BadRequest::Type),
            ("name=a&type=70000", BadRequest::Type),
            ("name=a&from=here", BadRequest::From),
            ("name=a&door=front", BadRequest::Door),
            ("name=a&nmae=b", BadRequest::Parameter),
        ] {
            assert_eq!(ExplainRequest::parse(query), Err(fault), "{query}");
        }
    }

    #[test]
    fn message_is_a_query_that_the_front_doors_would_take() {
        let request = ExplainRequest::parse("name=example.com&type=AAAA").unwrap();
        let parsed = Parsed::parse(&request.to_message()).unwrap();
        assert_eq!((parsed.question.unwrap().rtype, parsed.edns.unwrap().udp_size), (28, 1232));
    }
}
