//! A DNS message in words.
//!
//! Names shrink on the wire by pointing at others, and one octet may take five here: what is at most 65 535 octets there could be twelve
//! million. So the words are counted, and records past [`MOST`] are left off and the reply called truncated.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use crate::presentation::{self, extended_error, printable};
use crate::wire::name::Shown;
use crate::wire::registry::{option, rcode, rtype};
use crate::wire::{Edns, Flags, Header, Options, Question, Record, Records, Section, Subnet, WireError, u16_at};

/// Octets of records and comments. A message full of addresses has some 300 000.
const MOST: usize = 512 * 1024;

/// The reply; fields in the order that both of the others have them in.
#[derive(Default, Serialize)]
struct Reply {
    #[serde(rename = "Status")]
    status: u16,
    #[serde(rename = "TC")]
    truncated: bool,
    #[serde(rename = "RD")]
    recursion_desired: bool,
    #[serde(rename = "RA")]
    recursion_available: bool,
    #[serde(rename = "AD")]
    authentic_data: bool,
    #[serde(rename = "CD")]
    checking_disabled: bool,
    #[serde(rename = "Question")]
    questions: Vec<Asked>,
    #[serde(rename = "Answer", skip_serializing_if = "Vec::is_empty")]
    answers: Vec<Told>,
    #[serde(rename = "Authority", skip_serializing_if = "Vec::is_empty")]
    authorities: Vec<Told>,
    #[serde(rename = "Additional", skip_serializing_if = "Vec::is_empty")]
    additionals: Vec<Told>,
    #[serde(skip_serializing_if = "Option::is_none")]
    edns_client_subnet: Option<String>,
    #[serde(rename = "Comment", skip_serializing_if = "Vec::is_empty")]
    comments: Vec<String>,
}

#[derive(Serialize)]
struct Asked {
    name: String,
    #[serde(rename = "type")]
    rtype: u16,
}

#[derive(Serialize)]
struct Told {
    name: String,
    #[serde(rename = "type")]
    rtype: u16,
    #[serde(rename = "TTL")]
    ttl: u32,
    data: String,
}

/// `message` in words, as far as it can be read.
pub fn render(message: &[u8]) -> Vec<u8> {
    let mut reply = Reply { status: rcode::SERVFAIL, ..Reply::default() };
    if let Ok(header) = Header::parse(message) {
        reply.head(&header);
        // What follows an error is unknown; what came before it stands.
        if reply.sections(message, &header).is_err() {
            reply.truncated = true;
        }
    }
    // Strings, numbers and truth values: nothing in it can fail to be written.
    serde_json::to_vec(&reply).unwrap_or_default()
}

impl Reply {
    fn head(&mut self, header: &Header) {
        self.status = header.flags.rcode();
        self.truncated = header.flags.has(Flags::TC);
        self.recursion_desired = header.flags.has(Flags::RD);
        self.recursion_available = header.flags.has(Flags::RA);
        self.authentic_data = header.flags.has(Flags::AD);
        self.checking_disabled = header.flags.has(Flags::CD);
    }

    fn sections(&mut self, message: &[u8], header: &Header) -> Result<(), WireError> {
        if header.questions > 0 {
            let question = Question::parse(message)?;
            self.questions.push(Asked { name: Shown(question.name(message)).to_string(), rtype: question.rtype });
        }
        let mut budget = Budget(MOST);
        for record in Records::new(message, header)? {
            let record = record?;
            match (record.section, record.rtype) {
                (Section::Additional, rtype::OPT) => self.options(message, &record, &mut budget)?,
                _ => self.record(message, &record, &mut budget)?,
            }
        }
        Ok(())
    }

    fn record(&mut self, message: &[u8], record: &Record, budget: &mut Budget) -> Result<(), WireError> {
        if budget.0 == 0 {
            self.truncated = true;
            return Ok(());
        }
        let name = presentation::owner(message, record.owner)?;
        let told = Told { name, rtype: record.rtype, ttl: record.ttl, data: presentation::data(message, record) };
        if !budget.take(&[&told.name, &told.data]) {
            self.truncated = true;
            return Ok(());
        }
        match record.section {
            Section::Answer => self.answers.push(told),
            Section::Authority => self.authorities.push(told),
            Section::Additional => self.additionals.push(told),
        }
        Ok(())
    }

    fn options(&mut self, message: &[u8], record: &Record, budget: &mut Budget) -> Result<(), WireError> {
        let edns = Edns::fixed(record.class, record.ttl);
        self.status |= u16::from(edns.extended_rcode) << 4;
        for entry in Options::new(message, record.rdata) {
            let (code, span) = entry?;
            let data = span.of(message);
            match code {
                option::EDE => {
                    let comment = comment(data)?;
                    if budget.take(&[&comment]) {
                        self.comments.push(comment);
                    }
                }
                option::ECS => self.edns_client_subnet = subnet(data),
                _ => {}
            }
        }
        Ok(())
    }
}

/// `EDE(22): No Reachable Authority (the text)`.
fn comment(data: &[u8]) -> Result<String, WireError> {
    let code = u16_at(data, 0)?;
    let text = String::from_utf8_lossy(data.get(2..).unwrap_or_default());
    let text = printable(text.trim_end_matches('\0'));
    let name = extended_error(code);
    Ok(if text.is_empty() { format!("EDE({code}): {name}") } else { format!("EDE({code}): {name} ({text})") })
}

/// Address, bits told, bits that the answer is for.
fn subnet(data: &[u8]) -> Option<String> {
    let (subnet, scope) = Subnet::read(data)?;
    let mut octets = [0; 16];
    octets.get_mut(..subnet.address().len())?.copy_from_slice(subnet.address());
    let length = subnet.length();
    Some(if subnet.is_v6() {
        format!("{}/{length}/{scope}", Ipv6Addr::from(octets))
    } else {
        let [a, b, c, d, ..] = octets;
        format!("{}/{length}/{scope}", Ipv4Addr::new(a, b, c, d))
    })
}

/// Octets that may still be written. Once something does not fit, nothing more does.
struct Budget(usize);

impl Budget {
    fn take(&mut self, texts: &[&str]) -> bool {
        // A backslash or quote takes two octets in a JSON string.
        let octets = |text: &&str| text.len() + text.bytes().filter(|octet| matches!(octet, b'"' | b'\\')).count();
        let left = self.0.checked_sub(texts.iter().map(octets).sum::<usize>() + AROUND);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// What stands around the texts of a record: `{"name":"","type":65535,"TTL":4294967295,"data":""},`.
const AROUND: usize = 56;
