//! Answers that are kept: flat, sharded, bounded in bytes, resistant to scans. The clock is an argument.

pub mod failures;
pub mod key;
pub mod lifetime;
pub mod settings;

pub use failures::{Failure, Failures};
pub use key::{Bits, Key};
pub use lifetime::lifetime;
pub use settings::Settings;
