//! How short memory is: said by the control thread, heard by everybody who could hold more of it.

use std::sync::atomic::{AtomicU8, Ordering};

/// How short memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Strain {
    /// There is enough.
    #[default]
    None,
    /// There is little: whoever is idle is to go soon.
    Short,
    /// There is none: nobody new is let in.
    Out,
}

/// The cell that it is said in.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU8);

impl Cell {
    pub fn set(&self, strain: Strain) {
        self.0.store(strain as u8, Ordering::Relaxed);
    }

    pub fn get(&self) -> Strain {
        match self.0.load(Ordering::Relaxed) {
            0 => Strain::None,
            1 => Strain::Short,
            _ => Strain::Out,
        }
    }
}
