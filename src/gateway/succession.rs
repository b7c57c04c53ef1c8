//! A gateway that takes the doors of another process over, and one that hands its own over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::doors::Doors;
use super::{Gateway, GatewayError, Running};
use crate::admin::{self, Admin};
use crate::config::Config;
use crate::handover::estate::{self, Estate, Voice};
use crate::handover::ferry::{Ferry, Side};
use crate::handover::porter::{Offer, Porter};
use crate::handover::{self, HandoverError};
use crate::listen::bind::{BoundDoor, Inherited};
use crate::listen::quic::mailboxes::Mailboxes;

/// What a gateway that takes over has of the one before, beside its sockets.
#[derive(Debug)]
pub struct Predecessor {
    /// Its generation.
    pub generation: u8,
    ferry: std::os::unix::net::UnixStream,
    voice: Voice,
}

/// What a gateway that serves needs to hand over.
#[derive(Debug)]
pub struct Succession {
    ferry: Arc<Ferry>,
    voice: Option<Voice>,
    admin: Arc<[admin::Inherited]>,
    porter: Option<Porter>,
    /// For connections, once there is a successor.
    grace: Duration,
    /// The process that has taken over; 0: none.
    successor: watch::Sender<u32>,
}

impl Gateway {
    /// Asks the process that runs with this state directory for its sockets.
    ///
    /// # Errors
    /// [`GatewayError::Handover`].
    pub fn claim(&self) -> Result<Estate, GatewayError> {
        Ok(estate::claim(&self.config.state_dir)?)
    }
}

impl Predecessor {
    /// Parts what is handed over by who needs it.
    #[must_use]
    pub fn of(estate: Estate) -> (Self, Vec<Inherited>, Vec<admin::Inherited>) {
        let Estate { generation, doors, admin, ferry, voice } = estate;
        (Self { generation, ferry, voice }, doors, admin)
    }
}

impl Succession {
    /// Of a gateway that is about to serve; whose datagrams it may read is settled here, before it reads any.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn new(
        mailboxes: &Arc<Mailboxes>,
        predecessor: Option<Predecessor>,
        admin: Vec<admin::Inherited>,
        grace: Duration,
    ) -> std::io::Result<Self> {
        let ferry = Ferry::new(Arc::clone(mailboxes));
        let voice = match predecessor {
            Some(Predecessor { ferry: link, voice, .. }) => {
                ferry.open(Side::Before, link)?;
                Some(voice)
            }
            None => None,
        };
        Ok(Self { ferry, voice, admin: admin.into(), porter: None, grace, successor: watch::channel(0).0 })
    }
}

/// Keeps duplicates of all sockets where they may be handed over; answers those of the admin listener.
///
/// # Errors
/// No more open files.
pub fn keep(
    config: &Config,
    doors: &mut Doors,
    bound: &[BoundDoor],
    admin: &Admin,
) -> std::io::Result<Vec<admin::Inherited>> {
    if !config.handover {
        return Ok(Vec::new());
    }
    doors.keep(bound)?;
    admin.duplicates(&config.admin)
}

impl Running {
    /// Tells the process before that it is no longer needed, and where `process.handover` says so, waits for the one that comes after.
    ///
    /// # Errors
    /// The process before does not answer, or the socket cannot be made.
    pub fn succeed(&mut self) -> Result<(), HandoverError> {
        if let Some(voice) = self.succession.voice.take() {
            voice.ready()?;
        }
        let Some(state_dir) = self.reloader.hands_over_in() else { return Ok(()) };
        let Succession { ferry, admin, successor, .. } = &self.succession;
        let (reloader, admin, successor) = (Arc::clone(&self.reloader), Arc::clone(admin), successor.clone());
        let offer = move || {
            let (generation, doors) = reloader.offer()?;
            Ok(Offer { generation, doors, admin: Arc::clone(&admin) })
        };
        let done = move |process| _ = successor.send_replace(process);
        self.succession.porter = Some(Porter::start(&state_dir, Arc::clone(ferry), offer, done)?);
        tracing::info!(socket = %handover::socket(&state_dir).display(), "these doors may be taken over");
        Ok(())
    }

    /// Hears which process has taken over, once one has.
    #[must_use]
    pub fn successor(&self) -> watch::Receiver<u32> {
        self.succession.successor.subscribe()
    }

    /// Takes in nothing more, serves the connections that there are for at most `shutdown.handover_grace`, then stops. Blocks until
    /// all threads have ended.
    pub fn hand_over(mut self) {
        self.let_go();
        self.reloader.exchange().mailboxes.hand_over();
        self.stop.hand_over();
        self.stop_control.hand_over();
        let until = Instant::now() + self.succession.grace;
        while !self.workers.iter().all(std::thread::JoinHandle::is_finished) && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
        self.stop.begin();
        self.end();
    }

    /// Closes the duplicates that are kept for others: as long as one is open, the system takes connections for it.
    pub(super) fn let_go(&mut self) {
        self.succession.porter = None;
        self.succession.admin = Arc::new([]);
        self.reloader.let_go();
    }
}

/// Time between two looks at whether all connections have ended.
const LOOK: Duration = Duration::from_millis(50);
