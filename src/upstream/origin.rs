//! Where what we send a server leaves from: the address that the operator chose, or the system's choice.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream};

/// The local end of what goes to one server. The default leaves the address to the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin(Option<IpAddr>);

impl Origin {
    /// Everything leaves from `source`, where there is one.
    #[must_use]
    pub const fn new(source: Option<IpAddr>) -> Self {
        Self(source)
    }

    /// Can `peer` be reached from here? A source of the other family cannot be used.
    #[must_use]
    pub fn suits(self, peer: SocketAddr) -> bool {
        self.0.is_none_or(|source| source.is_ipv4() == peer.is_ipv4())
    }

    /// What a socket toward `peer` binds to; the kernel draws the port.
    #[must_use]
    pub fn local(self, peer: SocketAddr) -> SocketAddr {
        let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        SocketAddr::new(self.0.unwrap_or(any), 0)
    }

    /// A stream to `peer`, with small writes sent at once.
    ///
    /// # Errors
    /// The system's.
    pub async fn connect(self, peer: SocketAddr) -> io::Result<TcpStream> {
        let socket = if peer.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if self.0.is_some() {
            socket.bind(self.local(peer))?;
        }
        let stream = socket.connect(peer).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::listener;
    use super::*;

    #[tokio::test]
    async fn a_stream_leaves_from_the_source_that_was_chosen() {
        let (listener, address) = listener().await;
        let source: IpAddr = "127.0.0.2".parse().unwrap();
        let _stream = Origin::new(Some(source)).connect(address).await.unwrap();
        assert_eq!(listener.accept().await.unwrap().1.ip(), source);
    }

    #[test]
    fn a_source_suits_its_own_family_alone() {
        let source = Origin::new(Some("2001:db8::1".parse().unwrap()));
        assert!(source.suits("[2001:db8::53]:53".parse().unwrap()));
        assert!(!source.suits("192.0.2.53:53".parse().unwrap()));
        assert_eq!(Origin::default().local("192.0.2.53:53".parse().unwrap()), "0.0.0.0:0".parse().unwrap());
    }
}
