//! Answers made here, record by record: of special names, of the gateway itself, of what is synthesised.
//!
//! Owners are QNAME, by a pointer to the question, or a name, in full once; no other compression. The TTLs are noted as those of an
//! upstream's answer are, so that what is made here may be kept and aged too.

use bytes::BufMut as _;

use crate::clock::Moment;
use crate::reply::{Kind, Meta, StoredBuf};
use crate::wire::registry::rtype;
use crate::wire::{Flags, HEADER_LEN, Header, Section};

/// Seconds the records of our own zones live, SOA MINIMUM included (RFC 6303 3).
pub const TTL: u32 = 10_800;

/// A pointer to QNAME, which starts right after the header.
const QNAME: u16 = 0xc00c;

/// Whose a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    /// QNAME, in the asker's spelling.
    Question,
    /// This uncompressed wire name.
    Name(&'a [u8]),
}

/// A record but for its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// TYPE.
    pub rtype: u16,
    /// CLASS.
    pub class: u16,
    /// TTL, in seconds.
    pub ttl: u32,
    /// RDATA, names in it uncompressed.
    pub rdata: &'a [u8],
}

/// An answer under construction: records section by section, in order.
#[derive(Debug)]
pub struct Local {
    message: Vec<u8>,
    ttls: Vec<u8>,
    header: Header,
    rcode: u16,
    kind: Kind,
    lifetime: u32,
    additional_at: Option<u16>,
    /// Where the owner that was last written in full is.
    last_owner: Option<u16>,
}

impl Local {
    /// An authoritative answer to `question` (QNAME, QTYPE, QCLASS) without records.
    #[must_use]
    pub fn new(question: &[u8], rcode: u16, kind: Kind) -> Self {
        let mut message = Vec::with_capacity(512);
        message.put_bytes(0, HEADER_LEN);
        message.put_slice(question);
        let flags = Flags(Flags::QR | Flags::RA | Flags::AA).with_rcode(rcode);
        let header = Header { flags, questions: 1, ..Header::default() };
        Self {
            message,
            ttls: Vec::new(),
            header,
            rcode,
            kind,
            lifetime: u32::MAX,
            additional_at: None,
            last_owner: None,
        }
    }

    /// Adds to the answer section.
    pub fn answer(&mut self, owner: Owner<'_>, data: Data<'_>) {
        self.record(Section::Answer, owner, data);
    }

    /// Adds to the additional section, the last.
    pub fn additional(&mut self, owner: Owner<'_>, data: Data<'_>) {
        self.record(Section::Additional, owner, data);
    }

    /// Adds to the authority section.
    pub fn authority(&mut self, owner: Owner<'_>, data: Data<'_>) {
        self.record(Section::Authority, owner, data);
    }

    fn record(&mut self, section: Section, owner: Owner<'_>, Data { rtype, class, ttl, rdata }: Data<'_>) {
        let start = narrow(self.message.len());
        match owner {
            Owner::Question => self.message.put_u16(QNAME),
            Owner::Name(name) => self.name(name, start),
        }
        self.message.put_u16(rtype);
        self.message.put_u16(class);
        self.ttls.put_u16(narrow(self.message.len()));
        self.message.put_u32(ttl);
        self.message.put_u16(narrow(rdata.len()));
        self.message.put_slice(rdata);
        self.lifetime = self.lifetime.min(ttl);
        match section {
            Section::Answer => self.header.answers += 1,
            Section::Authority => self.header.authorities += 1,
            Section::Additional => {
                self.header.additionals += 1;
                self.additional_at.get_or_insert(start);
            }
        }
    }

    /// Writes the owner `name` at `at`, by a pointer where it is that of an earlier record too: the last that was written in full.
    fn name(&mut self, name: &[u8], at: u16) {
        let known = self.last_owner.filter(|&last| {
            last < 0x4000 && self.message.get(last.into()..).is_some_and(|rest| rest.starts_with(name))
        });
        match known {
            Some(last) if name.len() > 2 => self.message.put_u16(0xc000 | last),
            _ => {
                self.message.put_slice(name);
                self.last_owner = Some(at);
            }
        }
    }

    /// Closes a negative answer with the SOA that it is kept by (SUD-10): MNAME is the zone `apex` itself, which QNAME lies in.
    #[must_use]
    pub fn denied(mut self, apex: &[u8], class: u16, now: Moment) -> StoredBuf {
        self.record(
            Section::Authority,
            Owner::Name(apex),
            Data { rtype: rtype::SOA, class, ttl: TTL, rdata: &soa(apex) },
        );
        self.finish(now)
    }

    /// Closes it. What is made here is no failure to keep up with: it never stands in for something fresher.
    #[must_use]
    pub fn finish(mut self, now: Moment) -> StoredBuf {
        if let Some(place) = self.message.first_chunk_mut() {
            *place = self.header.to_octets();
        }
        let meta = Meta {
            received: now,
            lifetime: self.lifetime,
            http_lifetime: self.lifetime,
            rcode: self.rcode,
            flags: self.header.flags,
            kind: self.kind,
            additional_at: self.additional_at.unwrap_or_else(|| narrow(self.message.len())),
            additionals: self.header.additionals,
            ..Meta::default()
        };
        StoredBuf { meta, message: self.message.into(), ttls: self.ttls.into(), scope: 0, options: Box::default() }
    }
}

/// RDATA of the SOA of our own zone `apex` (RFC 6303 3).
#[must_use]
pub fn soa(apex: &[u8]) -> Vec<u8> {
    let mut rdata = Vec::with_capacity(64);
    rdata.put_slice(apex);
    rdata.put_slice(b"\x06nobody\x07invalid\0");
    for field in [1, 3600, 1200, 604_800, TTL] {
        rdata.put_u32(field);
    }
    rdata
}

/// A length or offset in a message made here, which is far below the largest there is.
fn narrow(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::registry::{class, rcode};
    use crate::wire::{Records, name};

    #[test]
    fn owners_past_what_a_pointer_reaches_are_written_in_full() {
        let (first, second) = (b"\x01a\x07example\0", b"\x01b\x07example\0");
        let mut local = Local::new(b"\x01q\x07example\0\0\x10\0\x01", rcode::NOERROR, Kind::Positive);
        for (owner, octets) in [(&first[..], 1), (first, 0x4000), (second, 1), (second, 1), (first, 1)] {
            let rdata = vec![0; octets];
            local.answer(Owner::Name(owner), Data { rtype: rtype::TXT, class: class::IN, ttl: 60, rdata: &rdata });
        }
        let message = local.finish(Moment(7)).message;
        let header = Header::parse(&message).unwrap();
        let owners = Records::new(&message, &header).unwrap().map(|record| {
            let mut owner = Vec::new();
            name::expand(&message, record.unwrap().owner.into(), &mut owner).unwrap();
            owner
        });
        assert_eq!(owners.collect::<Vec<_>>(), [first, first, second, second, first]);
    }
}
