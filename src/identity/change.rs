//! Other certificates for a running identity: made ready first, put in force later, so that a change of much else can still fail.

use std::time::SystemTime;

use super::chooser;
use super::credential::Credential;
use super::keeper::{Identity, Source, lock};
use super::{Guests, IdentityError, Settings, UnknownNames};

/// Certificates that have been read or signed, and are not in force yet.
#[derive(Debug)]
pub struct Prepared {
    /// None: those in force stay.
    fresh: Option<(Source, Vec<Credential>)>,
    /// How clients are met; None: as before.
    manners: Option<(UnknownNames, Guests)>,
}

impl Prepared {
    /// Nothing changes.
    pub const NONE: Self = Self { fresh: None, manners: None };
}

impl Identity {
    /// Reads or signs what `settings` say. A private authority that is to sign for the same names signs nothing.
    ///
    /// # Errors
    /// The file at fault; nothing has changed.
    pub fn prepare(&self, settings: Settings, now: SystemTime) -> Result<Prepared, IdentityError> {
        let manners = Some((settings.unknown_names, settings.guests));
        if let Source::Authority { names, .. } = &**self.source.load()
            && settings.certificates.is_empty()
            && *names == settings.names
        {
            return Ok(Prepared { fresh: None, manners });
        }
        let source = Source::of(settings.certificates, settings.names, &settings.state_dir, now)?;
        let credentials = source.credentials(&self.provider, now)?;
        Ok(Prepared { fresh: Some((source, credentials)), manners })
    }

    /// The names that the default certificate will be for once `prepared` is in force.
    #[must_use]
    pub fn subjects(&self, prepared: &Prepared) -> Vec<String> {
        let (current, ordered) = (self.chooser.current(), self.chooser.presented());
        let credentials = prepared.fresh.as_ref().map_or(&*current, |(_, credentials)| credentials);
        let mut all = chooser::in_order(credentials, ordered.as_deref());
        all.next().map(|first| first.facts(SystemTime::now(), true).names).unwrap_or_default()
    }

    /// Puts it in force, for handshakes that begin afterwards. Sessions can still be resumed: tickets stay what they are.
    pub fn adopt(&self, prepared: Prepared) {
        if let Some((unknown, guests)) = prepared.manners {
            self.chooser.treat(unknown);
            self.asking.follow(guests);
        }
        if let Some((source, credentials)) = prepared.fresh {
            let _turn = lock(&self.turn);
            self.source.store(std::sync::Arc::new(source));
            self.put_in_force(credentials);
        }
    }
}
