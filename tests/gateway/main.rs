//! The gateway as its clients and upstreams see it: real sockets, real TLS, every transport.
//!
//! One module a behaviour or RFC; tests are named by the requirement they hold.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::string_slice,
    clippy::large_futures,
    clippy::cast_sign_loss,
    clippy::items_after_statements,
    clippy::cast_possible_truncation,
    reason = "a test says what is wrong by failing"
)]

mod harness;

mod abuse;
mod acme;
mod admin;
mod answers;
mod attacks;
mod bootstrap;
mod cache_hands;
mod clock;
mod conformance;
mod cookies;
mod discovery;
mod dns64;
mod dnssec;
mod doors;
mod edns;
mod explain;
mod extended_errors;
mod failover;
mod faults;
mod fleet;
mod floods;
mod forwarded;
mod forwards;
mod handshakes;
mod herds;
mod http;
mod identified;
mod identity;
mod initials;
mod json;
mod leaks;
mod lies;
mod lifetimes;
mod limits;
mod messages;
mod movement;
mod mutants;
mod padding;
mod plain_upstreams;
mod pools;
mod ports;
mod proxied;
mod quic;
mod refreshes;
mod refusals;
mod reload;
mod reload_kept;
mod reload_known;
mod routes;
mod self_probe;
mod servers;
mod setup_page;
mod snapshot;
mod special;
mod stale;
mod stopping;
mod streams;
mod subnets;
mod sudden;
mod tls;
mod upstreams;
mod warm;
