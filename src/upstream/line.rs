//! What a server is spoken to over: its URL as one of the transports, ready to be asked.

use std::sync::Arc;

use tokio::time::timeout_at;

use super::Ask;
use super::address::Scheme;
use super::delivery::{Delivered, Window};
use super::dial::Dialer;
use super::doh::{Doh, Version};
use super::doh3::Doh3;
use super::doq::Doq;
use super::dot::Dot;
use super::error::Cause;
use super::http::{Cover, Target};
use super::kept::{Home, Kept};
use super::plain::Plain;
use super::proof::Proof;
use super::proxy::ProxyError;
use super::quic::{Protocol, Quic};
use super::resolve::Addresses;
use super::server::{BuildFault, Log};
use super::settings::Server;
use super::tally::Tally;
use super::tcp::Tcp;
use super::tls::{Agreement, Tls, Trust};

/// The transport of one server.
#[derive(Debug)]
pub(super) enum Line {
    Udp(Box<Plain>),
    Tcp(Kept<Tcp>),
    Tls(Kept<Dot>),
    Http(Kept<Doh>),
    H3(Kept<Doh3>),
    Quic(Kept<Doq>),
}

impl Line {
    /// The transport that the URL of `server` names; nothing is sent yet.
    pub(super) fn new(server: &Server, home: &Home, tally: &Arc<Tally>) -> Result<Self, BuildFault> {
        match server.url.scheme {
            // Never past a proxy, which has no way for datagrams.
            Scheme::Udp | Scheme::H3 | Scheme::Quic if server.proxy.is_some() => Err(ProxyError::Datagrams.into()),
            Scheme::Udp => Ok(Self::Udp(Box::new(Plain::new(server, home, tally)?))),
            Scheme::Tcp => tcp(server, home, tally).map(Self::Tcp),
            Scheme::Tls => dot(server, home, tally),
            Scheme::Https => Self::over_http(server, Version::Http2, Cover::Tls, home, tally),
            Scheme::H3 => doh3(server, home, tally),
            Scheme::Quic => doq(server, home, tally),
        }
    }

    /// HTTP of a version, and in a cover, that the URL may not say.
    pub(super) fn over_http(
        server: &Server,
        version: Version,
        cover: Cover,
        home: &Home,
        tally: &Arc<Tally>,
    ) -> Result<Self, BuildFault> {
        let target = Target::new(&server.url, server.method, cover)?;
        let tls = match cover {
            Cover::Tls => {
                let trust = Trust::new(server, &home.commons.times)?;
                Some(Tls::new(&trust, version.alpn().as_bytes(), Agreement::Needed)?)
            }
            Cover::Clear => None,
        };
        let doh = Doh::new(Dialer::new(server, home)?, target, version, tls);
        Ok(Self::Http(Kept::new(doh, home.clone(), tally)))
    }

    /// Ends within `window`. What takes more room than a question to a mux has a box of its own: the room of the largest would
    /// otherwise be set aside, and moved, for every question.
    pub(super) async fn ask(&self, ask: &Arc<Ask>, window: Window, log: &mut Log<'_>) -> Result<Delivered, Cause> {
        match self {
            Self::Udp(plain) => {
                let asking = timeout_at(window.until, Box::pin(plain.ask(ask, window, log)));
                asking.await.unwrap_or(Err(Cause::Timeout))
            }
            Self::Tcp(tcp) => tcp.exchange(ask, window).await,
            Self::Tls(dot) => dot.exchange(ask, window).await,
            Self::Http(doh) => Box::pin(doh.exchange(ask, window)).await,
            Self::H3(doh3) => Box::pin(doh3.exchange(ask, window)).await,
            Self::Quic(doq) => Box::pin(doq.exchange(ask, window)).await,
        }
    }

    /// May its AD bit be believed?
    pub(super) fn is_trusted(&self, scheme: Scheme) -> bool {
        match self {
            Self::Http(doh) => matches!(doh.carrier().cover(), Cover::Tls),
            Self::Udp(_) | Self::Tcp(_) | Self::Tls(_) | Self::H3(_) | Self::Quic(_) => scheme.is_encrypted(),
        }
    }

    /// Does it keep a connection, which may have died since it was used?
    pub(super) const fn is_kept(&self) -> bool {
        match self {
            Self::Udp(_) => false,
            Self::Tcp(_) | Self::Tls(_) | Self::Http(_) | Self::H3(_) | Self::Quic(_) => true,
        }
    }

    /// What is known of the server's proof; None for a plain one.
    pub(super) fn proof(&self) -> Option<&Proof> {
        match self {
            Self::Udp(_) | Self::Tcp(_) => None,
            Self::Tls(dot) => Some(dot.carrier().proof()),
            Self::Http(doh) => doh.carrier().proof(),
            Self::H3(doh3) => Some(doh3.carrier().proof()),
            Self::Quic(doq) => Some(doq.carrier().proof()),
        }
    }
}

fn tcp(server: &Server, home: &Home, tally: &Arc<Tally>) -> Result<Kept<Tcp>, BuildFault> {
    Ok(Kept::new(Tcp::new(Dialer::new(server, home)?), home.clone(), tally))
}

fn dot(server: &Server, home: &Home, tally: &Arc<Tally>) -> Result<Line, BuildFault> {
    let dot = Dot::new(Dialer::new(server, home)?, &Trust::new(server, &home.commons.times)?)?;
    Ok(Line::Tls(Kept::new(dot, home.clone(), tally)))
}

fn doh3(server: &Server, home: &Home, tally: &Arc<Tally>) -> Result<Line, BuildFault> {
    let target = Target::new(&server.url, server.method, Cover::Tls)?;
    let trust = Trust::new(server, &home.commons.times)?;
    let quic = Quic::new(Addresses::of(server, &home.commons), &trust, Protocol::H3)?;
    Ok(Line::H3(Kept::new(Doh3::new(quic, target), home.clone(), tally)))
}

fn doq(server: &Server, home: &Home, tally: &Arc<Tally>) -> Result<Line, BuildFault> {
    let trust = Trust::new(server, &home.commons.times)?;
    let quic = Quic::new(Addresses::of(server, &home.commons), &trust, Protocol::Doq)?;
    Ok(Line::Quic(Kept::new(Doq::new(quic), home.clone(), tally)))
}
