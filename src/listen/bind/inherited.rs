//! The sockets of a door that come from the process before: they take the place of those that would be bound.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use super::{BindCause, Failed, Needs, Opened, Protocol};
use crate::listen::Door;

/// The sockets of a door that another process has served until now.
#[derive(Debug)]
pub struct Inherited {
    /// As configured there.
    pub door: Door,
    /// Where it is.
    pub address: SocketAddr,
    /// In the order of its workers.
    pub tcp: Vec<TcpListener>,
    /// The same.
    pub udp: Vec<UdpSocket>,
}

impl Inherited {
    /// What this door needs of it; what it does not need is left to whoever serves it still.
    pub(super) fn adopt(self, needs: Needs, workers: usize) -> Result<Opened, Failed> {
        let Self { address, mut tcp, mut udp, .. } = self;
        for (is_needed, there, protocol) in
            [(needs.tcp, tcp.len(), Protocol::Tcp), (needs.udp, udp.len(), Protocol::Udp)]
        {
            if is_needed && there != workers {
                return Err((protocol, BindCause::Workers { there, here: workers }));
            }
        }
        tcp.truncate(if needs.tcp { workers } else { 0 });
        udp.truncate(if needs.udp { workers } else { 0 });
        Ok((tcp, udp, address))
    }
}
