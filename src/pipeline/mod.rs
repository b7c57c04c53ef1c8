//! The order of the stages: access, cookie, limit, decide, strip, recall, join, exchange, digest, finish.

pub mod settings;

pub use settings::{CookieRule, Settings};
