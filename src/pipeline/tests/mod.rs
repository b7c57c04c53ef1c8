//! The pipeline from its front: questions through `now`, answers from a scripted upstream.

mod base;
mod crowded;
mod denials;
mod digested;
mod edns;
mod failures;
mod refreshed;
pub(super) mod rig;
mod stale;
mod waiting;

pub use rig::settings;
