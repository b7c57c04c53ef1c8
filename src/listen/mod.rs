//! The front doors: bytes from sockets to a `Query`, replies back to bytes. No policy, no cache, no upstream.

pub mod accept;
pub mod bind;
pub mod context;
pub mod datagram;
mod deadline;
pub mod doh;
pub mod doh3;
pub mod doq;
mod entry;
pub mod http;
mod known;
pub mod presence;
pub mod proxy;
pub mod quic;
mod rate;
pub mod session;
pub mod settings;
pub mod stream;
pub mod tcp;
pub mod tls;
mod turn;
mod unread;
mod validator;

#[cfg(test)]
pub(crate) mod rehearsal;
#[cfg(test)]
pub(crate) mod scripted;

pub use accept::Service;
pub use bind::{Absent, BindError, BoundDoor};
pub use context::{Context, Terms};
pub use session::Session;
pub use settings::{Door, DoorKind, Limits, Retry, Settings};
