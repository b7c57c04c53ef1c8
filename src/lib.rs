//! hushgate: an encrypted DNS gateway.
//!
//! The modules stand in the order that a question walks them:
//!
//! ```text
//! socket → listen → Query → pipeline (access, cookie, limit, decide, strip, recall, join, exchange, digest) → finish → socket
//!                                                          │ cache            │ upstream
//! ```
//!
//! A question that memory can answer is answered in place by [`answer::Answer::now`]; one that must wait comes back as a future
//! that owns all it needs.

pub mod clock;
pub mod wire;

pub mod peer;
pub mod query;
pub mod trail;

pub mod answer;
pub mod reply;

pub mod shutdown;
pub mod telemetry;

pub mod guard;
pub mod identity;
pub mod listen;

pub mod cache;
pub mod pipeline;
pub mod upstream;

pub mod admin;
pub mod cli;
pub mod config;
