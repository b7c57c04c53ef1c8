//! Hands on the running cache: counts, shows and drops what it holds, on the control thread, in steps.
//!
//! One walk at a time; between two steps other tasks of this thread run, and workers have the shard. A caller who leaves ends its
//! walk: what a flush has dropped by then is dropped.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::yield_now;

use super::Control;
use crate::admin::held::words::{self, Names};
use crate::admin::held::{CacheAnswer, CacheRequest, Flushed, Held, Listing, Stats};
use crate::cache::{At, Fate, KeyView, Selection};
use crate::pipeline::NOT_RECURSIVE;
use crate::presentation::type_name;
use crate::reply::Source;
use crate::upstream::Exchange as _;
use crate::wire::name::Shown;

/// Failures listed at most.
const FAILURES: usize = 1000;

/// The right to walk.
#[derive(Clone, Debug)]
pub struct Hands(Arc<Semaphore>);

impl Default for Hands {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Hands {
    /// Does what is asked.
    pub async fn serve(self, control: Arc<Control>, request: CacheRequest) -> CacheAnswer {
        // Never closed: only callers who left get no permit.
        let _turn = self.0.acquire().await;
        match request {
            CacheRequest::Stats => CacheAnswer::Stats(stats(&control).await),
            CacheRequest::Show { name, rtype } => CacheAnswer::Held(show(&control, name, rtype).await),
            CacheRequest::Flush(selection) => CacheAnswer::Flushed(flush(&control, &selection).await),
        }
    }
}

async fn stats(control: &Control) -> Stats {
    let shared = &control.force.load_full().shared;
    let now = shared.clock().now();
    let held = shared.cache().stats();
    let mut stats = Stats {
        entries: held.entries,
        octets_used: held.octets_used,
        octets_allowed: held.octets_allowed,
        inserted: held.inserted,
        evicted: held.evicted,
        rejected: held.rejected,
        limited: held.limited,
        failures: wide(shared.failures().len()),
        under_way: wide(shared.joins_in_flight()),
        ..Stats::default()
    };
    for source in Source::ALL {
        let counters = control.counters.iter().filter_map(|worker| worker.answers.get(source as usize));
        let count = counters.fold(0, |sum: u64, counter| sum.wrapping_add(counter.value()));
        stats.answered_from.insert(Cow::Borrowed(source.name()), count);
    }
    for (map, words) in
        [(&mut stats.kinds, &["answer", "nodata", "nxdomain"]), (&mut stats.states, &["fresh", "stale", "expired"])]
    {
        map.extend(words.iter().map(|&word| (Cow::Borrowed(word), 0)));
    }
    let mut walk = shared.cache().walk();
    while walk.step(&mut |entry| {
        let meta = entry.stored.meta;
        let (state, ..) = words::standing(entry.expires, meta.stale, now);
        *stats.kinds.entry(Cow::Borrowed(words::kind(meta.kind))).or_default() += 1;
        *stats.states.entry(Cow::Borrowed(state)).or_default() += 1;
        Fate::Stays
    }) {
        yield_now().await;
    }
    stats
}

async fn show(control: &Control, name: Box<[u8]>, rtype: Option<u16>) -> Held {
    let shared = &control.force.load_full().shared;
    let shown = Shown(&name).to_string();
    let selection = Selection::Name { name, rtype };
    let mut listing = Listing::default();
    let mut walk = shared.cache().walk();
    while walk.step(&mut |entry| {
        if selection.takes(entry.key) {
            listing.take(&entry);
        }
        Fate::Stays
    }) {
        yield_now().await;
    }
    let now = shared.clock().now();
    let names = Names { pool: &|view| control.pool_of(view), upstream: &|upstream| control.named(upstream) };
    let routes = &control.force.load_full().routes;
    let at = |key: &[u8]| At { now, comebacks: KeyView::of(key).map_or(0, |view| routes.comebacks(&view.question())) };
    let failed = shared.failures().list(&selection, at, FAILURES);
    let failures = failed.iter().filter_map(|(key, failure)| words::failure(key, *failure, NOT_RECURSIVE, &names));
    Held { name: shown, rtype: rtype.map(type_name), failures: failures.collect(), ..listing.told(now, &names) }
}

async fn flush(control: &Control, selection: &Selection) -> Flushed {
    let shared = &control.force.load_full().shared;
    // First, so that what is under way is not kept behind the walk's back.
    shared.begin_flush(selection.clone());
    let failures = shared.failures().forget(selection);
    let everything = match selection {
        Selection::All => true,
        Selection::Suffix(domain) => **domain == [0],
        Selection::Name { .. } => false,
    };
    if everything {
        return Flushed { entries: shared.cache().flush_all(), failures };
    }
    let mut entries = 0;
    let mut walk = shared.cache().walk();
    while walk.step(&mut |entry| {
        let is_taken = selection.takes(entry.key);
        entries += u64::from(is_taken);
        if is_taken { Fate::Goes } else { Fate::Stays }
    }) {
        yield_now().await;
    }
    Flushed { entries, failures }
}

impl Control {
    /// The pool that answers what has this key; `None` if other servers do by now.
    fn pool_of(&self, view: &KeyView<'_>) -> Option<String> {
        let question = view.question();
        let routes = &self.force.load().routes;
        let is_the_same = routes.route(&question).fingerprint == view.route;
        is_the_same.then(|| routes.pool_name(&question).to_owned())
    }
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
