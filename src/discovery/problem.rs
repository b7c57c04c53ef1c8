//! What keeps clients from finding the doors by themselves, for `check` and for the log at start.

use std::net::IpAddr;

use super::describe::{LONGEST_PATH, doors_told_of};
use super::{Door, Inputs, Port, Protocol, Resolver};

/// A reason why some clients do not find or do not believe the doors, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Plain DNS is for others, the encrypted doors are not.
    #[error(
        "plain DNS is open to other machines and every encrypted door is on loopback: clients are told of none; open one at \
         an address that they reach, or say in advertise.addresses where they reach it"
    )]
    OnlyHere,
    /// There is no name to send clients to.
    #[error(
        "the certificate is for no name that other machines could know the gateway by: clients are told of no encrypted door; use \
         one that has such a name, or, where the private authority signs, add it to tls.names"
    )]
    NoName,
    /// There are names to send clients to, and none is said.
    #[error(
        "the certificate is for {0} and for no single host: clients are told of no encrypted door; say in advertise.name which of \
         these names the gateway goes by"
    )]
    OnlyWildcard(String),
    /// The name to go by is not in the certificate.
    #[error(
        "\"{0}\" is not a name that the certificate is for: clients are told of no encrypted door; say one that it is for, use \
         another certificate, or, where the private authority signs, add the name to tls.names"
    )]
    NameNotCovered(String),
    /// A client that finds us at this address would refuse the certificate.
    #[error(
        "the certificate is not for {0}: clients that know the gateway by this address cannot verify it, and are not told of \
         it (RFC 9462 4.2); use a certificate with this address, give clients the name, or say in advertise.addresses where else \
         they reach it"
    )]
    AddressNotCovered(IpAddr),
    /// A client that finds us at this address can only trust its network.
    #[error(
        "the certificate is not for {0}: clients that know the gateway by this address cannot verify it, and few go on without \
         (RFC 9462 4.3); add it to tls.names, use a certificate with it, give clients the name, or say in advertise.addresses where \
         else they reach it"
    )]
    AddressNotVerified(IpAddr),
    /// A door at a port that is not told of.
    #[error("clients are told of port {told}, not of port {port}; say in advertise.{} which it should be", protocol.key())]
    SecondPort {
        /// Of which protocol.
        protocol: Protocol,
        /// The port of the door.
        port: u16,
        /// The port told of.
        told: u16,
    },
    /// DoH answers first at a path that is told to nobody.
    #[error("the first path has {octets} octets, and clients are told of {LONGEST_PATH} at most: {}", instead(told.as_deref()))]
    LongPath {
        /// Of the path.
        octets: usize,
        /// The first that is short enough.
        told: Option<String>,
    },
}

impl Problem {
    /// The key that it is best mended at.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::OnlyHere => "listen",
            Self::NoName | Self::AddressNotCovered(_) | Self::AddressNotVerified(_) => "tls",
            Self::LongPath { .. } => "doh.paths",
            Self::NameNotCovered(_) | Self::OnlyWildcard(_) => "advertise.name",
            Self::SecondPort { protocol, .. } => match protocol {
                Protocol::Dot => "listen.dot",
                Protocol::Doh => "listen.doh",
                Protocol::Doq => "listen.doq",
            },
        }
    }
}

/// What is in the way of discovery; nothing where nothing is to be discovered, or the operator does not want it.
#[must_use]
pub fn problems(inputs: &Inputs) -> Vec<Problem> {
    let is_encrypted = inputs.doors.iter().any(|door| door.protocol.is_some());
    let (doors, resolver) = (doors_told_of(inputs), Resolver::describe(inputs));
    // Profiles and the page go by the same path.
    let mut found: Vec<Problem> = long_path(inputs, &doors).into_iter().collect();
    if !inputs.advertise.discovery || !is_encrypted {
        return found;
    }
    if doors.is_empty() {
        return vec![Problem::OnlyHere];
    }
    found.extend(nameless(inputs, &resolver));
    // Nobody finds us by an address where no plain DNS is.
    let is_found = inputs.doors.iter().any(|door| door.protocol.is_none());
    let unverified = resolver.addresses.iter().filter(|address| is_found && !address.is_certified);
    found.extend(unverified.map(|address| {
        let say = if address.is_discoverable() { Problem::AddressNotVerified } else { Problem::AddressNotCovered };
        say(address.ip)
    }));
    for service in resolver.services {
        let protocol = service.protocol;
        let ports = doors.iter().filter(|door| door.protocol == Some(protocol)).map(|door| door.address.port());
        let second = ports.filter(|&port| inputs.advertise.port(protocol) == Port::AsBound && port != service.port);
        found.extend(second.map(|port| Problem::SecondPort { protocol, port, told: service.port }));
    }
    found
}

/// Is a door told of whose first path is not?
fn long_path(inputs: &Inputs, doors: &[Door]) -> Option<Problem> {
    let is_told = inputs.advertise.port(Protocol::Doh) != Port::Hidden
        && doors.iter().any(|door| door.protocol == Some(Protocol::Doh));
    let first = inputs.doh_paths.first().filter(|path| is_told && path.len() > LONGEST_PATH)?;
    let told = inputs.doh_paths.iter().find(|path| path.len() <= LONGEST_PATH).cloned();
    Some(Problem::LongPath { octets: first.len(), told })
}

/// What is told of in place of a path that is too long.
fn instead(told: Option<&str>) -> String {
    told.map_or_else(
        || "they are not told of DNS over HTTPS; add a shorter one".to_owned(),
        |path| format!("they are told of {path}; put the one they should ask at first"),
    )
}

/// Why there is no name to send clients to.
fn nameless(inputs: &Inputs, resolver: &Resolver) -> Option<Problem> {
    match (&inputs.advertise.name, inputs.certificate.wildcard()) {
        (Some(name), _) => (!inputs.certificate.has_name(name)).then(|| Problem::NameNotCovered(name.clone())),
        // Where no door is told of, none has a name either.
        (None, _) if !resolver.names.is_empty() || resolver.services.is_empty() => None,
        (None, Some(wildcard)) => Some(Problem::OnlyWildcard(wildcard.to_owned())),
        (None, None) => Some(Problem::NoName),
    }
}
