//! An answer for people, and as one JSON object.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::handshake::Shown;
use super::Outcome;
use crate::presentation::{class_name, data, extended_error, owner, printable, type_name};
use crate::wire::registry::{option, rtype};
use crate::wire::{Edns, Flags, Header, Options, Question, Record, Records, Section, WireError, u16_at};

/// What a message says, in words.
struct Read {
    header: Header,
    rcode: u16,
    question: Option<[String; 3]>,
    records: Vec<(Section, Line)>,
    edns: Option<Edns>,
    errors: Vec<(u16, String)>,
    broken: Option<WireError>,
}

/// A record in words.
struct Line {
    name: String,
    ttl: u32,
    class: String,
    rtype: String,
    data: String,
}

const SECTIONS: [(Section, &str); 3] =
    [(Section::Answer, "answer"), (Section::Authority, "authority"), (Section::Additional, "additional")];

const FLAGS: [(u16, &str); 7] = [
    (Flags::QR, "qr"),
    (Flags::AA, "aa"),
    (Flags::TC, "tc"),
    (Flags::RD, "rd"),
    (Flags::RA, "ra"),
    (Flags::AD, "ad"),
    (Flags::CD, "cd"),
];

impl Outcome {
    /// The answer in lines, much as dig shows it.
    #[must_use]
    pub fn text(&self) -> String {
        let read = Read::of(&self.message);
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_head(&read, &mut out);
        let width = read.records.iter().map(|(_, line)| line.name.len()).max().unwrap_or(0);
        for (section, title) in SECTIONS {
            let mut lines = read.records.iter().filter(|(of, _)| *of == section).map(|(_, line)| line).peekable();
            if lines.peek().is_some() {
                let _ = writeln!(out, ";; {title}");
            }
            for Line { name, ttl, class, rtype, data } in lines {
                let _ = writeln!(out, "{name:width$} {ttl:>7} {class} {rtype:<6} {data}");
            }
        }
        if let Some(fault) = read.broken {
            let _ = writeln!(out, ";; the rest cannot be read: {fault}");
        }
        out
    }

    fn write_head(&self, read: &Read, out: &mut String) -> std::fmt::Result {
        let flags = read.flags().join(" ");
        let millis = self.took.as_secs_f64() * 1000.0;
        writeln!(out, ";; {}, flags {flags}, {} octets in {millis:.1} ms", rcode_name(read.rcode), self.message.len())?;
        write!(out, ";; {} at {} over {}", self.url, self.facts.address, self.facts.transport.name())?;
        if let Some(secured) = self.facts.secured {
            write!(out, ", {}", version_name(secured.version))?;
            if let Some(cipher) = secured.cipher {
                write!(out, ", {}", cipher_name(cipher))?;
            }
            write!(out, ", ALPN {}", secured.alpn.unwrap_or("none"))?;
        }
        writeln!(out)?;
        if let Some(certificate) = &self.certificate {
            writeln!(out, ";; {}", certificate.text())?;
        }
        if self.age > 0 {
            writeln!(out, ";; {} s old in an HTTP cache", self.age)?;
        }
        if let Some(edns) = read.edns {
            let dnssec = if edns.dnssec_ok { ", do" } else { "" };
            writeln!(out, ";; EDNS version {}, udp {}{dnssec}", edns.version, edns.udp_size)?;
        }
        for (code, text) in &read.errors {
            writeln!(
                out,
                ";; EDE {code} ({}){}{text}",
                extended_error(*code),
                if text.is_empty() { "" } else { ": " }
            )?;
        }
        match &read.question {
            Some([name, class, rtype]) => writeln!(out, ";; question\n;{name} {class} {rtype}"),
            None => Ok(()),
        }
    }

