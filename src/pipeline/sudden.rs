//! Denials that come suddenly: NXDOMAIN, or no data, where there was data a moment ago.
//!
//! Between digest and the cache. Names do go away, but far more often a server is broken, censors, or serves a zone that somebody has
//! just got wrong; so each is counted and shown. Under guard another server of the pool is asked before it is believed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::exchange::inquire;
use super::keys::Keys;
use super::rcode::is_failure;
use super::{Pipeline, dns64};
use crate::cache::Key;
use crate::reply::{Kind, StoredBuf};
use crate::trail::{Attempts, Sudden, UpstreamId};
use crate::upstream::Ask;
use crate::wire::name::Shown;
use crate::wire::registry::{rcode, rtype};
use crate::wire::{Header, patch};

/// A denial is sudden while data was fresh within so many seconds. Up to the end of its TTL its zone vouched for it, be that days
/// after it was received; an hour later a name may well have been taken down in the meantime.
const MOMENT: u32 = 3600;

/// Seconds that a sudden denial is kept, and told to others, under guard: if it is a mistake, it heals with the next question. So it
/// does not stand in after that either.
const CEILING: u32 = 30;

/// Types by which a name is usually known: that it does not exist is news where it has just had data of one of these.
const USUAL: [u16; 3] = [rtype::A, rtype::AAAA, rtype::HTTPS];

/// How long a second opinion may take: the client has waited for the first already.
const PATIENCE: Duration = Duration::from_millis(1500);

/// An answer, and what was made of it.
#[derive(Debug)]
pub struct Weighed {
    /// The one that counts.
    pub stored: StoredBuf,
    /// Was it a sudden denial?
    pub sudden: Sudden,
    /// The attempts that a second opinion took.
    pub attempts: Attempts,
}

/// Looks whether `stored`, the answer to `ask`, is a sudden denial, and asks elsewhere if the name is under guard.
pub async fn weigh(pipeline: &Pipeline, stored: StoredBuf, ask: &Arc<Ask>, keys: &Keys, deadline: Instant) -> Weighed {
    let shared = &pipeline.shared;
    let before = keys.insert().filter(|_| is_denial(&stored) && !dns64::is_of_another_name(shared, ask));
    let now = shared.clock.now();
    let within = |key: Key| shared.cache.data_within(&key, MOMENT, now);
    let others = |key: &Key| USUAL.map(|rtype| key.of_type(rtype)).into_iter().filter(|_| is_of_name(&stored));
    let before = before.map(|key| keys.near(&shared.cache).chain([*key]).chain(others(key)));
    let Some(ago) = before.and_then(|mut keys| keys.find_map(within)) else {
        return Weighed { stored, sudden: Sudden::No, attempts: Attempts::default() };
    };
    let weighed = if shared.cache_settings.is_guarded(keys.answer().name()) {
        doubt(pipeline, stored, ask, ago, deadline).await
    } else {
        let stored = marked(stored, u32::MAX);
        Weighed { stored, sudden: Sudden::Unchecked { ago }, attempts: Attempts::default() }
    };
    pipeline.counters.denied(weighed.sudden);
    tracing::debug!(name = %Shown(keys.answer().name()), outcome = weighed.sudden.name(), ago, "sudden denial");
    weighed
}

/// Hears another server on the denial `stored`.
async fn doubt(pipeline: &Pipeline, stored: StoredBuf, ask: &Arc<Ask>, ago: u32, deadline: Instant) -> Weighed {
    let denier = stored.meta.supplier;
    let elsewhere = Arc::new(Ask { avoid: Some(denier), ..(**ask).clone() });
    let (second, attempts) = inquire(pipeline, &elsewhere, deadline.min(Instant::now() + PATIENCE)).await;
    match second.ok().filter(|second| !is_failure(second.meta.rcode)) {
        // That there is no data of the type says that there is such a name.
        Some(second) if !is_denial(&second) || is_of_name(&stored) && !is_of_name(&second) => {
            let name = |id: UpstreamId| pipeline.shared.exchange.name(id).map(str::to_owned);
            let (denied, answered) = (name(denier), name(second.meta.supplier));
            tracing::warn!(denied, answered, "one server denies suddenly what another still answers");
            Weighed { stored: second, sudden: Sudden::Contradicted { ago }, attempts }
        }
        Some(_) => Weighed { stored: marked(stored, CEILING), sudden: Sudden::Confirmed { ago }, attempts },
        None => Weighed { stored: marked(stored, CEILING), sudden: Sudden::Alone { ago }, attempts },
    }
}

/// Does it say that there is no such name, of whatever type?
const fn is_of_name(stored: &StoredBuf) -> bool {
    stored.meta.rcode == rcode::NXDOMAIN
}

/// Does it say that the name, or data of the type, does not exist? Also where nothing says for how long, as a censor's may not.
fn is_denial(stored: &StoredBuf) -> bool {
    match (stored.meta.rcode, stored.meta.kind) {
        (rcode::NXDOMAIN, _) | (rcode::NOERROR, Kind::NoData) => true,
        (rcode::NOERROR, Kind::Fleeting) => Header::parse(&stored.message).is_ok_and(|header| header.answers == 0),
        _ => false,
    }
}

/// The denial, remembered as sudden, with no TTL or lifetime above `ceiling` seconds.
fn marked(mut stored: StoredBuf, ceiling: u32) -> StoredBuf {
    let meta = &mut stored.meta;
    meta.is_sudden = true;
    meta.lifetime = meta.lifetime.min(ceiling);
    if ceiling == CEILING {
        meta.stale = 0;
    }
    meta.http_lifetime = meta.http_lifetime.min(ceiling);
    patch::cap_ttls(&mut stored.message, &stored.ttls, ceiling);
    stored
}
