//! What a response says to this hop alone: whether the server knows EDNS, the whole RCODE, its cookie (RFC 6891 6.2.6).

use crate::wire::registry::{option, rcode, rtype};
use crate::wire::{Header, Options, Records, Span};

/// What was found. What cannot be read is taken as not there: `pipeline/digest` has the last word on a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    /// The RCODE, extended bits included.
    pub rcode: u16,
    /// Was there an OPT?
    pub edns: bool,
    /// The data of its first COOKIE option.
    pub cookie: Option<Span>,
}

impl Hop {
    /// Reads `message`.
    #[must_use]
    pub fn read(message: &[u8]) -> Self {
        let Ok(header) = Header::parse(message) else { return Self::default() };
        let rcode = header.flags.rcode();
        let bare = Self { rcode, ..Self::default() };
        let Ok(mut records) = Records::new(message, &header) else { return bare };
        let Some(opt) = records.find_map(|record| record.ok().filter(|record| record.rtype == rtype::OPT)) else {
            return bare;
        };
        let [high, ..] = opt.ttl.to_be_bytes();
        let mut options = Options::new(message, opt.rdata).flatten();
        let cookie = options.find(|&(code, _)| code == option::COOKIE).map(|(_, data)| data);
        Self { rcode: u16::from(high) << 4 | rcode, edns: true, cookie }
    }

    /// Does it speak of a server that does not know EDNS (EDN-16)? FORMERR and NOTIMP without OPT say so (RFC 6891 7); BADVERS to
    /// version 0 is nonsense that such servers have been seen to send.
    #[must_use]
    pub const fn is_without_edns(&self) -> bool {
        match self.rcode {
            rcode::FORMERR | rcode::NOTIMP => !self.edns,
            rcode::BADVERS => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::wire::{Flags, OptWriter};

    fn response(code: u16, cookie: Option<&[u8]>) -> BytesMut {
        let flags = Flags(Flags::QR).with_rcode(code);
        let mut message = BytesMut::from(&Header { flags, additionals: 1, ..Header::default() }.to_octets()[..]);
        let mut writer = OptWriter::start(&mut message, 1232, code, false);
        if let Some(cookie) = cookie {
            writer.option(option::COOKIE, &[cookie]);
            writer.option(option::COOKIE, &[b"another"]);
        }
        writer.finish();
        message
    }

    #[test]
    fn the_whole_rcode_and_the_first_cookie_are_read() {
        let message = response(rcode::BADCOOKIE, Some(&[7; 24]));
        let hop = Hop::read(&message);
        assert_eq!((hop.rcode, hop.edns), (23, true));
        assert_eq!(hop.cookie.unwrap().of(&message), [7; 24]);
        assert_eq!(Hop::read(&[0; 11]), Hop::default());
    }

    #[test]
    fn edn_16_only_errors_of_servers_without_edns_say_so() {
        let plain = |code| Header { flags: Flags(Flags::QR).with_rcode(code), ..Header::default() }.to_octets();
        let without = |code| Hop::read(&plain(code)).is_without_edns();
        assert_eq!([0, 1, 2, 3, 4, 5].map(without), [false, true, false, false, true, false]);
        let with = |code| Hop::read(&response(code, None)).is_without_edns();
        assert_eq!([0, 1, 4, 16, 23].map(with), [false, false, false, true, false]);
    }
}
