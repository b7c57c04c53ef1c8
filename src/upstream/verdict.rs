//! Does an answer settle the question, or might another server do better?

use crate::wire::registry::{option, rcode, rtype};
use crate::wire::{Header, Options, Records, u16_at};

/// What an answer means for the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stands.
    Final,
    /// SERVFAIL or REFUSED without a reason that would hold everywhere.
    Elsewhere,
}

/// Judges `message` by its RCODE and, for a failure, by its extended errors (RFC 8914).
#[must_use]
pub fn judge(message: &[u8]) -> Verdict {
    let failed = |header: &Header| matches!(header.flags.rcode(), rcode::SERVFAIL | rcode::REFUSED);
    match Header::parse(message).ok().filter(failed) {
        Some(header) if !is_deliberate(message, &header) => Verdict::Elsewhere,
        _ => Verdict::Final,
    }
}

/// Can every record of `message` be read? If not, another server of the pool may do better than a SERVFAIL.
#[must_use]
pub fn is_readable(message: &[u8]) -> bool {
    let Ok(mut records) = Header::parse(message).and_then(|header| Records::new(message, &header)) else {
        return false;
    };
    records.all(|record| {
        record.is_ok_and(|record| match record.rtype {
            rtype::OPT => Options::new(message, record.rdata).all(|entry| entry.is_ok()),
            _ => !record.leads_astray(message),
        })
    })
}

/// Says an extended error that validation failed or that somebody forbids the answer? Then asking on would be a way round it.
fn is_deliberate(message: &[u8], header: &Header) -> bool {
    let Ok(records) = Records::new(message, header) else { return false };
    records
        .flatten()
        .filter(|record| record.rtype == rtype::OPT)
        .flat_map(|record| Options::new(message, record.rdata).flatten())
        .filter(|&(code, _)| code == option::EDE)
        .filter_map(|(_, data)| u16_at(data.of(message), 0).ok())
        .any(is_deliberate_code)
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
    fn gen_10_records_cut_short_and_names_that_lead_nowhere_cannot_be_read() {
        let whole = failure(2, Some(22));
        assert!(is_readable(&whole));
        assert!(!is_readable(&whole[..whole.len() - 1]) && !is_readable(&whole[..5]));
        let mut option = whole.clone();
        option[12 + 11 + 3] += 1;
        assert!(!is_readable(&option), "an option beyond its OPT");
        // A CNAME whose owner, then whose target, points to itself.
        for at in [0xc00c_u16, 0xc017] {
            let answers = Header { flags: Flags(Flags::QR), answers: 1, ..Header::default() };
            let mut message = answers.to_octets().to_vec();
            message.extend(if at == 0xc00c { at.to_be_bytes().to_vec() } else { vec![0] });
            message.extend([0, 5, 0, 1, 0, 0, 0, 9, 0, 2]);
            message.extend(if at == 0xc00c { [1, b'x'] } else { at.to_be_bytes() });
            assert!(!is_readable(&message), "{message:02x?}");
        }
    }

    #[test]
    fn plain_failures_go_on_to_the_next_server() {
        for (rcode, ede) in [(2, None), (5, None), (2, Some(22)), (2, Some(0)), (2, Some(14))] {
            assert_eq!(judge(&failure(rcode, ede)), Verdict::Elsewhere, "{rcode} {ede:?}");
        }
    }

    #[test]
    fn bogus_and_blocked_answers_stand() {
        for ede in [1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 15, 16, 17, 18] {
            assert_eq!(judge(&failure(2, Some(ede))), Verdict::Final, "{ede}");
        }
        assert_eq!(judge(&failure(3, None)), Verdict::Final);
        assert_eq!(judge(&failure(0, None)), Verdict::Final);
    }
}
