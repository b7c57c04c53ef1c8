//! What is asked of an upstream, free of the client: question, flags, and no option of the client's (EDN-13) but, where the operator
//! wants that, what it tells of its subnet and those that pass from end to end (EDN-14).

use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};

use crate::trail::{Told, UpstreamId};
use crate::wire::registry::{class, option, rtype};
use crate::wire::{Flags, Header, OptWriter, Options, Question, Records, Span, Subnet, opt, patch};

/// The EDNS payload size that we announce upstream (RFC 9715 R5).
pub const UDP_SIZE: u16 = 1232;

/// Block that queries on encrypted legs are padded to (RFC 8467 4.1).
pub const PADDING_BLOCK: usize = 128;

/// A question to upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// QNAME (in lower case where a client asked), QTYPE, QCLASS.
    pub question: Box<[u8]>,
    /// RD, as the client set it (RFC 5625: passed on).
    pub recursion_desired: bool,
    /// CD, as the client set it (SEC-02).
    pub checking_disabled: bool,
    /// AD: the client would like to know (SEC-09).
    pub authentic_data: bool,
    /// DO.
    pub dnssec_ok: bool,
    /// Padded on encrypted legs.
    pub padding: bool,
    /// The client came over a stream: a plain upstream is asked over TCP at once (PRG-06).
    pub prefer_stream: bool,
    /// Without OPT, for a server that does not know EDNS (EDN-16).
    pub without_edns: bool,
    /// Does nobody wait for the answer any longer? Then only the deadline ends it, not the time that a pool gives its clients.
    pub patient: bool,
    /// A second opinion on what this server said: another of its pool is asked, if there is one that is up, and nobody else.
    pub avoid: Option<UpstreamId>,
    /// What may be told of the client's network (RFC 7871). Each server's rule makes of it what that one is told.
    pub subnet: Option<Telling>,
    /// Options of the client that the operator lets pass (EDN-14).
    pub passed: Option<Arc<Passed>>,
}

/// What may be told of a client's network, or a server is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Telling {
    /// The network.
    pub subnet: Subnet,
    /// How it is known.
    pub basis: Basis,
}

impl Telling {
    /// The same for the trail.
    #[must_use]
    pub const fn noted(self) -> Told {
        match (self.subnet.length(), self.basis) {
            (0, _) => Told::OptOut,
            (_, Basis::Nobody) => Told::Fixed,
            (bits, Basis::Client | Basis::Address) => Told::Bits(bits),
        }
    }
}

/// How a client's network is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The client told it.
    Client,
    /// It is in the address that the client asks from.
    Address,
    /// It is no client's: what the operator says for all, or nothing at all because a server refused to know (ECS-12).
    Nobody,
}

/// Options that go from end to end, in wire form, one after another as they stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The codes that may pass.
    pub codes: Arc<[u16]>,
    /// The options: 512 octets at most.
    pub octets: Box<[u8]>,
}

/// What one leg adds to the message it sends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leg<'a> {
    /// The id: random on UDP and TCP, 0 on DoH and DoQ.
    pub id: u16,
    /// Is the leg encrypted, and so padded?
    pub encrypted: bool,
    /// COOKIE option data toward a plain server.
    pub cookie: Option<&'a [u8]>,
    /// Say that the connection may be kept, and ask for how long (RFC 7828 3.2.1); on TCP and DoT alone (KAL-08).
    pub keepalive: bool,
}

impl Passed {
    /// Octets of all options together: room for whatever is exchanged in options today, and for an answer beside it.
    const MOST: usize = 512;

    /// The options in `rdata` of `message` that have one of `codes`. What does not fit stays behind.
    #[must_use]
    pub fn pick(codes: &Arc<[u16]>, message: &[u8], rdata: Span) -> Self {
        let mut octets = Vec::new();
        for (code, data) in Options::new(message, rdata).filter_map(Result::ok) {
            let data = data.of(message);
            if codes.contains(&code) && octets.len() + opt::OPTION_HEAD + data.len() <= Self::MOST {
                octets.put_u16(code);
                octets.put_u16(u16::try_from(data.len()).unwrap_or(u16::MAX));
                octets.put_slice(data);
            }
        }
        Self { codes: Arc::clone(codes), octets: octets.into() }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        let end = u16::try_from(self.octets.len()).unwrap_or(u16::MAX);
        Options::new(&self.octets, Span { start: 0, end }).count()
    }
}

/// Why bytes are not the answer to an [`Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// No response to a standard query, or a header cut short.
    #[error("not a response to a query")]
    NotAResponse,
    /// Another id.
    #[error("another id")]
    Id,
    /// Another question.
    #[error("another question")]
    Question,
    /// Another subnet (ECS-06).
    #[error("another subnet")]
    Subnet,
}

