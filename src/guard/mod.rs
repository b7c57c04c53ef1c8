//! Who may ask, and how much: shared by `listen` (at accept) and `pipeline` (per question).

pub mod gate;
pub mod network;
pub mod settings;

pub use gate::{Guard, Permit, Rate, Refusal};
pub use network::Network;
pub use settings::{Refuse, Settings};
