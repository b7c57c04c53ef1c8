//! Where the demo opens its doors: where `serve` has them by default, and each that is taken on another port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::admin::{AdminError, Place};
use crate::config::{self, Config, Problem, Source};
use crate::gateway::{Bound, Gateway, GatewayError};

/// A gateway with its sockets, and what had to move.
pub struct Opened {
    /// The gateway.
    pub bound: Bound,
    /// The default addresses that were taken.
    pub taken: Vec<SocketAddr>,
}

/// Why the demo does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The machine lacks something the defaults rely on.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Config(Vec<Problem>),
    /// The gateway says.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
}

/// Opens the doors in front of the zone at `zone`.
///
/// # Errors
/// No state directory, or no sockets even on ports of the system's choice.
pub fn open(zone: SocketAddr) -> Result<Opened, OpenError> {
    let sets = vec![format!("upstream.servers=[\"udp://{zone}\"]"), "upstream.fallback=[]".to_owned()];
    let loaded = config::load(&Source { file: None, environment: None, sets });
    let mut config = loaded.config.ok_or(OpenError::Config(loaded.problems))?;
    let mut taken = Vec::new();
    loop {
        let (address, error) = match Gateway::build(config.clone())?.bind() {
            Ok(bound) => return Ok(Opened { bound, taken }),
            Err(GatewayError::Bind(error)) => (error.address, GatewayError::Bind(error)),
            Err(GatewayError::Admin(AdminError::Address { address, source })) => {
                (address, GatewayError::Admin(AdminError::Address { address, source }))
            }
            Err(other) => return Err(other.into()),
        };
        if address.port() == 0 {
            return Err(error.into());
        }
        step_aside(&mut config, address);
        taken.push(address);
    }
}

/// Lets the system choose other ports where `address` was wanted.
fn step_aside(config: &mut Config, address: SocketAddr) {
    for door in config.listen.doors.iter_mut().filter(|door| door.address == address) {
        door.address.set_port(0);
    }
    for place in &mut config.admin.listen {
        match place {
            Place::Address(place) if *place == address => place.set_port(0),
            Place::Address(_) | Place::Unix(_) => {}
        }
    }
}

/// Where the admin listener is by default, and where `explain` asks.
pub const ADMIN_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8054);
