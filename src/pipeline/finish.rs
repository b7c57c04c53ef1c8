//! The shared tail of every reply: copy, age, cut to size, fit to the asker, write our OPT once, pad.
//!
//! `copy` or `bare` lays down the message, `seal` makes it the asker's. `copy` runs inside the cache's lock, so it does no
//! more than bytes need: what does not fit is not even copied.

use super::cookie;
use super::ecs::Told;
use super::rcode::{Extended, Extras};
use super::settings::Settings;
use super::walk::Walk;
use crate::reply::{Freshness, Meta, Out, Scope, Stored};
use crate::trail::{Added, Cut};
use crate::upstream::ask::UDP_SIZE;
use crate::wire::registry::option;
use crate::wire::{Edns, Flags, HEADER_LEN, OptWriter, opt, patch};

/// Block that replies are padded to (RFC 8467 4.1).
const PADDING_BLOCK: usize = 468;

/// Octets of the cookie option in a reply.
const COOKIE_LEN: usize = opt::OPTION_HEAD + size_of::<cookie::Data>();

/// Octets of the edns-tcp-keepalive option in a reply.
const KEEPALIVE_LEN: usize = opt::OPTION_HEAD + 2;

/// What of a stored answer went into a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// All of it.
    Whole,
    /// Answer and authority: additional data may be missing without TC (RFC 2181 9).
    WithoutAdditional,
    /// The question alone.
    Nothing,
}

/// What a reply says beside the asker's own.
#[derive(Clone, Copy, Debug)]
pub struct Seal {
    /// AA, TC and AD.
    pub flags: Flags,
    /// The RCODE, extended bits included.
    pub rcode: u16,
    /// The extended errors.
    pub extras: Extras,
}

/// What finishing needs of the settings.
#[derive(Clone, Debug)]
pub struct Finish {
    padding: bool,
    keepalive: u16,
    nsid: Option<Box<[u8]>>,
}

impl Finish {
    /// By these settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        // RFC 7828 3.1: units of 100 ms.
        let keepalive = u16::try_from(settings.keepalive.as_millis() / 100).unwrap_or(u16::MAX);
        Self { padding: settings.padding, keepalive, nsid: settings.nsid.clone() }
    }

    /// Makes the message in `out` the asker's own and closes it.
    pub fn seal(&self, walk: &mut Walk<'_>, seal: &Seal, out: &mut Out<'_>) {
        let message = out.message();
        patch::set_id(message, walk.header.id);
        if let Some(place) = message.get_mut(HEADER_LEN..walk.question_end()) {
            place.copy_from_slice(walk.question);
        }
        walk.trail.ede = seal.extras.iter().flatten().map(|extended| extended.code).next();
        let mut flags = walk.fit(seal.flags, seal.rcode);
        if let Some(edns) = walk.edns {
            let (added, unsaid) = self.append_opt(walk, edns, seal, out);
            walk.trail.added = Added(walk.trail.added.0 | added);
            patch::add_additional(out.message());
            // EDE-02: a datagram without room for a reason says that there is more to hear over a stream.
            if unsaid && walk.transport.is_datagram() {
                walk.trail.cut = Cut(walk.trail.cut.0 | Cut::TRUNCATED);
                flags = flags.with(Flags::TC, true);
            }
        }
        patch::set_flags(out.message(), flags);
        out.end();
    }

    /// Appends our OPT; answers what went into it, and whether an extended error did not. Its room was reserved. The options take what
    /// is left: our name is the first to go, then extended errors go before a cookie does, and on a stream, where no answer is cut short,
    /// a cookie goes before records do (TCP-17).
    fn append_opt(&self, walk: &Walk<'_>, edns: Edns, seal: &Seal, out: &mut Out<'_>) -> (u16, bool) {
        let mut length = out.len() + opt::OPT_LEN;
        let (mut added, mut unsaid) = (Added::OPT, false);
        let mut writer = OptWriter::start(out.tail(), UDP_SIZE, seal.rcode, edns.dnssec_ok);
        if let Some(Told { asked: Some(asked), scope, .. }) = walk.told {
            writer.option(option::ECS, &[&asked.head(scope), asked.address()]);
            added |= Added::ECS;
            length += subnet_len(walk);
        }
        if let Some(cookie) = walk.cookie.as_ref().filter(|_| length + COOKIE_LEN <= walk.limit) {
            writer.option(option::COOKIE, &[cookie]);
            added |= Added::COOKIE;
            length += COOKIE_LEN;
        }
        if !walk.brought.is_empty() && length + walk.brought.len() <= walk.limit {
            writer.options(walk.brought);
            added |= Added::PASSED;
            length += walk.brought.len();
        }
        if keeps_alive(walk) && length + KEEPALIVE_LEN <= walk.limit {
            let keepalive = if walk.is_hurried { 0 } else { self.keepalive };
            writer.option(option::KEEPALIVE, &[&keepalive.to_be_bytes()]);
            added |= Added::KEEPALIVE;
            length += KEEPALIVE_LEN;
        }
        for Extended { code, text } in seal.extras.into_iter().flatten() {
            let longer = length + opt::OPTION_HEAD + 2 + text.len();
            if longer > walk.limit {
                unsaid = true;
                continue;
            }
            writer.option(option::EDE, &[&code.to_be_bytes(), text.as_bytes()]);
            added |= Added::EDE;
            length = longer;
        }
        let named = self.nsid.as_deref().filter(|_| edns.nsid);
        if let Some(nsid) = named.filter(|nsid| length + opt::OPTION_HEAD + nsid.len() <= walk.limit) {
            writer.option(option::NSID, &[nsid]);
            added |= Added::NSID;
            length += opt::OPTION_HEAD + nsid.len();
        }
        let wanted = self.padding && edns.padding && walk.transport.is_encrypted();
        if let Some(padding) = opt::padding(length, PADDING_BLOCK, walk.limit).filter(|_| wanted) {
            writer.pad(padding);
            added |= Added::PADDING;
        }
        writer.finish();
        (added, unsaid)
    }
}

