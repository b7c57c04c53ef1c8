//! demo
pub mod zone;