impl Ask {
    /// A question of our own, of class IN: recursive, padded where that helps, and nothing more. `name` is a wire name.
    #[must_use]
    pub fn new(name: &[u8], rtype: u16) -> Self {
        Self {
            question: [name, &rtype.to_be_bytes(), &class::IN.to_be_bytes()].concat().into(),
            recursion_desired: true,
            checking_disabled: false,
            authentic_data: false,
            dnssec_ok: false,
            padding: true,
            prefer_stream: false,
            without_edns: false,
            patient: false,
            avoid: None,
            subnet: None,
            passed: None,
        }
    }

    /// Appends the message for `leg` to `out`.
    pub fn compose(&self, leg: Leg<'_>, out: &mut BytesMut) {
        let start = out.len();
        let flags = Flags::default()
            .with(Flags::RD, self.recursion_desired)
            .with(Flags::CD, self.checking_disabled)
            .with(Flags::AD, self.authentic_data);
        let header = Header { id: leg.id, flags, questions: 1, ..Header::default() };
        out.put_slice(&header.to_octets());
        out.put_slice(&self.question);
        if self.without_edns {
            return;
        }
        let mut length = out.len() - start + opt::OPT_LEN;
        let mut writer = OptWriter::start(out, UDP_SIZE, 0, self.dnssec_ok);
        if let Some(cookie) = leg.cookie {
            writer.option(option::COOKIE, &[cookie]);
            length += opt::OPTION_HEAD + cookie.len();
        }
        if let Some(Telling { subnet, .. }) = self.subnet {
            writer.option(option::ECS, &[&subnet.head(0), subnet.address()]);
            length += opt::OPTION_HEAD + subnet.head(0).len() + subnet.address().len();
        }
        if let Some(passed) = &self.passed {
            writer.options(&passed.octets);
            length += passed.octets.len();
        }
        if leg.keepalive {
            writer.option(option::KEEPALIVE, &[]);
            length += opt::OPTION_HEAD;
        }
        let wanted = leg.encrypted && self.padding;
        if let Some(padding) = opt::padding(length, PADDING_BLOCK, crate::wire::MAX_MESSAGE).filter(|_| wanted) {
            writer.pad(padding);
        }
        writer.finish();
        if let Some(message) = out.get_mut(start..) {
            patch::add_additional(message);
        }
    }

    /// Does `answer` belong to this question asked under `id`? Letter case aside, all must match (RFC 5452 9.1).
    ///
    /// A response without a question section passes only with an error RCODE (some servers cut FORMERR, NOTIMP, REFUSED short).
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, answer: &[u8], id: u16) -> Result<(), Mismatch> {
        let header = Header::parse(answer).map_err(|_| Mismatch::NotAResponse)?;
        if header.id != id {
            return Err(Mismatch::Id);
        }
        if !header.flags.has(Flags::QR) || header.flags.opcode() != 0 {
            return Err(Mismatch::NotAResponse);
        }
        if header.questions == 0 && header.flags.rcode() != 0 && header.answers == 0 {
            return Ok(());
        }
        let question = Question::parse(answer).map_err(|_| Mismatch::Question)?;
        let same = header.questions == 1 && question.octets(answer).eq_ignore_ascii_case(&self.question);
        if !same {
            return Err(Mismatch::Question);
        }
        let Some(Telling { subnet, .. }) = self.subnet else { return Ok(()) };
        let echoed = subnet_option(answer, &header, question.end());
        if echoed.is_none_or(|data| scope(subnet, data).is_some()) { Ok(()) } else { Err(Mismatch::Subnet) }
    }

    /// For how many bits of what may be told of the client an answer is, where its server was told `told` and says `scope`: none
    /// where that was not of the client, and 255, more than there are, where the server would have had to be told more (RFC 7871
    /// 7.3.1).
    #[must_use]
    pub fn reach(&self, told: Option<Subnet>, scope: u8) -> u8 {
        let most = self.subnet.map(|most| most.subnet);
        match told.filter(|told| told.length() > 0 && most.is_some_and(|most| told.holds(most))) {
            Some(told) if scope > told.length() => u8::MAX,
            Some(_) => scope,
            None => 0,
        }
    }
}

/// SCOPE PREFIX-LENGTH in the data of a server's client-subnet option, the server having been told `told`; `None` where another one
/// stands there (RFC 7871 7.3).
#[must_use]
pub fn scope(told: Subnet, data: &[u8]) -> Option<u8> {
    let (echoed, scope) = Subnet::read(data)?;
    // Of an address of which no bit counts, the family does not either.
    (echoed == told || (echoed.length(), told.length()) == (0, 0)).then_some(scope)
}

