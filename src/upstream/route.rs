//! Which pool a question goes to: the forward with the longest matching domain, else the default pool.

use std::sync::Arc;

use tokio::time::Instant;

use super::commons::Commons;
use super::server::{BuildError, Upstream};
use super::time_names::TimeNames;
use super::{Ask, Exchange, Exchanging, Pool, Route, Settings};
use crate::trail::UpstreamId;

/// All pools of a gateway and the way to each.
#[derive(Debug)]
pub struct Routes {
    default: Pool,
    time_names: TimeNames,
}

impl Routes {
    /// Makes the servers of `settings` ready; nothing is sent yet.
    ///
    /// # Errors
    /// The server, and file, at fault.
    pub fn new(settings: &Settings, commons: &Commons) -> Result<Self, BuildError> {
        let commons = commons.with_datagrams(settings.datagrams);
        let default = Pool::new(&settings.default, &commons)?;
        Ok(Self { default, time_names: TimeNames::new(settings, &commons)? })
    }

    /// The names of time servers, which have a way out of their own.
    #[must_use]
    pub const fn time_names(&self) -> &TimeNames {
        &self.time_names
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
        self.time_names.around(ask, deadline, |ask, deadline| self.default.exchange(ask, deadline))
    }

    fn route(&self, question: &[u8]) -> Route {
        self.default.route(question)
    }

    fn name(&self, upstream: UpstreamId) -> Option<&str> {
        let server = self.servers().find(|server| server.id() == upstream).map(|server| server.url());
        server.or_else(|| self.time_names.server(upstream))
    }
}
