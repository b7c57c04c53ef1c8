//! From what lies in the cache to what people read: copied under the lock of a shard, put into words outside it.
//!
//! Whoever chooses the names that are asked chooses what is listed here: entries, octets copied and text made are bounded.

use hickory_proto::rr::RecordType;

use super::{Entry, Failure, Held, Key};
use crate::cache::{self, KeyView};
use crate::clock::Moment;
use crate::presentation;
use crate::reply::{Kind, StoredBuf};
use crate::telemetry::names;
use crate::trail::UpstreamId;
use crate::wire::name::Shown;
use crate::wire::{Flags, HEADER_LEN, Header, Records};

/// Answers listed at most.
const ENTRIES: usize = 1000;
/// Octets of messages copied at most.
const OCTETS: usize = 1 << 20;
/// Octets of records in text at most.
const TEXT: usize = 1 << 20;

/// Who is who, which the cache knows by number alone.
pub struct Names<'a> {
    /// The pool that answers what has this key, if it still does.
    pub pool: &'a dyn Fn(&KeyView<'_>) -> Option<String>,
    /// A server.
    pub upstream: &'a dyn Fn(UpstreamId) -> Option<String>,
}

/// An entry, copied.
#[derive(Debug)]
pub struct Copied {
    key: Box<[u8]>,
    stored: StoredBuf,
    expires: Moment,
    hits: u32,
    size: usize,
}

/// Entries, copied as a walk comes by.
#[derive(Debug, Default)]
pub struct Listing {
    entries: Vec<Copied>,
    octets: usize,
    more: u64,
}

impl Listing {
    /// Copies one more, or counts it where enough are copied.
    pub fn take(&mut self, entry: &cache::Entry<'_>) {
        // What moves while a walk goes by is met twice.
        if let Some(at) = self.entries.iter().position(|known| *known.key == *entry.key) {
            let known = self.entries.swap_remove(at);
            self.octets -= known.key.len() + known.stored.message.len();
        }
        let octets = entry.key.len() + entry.stored.message.len();
        if self.entries.len() >= ENTRIES || self.octets + octets > OCTETS {
            self.more += 1;
            return;
        }
        self.octets += octets;
        self.entries.push(Copied {
            key: entry.key.into(),
            stored: StoredBuf {
                meta: entry.stored.meta,
                message: entry.stored.message.into(),
                ttls: entry.stored.ttls.into(),
                scope: 0,
                options: Box::default(),
            },
            expires: entry.expires,
            hits: entry.hits,
            size: entry.size,
        });
    }

    /// Puts them into words, by type and age. The name and the failures are the caller's to fill in.
    #[must_use]
    pub fn told(mut self, now: Moment, names: &Names<'_>) -> Held {
        self.entries.sort_by_key(|copied| {
            let rtype = KeyView::of(&copied.key).map_or(0, |view| view.rtype);
            (rtype, std::cmp::Reverse(copied.stored.meta.received))
        });
        let mut text = TEXT;
        let entries = self.entries.iter_mut().filter_map(|copied| told(copied, now, names, &mut text)).collect();
        Held { entries, more: self.more, ..Held::default() }
    }
}

fn told(copied: &mut Copied, now: Moment, names: &Names<'_>, text: &mut usize) -> Option<Entry> {
    let meta = copied.stored.meta;
    let view = KeyView::of(&copied.key)?;
    in_lower_case(&mut copied.stored.message, view.name);
    let age = now.seconds_since(meta.received);
    let (state, ttl_left, stale_left) = standing(copied.expires, meta.stale, now);
    let (records, records_more) = records(&copied.stored.message, age, text);
    Some(Entry {
        key: key(&view, names),
        kind: kind(meta.kind).into(),
        rcode: names::rcode(meta.rcode),
        state: state.into(),
        age,
        ttl_left,
        stale_left,
        hits: copied.hits,
        supplier: (names.upstream)(meta.supplier).unwrap_or_else(|| format!("upstream {}", meta.supplier.0)),
        authentic: meta.flags.has(Flags::AD),
        sudden: meta.is_sudden,
        ede: meta.ede.map(extended),
        octets: copied.size,
        records,
        records_more,
    })
}

