//! Looks a server's name up at plain servers that are known by address (DOH-25): what it takes to ask anybody at all.
//!
//! A and AAAA are asked together. The answer is matched to its question like any other, its chain of CNAMEs followed inside it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Ask;
use super::delivery::Window;
use super::eyeballs;
use super::server::Upstream;
use crate::trail::Attempts;
use crate::wire::records::{Record, Records, Section};
use crate::wire::registry::{class, rcode, rtype};
use crate::wire::{Header, WireError, name};

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// At least one, at most [`MOST`].
    pub addresses: Vec<IpAddr>,
    /// How long they are good for, as their servers say.
    pub ttl: Duration,
}

/// Why no address was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookUpError {
    /// Nobody to ask is left: every name server of the machine is this gateway.
    #[error("the machine's resolver is this gateway; set `bootstrap` or `addresses`")]
    OwnResolver,
    /// There is nobody to ask.
    #[error("there is no server to find it with")]
    Nobody,
    /// No server gave an answer of use.
    #[error("no bootstrap server answers")]
    Unanswered,
    /// NXDOMAIN.
    #[error("the name does not exist")]
    NoSuchName,
    /// The name has no address.
    #[error("the name has no address")]
    NoAddress,
}

/// Addresses kept of one name.
pub const MOST: usize = 16;

/// CNAMEs followed, and records read, of one answer.
const HOPS: usize = 8;
const RECORDS: usize = 128;

/// What one server may take for one question, a second datagram included.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the second family is waited for once the first is known.
const GRACE: Duration = Duration::from_millis(300);

/// Finds the addresses of `host` by asking `servers`, the next one when the one before is silent for a moment.
///
/// # Errors
/// Why there are none.
pub async fn look_up(servers: &[Arc<Upstream>], host: &str) -> Result<Found, LookUpError> {
    let wire = name::from_text(host).map_err(|_| LookUpError::NoSuchName)?;
    if servers.is_empty() {
        return Err(LookUpError::Nobody);
    }
    let mut v4 = pin!(ask_family(servers, &wire, rtype::A));
    let mut v6 = pin!(ask_family(servers, &wire, rtype::AAAA));
    let (one, two) = tokio::select! {
        one = &mut v4 => { let two = after(&one, v6).await; (one, two) }
        one = &mut v6 => { let two = after(&one, v4).await; (one, two) }
    };
    join(one, two)
}

/// What the second family brings; it is not waited for long where the first has brought something.
async fn after(
    first: &Result<Found, LookUpError>,
    second: impl Future<Output = Result<Found, LookUpError>>,
) -> Result<Found, LookUpError> {
    if first.is_err() {
        return second.await;
    }
    timeout(GRACE, second).await.unwrap_or(Err(LookUpError::Unanswered))
}

