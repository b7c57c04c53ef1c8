//! The gateway as its clients and upstreams see it: real sockets, real TLS, every transport.
//!
//! One module a behaviour or RFC; tests are named by the requirement they hold.

mod harness;

mod answers;
mod conformance;
mod cookies;
mod dnssec;
mod doors;
mod edns;
mod extended_errors;
mod lifetimes;
mod messages;
mod padding;
mod refusals;
mod special;