/// Writes the question's `name`, which its records point to, as the key has it. It lies there in the letter case that it went
/// upstream in, chosen at random against forgers, which nobody who is answered sees.
fn in_lower_case(message: &mut [u8], name: &[u8]) {
    let place = message.get_mut(HEADER_LEN..).and_then(|rest| rest.get_mut(..name.len()));
    if let Some(place) = place.filter(|place| place.eq_ignore_ascii_case(name)) {
        place.copy_from_slice(name);
    }
}

/// The state of what expires at `expires` and may stand in for `stale` seconds more: in a word, in seconds left, and in seconds that
/// it may still stand in.
#[must_use]
pub fn standing(expires: Moment, stale: u32, now: Moment) -> (&'static str, i64, Option<u64>) {
    let seconds = |millis: u64| i64::try_from(millis.div_ceil(1000)).unwrap_or(i64::MAX);
    if now < expires {
        return ("fresh", seconds(expires.0 - now.0), None);
    }
    let over = now.0 - expires.0;
    let left = (u64::from(stale) * 1000).saturating_sub(over).div_ceil(1000);
    let state = if left > 0 { "stale" } else { "expired" };
    (state, -seconds(over), (left > 0).then_some(left))
}

/// A kind in a word.
#[must_use]
pub const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Positive => "answer",
        Kind::NoData => "nodata",
        Kind::NxDomain => "nxdomain",
        Kind::Fleeting => "fleeting",
    }
}

/// The failure of the question with the key of these octets. `apart` is what the routes of questions without recursion differ by.
#[must_use]
pub fn failure(octets: &[u8], failure: cache::Failure, apart: u64, names: &Names<'_>) -> Option<Failure> {
    let view = KeyView::of(octets)?;
    let other = KeyView { route: view.route ^ apart, ..view };
    let recursive = (names.pool)(&other).is_none();
    Some(Failure {
        key: key(if recursive { &view } else { &other }, names),
        rcode: names::rcode(failure.rcode),
        ede: extended(failure.ede),
        left: failure.left,
        recursive,
    })
}

fn key(view: &KeyView<'_>, names: &Names<'_>) -> Key {
    Key {
        name: Shown(view.name).to_string(),
        rtype: if view.rtype == u16::from(RecordType::ZERO) {
            "any".to_owned()
        } else {
            presentation::type_name(view.rtype)
        },
        class: presentation::class_name(view.class),
        dnssec_ok: view.bits.dnssec_ok,
        checking_disabled: view.bits.checking_disabled,
        route: format!("{:016x}", view.route),
        pool: (names.pool)(view),
    }
}

fn extended(code: u16) -> String {
    format!("{code} ({})", presentation::extended_error(code))
}

