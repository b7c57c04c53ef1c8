//! Messages as tests write and read them: built by hand, read by an independent library.

use hickory_proto::op::Message;

/// A query under construction.
#[derive(Clone)]
pub struct Ask {
    pub id: u16,
    pub flags: u16,
    pub name: String,
    pub rtype: u16,
    pub class: u16,
    pub edns: Option<Edns>,
}

/// Its OPT record.
#[derive(Clone)]
pub struct Edns {
    pub size: u16,
    pub version: u8,
    pub flags: u16,
    pub options: Vec<(u16, Vec<u8>)>,
}

impl Ask {
    pub fn new(name: &str, rtype: u16) -> Self {
        Self { id: 0x1234, flags: 0x0100, name: name.to_owned(), rtype, class: 1, edns: None }
    }

    pub fn a(name: &str) -> Self {
        Self::new(name, 1)
    }

    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    pub fn flags(mut self, flags: u16) -> Self {
        self.flags = flags;
        self
    }

    pub fn edns(mut self) -> Self {
        self.edns.get_or_insert(Edns { size: 1232, version: 0, flags: 0, options: Vec::new() });
        self
    }

    pub fn size(mut self, size: u16) -> Self {
        self = self.edns();
        self.edns.as_mut().unwrap().size = size;
        self
    }

    pub fn version(mut self, version: u8) -> Self {
        self = self.edns();
        self.edns.as_mut().unwrap().version = version;
        self
    }

    pub fn dnssec(mut self) -> Self {
        self = self.edns();
        self.edns.as_mut().unwrap().flags |= 0x8000;
        self
    }

    pub fn edns_flags(mut self, flags: u16) -> Self {
        self = self.edns();
        self.edns.as_mut().unwrap().flags |= flags;
        self
    }

    pub fn option(mut self, code: u16, data: &[u8]) -> Self {
        self = self.edns();
        self.edns.as_mut().unwrap().options.push((code, data.to_vec()));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for word in [self.id, self.flags, 1, 0, 0, u16::from(self.edns.is_some())] {
            out.extend(word.to_be_bytes());
        }
        out.extend(name(&self.name));
        out.extend(self.rtype.to_be_bytes());
        out.extend(self.class.to_be_bytes());
        if let Some(edns) = &self.edns {
            out.extend(opt(edns));
        }
        out
    }
}

