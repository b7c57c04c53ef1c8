//! Who the gateway is to its clients: certificates from files or from a private authority of its own.

pub mod keeper;
pub mod settings;

pub use keeper::{Identity, IdentityError};
pub use settings::{Chain, MinVersion, Settings};