/// The TTLs that a stored answer goes out with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttls {
    /// What is left after so many seconds.
    Aged(u32),
    /// The same for all records.
    All(u32),
}

/// Opens `out` with as much of `stored` as fits beside our OPT, its TTLs lowered by `age`.
pub fn copy(walk: &Walk<'_>, stored: Stored<'_>, age: u32, out: &mut Out<'_>) -> Fit {
    copy_with(walk, stored, Ttls::Aged(age), out)
}

/// Opens `out` with as much of `stored` as fits beside our OPT.
pub fn copy_with(walk: &Walk<'_>, stored: Stored<'_>, ttls: Ttls, out: &mut Out<'_>) -> Fit {
    let room = walk.limit.saturating_sub(reserved(walk));
    let additional_at = usize::from(stored.meta.additional_at);
    let (fit, end) = if stored.message.len() <= room {
        (Fit::Whole, stored.message.len())
    } else if stored.meta.additionals > 0 && additional_at <= room {
        (Fit::WithoutAdditional, additional_at)
    } else {
        (Fit::Nothing, walk.question_end())
    };
    out.begin();
    out.tail().extend_from_slice(stored.message.get(..end).unwrap_or(stored.message));
    match fit {
        Fit::Whole => {}
        Fit::WithoutAdditional => patch::put_u16(out.message(), 10, 0),
        Fit::Nothing => patch::set_counts(out.message(), [1, 0, 0, 0]),
    }
    // Offsets past what was copied change nothing.
    match ttls {
        Ttls::Aged(age) if age > 0 && fit != Fit::Nothing => patch::age_ttls(out.message(), stored.ttls, age, 0),
        Ttls::All(ttl) if fit != Fit::Nothing => patch::set_ttls(out.message(), stored.ttls, ttl),
        Ttls::Aged(_) | Ttls::All(_) => {}
    }
    fit
}

/// Opens `out` with the header and the asker's question.
pub fn bare(walk: &Walk<'_>, out: &mut Out<'_>) {
    out.begin();
    out.tail().extend_from_slice(&[0; HEADER_LEN]);
    out.tail().extend_from_slice(walk.question);
    patch::set_counts(out.message(), [u16::from(!walk.question.is_empty()), 0, 0, 0]);
}

/// The room kept for our OPT: with what the client told of its subnet, and on a datagram with its cookie, which vouches for the answer,
/// and with the options that the server has sent it: who has no room for them asks again over a stream.
fn reserved(walk: &Walk<'_>) -> usize {
    if walk.edns.is_none() {
        return 0;
    }
    let cookie = if walk.cookie.is_some() { COOKIE_LEN } else { 0 };
    let options = if walk.transport.is_datagram() { cookie + walk.brought.len() } else { 0 };
    opt::OPT_LEN + options + subnet_len(walk)
}

/// The octets of the client-subnet option in a reply.
fn subnet_len(walk: &Walk<'_>) -> usize {
    let asked = walk.told.and_then(|told| told.asked);
    asked.map_or(0, |asked| opt::OPTION_HEAD + asked.head(0).len() + asked.address().len())
}

/// Does the reply tell the idle time? Only to those who asked, on the transports that know the option (KAL-01, KAL-05).
fn keeps_alive(walk: &Walk<'_>) -> bool {
    walk.transport.keeps_alive() && walk.edns.is_some_and(|edns| edns.keepalive.is_some())
}

/// What `fit` left out, as the trail tells it.
#[must_use]
pub const fn cut(fit: Fit) -> u8 {
    match fit {
        Fit::Whole => 0,
        Fit::WithoutAdditional => Cut::ADDITIONAL,
        Fit::Nothing => Cut::TRUNCATED,
    }
}

/// How long HTTP caches may keep an answer that is `age` seconds old (DOH-11, DOH-12).
#[must_use]
pub const fn freshness(meta: &Meta, age: u32) -> Freshness {
    match meta.http_lifetime.saturating_sub(age) {
        0 => Freshness::NO_STORE,
        max_age => Freshness { max_age, scope: Scope::Public },
    }
}
