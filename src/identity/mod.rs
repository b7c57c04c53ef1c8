//! Who the gateway is to its clients: certificates from files or from a private authority of its own.

pub mod acme;
pub mod authority;
pub mod change;
pub mod chooser;
pub mod credential;
pub mod error;
pub mod guest;
pub mod keeper;
pub mod keys;
pub mod pairs;
pub mod plain_file;
pub mod profile;
pub mod review;
#[cfg(test)]
pub(crate) mod scratch;
pub mod settings;
pub mod state_dir;

pub use change::Prepared;
pub use credential::{CertificateFacts, Origin};
pub use error::IdentityError;
pub use keeper::{Identity, Reloads, Upkeep};
pub use keys::{Fleet, Keys, Secret};
pub use settings::{Chain, Guests, MinVersion, Settings, UnknownNames};
