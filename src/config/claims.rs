//! Who claims which port: two listeners that cannot both have it are a mistake to name before anything is bound.

use std::net::SocketAddr;

use super::{Findings, Origin};
use crate::listen::DoorKind;

/// Who wants an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimant {
    /// A front door.
    Door(DoorKind),
    /// The admin listener or a probe, on TCP.
    Admin,
    /// The listener for HTTP-01, on TCP.
    Challenges,
}

/// Who claims what, and where it is written.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Who.
    pub claimant: Claimant,
    /// What.
    pub address: SocketAddr,
    /// The key it is written at.
    pub key: String,
    /// Where that stands.
    pub origin: Origin,
}

/// Everything claimed so far.
#[derive(Debug, Default)]
pub struct Claims(Vec<Claim>);

impl Claims {
    /// Notes a claim, and as a problem that somebody has the port already. Of two the later layer is named: a default gives no
    /// line to mend.
    pub fn add(&mut self, claim: Claim, findings: &mut Findings) {
        // Port 0 lets the system choose, each time another.
        let same = |other: &&Claim| claim.address.port() != 0 && other.address == claim.address;
        let Some(holder) = self.0.iter().filter(same).find(|other| claim.claimant.clashes(other.claimant)) else {
            return self.0.push(claim);
        };
        let (late, early) = if holder.origin > claim.origin { (holder, &claim) } else { (&claim, holder) };
        findings.error(&late.key, late.origin, format!("\"{}\" is already taken by {}", late.address, early.key));
    }
}

impl Claimant {
    /// DoH and DoQ share a UDP port: ALPN tells them apart.
    fn clashes(self, other: Self) -> bool {
        let quic_and_udp = |one: Self, two: Self| one.has_quic() && two.has_udp();
        self == other || (self.has_tcp() && other.has_tcp()) || quic_and_udp(self, other) || quic_and_udp(other, self)
    }

    const fn has_tcp(self) -> bool {
        match self {
            Self::Door(DoorKind::Dns | DoorKind::Dot | DoorKind::Doh | DoorKind::DohTcp | DoorKind::DohClear)
            | Self::Admin
            | Self::Challenges => true,
            Self::Door(DoorKind::Doq) => false,
        }
    }

    const fn has_udp(self) -> bool {
        matches!(self, Self::Door(DoorKind::Dns))
    }

    const fn has_quic(self) -> bool {
        matches!(self, Self::Door(DoorKind::Doh | DoorKind::Doq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_doors_that_need_the_same_port_of_the_same_protocol_clash() {
        let kinds = [DoorKind::Dns, DoorKind::Dot, DoorKind::Doh, DoorKind::DohTcp, DoorKind::DohClear, DoorKind::Doq];
        for one in kinds {
            for two in kinds {
                let pair = [one, two];
                let doq = pair.contains(&DoorKind::Doq);
                let apart = doq && one != two && !pair.contains(&DoorKind::Dns);
                assert_eq!(Claimant::Door(one).clashes(Claimant::Door(two)), !apart, "{pair:?}");
            }
            assert_eq!(Claimant::Admin.clashes(Claimant::Door(one)), one != DoorKind::Doq);
        }
    }
}
