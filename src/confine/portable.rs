//! Systems without these means: nothing is given up, and nobody is told otherwise.

use super::{ConfineError, Places, Sandbox, Settings, Standing, keep};
use crate::telemetry::confinement::Part;

/// Is there a landlock?
#[must_use]
pub const fn has_landlock() -> bool {
    false
}

/// Nobody else can be become here, which is said at start.
#[must_use]
pub const fn missing_account(_: &Settings) -> Option<ConfineError> {
    None
}

/// Refuses what cannot be had here.
///
/// # Errors
/// Another user, or a sandbox that is required.
pub fn confine(settings: &Settings, _: &Places) -> Result<Standing, ConfineError> {
    let mut standing = Standing::default();
    for part in Part::ALL {
        standing.lacks(part, "only on Linux");
    }
    if settings.user.is_some() || settings.sandbox == Sandbox::Require {
        return Err(ConfineError::Wanting(standing.absent));
    }
    keep(&standing);
    Ok(standing)
}
