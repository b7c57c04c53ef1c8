//! What HTTP/1.1, HTTP/2 and HTTP/3 share: an HTTP request to a DNS question, a DNS reply to an HTTP response (RFC 8484),
//! in JSON where that is asked for; and the few pages that tell people how to ask.
//!
//! Stands between the three protocol files and `Query`. The one place that knows HTTP status codes.

pub mod date;
pub mod desk;
pub mod forwarded;
pub mod json;
pub mod pages;
pub mod query_string;
pub mod refusal;
pub mod request;
pub mod response;

/// How a request that had to wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With a response.
    Answered,
    /// The client took it back, or never finished it.
    Abandoned,
    /// The same, by one of those whom a web server speaks for; it has been counted against them.
    TakenBackByOther,
}

pub use desk::{Desk, Outcome, Read};
pub use query_string::{QueryStringError, decode_query_string};
pub use refusal::Refusal;
pub use request::{Asked, Form, Part, Shape};

/// The header fields of a request, in octets as HTTP/2 and HTTP/3 count them.
pub const MAX_HEADER_LIST: u32 = 8 * 1024;
