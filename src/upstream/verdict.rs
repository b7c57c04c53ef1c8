//! Does an answer settle the question, or might another server do better?

use crate::wire::registry::{option, rcode, rtype};
use crate::wire::{Header, Options, Record, Records, Section, WireError, u16_at};

/// What an answer means for the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stands.
    Final,
    /// SERVFAIL or REFUSED without a reason that would hold everywhere.
    Elsewhere,
}

/// An answer that cannot be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer cannot be read to its end")]
pub struct Unusable;

impl From<WireError> for Unusable {
    fn from(_: WireError) -> Self {
        Self
    }
}

/// Judges `message` by its RCODE and, for a failure, by its extended errors (RFC 8914).
///
/// # Errors
/// It is one that `pipeline/digest` would not take either: then it is no answer, and another server is asked.
pub fn judge(message: &[u8]) -> Result<Verdict, Unusable> {
    let header = Header::parse(message)?;
    let (mut edns, mut deliberate) = (false, false);
    for record in Records::new(message, &header)? {
        let record = record?;
        if record.rtype == rtype::OPT {
            let is_root = message.get(usize::from(record.owner)) == Some(&0);
            if edns || record.section != Section::Additional || !is_root {
                return Err(Unusable);
            }
            edns = true;
            deliberate = is_deliberate(message, &record)?;
        } else if record.leads_astray(message) {
            return Err(Unusable);
        }
    }
    let failed = matches!(header.flags.rcode(), rcode::SERVFAIL | rcode::REFUSED);
    Ok(if failed && !deliberate { Verdict::Elsewhere } else { Verdict::Final })
}

/// Says an extended error that validation failed or that somebody forbids the answer? Then asking on would be a way round it.
fn is_deliberate(message: &[u8], opt: &Record) -> Result<bool, Unusable> {
    let mut found = false;
    for entry in Options::new(message, opt.rdata) {
        let (code, data) = entry?;
        if code == option::EDE {
            found |= is_deliberate_code(u16_at(data.of(message), 0)?);
        }
    }
    Ok(found)
}

/// Unsupported algorithm or digest, the bogus family, blocked, censored, filtered, prohibited.
const fn is_deliberate_code(code: u16) -> bool {
    matches!(code, 1 | 2 | 5..=12 | 15..=18)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::wire::{Flags, OptWriter};

    fn failure(rcode: u16, ede: Option<u16>) -> BytesMut {
        let flags = Flags(Flags::QR).with_rcode(rcode);
        let mut message = BytesMut::from(&Header { flags, additionals: 1, ..Header::default() }.to_octets()[..]);
        let mut writer = OptWriter::start(&mut message, 1232, rcode, false);
        if let Some(code) = ede {
            writer.option(option::EDE, &[&code.to_be_bytes(), b"why"]);
        }
        writer.finish();
        message
    }

    #[test]
    fn plain_failures_go_on_to_the_next_server() {
        for (rcode, ede) in [(2, None), (5, None), (2, Some(22)), (2, Some(0)), (2, Some(14))] {
            assert_eq!(judge(&failure(rcode, ede)), Ok(Verdict::Elsewhere), "{rcode} {ede:?}");
        }
    }

    #[test]
    fn bogus_and_blocked_answers_stand() {
        for ede in [1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 15, 16, 17, 18] {
            assert_eq!(judge(&failure(2, Some(ede))), Ok(Verdict::Final), "{ede}");
        }
        assert_eq!(judge(&failure(3, None)), Ok(Verdict::Final));
        assert_eq!(judge(&failure(0, None)), Ok(Verdict::Final));
    }
}