/// The data of the client-subnet option of `message`, whose records begin at `at`.
fn subnet_option<'a>(message: &'a [u8], header: &Header, at: usize) -> Option<&'a [u8]> {
    let opt = Records::at(message, header, at).filter_map(Result::ok).find(|record| record.rtype == rtype::OPT)?;
    let mut options = Options::new(message, opt.rdata).filter_map(Result::ok);
    options.find(|(code, _)| *code == option::ECS).map(|(_, data)| data.of(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ecs_08_an_answer_is_for_as_many_bits_of_the_client_as_its_server_could_tell() {
        let most = Subnet::of([198, 51, 100, 0].into()).within(24);
        let ask = Ask { subnet: Some(Telling { subnet: most, basis: Basis::Client }), ..Ask::new(&[0], rtype::A) };
        let elsewhere = Subnet::of([203, 0, 113, 0].into()).within(24);
        for (told, scope, reach) in [
            (Some(most), 16, 16),
            (Some(most), 25, u8::MAX),
            (Some(most.within(16)), 16, 16),
            (Some(most.within(16)), 24, u8::MAX),
            (Some(most.hidden()), 24, 0),
            (Some(elsewhere), 24, 0),
            (None, 24, 0),
        ] {
            assert_eq!(ask.reach(told, scope), reach, "{told:?} {scope}");
        }
        assert_eq!(Ask::new(&[0], rtype::A).reach(Some(elsewhere), 24), 0);
    }

    #[test]
    fn pad_04_pad_05_what_is_told_and_what_passes_count_in_blocks_on_encrypted_legs_alone() {
        let subnet = Telling { subnet: Subnet::of([198, 51, 100, 9].into()).within(24), basis: Basis::Client };
        let passed = Passed { codes: [65001].into(), octets: (*b"\xfd\xe9\0\x05there").into() };
        for (subnet, passed) in
            [(None, None), (Some(subnet), None), (None, Some(&passed)), (Some(subnet), Some(&passed))]
        {
            let ask = Ask { subnet, passed: passed.cloned().map(Arc::new), ..Ask::new(b"\x01a\0", rtype::A) };
            for leg in [Leg::default(), Leg { cookie: Some(&[7; 8]), keepalive: true, ..Leg::default() }] {
                let length = |encrypted| {
                    let mut out = BytesMut::new();
                    ask.compose(Leg { encrypted, ..leg }, &mut out);
                    out.len()
                };
                assert_eq!(length(true) % PADDING_BLOCK, 0, "{ask:?} {leg:?}");
                assert!(length(false) < PADDING_BLOCK);
            }
        }
    }

    #[test]
    fn ecs_06_another_subnet_is_another_question_but_for_the_family_of_none() {
        let told = Subnet::of([198, 51, 100, 9].into()).within(24);
        let answer = |data: &[u8]| {
            let header = Header { id: 7, flags: Flags(Flags::QR), questions: 1, additionals: 1, ..Header::default() };
            let mut message = [&header.to_octets()[..], b"\x01a\0\0\x01\0\x01"].concat();
            let mut opt = OptWriter::start(&mut message, UDP_SIZE, 0, false);
            opt.option(option::ECS, &[data]);
            opt.finish();
            message
        };
        for (subnet, data, expected) in [
            (told, &[0, 1, 24, 24, 198, 51, 100][..], Ok(())),
            (told, &[0, 1, 24, 24, 198, 51, 101], Err(Mismatch::Subnet)),
            (told, &[0, 1, 16, 16, 198, 51], Err(Mismatch::Subnet)),
            (told, &[0, 2, 24, 0, 198, 51, 100], Err(Mismatch::Subnet)),
            (told, &[0, 1, 24], Err(Mismatch::Subnet)),
            (told.hidden(), &[0, 2, 0, 0], Ok(())),
            (told.hidden(), &[0, 1, 8, 0, 198], Err(Mismatch::Subnet)),
        ] {
            let subnet = Some(Telling { subnet, basis: Basis::Client });
            let ask = Ask { subnet, ..Ask::new(b"\x01a\0", rtype::A) };
            assert_eq!(ask.check(&answer(data), 7), expected, "{data:?}");
        }
    }

    #[test]
    fn spf_01_only_an_error_without_records_may_leave_the_question_out() {
        let ask = Ask::new(b"\x01a\0", rtype::A);
        let checked = |rcode: u16, answers: u16| {
            let header = Header { flags: Flags(Flags::QR).with_rcode(rcode), answers, ..Header::default() };
            ask.check(&header.to_octets(), 0)
        };
        assert_eq!((checked(1, 0), checked(5, 0)), (Ok(()), Ok(())));
        assert_eq!((checked(0, 0), checked(1, 1)), (Err(Mismatch::Question), Err(Mismatch::Question)));
    }
}
