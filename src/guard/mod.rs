//! Who may ask, and how much: shared by `listen` (at accept) and `pipeline` (per question).

pub mod access;
pub mod buckets;
pub mod client;
pub mod clients;
pub mod gate;
pub mod network;
pub mod permits;
pub mod rate;
pub mod settings;

pub use clients::{Clients, Known, Strangers};
pub use gate::{Guard, Permit, Refusal};
pub use network::Network;
pub use rate::{Rate, Source};
pub use settings::{Refuse, Settings};
