//! The OPT pseudo-record as a client sent it (RFC 6891), read without copying.

use super::registry::option;
use super::{Span, WireError, u16_at};

/// What a query's OPT record said. Spans cover option data, without code and length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edns {
    /// Requestor's UDP payload size as sent (values under 512 mean 512, RFC 6891 6.2.3).
    pub udp_size: u16,
    /// EDNS version.
    pub version: u8,
    /// High eight bits of the extended RCODE; meaningful in responses only.
    pub extended_rcode: u8,
    /// DO: DNSSEC records are wanted (RFC 3225).
    pub dnssec_ok: bool,
    /// The first COOKIE option (RFC 7873; later ones are ignored).
    pub cookie: Option<Span>,
    /// The first client-subnet option (RFC 7871).
    pub client_subnet: Option<Span>,
    /// The first edns-tcp-keepalive option (RFC 7828).
    pub keepalive: Option<Span>,
    /// A PADDING option was present (RFC 7830).
    pub padding: bool,
    /// An NSID option was present (RFC 5001).
    pub nsid: bool,
    /// Any other option was present: unknown ones are neither echoed nor forwarded.
    pub foreign: bool,
}

impl Edns {
    /// What the fixed fields of an OPT record say, its options aside (RFC 6891 6.1.3).
    #[must_use]
    pub fn fixed(class: u16, ttl: u32) -> Self {
        let [extended_rcode, version, flags, _] = ttl.to_be_bytes();
        Self { udp_size: class, version, extended_rcode, dnssec_ok: flags & 0x80 != 0, ..Self::default() }
    }

    /// Reads an OPT record from its fixed fields and its RDATA at `rdata` of `message`.
    ///
    /// # Errors
    /// [`WireError::Short`] where an option runs past the RDATA.
    pub fn parse(message: &[u8], class: u16, ttl: u32, rdata: Span) -> Result<Self, WireError> {
        let mut edns = Self::fixed(class, ttl);
        for entry in Options::new(message, rdata) {
            let (code, data) = entry?;
            match code {
                option::COOKIE => _ = edns.cookie.get_or_insert(data),
                option::ECS => _ = edns.client_subnet.get_or_insert(data),
                option::KEEPALIVE => _ = edns.keepalive.get_or_insert(data),
                option::PADDING => edns.padding = true,
                option::NSID => edns.nsid = true,
                _ => edns.foreign = true,
            }
        }
        Ok(edns)
    }
}

/// The options of an OPT record: code and the span of the data.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    message: &'a [u8],
    next: usize,
    end: usize,
}

impl<'a> Options<'a> {
    /// The options in `rdata` of `message`.
    #[must_use]
    pub fn new(message: &'a [u8], rdata: Span) -> Self {
        Self { message, next: rdata.start.into(), end: usize::from(rdata.end).min(message.len()) }
    }

    fn read(&self) -> Result<(u16, Span), WireError> {
        let code = u16_at(self.message, self.next)?;
        let start = self.next + 4;
        let end = start + usize::from(u16_at(self.message, self.next + 2)?);
        if end > self.end {
            return Err(WireError::Short);
        }
        let narrow = |at: usize| u16::try_from(at).map_err(|_| WireError::Short);
        Ok((code, Span { start: narrow(start)?, end: narrow(end)? }))
    }
}

impl Iterator for Options<'_> {
    type Item = Result<(u16, Span), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let entry = self.read();
        self.next = match &entry {
            Ok((_, data)) => data.end.into(),
            Err(_) => self.end,
        };
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[u8]) -> Result<Edns, WireError> {
        Edns::parse(options, 1232, 0x0000_8000, Span { start: 0, end: u16::try_from(options.len()).unwrap() })
    }

    #[test]
    fn the_fixed_fields_are_told_apart() {
        let edns = Edns::fixed(4096, 0x1702_8000);
        assert_eq!((edns.udp_size, edns.extended_rcode, edns.version, edns.dnssec_ok), (4096, 0x17, 2, true));
        assert!(!Edns::fixed(4096, 0xffff_7fff).dnssec_ok);
    }

    #[test]
    fn known_options_are_found_and_unknown_ones_only_noted() {
        let options = [0, 3, 0, 0, 0, 12, 0, 2, 0, 0, 0, 8, 0, 4, 0, 1, 24, 0, 0, 11, 0, 0, 0xfd, 0xe9, 0, 1, 7];
        let edns = parse(&options).unwrap();
        assert!(edns.nsid && edns.padding && edns.foreign && edns.dnssec_ok && edns.cookie.is_none());
        assert_eq!(edns.client_subnet.unwrap().of(&options), [0, 1, 24, 0]);
        assert_eq!(edns.keepalive.unwrap().of(&options), [0; 0]);
        assert_eq!(parse(&[]).unwrap(), Edns::fixed(1232, 0x8000));
    }

    #[test]
    fn cki_13_of_several_cookies_the_first_counts() {
        let mut options = vec![0, 10, 0, 8, 1, 1, 1, 1, 1, 1, 1, 1];
        options.extend([0, 10, 0, 3, 2, 2, 2]);
        assert_eq!(parse(&options).unwrap().cookie.unwrap().of(&options), [1; 8]);
    }

    #[test]
    fn edn_07_an_option_that_runs_past_the_rdata_is_an_error_even_inside_the_message() {
        assert_eq!(parse(&[0, 12, 0, 2, 0]), Err(WireError::Short));
        assert_eq!(parse(&[0, 12, 0]), Err(WireError::Short));
        let message = [0, 12, 0, 4, 0, 0, 0, 0];
        assert_eq!(Edns::parse(&message, 0, 0, Span { start: 0, end: 6 }), Err(WireError::Short));
        assert_eq!(Edns::parse(&message, 0, 0, Span { start: 0, end: 3 }), Err(WireError::Short));
        assert!(Edns::parse(&message, 0, 0, Span { start: 0, end: 8 }).unwrap().padding);
    }
}
