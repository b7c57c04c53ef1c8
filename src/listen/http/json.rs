//! Questions and answers as JSON, in the form that Google's and Cloudflare's resolvers made common. No standard has it.
//!
//! Stands where a GET has no `dns`: `?name=` makes a wire query that walks the same road as any other, and the reply is put into
//! words on its way out. A `dns` always wins, whatever `accept` says. A `name` is answered as JSON to whoever does not ask for
//! something else, so that a browser's address line and `curl` need no header.
//!
//! No `access-control-allow-origin` goes with it, though both of those send one: this resolver may know names that only its own
//! network does, and any web page that one of its users opens could read them out.

mod accept;
mod question;
mod reply;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

pub use question::VariableError;

use super::{QueryStringError, Refusal};

/// What a question in variables may be answered as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `application/dns-json`.
    DnsJson,
    /// The same as `application/json`, for clients that take nothing else.
    Json,
    /// `application/dns-message`.
    Message,
}

impl Media {
    /// All, the preferred first.
    const ALL: [Self; 3] = [Self::DnsJson, Self::Json, Self::Message];

    /// The media type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DnsJson => "application/dns-json",
            Self::Json => "application/json",
            Self::Message => super::response::DNS_MESSAGE,
        }
    }

    /// The DNS message `message` as this.
    #[must_use]
    pub fn represent(self, message: Bytes) -> Bytes {
        match self {
            Self::DnsJson | Self::Json => reply::render(&message).into(),
            Self::Message => message,
        }
    }
}

/// Reads the question of `query`, the part of a URI after `?`, into `question`, which is empty.
///
/// # Errors
/// The [`Refusal`]; `question` is then empty. Without a `name` it says that `dns` is missing.
pub fn read(query: &str, headers: &HeaderMap, question: &mut BytesMut) -> Result<Media, Refusal> {
    let asked = question::Variables::of(query);
    let name = asked.name.as_deref().ok_or(Refusal::QueryString(QueryStringError::Missing))?;
    let asked_for = asked.content_type.as_deref().and_then(accept::named);
    let media = asked_for.or_else(|| accept::chosen(headers)).ok_or(Refusal::NotAcceptable)?;
    question::write(name, &asked, question).map_err(Refusal::Variable)?;
    Ok(media)
}

#[cfg(test)]
mod tests;
