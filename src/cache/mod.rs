//! Answers that are kept: flat, sharded, bounded in bytes, resistant to scans. The clock is an argument.

pub mod failures;
pub mod key;
pub mod lifetime;
pub mod settings;
pub mod store;

pub use failures::{Failure, Failures};
pub use key::{Bits, Key};
pub use settings::Settings;
pub use store::{Cache, EntryFacts, Inserted, Stats};
