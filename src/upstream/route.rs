//! Which pool a question goes to: the forward with the longest matching domain, else the default pool.

use std::sync::Arc;

use tokio::time::Instant;

use super::commons::Commons;
use super::server::{BuildError, Upstream};
use super::{Ask, Exchange, Exchanging, Pool, Route, Settings};
use crate::trail::UpstreamId;

/// All pools of a gateway and the way to each.
#[derive(Debug)]
pub struct Routes {
    default: Pool,
}

impl Routes {
    /// Makes the servers of `settings` ready; nothing is sent yet.
    ///
    /// # Errors
    /// The server, and file, at fault.
    pub fn new(settings: &Settings, commons: &Commons) -> Result<Self, BuildError> {
        Ok(Self { default: Pool::new(&settings.default, commons)? })
    }

    /// Every server, by id.
    pub fn servers(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.default.servers()
    }

    /// Every pool by its name, the default one first.
    pub fn pools(&self) -> impl Iterator<Item = (&str, &Pool)> {
        std::iter::once(("default", &self.default))
    }

    /// Does any server of the default pool answer one cheap question by `deadline`?
    pub async fn is_alive(&self, deadline: Instant) -> bool {
        self.default.is_alive(deadline).await
    }
}

impl Exchange for Routes {
    fn exchange(&self, ask: Arc<Ask>, deadline: Instant) -> Exchanging {
        self.default.exchange(ask, deadline)
    }

    fn route(&self, question: &[u8]) -> Route {
        self.default.route(question)
    }

    fn name(&self, upstream: UpstreamId) -> Option<&str> {
        self.servers().find(|server| server.id() == upstream).map(|server| server.url())
    }
}
