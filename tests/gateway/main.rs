//! The gateway as its clients and upstreams see it: real sockets, real TLS, every transport.
//!
//! One module a behaviour or RFC; tests are named by the requirement they hold.

mod harness;

mod attacks;
mod doors;
mod http;
mod lifetimes;
mod quic;
mod routes;
mod streams;
mod tls;
mod upstreams;