    /// The answer as one JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        let read = Read::of(&self.message);
        let records = |section| -> Vec<Value> {
            read.records.iter().filter(|(of, _)| *of == section).map(|(_, line)| line.json()).collect()
        };
        let question = read.question.as_ref();
        let tls = self.facts.secured.map(|secured| {
            json!({
                "version": version_name(secured.version),
                "cipher": secured.cipher.map(cipher_name),
                "alpn": secured.alpn,
                "certificate": self.certificate.as_ref().map(Shown::json),
            })
        });
        json!({
            "url": self.url,
            "address": self.facts.address.to_string(),
            "transport": self.facts.transport.name(),
            "tls": tls,
            "time_ms": (self.took.as_secs_f64() * 1e6).round() / 1e3,
            "octets": self.message.len(),
            "age": self.age,
            "id": read.header.id,
            "rcode": rcode_name(read.rcode),
            "flags": read.flags(),
            "question": question.map(|[name, class, rtype]| json!({ "name": name, "class": class, "type": rtype })),
            "answer": records(Section::Answer),
            "authority": records(Section::Authority),
            "additional": records(Section::Additional),
            "edns": read.edns.map(|edns| json!({ "udp_size": edns.udp_size, "do": edns.dnssec_ok })),
            "ede": read.errors.iter().map(|(code, text)| json!({ "code": code, "name": extended_error(*code), "text": text })).collect::<Vec<_>>(),
            "error": read.broken.map(|fault| fault.to_string()),
        })
    }
}

impl Line {
    fn json(&self) -> Value {
        json!({ "name": self.name, "ttl": self.ttl, "class": self.class, "type": self.rtype, "data": self.data })
    }
}

impl Read {
    fn of(message: &[u8]) -> Self {
        let header = Header::parse(message).unwrap_or_default();
        let question = Question::parse(message).ok().filter(|_| header.questions == 1).and_then(|question| {
            Some([owner(message, 12).ok()?, class_name(question.class), type_name(question.rtype)])
        });
        let rcode = header.flags.rcode();
        let mut read =
            Self { header, rcode, question, records: Vec::new(), edns: None, errors: Vec::new(), broken: None };
        if let Err(fault) = read.walk(message) {
            read.broken = Some(fault);
        }
        read
    }

    fn walk(&mut self, message: &[u8]) -> Result<(), WireError> {
        for record in Records::new(message, &self.header)? {
            let record = record?;
            if record.rtype == rtype::OPT {
                self.note_opt(message, &record)?;
                continue;
            }
            let line = Line {
                name: owner(message, record.owner)?,
                ttl: record.ttl,
                class: class_name(record.class),
                rtype: type_name(record.rtype),
                data: data(message, &record),
            };
            self.records.push((record.section, line));
        }
        Ok(())
    }

    fn note_opt(&mut self, message: &[u8], record: &Record) -> Result<(), WireError> {
        let edns = Edns::parse(message, record.class, record.ttl, record.rdata)?;
        self.rcode = (u16::from(edns.extended_rcode) << 4) | self.header.flags.rcode();
        self.edns = Some(edns);
        for entry in Options::new(message, record.rdata) {
            let (code, span) = entry?;
            if code == option::EDE {
                let octets = span.of(message);
                let text = String::from_utf8_lossy(octets.get(2..).unwrap_or_default());
                self.errors.push((u16_at(octets, 0)?, printable(text.trim_end_matches('\0'))));
            }
        }
        Ok(())
    }

    fn flags(&self) -> Vec<&'static str> {
        FLAGS.into_iter().filter(|&(bit, _)| self.header.flags.has(bit)).map(|(_, name)| name).collect()
    }
}

/// The version of TLS, for people.
#[must_use]
pub fn version_name(version: rustls::ProtocolVersion) -> &'static str {
    match version {
        rustls::ProtocolVersion::TLSv1_2 => "TLS 1.2",
        rustls::ProtocolVersion::TLSv1_3 => "TLS 1.3",
        _ => "TLS",
    }
}

/// The cipher suite as the registry of IANA has it: the library marks those of TLS 1.3.
#[must_use]
pub fn cipher_name(cipher: rustls::CipherSuite) -> String {
    format!("{cipher:?}").replacen("TLS13_", "TLS_", 1)
}

