//! Answers past their time that stand in while no fresh one is to be had (RFC 8767; STANDARDS group STL).
//!
//! Off the fast path: only questions come here that neither memory nor, within `cache.stale_after`, an upstream has answered. The
//! caller says why; this file says whether an expired answer may stand in for that, and makes a reply of it.

use std::time::Duration;

use super::finish::{self, Seal};
use super::keys::Keys;
use super::rcode::{Extended, Extras, NOBODY_UP, Problem};
use super::walk::Walk;
use super::{Pipeline, Shared};
use crate::cache::{Bits, Key};
use crate::clock::Moment;
use crate::reply::{Facts, Freshness, Kind, Meta, Out, Scope, Source};
use crate::trail::{Recall, Stale, Sudden};
use crate::wire::Flags;
use crate::wire::registry::{ede, rcode, rtype};

/// How long an exchange goes on whose client has been answered, or can be (RFC 8767 5: 10 to 30 s; STL-05).
pub const REFRESH: Duration = Duration::from_secs(10);

/// Types under which a newer answer may say that an older one of the same name is no longer true (RFC 8767 7); 0 says it of all.
const TYPES: [u16; 12] = [
    0,
    rtype::A,
    rtype::AAAA,
    rtype::CNAME,
    rtype::HTTPS,
    rtype::SVCB,
    rtype::MX,
    rtype::TXT,
    rtype::NS,
    rtype::SOA,
    rtype::SRV,
    rtype::PTR,
];

impl Pipeline {
    /// Answers with what has expired, if that may stand in: `why`, and the extended error that tells more.
    pub(super) fn stand_in(
        &self,
        keys: &Keys,
        walk: &mut Walk<'_>,
        (why, reason): (Stale, Option<Extended>),
        out: &mut Out<'_>,
    ) -> Option<Facts> {
        let now = self.shared.clock.now();
        let key = self.shared.find_stand_in(keys, now)?;
        let Shared { cache, cache_settings, .. } = &*self.shared;
        let ttl = u32::try_from(cache_settings.stale_ttl.as_secs()).unwrap_or(u32::MAX).max(1);
        let (meta, fit) = cache.lookup_stale(&key, now, |stored| {
            (stored.meta, finish::copy_with(walk, stored, finish::Ttls::All(ttl), out))
        })?;
        walk.reached(&key);
        let age = now.seconds_since(meta.received);
        let since = age.saturating_sub(meta.lifetime);
        walk.trail.recall = Recall::Stale { age, since, supplier: meta.supplier, why };
        if meta.is_sudden {
            walk.trail.sudden = Sudden::Earlier;
        }
        self.counters.stood_in(why);
        // What was true when it was signed may no longer be (SEC-08).
        let flags = meta.flags.with(Flags::AD, false);
        let seal = Seal { flags, rcode: meta.rcode, extras: extras(&meta, reason) };
        let freshness = Freshness { max_age: ttl, scope: Scope::Public };
        Some(self.close(walk, (fit, seal), (Source::Stale, freshness), out))
    }

    /// The same for a question whose servers are all known to be down: nobody waits to be told again. Somebody asks them for it now
    /// and then (STL-04).
    pub(super) fn stand_in_for_the_down(&self, keys: &Keys, walk: &mut Walk<'_>, out: &mut Out<'_>) -> Option<Facts> {
        let Shared { exchange, failures, clock, .. } = &*self.shared;
        if !exchange.is_down(walk.question) {
            return None;
        }
        let facts = self.stand_in(keys, walk, (Stale::Down, first(&NOBODY_UP)), out)?;
        let at = self.shared.at(walk.question, clock.now());
        if failures.hold(&keys.own(), at, NOBODY_UP.rcode, ede::NO_REACHABLE_AUTHORITY) {
            // A full queue loses nothing: it is tried again when the hold is over.
            let _ = self.offer(self.errand(keys, walk));
        }
        Some(facts)
    }

    /// The same in place of `problem`.
    pub(super) fn stand_in_or_refuse(
        &self,
        keys: &Keys,
        walk: &mut Walk<'_>,
        (why, problem): (Stale, &Problem),
        out: &mut Out<'_>,
    ) -> Facts {
        let facts = self.stand_in(keys, walk, (why, first(problem)), out);
        facts.unwrap_or_else(|| self.refuse(walk, problem, Source::Error, out))
    }
}

impl Shared {
    /// May something that has expired stand in?
    pub(super) fn has_stand_in(&self, keys: &Keys, now: Moment) -> bool {
        self.find_stand_in(keys, now).is_some()
    }

    /// Where what may stand in is kept: an answer to the very question, for the client's network or for everyone, or that the name does
    /// not exist. None for those who want no recursion: RD=0 asks what is known to be so (STL-08).
    fn find_stand_in(&self, keys: &Keys, now: Moment) -> Option<Key> {
        let (everyones, asked) = ([*keys.insert()?, keys.denial()], keys.answer().rtype());
        let mut places = keys.near(&self.cache).chain(everyones);
        places.find(|key| {
            // What is said to everyone is said to a client's network too; of what is for everyone the neighbours are the same.
            let everyones = Some(keys.answer()).filter(|answer| answer.reach() != key.reach());
            let is_superseded = |of| self.is_superseded(key, of, asked);
            self.cache.has_stale(key, now) && !std::iter::once(key).chain(everyones).any(is_superseded)
        })
    }

    /// Has a newer answer for the name of `of`, to those whom that is for and to a question for the type `asked` or a common one, made
    /// the one of `key` untrue? A name that has become an alias has no other records (STL-09), one that has ceased to exist has none
    /// at all, and one that exists again does not not exist. The newer one tells even when it has expired too, and whoever asked for it.
    fn is_superseded(&self, key: &Key, of: &Key, asked: u16) -> bool {
        let Some(old) = self.cache.meta(key) else { return true };
        let bits = [false, true]
            .into_iter()
            .flat_map(|dnssec_ok| [false, true].map(|checking_disabled| Bits { dnssec_ok, checking_disabled }));
        bits.flat_map(|bits| TYPES.into_iter().chain([asked]).map(move |rtype| of.sibling(rtype, bits)))
            .filter_map(|sibling| self.cache.meta(&sibling))
            .any(|new| contradicts(&new, &old))
    }
}

fn contradicts(new: &Meta, old: &Meta) -> bool {
    let is_alias_now = new.is_alias && !old.is_alias;
    let is_gone_now = new.kind == Kind::NxDomain && old.kind != Kind::NxDomain;
    // An alias whose end does not exist is kept as NXDOMAIN too; its name exists.
    let is_denied = |meta: &Meta| meta.kind == Kind::NxDomain && !meta.is_alias;
    let is_back_now = is_denied(old) && !is_denied(new);
    new.received > old.received && (is_alias_now || is_gone_now || is_back_now)
}

/// First that the answer is stale, then why; or what came with it.
fn extras(meta: &Meta, reason: Option<Extended>) -> Extras {
    let code = if meta.rcode == rcode::NXDOMAIN { ede::STALE_NXDOMAIN } else { ede::STALE };
    let with_it = meta.ede.map(|code| Extended { code, text: "" });
    [Some(Extended { code, text: "" }), reason.or(with_it)]
}

fn first(problem: &Problem) -> Option<Extended> {
    problem.extras.into_iter().flatten().next()
}
