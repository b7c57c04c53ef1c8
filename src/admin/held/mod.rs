//! What the cache holds, for people and programs: what `/api/cache` and its paths are asked, and what they answer.
//!
//! The answers are made where the cache is, on the control thread, and go out as JSON; `hushgate cache` reads them back.

pub mod request;
pub mod words;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use request::{BadCacheRequest, CacheRequest};
pub use words::{Copied, Listing};

/// What came of a [`CacheRequest`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum CacheAnswer {
    /// The figures.
    Stats(Stats),
    /// What is held for a name.
    Held(Held),
    /// What was dropped.
    Flushed(Flushed),
}

/// The cache's figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Answers held, expired ones included.
    pub entries: u64,
    /// Octets they take.
    pub octets_used: u64,
    /// Octets that everything may take, index and spare room included; 0 where the cache is off.
    pub octets_allowed: u64,
    /// Answers held, by kind: `answer`, `nodata`, `nxdomain`.
    pub kinds: BTreeMap<Cow<'static, str>, u64>,
    /// Answers held, by state: `fresh`, `stale` (may stand in), `expired`.
    pub states: BTreeMap<Cow<'static, str>, u64>,
    /// Answers kept since the start.
    pub inserted: u64,
    /// Answers dropped to make room.
    pub evicted: u64,
    /// Answers not kept for their size.
    pub rejected: u64,
    /// Times an answer got no lasting place because its domain has its share.
    #[serde(default)]
    pub limited: u64,
    /// Failures remembered.
    pub failures: u64,
    /// Questions under way.
    pub under_way: u64,
    /// Questions answered since the start, by where the answer came from: `cache`, `upstream`, `local`, `error` and so on.
    pub answered_from: BTreeMap<Cow<'static, str>, u64>,
}

/// What is held for a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The name.
    pub name: String,
    /// The one type that was asked for.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub rtype: Option<String>,
    /// The answers.
    pub entries: Vec<Entry>,
    /// Answers that there are beside them: too many, or too long, to be shown at once.
    pub more: u64,
    /// The failures that hold.
    pub failures: Vec<Failure>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is found by.
    #[serde(flatten)]
    pub key: Key,
    /// `answer`, `nodata` or `nxdomain`.
    pub kind: Cow<'static, str>,
    /// The RCODE.
    pub rcode: Cow<'static, str>,
    /// `fresh`, `stale` (expired, and may stand in while no fresh answer is to be had) or `expired`.
    pub state: Cow<'static, str>,
    /// Seconds since it was received.
    pub age: u32,
    /// Seconds it is still fresh; below zero, seconds since it was.
    pub ttl_left: i64,
    /// Seconds it may still stand in, where its state is `stale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_left: Option<u64>,
    /// Times it was served.
    pub hits: u32,
    /// Who supplied it.
    pub supplier: String,
    /// Did its supplier say that it was validated?
    #[serde(rename = "ad")]
    pub authentic: bool,
    /// Does it deny what there was data for a moment before it came?
    #[serde(default)]
    pub sudden: bool,
    /// The extended error that came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ede: Option<String>,
    /// Octets it takes in the cache.
    pub octets: usize,
    /// Its records in presentation form, TTLs as they would go out now.
    pub records: Vec<String>,
    /// Records that there are beside them.
    pub records_more: u64,
}

/// One failure that is remembered: until it ends nothing is sent for the question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What it is found by.
    #[serde(flatten)]
    pub key: Key,
    /// The RCODE.
    pub rcode: Cow<'static, str>,
    /// The extended error.
    pub ede: String,
    /// Seconds it still holds.
    pub left: u32,
    /// Was recursion asked for? What fails without it is kept apart.
    pub recursive: bool,
}

/// The parts of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The name, in lower case.
    pub name: String,
    /// The type; `any` for what holds for every type of the name.
    #[serde(rename = "type")]
    pub rtype: String,
    /// The class.
    pub class: String,
    /// Were DNSSEC records wanted?
    #[serde(rename = "do")]
    pub dnssec_ok: bool,
    /// Was validation not wanted?
    #[serde(rename = "cd")]
    pub checking_disabled: bool,
    /// The upstreams that answer it, as a fingerprint.
    pub route: String,
    /// The pool that they are; none where that name is answered by other servers by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// What was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flushed {
    /// Answers.
    pub entries: u64,
    /// Failures.
    pub failures: u64,
}
