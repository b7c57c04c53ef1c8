//! The program as a person or a service manager meets it: what it prints, when it ends, and with which status.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail where it stands"
)]

#[path = "cli/cache.rs"]
mod cache;
#[path = "cli/certificates.rs"]
mod certificates;
#[path = "cli/confined.rs"]
mod confined;
#[path = "cli/deploy.rs"]
mod deploy;
#[path = "cli/dns.rs"]
mod dns;
#[path = "cli/handover.rs"]
mod handover;
#[path = "cli/live.rs"]
mod live;
#[path = "cli/profile.rs"]
mod profile;
#[path = "cli/program.rs"]
mod program;
#[path = "cli/readme.rs"]
mod readme;
#[path = "cli/reload.rs"]
mod reload;
#[path = "cli/restarted.rs"]
mod restarted;
#[path = "cli/serving.rs"]
mod serving;
#[path = "cli/tools.rs"]
mod tools;
