//! How long a peer may keep a request or a reply waiting that is under way.

use std::time::Duration;

/// For the rest of a request that has begun.
pub const REQUEST: Duration = Duration::from_secs(5);

/// For taking what has been written.
pub const WRITE: Duration = Duration::from_secs(10);
