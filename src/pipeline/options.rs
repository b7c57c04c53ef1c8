//! Options that go from end to end: a client's, of codes that the operator allows, to the server that is asked, and the server's back.
//!
//! What such an option means is not known here, so nothing is known of whom else the answer is for: the question is neither looked up
//! nor kept, and joined by those alone who sent the very same. A question without such an option pays for one flag.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use super::walk::Walk;
use crate::trail::{Added, Cut};
use crate::upstream::ask::Passed;
use crate::wire::registry::{option, rtype};
use crate::wire::{Header, Options, Record, Records};

/// What may pass.
#[derive(Debug)]
pub struct Passing {
    codes: Arc<[u16]>,
    /// Keyed anew at every start: nobody can make two questions look equal that are not.
    hasher: RandomState,
}

/// Options of a client that go upstream.
#[derive(Clone, Debug)]
pub struct Sent {
    /// As they go.
    pub passed: Arc<Passed>,
    /// Keeps what is known of questions that carry them apart.
    pub mark: u64,
}

impl Passing {
    /// Options of these codes.
    #[must_use]
    pub fn new(codes: &[u16]) -> Self {
        Self { codes: codes.into(), hasher: RandomState::new() }
    }

    /// What of the options of the query `message` goes upstream; `None` where none does.
    pub fn sent(&self, message: &[u8], walk: &mut Walk<'_>) -> Option<Sent> {
        if self.codes.is_empty() || !walk.edns?.foreign { None } else { self.pick(message, walk) }
    }

    #[cold]
    fn pick(&self, message: &[u8], walk: &mut Walk<'_>) -> Option<Sent> {
        let opt = opt(message)?;
        let passed = Passed::pick(&self.codes, message, opt.rdata);
        let is_noted_elsewhere =
            |code| matches!(code, option::ECS | option::COOKIE | option::KEEPALIVE | option::PADDING);
        let options = Options::new(message, opt.rdata).filter_map(Result::ok);
        // All the others go on: none was left behind after all.
        if options.filter(|&(code, _)| !is_noted_elsewhere(code)).count() <= passed.count() {
            walk.trail.cut.0 &= !Cut::OPTIONS;
        }
        if passed.octets.is_empty() {
            return None;
        }
        walk.trail.added.0 |= Added::SENT_ON;
        Some(self.marked(Arc::new(passed)))
    }

    /// `passed`, and what tells them from others.
    pub fn marked(&self, passed: Arc<Passed>) -> Sent {
        let mark = self.hasher.hash_one(&passed.octets);
        Sent { passed, mark }
    }
}

fn opt(message: &[u8]) -> Option<Record> {
    let header = Header::parse(message).ok()?;
    Records::new(message, &header).ok()?.filter_map(Result::ok).find(|record| record.rtype == rtype::OPT)
}
