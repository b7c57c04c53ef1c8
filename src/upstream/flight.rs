//! The time between a question to a server and its end, as the server's health sees it.

use tokio::time::Instant;

use super::health::Outcome;
use super::server::Upstream;

/// A question on its way: whatever becomes of it, its server owes it no longer when this is gone.
pub struct Flight<'a> {
    server: &'a Upstream,
    asked: Instant,
    has_landed: bool,
}

impl<'a> Flight<'a> {
    /// A question leaves for `server` now.
    pub fn depart(server: &'a Upstream) -> Self {
        let asked = Instant::now();
        server.health().depart(asked);
        Self { server, asked, has_landed: false }
    }

    /// It has come to its end.
    pub fn land(mut self, outcome: Outcome) {
        self.has_landed = true;
        self.server.announce(self.server.health().land(self.asked, outcome, Instant::now()));
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if !self.has_landed {
            let change = self.server.health().land(self.asked, Outcome::Overtaken, Instant::now());
            self.server.announce(change);
        }
    }
}