/// An OPT record.
pub fn opt(edns: &Edns) -> Vec<u8> {
    let mut out = vec![0, 0, 41];
    out.extend(edns.size.to_be_bytes());
    out.extend([0, edns.version]);
    out.extend(edns.flags.to_be_bytes());
    let options: Vec<u8> = edns
        .options
        .iter()
        .flat_map(|(code, data)| [&code.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat())
        .collect();
    out.extend((options.len() as u16).to_be_bytes());
    out.extend(options);
    out
}

/// A name on the wire, by the gateway-independent rule that labels are dot-separated (no escapes).
pub fn name(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in text.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

/// A response as a scripted upstream gives it: records appended to an echo of the query's question.
#[derive(Clone)]
pub struct Answer {
    flags: u16,
    counts: [u16; 3],
    body: Vec<u8>,
}

impl Answer {
    /// NOERROR, RA set.
    pub fn new() -> Self {
        Self { flags: 0x8080, counts: [0; 3], body: Vec::new() }
    }

    pub fn rcode(mut self, rcode: u16) -> Self {
        self.flags = (self.flags & !0xf) | (rcode & 0xf);
        self
    }

    pub fn flag(mut self, mask: u16) -> Self {
        self.flags |= mask;
        self
    }

    #[allow(clippy::too_many_arguments, reason = "a record has that many parts")]
    fn push(mut self, section: usize, owner: &str, rtype: u16, ttl: u32, rdata: &[u8]) -> Self {
        self.counts[section] += 1;
        let owner = if owner == "@" { vec![0xc0, 12] } else { name(owner) };
        self.body.extend(owner);
        self.body.extend(rtype.to_be_bytes());
        self.body.extend(1u16.to_be_bytes());
        self.body.extend(ttl.to_be_bytes());
        self.body.extend((rdata.len() as u16).to_be_bytes());
        self.body.extend(rdata);
        self
    }

    /// A record of the answer section; owner `@` is a pointer to QNAME.
    pub fn answer(self, owner: &str, rtype: u16, ttl: u32, rdata: &[u8]) -> Self {
        self.push(0, owner, rtype, ttl, rdata)
    }

    pub fn authority(self, owner: &str, rtype: u16, ttl: u32, rdata: &[u8]) -> Self {
        self.push(1, owner, rtype, ttl, rdata)
    }

    pub fn additional(self, owner: &str, rtype: u16, ttl: u32, rdata: &[u8]) -> Self {
        self.push(2, owner, rtype, ttl, rdata)
    }

    /// One A record for QNAME.
    pub fn a(self, ttl: u32, address: [u8; 4]) -> Self {
        self.answer("@", 1, ttl, &address)
    }

    /// An SOA of `zone` in the authority section.
    pub fn soa(self, zone: &str, ttl: u32, minimum: u32) -> Self {
        let mut rdata = [name(&format!("ns.{zone}")), name(&format!("root.{zone}"))].concat();
        for value in [1, 3600, 600, 86400, minimum] {
            rdata.extend(u32::to_be_bytes(value));
        }
        self.authority(zone, 6, ttl, &rdata)
    }

    /// TXT records for QNAME that make the message about `octets` long.
    pub fn big(mut self, octets: usize, ttl: u32) -> Self {
        while self.body.len() < octets {
            let mut rdata = vec![200];
            rdata.extend([b'x'; 199]);
            rdata.push(b'0' + (self.counts[0] % 10) as u8);
            self = self.answer("@", 16, ttl, &rdata);
        }
        self
    }

    /// An OPT record with `options`.
    pub fn opt(self, options: &[(u16, &[u8])]) -> Self {
        self.extended(0, options)
    }

    /// An OPT record with the high bits of `rcode` and `options`.
    pub fn extended(mut self, rcode: u16, options: &[(u16, &[u8])]) -> Self {
        let low = if rcode == 0 { self.flags & 0xf } else { rcode };
        self = self.rcode(low);
        self.counts[2] += 1;
        let options = options.iter().map(|(code, data)| (*code, data.to_vec())).collect();
        let mut record = opt(&Edns { size: 1232, version: 0, flags: 0, options });
        record[5] = (rcode >> 4) as u8;
        self.body.extend(record);
        self
    }

    /// The message that answers `query`: its id and question, RD and CD copied.
    pub fn to(&self, query: &[u8]) -> Vec<u8> {
        let end = question_end(query);
        let flags = self.flags | (u16::from_be_bytes([query[2], query[3]]) & 0x0110);
        let mut out = query[..2].to_vec();
        for word in [flags, 1, self.counts[0], self.counts[1], self.counts[2]] {
            out.extend(word.to_be_bytes());
        }
        out.extend(&query[12..end]);
        out.extend(&self.body);
        out
    }
}

/// One past the question of a message with one uncompressed question.
pub fn question_end(message: &[u8]) -> usize {
    let mut at = 12;
    while message[at] != 0 {
        at += 1 + usize::from(message[at]);
    }
    at + 5
}

/// The name a query asks for, as text without the final dot, lower case.
pub fn asked_name(query: &[u8]) -> String {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    labels.join(".")
}

/// The type a query asks for.
pub fn asked_type(query: &[u8]) -> u16 {
    let end = question_end(query);
    u16::from_be_bytes([query[end - 4], query[end - 3]])
}

/// What an independent library reads in `bytes`.
pub fn read(bytes: &[u8]) -> Message {
    Message::from_vec(bytes).unwrap_or_else(|error| panic!("unreadable message: {error}: {bytes:02x?}"))
}

/// The four low bits of the RCODE.
pub fn rcode(bytes: &[u8]) -> u16 {
    u16::from(bytes[3] & 0xf)
}

/// The second header word.
pub fn flags(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[2], bytes[3]])
}

/// QDCOUNT, ANCOUNT, NSCOUNT, ARCOUNT.
pub fn counts(bytes: &[u8]) -> [u16; 4] {
    [4, 6, 8, 10].map(|at| u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

/// The options of the OPT record of a message that has one.
pub fn options(bytes: &[u8]) -> Option<Vec<(u16, Vec<u8>)>> {
    use hushgate::wire::{Header, Options, Records};
    let header = Header::parse(bytes).unwrap();
    let opt = Records::new(bytes, &header).unwrap().map(Result::unwrap).find(|record| record.rtype == 41)?;
    Some(
        Options::new(bytes, opt.rdata)
            .map(Result::unwrap)
            .map(|(code, data)| (code, data.of(bytes).to_vec()))
            .collect(),
    )
}

/// The data of the first option `code`.
pub fn option(bytes: &[u8], code: u16) -> Option<Vec<u8>> {
    options(bytes)?.into_iter().find(|(found, _)| *found == code).map(|(_, data)| data)
}

/// The extended error code, if any.
pub fn ede(bytes: &[u8]) -> Option<u16> {
    option(bytes, 15).map(|data| u16::from_be_bytes([data[0], data[1]]))
}

/// The TTLs of all records but OPT.
pub fn ttls(bytes: &[u8]) -> Vec<u32> {
    use hushgate::wire::{Header, Records};
    let header = Header::parse(bytes).unwrap();
    Records::new(bytes, &header).unwrap().map(Result::unwrap).filter(|r| r.rtype != 41).map(|r| r.ttl).collect()
}
