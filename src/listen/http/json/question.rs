//! The variables of a question, and the wire query they make.

use std::borrow::Cow;

use bytes::{BufMut as _, BytesMut};

use crate::presentation;
use crate::wire::registry::{class, option, rtype};
use crate::wire::{Flags, Header, OptWriter, Subnet, name};

/// Why variables make no question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// `name` is no domain name.
    #[error("the variable name is no domain name")]
    Name,
    /// `type` is no record type that can be asked for.
    #[error("the variable type is no record type that can be asked for")]
    Type,
    /// `cd` or `do` is no truth value.
    #[error("the variable cd or do is no truth value")]
    Flag,
    /// `edns_client_subnet` is no network.
    #[error("the variable edns_client_subnet is no network")]
    Subnet,
}

/// The variables that mean something; the first of each counts, and all others are passed over (`random_padding` among them).
#[derive(Debug, Default)]
pub struct Variables<'a> {
    pub name: Option<Cow<'a, str>>,
    pub content_type: Option<Cow<'a, str>>,
    rtype: Option<Cow<'a, str>>,
    checking_disabled: Option<Cow<'a, str>>,
    dnssec_ok: Option<Cow<'a, str>>,
    subnet: Option<Cow<'a, str>>,
}

impl<'a> Variables<'a> {
    /// Those in `query`, decoded.
    pub fn of(query: &'a str) -> Self {
        let mut found = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = match name.as_ref() {
                "name" => &mut found.name,
                "type" => &mut found.rtype,
                "cd" => &mut found.checking_disabled,
                "do" => &mut found.dnssec_ok,
                "ct" => &mut found.content_type,
                "edns_client_subnet" => &mut found.subnet,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        found
    }
}

/// Writes the query for `name` to `out`, which is empty.
///
/// It has id 0, as any HTTP cache would like it (RFC 8484 4.1), AD so that the reply tells what it is worth (RFC 6840 5.7), and an OPT
/// so that it tells what went wrong.
///
/// # Errors
/// See [`VariableError`]; nothing is then written.
pub fn write(name: &str, asked: &Variables<'_>, out: &mut BytesMut) -> Result<(), VariableError> {
    let qname = name::from_text(name).map_err(|_| VariableError::Name)?;
    let qtype = asked.rtype.as_deref().filter(|text| !text.is_empty()).map_or(Ok(rtype::A), record_type)?;
    let dnssec_ok = truth(asked.dnssec_ok.as_deref())?;
    let checking_disabled = truth(asked.checking_disabled.as_deref())?;
    let subnet = asked.subnet.as_deref().filter(|text| !text.is_empty()).map(subnet).transpose()?;
    let flags = Flags(Flags::RD | Flags::AD).with(Flags::CD, checking_disabled);
    let header = Header { flags, questions: 1, additionals: 1, ..Header::default() };
    out.put_slice(&header.to_octets());
    out.put_slice(&qname);
    out.put_u16(qtype);
    out.put_u16(class::IN);
    let mut opt = OptWriter::start(out, UDP_SIZE, 0, dnssec_ok);
    if let Some(subnet) = subnet {
        opt.option(option::ECS, &[&subnet.head(0), subnet.address()]);
    }
    opt.finish();
    Ok(())
}

/// A number from 1 on, or a name.
fn record_type(text: &str) -> Result<u16, VariableError> {
    let number = if text.bytes().all(|octet| octet.is_ascii_digit()) {
        text.parse().ok()
    } else {
        presentation::type_number(text)
    };
    number.filter(|number| !is_unaskable(*number)).ok_or(VariableError::Type)
}

/// Types of messages and hops that no name has records of: 0, OPT, NXNAME (RFC 9824 3.3), TKEY, TSIG and what is left of MX's forebears.
/// Transfers and ANY are questions, and answered in DNS.
const fn is_unaskable(number: u16) -> bool {
    matches!(number, 0 | rtype::OPT | NXNAME | TKEY | rtype::TSIG | MAILB | MAILA)
}

const NXNAME: u16 = 128;
const TKEY: u16 = 249;
const MAILB: u16 = 253;
const MAILA: u16 = 254;

fn truth(text: Option<&str>) -> Result<bool, VariableError> {
    match text.unwrap_or_default() {
        "1" => Ok(true),
        "" | "0" => Ok(false),
        word if word.eq_ignore_ascii_case("true") => Ok(true),
        word if word.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(VariableError::Flag),
    }
}

/// `192.0.2.0/24`; without a length no more of the address than is told to anybody (RFC 7871 11.1). Bits past the length are cleared.
fn subnet(text: &str) -> Result<Subnet, VariableError> {
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let whole = address.parse().map(Subnet::of).map_err(|_| VariableError::Subnet)?;
    let usual = if whole.is_v6() { Subnet::LONGEST } else { Subnet::LONGEST_V4 };
    let length = length.map_or(Ok(usual), str::parse).map_err(|_| VariableError::Subnet)?;
    if length > whole.length() { Err(VariableError::Subnet) } else { Ok(whole.within(length)) }
}

/// What every message of ours says that a datagram may have. Over HTTP it means nothing.
const UDP_SIZE: u16 = 1232;
