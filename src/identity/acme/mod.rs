//! Certificates from a public authority without a hand on them (RFC 8555): ordered, proven, kept, renewed.
//!
//! It runs on the control thread and is in no question's path. Doors meet it in one place: while a TLS-ALPN-01 challenge is pending,
//! a client hello that offers `acme-tls/1` alone is answered from [`Challenges`] instead of by the identity.

mod challenges;
mod client;
mod error;
mod hook;
mod keeper;
mod order;
mod proof;
mod schedule;
mod settings;
mod store;
mod web;

pub use challenges::{Challenges, Guest};
pub use client::{Find, Found};
pub use error::AcmeError;
pub use keeper::Acme;
pub use settings::{External, Method, Settings};
