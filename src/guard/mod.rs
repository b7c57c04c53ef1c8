//! Who may ask, and how much: shared by `listen` (at accept) and `pipeline` (per question).

pub mod access;
pub mod buckets;
pub mod client;
pub mod clients;
pub mod flow;
pub mod gate;
pub mod held;
pub mod network;
pub mod permits;
pub mod rate;
pub mod settings;
pub mod strain;
pub mod tally;
pub mod trust;

pub use clients::{Clients, Known, Strangers};
pub use flow::{Beginning, Fault};
pub use gate::{Guard, Permit, Refusal};
pub use held::{Held, Purse, Waiting};
pub use network::Network;
pub use rate::{Rate, Source};
pub use settings::{Refuse, Settings};
pub use strain::Strain;
pub use trust::{ForwardedHeader, Standing, Trust};
