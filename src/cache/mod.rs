//! Answers that are kept: flat, sharded, bounded in bytes, resistant to scans. The clock is an argument.

pub mod settings;

pub use settings::Settings;
