//! The admin listener: health, metrics, the API behind `explain`.

pub mod settings;

pub use settings::{Place, Settings};
