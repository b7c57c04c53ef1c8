//! Commands: one file each.

pub mod check;
