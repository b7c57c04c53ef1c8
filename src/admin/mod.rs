//! The admin listener: health, metrics, the API behind `explain`. It knows the rest of the gateway by [`Handles`] alone.

mod bind;
pub mod change;
pub mod entry;
pub mod explained;
pub mod handles;
pub mod held;
mod page;
pub mod readiness;
pub mod request;
mod routes;
pub mod server;
pub mod settings;

pub use bind::{AdminError, Former, Inherited, private_socket};
pub use change::{Change, Key, Reloaded, Takes};
pub use explained::{Asked, Explained, Outcome, Reached, explained};
pub use handles::{CacheAnswering, DoorFacts, ExplainRefused, Explaining, Handles, Reloading, Trial};
pub use held::{CacheAnswer, CacheRequest};
pub use readiness::Vitals;
pub use request::ExplainRequest;
pub use server::Admin;
pub use settings::{Place, Settings};