/// The RCODE as the registry has it.
#[must_use]
pub fn rcode_name(rcode: u16) -> String {
    let names = [
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH",
    ];
    match (names.get(usize::from(rcode)), rcode) {
        (Some(name), _) => (*name).into(),
        (None, 16) => "BADVERS".into(),
        (None, 23) => "BADCOOKIE".into(),
        (None, other) => format!("RCODE{other}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::BytesMut;

    use super::*;
    use crate::peer::Transport;
    use crate::upstream::delivery::{Facts, Secured};
    use crate::wire::{OptWriter, name, patch};

    fn outcome() -> Outcome {
        let flags = Flags(Flags::QR | Flags::RD | Flags::RA | Flags::AD);
        let head = Header { flags, questions: 1, answers: 2, ..Header::default() };
        let mut message = BytesMut::from(&head.to_octets()[..]);
        message.extend_from_slice(&name::from_text("www.example").unwrap());
        message.extend_from_slice(&[0, 1, 0, 1]);
        message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1]);
        message.extend_from_slice(&[0xc0, 12, 0xff, 0x78, 0, 1, 0, 0, 1, 44, 0, 1, 7]);
        let mut writer = OptWriter::start(&mut message, 1232, 0, true);
        writer.option(option::EDE, &[&[0, 3], b"old\x1b"]);
        writer.finish();
        patch::add_additional(&mut message);
        let secured = Secured {
            version: rustls::ProtocolVersion::TLSv1_3,
            cipher: Some(rustls::CipherSuite::TLS13_AES_128_GCM_SHA256),
            alpn: Some("h2"),
            resumed: Some(false),
        };
        let address = "192.0.2.53:443".parse().unwrap();
        Outcome {
            url: "https://dns.example/dns-query".into(),
            message: message.freeze(),
            took: Duration::from_micros(12_345),
            age: 9,
            facts: Facts { address, transport: Transport::Doh2, secured: Some(secured) },
            certificate: Some(Shown { names: vec!["dns.example".into()], authority: "Test".into(), days_left: 1 }),
        }
    }

    #[test]
    fn text_tells_status_transport_error_and_records() {
        let expected = "\
;; NOERROR, flags qr rd ra ad, 79 octets in 12.3 ms
;; https://dns.example/dns-query at 192.0.2.53:443 over doh2, TLS 1.3, TLS_AES_128_GCM_SHA256, ALPN h2
;; certificate for dns.example; 1 day left; signed by Test
;; 9 s old in an HTTP cache
;; EDNS version 0, udp 1232, do
;; EDE 3 (Stale Answer): old\\u{1b}
;; question
;www.example. IN A
;; answer
www.example.     300 IN A      192.0.2.1
www.example.     300 IN TYPE65400 \\# 1 07
";
        assert_eq!(outcome().text(), expected);
    }

    #[test]
    fn json_says_the_same() {
        let json = outcome().json();
        assert_eq!(json["time_ms"], 12.345);
        assert_eq!(json["flags"], json!(["qr", "rd", "ra", "ad"]));
        let record = json!({ "name": "www.example.", "ttl": 300, "class": "IN", "type": "A", "data": "192.0.2.1" });
        assert_eq!(json["answer"][0], record);
        assert_eq!(json["ede"][0]["code"], 3);
        assert_eq!(json["tls"]["cipher"], "TLS_AES_128_GCM_SHA256");
        assert_eq!(json["error"], Value::Null);
    }

    #[test]
    fn a_message_cut_short_shows_what_there_is() {
        let whole = outcome();
        let cut = Outcome { message: whole.message.slice(..50), ..whole };
        assert!(
            cut.text().ends_with(";; the rest cannot be read: the message ends inside a field\n"),
            "{}",
            cut.text()
        );
        assert_eq!(cut.json()["answer"].as_array().unwrap().len(), 1);
        let nothing = Outcome { message: bytes::Bytes::new(), ..cut };
        assert!(!nothing.text().is_empty());
    }
}
