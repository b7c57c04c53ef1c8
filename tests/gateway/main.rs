//! The gateway as its clients and upstreams see it: real sockets, real TLS, every transport.
//!
//! One module a behaviour or RFC; tests are named by the requirement they hold.

mod harness;

mod admin;
mod doors;
mod explain;
mod herds;
mod identity;
mod lifetimes;
mod ports;
mod servers;
mod stopping;