fn join(one: Result<Found, LookUpError>, two: Result<Found, LookUpError>) -> Result<Found, LookUpError> {
    match (one, two) {
        (Ok(mut one), Ok(two)) => {
            one.addresses.truncate(MOST / 2);
            one.addresses.extend(two.addresses.into_iter().take(MOST / 2));
            Ok(Found { addresses: one.addresses, ttl: one.ttl.min(two.ttl) })
        }
        (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
        // "No answer" leaves hope; so it is told before an answer that closes one family only.
        (Err(LookUpError::Unanswered), Err(_)) | (Err(_), Err(LookUpError::Unanswered)) => Err(LookUpError::Unanswered),
        (Err(why), Err(_)) => Err(why),
    }
}

async fn ask_family(servers: &[Arc<Upstream>], wire: &[u8], rtype: u16) -> Result<Found, LookUpError> {
    let ask = Arc::new(Ask::new(wire, rtype));
    let answered = eyeballs::race(servers.iter().collect(), |server| {
        let ask = Arc::clone(&ask);
        async move {
            let window = Window { until: Instant::now() + PATIENCE, sends: 2 };
            let attempt = server.attempt(&ask, window, &mut Attempts::default()).await;
            let (delivered, _) = attempt.map_err(|_| LookUpError::Unanswered)?;
            match read(&delivered.message, wire, rtype) {
                // Another server would say no more than that.
                Err(settled @ (LookUpError::NoSuchName | LookUpError::NoAddress)) => Ok(Err(settled)),
                other => other.map(Ok),
            }
        }
    });
    answered.await.unwrap_or(Err(LookUpError::Unanswered))
}

/// The addresses that `message` gives for `wire`; none where it gives none of use.
#[must_use]
pub fn addresses_in(message: &[u8], wire: &[u8], rtype: u16) -> Vec<IpAddr> {
    read(message, wire, rtype).map(|found| found.addresses).unwrap_or_default()
}

/// The addresses that `message` gives for `wire`, its CNAMEs followed.
fn read(message: &[u8], wire: &[u8], rtype: u16) -> Result<Found, LookUpError> {
    let header = Header::parse(message).map_err(|_| LookUpError::Unanswered)?;
    match header.flags.rcode() {
        rcode::NOERROR => {}
        rcode::NXDOMAIN => return Err(LookUpError::NoSuchName),
        _ => return Err(LookUpError::Unanswered),
    }
    let found = follow(message, &header, wire, rtype).map_err(|_| LookUpError::Unanswered)?;
    if found.addresses.is_empty() { Err(LookUpError::NoAddress) } else { Ok(found) }
}

fn follow(message: &[u8], header: &Header, wire: &[u8], rtype: u16) -> Result<Found, WireError> {
    let records: Vec<Record> = Records::new(message, header)?.take(RECORDS).collect::<Result<_, _>>()?;
    let answers: Vec<Record> =
        records.into_iter().filter(|record| record.section == Section::Answer && record.class == class::IN).collect();
    let mut owner = wire.to_vec();
    let mut found = Found { addresses: Vec::new(), ttl: Duration::MAX };
    for _ in 0..HOPS {
        let mut next = None;
        for record in &answers {
            if !name::equal(message, record.owner.into(), &owner, 0)? {
                continue;
            }
            if record.rtype == rtype && found.addresses.len() < MOST {
                found.addresses.extend(address(record.rdata.of(message)));
            } else if record.rtype == rtype::CNAME {
                next = Some(record.rdata.start);
            } else {
                continue;
            }
            found.ttl = found.ttl.min(Duration::from_secs(record.ttl.into()));
        }
        let Some(target) = next.filter(|_| found.addresses.is_empty()) else { break };
        owner.clear();
        name::expand(message, target.into(), &mut owner)?;
    }
    Ok(found)
}

/// An address that a server may have; 0.0.0.0 and its kin are how some resolvers say "blocked", and would lead to ourselves.
fn address(rdata: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(rdata).ok().map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    let v6 = || <[u8; 16]>::try_from(rdata).ok().map(|octets| IpAddr::V6(Ipv6Addr::from(octets)));
    v4().or_else(v6).filter(|address| !address.is_unspecified() && !address.is_multicast())
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::testing::{home, plain, reply, serve_stream, tcp_server, udp_server};
    use super::*;
    use crate::trail::UpstreamId;
    use crate::wire::{Flags, Question};

    pub fn servers(addresses: &[SocketAddr]) -> Vec<Arc<Upstream>> {
        let server = |&address: &SocketAddr| Upstream::new(&plain("udp", address), UpstreamId(0), &home()).unwrap();
        addresses.iter().map(server).map(Arc::new).collect()
    }

    /// A record of the name asked for.
    pub fn record(rtype: u16, ttl: u32, rdata: &[u8]) -> Vec<u8> {
        record_of(&[0xc0, 12], rtype, ttl, rdata)
    }

    fn record_of(owner: &[u8], rtype: u16, ttl: u32, rdata: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rdata.len()).unwrap().to_be_bytes();
        [owner, &rtype.to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &length, rdata].concat()
    }

    /// `query` answered with `records`.
    pub fn answer(query: &[u8], records: &[Vec<u8>]) -> Vec<u8> {
        let mut message = reply(query, 0);
        message[7] = u8::try_from(records.len()).unwrap();
        message.extend(records.concat());
        message
    }

    /// 127.0.0.1 for A with a TTL of a minute, nothing for AAAA.
    pub fn here(query: &[u8]) -> Vec<u8> {
        match Question::parse(query).unwrap().rtype {
            rtype::A => answer(query, &[record(rtype::A, 60, &[127, 0, 0, 1])]),
            _ => reply(query, 0),
        }
    }

    fn addresses(found: Result<Found, LookUpError>) -> Vec<String> {
        found.unwrap().addresses.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn doh_25_both_families_are_found_through_a_chain_of_cnames() {
        let (address, _) = udp_server(|query| {
            let target = name::from_text("edge.example.net").unwrap();
            let alias = record(rtype::CNAME, 300, &target);
            let stray = record_of(&name::from_text("other.example").unwrap(), rtype::A, 1, &[6, 6, 6, 6]);
            match Question::parse(query).unwrap().rtype {
                rtype::A => answer(query, &[alias, stray, record_of(&target, rtype::A, 90, &[192, 0, 2, 1])]),
                _ => answer(query, &[record_of(&target, rtype::AAAA, 120, &[0x20; 16]), alias]),
            }
        })
        .await;
        let found = look_up(&servers(&[address]), "dns.example").await;
        assert_eq!(found.as_ref().unwrap().ttl, Duration::from_secs(90));
        let mut found = addresses(found);
        found.sort();
        assert_eq!(found, ["192.0.2.1", "2020:2020:2020:2020:2020:2020:2020:2020"]);
    }

    #[tokio::test]
    async fn a_truncated_answer_is_had_over_tcp() {
        let address = loop {
            let address = tcp_server(here).await;
            let Ok(socket) = tokio::net::UdpSocket::bind(address).await else { continue };
            tokio::spawn(async move {
                let mut buffer = [0; 512];
                while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                    socket.send_to(&reply(&buffer[..length], Flags::TC), peer).await.unwrap();
                }
            });
            break address;
        };
        assert_eq!(addresses(look_up(&servers(&[address]), "dns.example").await), ["127.0.0.1"]);
    }

    #[tokio::test]
    async fn a_bootstrap_server_that_is_silent_refuses_or_talks_nonsense_does_not_keep_the_next_from_answering() {
        let (silent, _) = udp_server(|_| Vec::new()).await;
        let (refusing, _) = udp_server(|query| reply(query, 5)).await;
        let (garbled, _) = udp_server(|query| answer(query, &[vec![0xff; 9]])).await;
        let (good, _) = udp_server(here).await;
        let found = look_up(&servers(&[silent, refusing, garbled, good]), "dns.example").await;
        assert_eq!(addresses(found), ["127.0.0.1"]);
        assert_eq!(look_up(&servers(&[refusing]), "dns.example").await, Err(LookUpError::Unanswered));
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_or_is_blocked_is_not_asked_for_elsewhere() {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        let (other, _) = udp_server(|query| {
            ASKED.fetch_add(1, Ordering::SeqCst);
            here(query)
        })
        .await;
        let (gone, _) = udp_server(|query| reply(query, 3)).await;
        assert_eq!(look_up(&servers(&[gone, other]), "dns.example").await, Err(LookUpError::NoSuchName));
        let (blocked, _) = udp_server(|query| match Question::parse(query).unwrap().rtype {
            rtype::A => answer(query, &[record(rtype::A, 60, &[0; 4])]),
            _ => answer(query, &[record(rtype::AAAA, 60, &[0; 16])]),
        })
        .await;
        assert_eq!(look_up(&servers(&[blocked, other]), "dns.example").await, Err(LookUpError::NoAddress));
        assert_eq!(ASKED.load(Ordering::SeqCst), 0);
        assert_eq!(look_up(&[], "dns.example").await, Err(LookUpError::Nobody));
    }

    #[tokio::test]
    async fn a_chain_that_leads_in_a_circle_ends() {
        let (address, _) = udp_server(|query| answer(query, &[record(rtype::CNAME, 60, &[0xc0, 12])])).await;
        assert_eq!(look_up(&servers(&[address]), "dns.example").await, Err(LookUpError::NoAddress));
    }

    #[tokio::test]
    async fn a_server_over_tcp_is_asked_over_tcp() {
        let (listener, address) = super::super::testing::listener().await;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_stream(stream, here));
            }
        });
        let server = Arc::new(Upstream::new(&plain("tcp", address), UpstreamId(0), &home()).unwrap());
        assert_eq!(addresses(look_up(&[server], "dns.example").await), ["127.0.0.1"]);
    }
}
