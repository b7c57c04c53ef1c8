//! The pipeline from its front: questions through `now`, answers from a scripted upstream.

mod base;
mod denials;
mod digested;
mod edns;
mod failures;
pub(super) mod rig;
mod sudden;
mod waiting;

pub use rig::settings;
