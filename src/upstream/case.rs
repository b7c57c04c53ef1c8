//! The question name's letters in random case: entropy that a forger off the path must guess beside id and port (RFC 5452 10).
//!
//! Of plain UDP only: who can forge a stream sees the letters anyway. A client never notices: the answer it gets is spelled as
//! it asked (GEN-04).

use crate::wire::{HEADER_LEN, Header, Records};

/// Octets of a type and a class.
const TYPE_AND_CLASS: usize = 4;

/// The QNAME of the question octets `question`.
fn qname(question: &[u8]) -> &[u8] {
    question.get(..question.len().saturating_sub(TYPE_AND_CLASS)).unwrap_or_default()
}

/// Gives the letters of `query`'s QNAME random case; `question` is its question as asked.
pub fn mix(query: &mut [u8], question: &[u8]) {
    // A name has at most 255 octets: a bit for each. Length octets are below 64, so none is taken for a letter.
    let bits: [u8; 32] = rand::random();
    let end = HEADER_LEN + qname(question).len();
    let letters = query.get_mut(HEADER_LEN..end).unwrap_or_default().iter_mut().enumerate();
    for (at, octet) in letters.filter(|(_, octet)| octet.is_ascii_alphabetic()) {
        let upper = bits.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
        *octet = if upper { octet.to_ascii_uppercase() } else { octet.to_ascii_lowercase() };
    }
}

/// Is the question in `answer` spelled exactly as in `query`? A response without a question, as some errors are, has no spelling.
#[must_use]
pub fn is_kept(answer: &[u8], query: &[u8], question: &[u8]) -> bool {
    let asked = HEADER_LEN..HEADER_LEN + question.len();
    has_no_question(answer) || answer.get(asked.clone()) == query.get(asked)
}

/// Spells the question of `answer`, and the owners that repeat it in full, as in `question`; pointers to it follow by themselves.
pub fn restore(answer: &mut [u8], question: &[u8]) {
    if has_no_question(answer) {
        return;
    }
    let name = qname(question);
    for owner in owners(answer, name) {
        put(answer, owner, name);
    }
    put(answer, HEADER_LEN, question);
}

/// Is `answer` without a question, as some errors are?
#[must_use]
pub fn has_no_question(answer: &[u8]) -> bool {
    Header::parse(answer).is_ok_and(|header| header.questions == 0)
}

/// Where records have `name` as their owner, written out.
fn owners(answer: &[u8], name: &[u8]) -> Vec<usize> {
    let Ok(records) = Header::parse(answer).and_then(|header| Records::new(answer, &header)) else { return Vec::new() };
    let owners = records.map_while(Result::ok).map(|record| usize::from(record.owner));
    owners
        .filter(|&at| {
            let spelled = answer.get(at..at + name.len());
            spelled.is_some_and(|spelled| spelled != name && spelled.eq_ignore_ascii_case(name))
        })
        .collect()
}

fn put(message: &mut [u8], at: usize, octets: &[u8]) {
    if let Some(place) = message.get_mut(at..at + octets.len()) {
        place.copy_from_slice(octets);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bytes::BytesMut;

    use super::super::ask::Leg;
    use super::super::testing::{ask as asked, reply};
    use super::*;

    #[test]
    fn spf_07_letters_get_random_case_and_nothing_else_changes() {
        let ask = asked("Abc-9.example");
        let mut plain = BytesMut::new();
        ask.compose(Leg::default(), &mut plain);
        let mut seen = HashSet::new();
        for _ in 0..64 {
            let mut mixed = plain.clone();
            mix(&mut mixed, &ask.question);
            assert!(mixed.eq_ignore_ascii_case(&plain));
            assert_eq!(mixed[12 + ask.question.len()..], plain[12 + ask.question.len()..]);
            seen.insert(mixed);
        }
        assert!(seen.len() > 50, "{} spellings", seen.len());
    }

    #[test]
    fn gen_04_the_question_and_owners_in_full_are_spelled_as_asked() {
        let ask = asked("wWw.example");
        let mut query = BytesMut::new();
        ask.compose(Leg::default(), &mut query);
        let shout = query[12..25].to_ascii_uppercase();
        let mut answer = reply(&query, 0);
        answer[12..25].copy_from_slice(&shout);
        answer[7] = 2;
        for owner in [&shout[..], &[0xc0, 12]] {
            answer.extend(owner);
            answer.extend([0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
        }
        assert!(!is_kept(&answer, &query, &ask.question));
        restore(&mut answer, &ask.question);
        assert!(is_kept(&answer, &query, &ask.question));
        let owner = 12 + ask.question.len();
        assert_eq!(answer[owner..owner + 13], ask.question[..13]);
    }

    #[test]
    fn junk_is_left_alone() {
        let ask = asked("a.example");
        for junk in [&[][..], &[0; 5], &[0; 12], &[0xff; 40]] {
            let mut octets = junk.to_vec();
            mix(&mut octets, &ask.question);
            restore(&mut octets, &ask.question);
            assert_eq!(octets.len(), junk.len());
        }
    }
}
