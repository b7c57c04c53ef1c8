//! The pipeline from its front: questions through `now`, answers from a scripted upstream.

mod any;
mod base;
mod crowded;
mod denials;
mod digested;
mod dns64;
mod edns;
mod failures;
mod fickle;
mod foreign;
mod nonexistence;
mod refreshed;
mod renewed;
pub(super) mod rig;
mod rules;
mod scoped;
mod stale;
mod standing_in;
mod sudden;
mod waiting;

pub use rig::settings;
