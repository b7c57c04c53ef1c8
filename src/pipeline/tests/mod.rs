//! The pipeline from its front: questions through `now`, answers from a scripted upstream.

mod base;
mod denials;
mod digested;
mod edns;
mod failures;
mod foreign;
mod nonexistence;
pub(super) mod rig;
mod rules;
mod waiting;

pub use rig::settings;
