//! What a stream connection keeps between its turns, questions not whole and answers not read, charged to its client.

use crate::guard::{Held, Purse};

/// One connection's.
#[derive(Debug)]
pub(super) struct Charge {
    purse: Purse,
    held: Option<Held>,
}

impl Charge {
    /// Nothing yet of the client whose purse this is.
    pub const fn to(purse: Purse) -> Self {
        Self { purse, held: None }
    }

    /// Charges `octets` in place of what was charged before; `None` if the client has too many already. What any connection may need
    /// costs nobody a lock.
    pub fn with(&mut self, octets: usize) -> Option<()> {
        if octets <= FREE {
            self.held = None;
        } else if self.held.as_ref().is_none_or(|held| held.octets() != octets) {
            self.held = None;
            self.held = Some(self.purse.hold(octets)?);
        }
        Some(())
    }
}

/// Octets that no client is charged for.
const FREE: usize = 2 << 10;
