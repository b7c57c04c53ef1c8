//! Serves `corp.example` over QUIC and HTTP/3 on free ports of loopback until it is ended.
//!
//!     interop-hickory CHAIN KEY
//!
//! Prints one line a door, `doq PORT` and `h3 PORT`, once both are open.

use std::env;
use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::proto::rr::rdata::{A, AAAA, NS, SOA, TXT};
use hickory_server::proto::rr::{Name, RData, Record};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::net::UdpSocket;

const TTL: u32 = 300;
const HANDSHAKE: Duration = Duration::from_secs(5);

/// What the other servers of these tests serve as well: see `servers.py`.
fn zone() -> Result<Catalog, Box<dyn Error>> {
    let origin = Name::from_ascii("corp.example.")?;
    let host = Name::from_ascii("www.corp.example.")?;
    let big = Name::from_ascii("big.corp.example.")?;
    let mail = Name::from_ascii("hostmaster.corp.example.")?;
    let long = || TXT::new((0..20).map(|index| format!("{index:02}{}", "x".repeat(248))).collect());
    let mut zone =
        InMemoryZoneHandler::<TokioRuntimeProvider>::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
    for (name, data) in [
        (&origin, RData::SOA(SOA::new(origin.clone(), mail, 1, 3600, 600, 86400, 300))),
        (&origin, RData::NS(NS(host.clone()))),
        (&host, RData::A(A(Ipv4Addr::new(192, 0, 2, 80)))),
        (&host, RData::AAAA(AAAA(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x80)))),
        (&host, RData::TXT(TXT::new(vec!["hello".into()]))),
        (&big, RData::TXT(long())),
    ] {
        if !zone.upsert_mut(Record::from_rdata(name.clone(), TTL, data), 0) {
            return Err(format!("{name} does not fit into the zone").into());
        }
    }
    let mut catalog = Catalog::new();
    catalog.upsert((&origin).into(), vec![Arc::new(zone)]);
    Ok(catalog)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<String> = env::args().skip(1).collect();
    let [chain, key] = paths.as_slice() else { return Err("usage: interop-hickory CHAIN KEY".into()) };
    let chain = CertificateDer::pem_file_iter(chain)?.collect::<Result<Vec<_>, _>>()?;
    let certified = CertifiedKey::from_der(chain, PrivateKeyDer::from_pem_file(key)?, &default_provider())?;
    let certificate = Arc::new(SingleCertAndKey::from(certified));
    let mut server = Server::new(zone()?);
    let (doq, h3) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    let (doq_port, h3_port) = (doq.local_addr()?.port(), h3.local_addr()?.port());
    server.register_quic_listener(doq, HANDSHAKE, certificate.clone())?;
    server.register_h3_listener(h3, HANDSHAKE, certificate, None)?;
    println!("doq {doq_port}\nh3 {h3_port}");
    server.block_until_done().await?;
    Ok(())
}