/// The records of `message` as they would go out at this age, and how many are left out once `text` octets are spent.
fn records(message: &[u8], age: u32, text: &mut usize) -> (Vec<String>, u64) {
    let (mut lines, mut more) = (Vec::new(), 0);
    let found = Header::parse(message).ok().and_then(|header| Records::new(message, &header).ok());
    for found in found.into_iter().flatten().flatten() {
        if *text == 0 {
            more += 1;
            continue;
        }
        let line = presentation::line(message, &found, found.ttl.saturating_sub(age));
        *text = text.saturating_sub(line.len());
        lines.push(line);
    }
    (lines, more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Bits, Cache, Fate, Settings};
    use crate::reply::Meta;

    const NOBODY: Names<'static> =
        Names { pool: &|view| (view.route == 7).then(|| "default".into()), upstream: &|_| None };

    /// `count` addresses for `a.example`, in answer to a question of `rtype`.
    fn message(rtype: u16, count: u16) -> Vec<u8> {
        let header = Header { questions: 1, answers: count, ..Header::default() };
        let mut octets = [&header.to_octets()[..], b"\x01a\x07example\0", &rtype.to_be_bytes(), &[0, 1]].concat();
        for _ in 0..count {
            octets.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1]);
        }
        octets
    }

    fn listing(types: std::ops::Range<u16>, records: u16) -> Listing {
        let cache = Cache::new(&Settings { size: 64 << 20, ..Settings::default() });
        for rtype in types {
            let question = [&b"\x01a\x07example\0"[..], &rtype.to_be_bytes(), &[0, 1]].concat();
            let key = Key::new(&question, Bits::default(), 0, 7);
            let meta = Meta { lifetime: 300, stale: 60, kind: Kind::Positive, ..Meta::default() };
            let stored = StoredBuf {
                meta,
                message: message(rtype, records).into(),
                ttls: Box::default(),
                scope: 0,
                options: Box::default(),
            };
            cache.insert(&key, stored.view(), Moment(0));
        }
        let (mut listing, mut walk) = (Listing::default(), cache.walk());
        while walk.step(&mut |entry| {
            // As if it had moved in between.
            listing.take(&entry);
            listing.take(&entry);
            Fate::Stays
        }) {}
        listing
    }

    use crate::cache::Key;

    #[test]
    fn an_answer_is_told_with_its_records_aged() {
        let held = listing(1..2, 1).told(Moment(12_000), &NOBODY);
        let [entry] = &held.entries[..] else { panic!("{held:?}") };
        assert_eq!(
            (entry.key.name.as_str(), entry.key.rtype.as_str(), entry.key.class.as_str()),
            ("a.example.", "A", "IN")
        );
        assert_eq!((entry.kind.as_ref(), entry.state.as_ref(), entry.age, entry.hits), ("answer", "fresh", 12, 0));
        assert_eq!(
            (entry.records.as_slice(), entry.records_more),
            (&["a.example. 288 IN A 192.0.2.1".to_owned()][..], 0)
        );
        assert_eq!((entry.key.pool.as_deref(), entry.supplier.as_str()), (Some("default"), "upstream 0"));
        assert_eq!((held.more, entry.octets > 60), (0, true));
    }

    #[test]
    fn what_has_expired_says_since_when_and_until_when_it_may_stand_in() {
        assert_eq!(standing(Moment(5000), 60, Moment(1)), ("fresh", 5, None));
        assert_eq!(standing(Moment(5000), 60, Moment(5000)), ("stale", 0, Some(60)));
        assert_eq!(standing(Moment(5000), 60, Moment(15_000)), ("stale", -10, Some(50)));
        assert_eq!(standing(Moment(5000), 60, Moment(65_000)), ("expired", -60, None));
        assert_eq!(standing(Moment(5000), 0, Moment(5000)), ("expired", 0, None));
    }

    #[test]
    fn a_list_is_bounded_and_says_what_it_leaves_out() {
        let held = listing(1..1201, 1).told(Moment(0), &NOBODY);
        assert!(held.entries.len() == ENTRIES && held.more >= 200, "{} {}", held.entries.len(), held.more);
        let held = listing(1..60, 2000).told(Moment(0), &NOBODY);
        assert!(held.entries.len() < 59 && held.more > 0);
        let (shown, more) = held.entries.iter().fold((0, 0), |(shown, more), entry| {
            (shown + entry.records.iter().map(String::len).sum::<usize>(), more + entry.records_more)
        });
        assert!(shown < TEXT + 100 && more > 0, "{shown} {more}");
    }

    #[test]
    fn a_failure_without_recursion_is_told_apart() {
        let question = b"\x01a\x07example\0\0\x01\0\x01";
        let told = |route| {
            let key = Key::new(question, Bits::default(), 0, route);
            failure(key.as_bytes(), cache::Failure { rcode: 2, ede: 22, left: 4, left_alone: 4 }, 0xff, &NOBODY)
                .unwrap()
        };
        assert!(told(7).recursive && !told(7 ^ 0xff).recursive);
        assert_eq!(told(7).key, told(7 ^ 0xff).key);
        assert_eq!((told(7).rcode.as_ref(), told(7).ede.as_str()), ("SERVFAIL", "22 (No Reachable Authority)"));
    }
}
