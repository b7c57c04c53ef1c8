//! From what a handshake has shown to who the client is: between the handshake and the protocol, once a connection.

use rustls::pki_types::CertificateDer;

use crate::guard::Guard;
use crate::identity::guest;
use crate::peer::Peer;

/// `peer` with the client that it has shown itself to be: by the certificate `shown` and proven its own, or by the name it asked for.
#[must_use]
pub(super) fn introduce(peer: Peer, shown: Option<&[CertificateDer<'_>]>, guard: &Guard) -> Peer {
    let Some(clients) = guard.clients() else { return peer };
    let by_certificate = || {
        let chain = shown?;
        let key = guest::key_of(chain.first()?)?;
        clients.by_certificate(key, &chain.iter().map(AsRef::as_ref).collect::<Vec<&[u8]>>())
    };
    let by_name = || clients.by_server_name(peer.server_name.as_deref()?);
    let client = by_certificate().or_else(by_name);
    Peer { client, ..peer }
}
