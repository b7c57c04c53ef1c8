//! The demo's upstream: a sample zone served on loopback over UDP and TCP, so that nothing on the internet is needed.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// The zone's name: below it every name exists.
pub const ZONE: &str = "demo.example.";

/// How long the zone's answers live.
const TTL: u32 = 300;

/// What an A question below the zone is answered with (RFC 5737 documentation space).
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

/// The name below the zone that is this machine: where a client that resolves through the demo can fetch something.
pub const LOCAL: &str = "local.demo.example.";

/// Starts the zone's server on a port of the system's choice; it ends with the process.
///
/// # Errors
/// Where no loopback port can be had.
pub fn start() -> io::Result<SocketAddr> {
    let (udp, tcp) = bind()?;
    let address = udp.local_addr()?;
    thread::Builder::new().name("demo-zone-udp".into()).spawn(move || serve_udp(&udp))?;
    thread::Builder::new().name("demo-zone-tcp".into()).spawn(move || serve_tcp(&tcp))?;
    Ok(address)
}

/// UDP and TCP on one port; the pair may be split by another program, so it is tried a few times.
fn bind() -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..16 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        match TcpListener::bind(udp.local_addr()?) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn serve_udp(socket: &UdpSocket) {
    let mut buffer = vec![0; 4096];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        if let Some(reply) = buffer.get(..length).and_then(answer) {
            // A client that has gone away is no concern of the zone's.
            let _ = socket.send_to(&reply, from);
        }
    }
}

fn serve_tcp(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        // The one client is the gateway in front, with one connection at a time.
        let _ = thread::Builder::new().name("demo-zone-peer".into()).spawn(move || converse(stream));
    }
}

fn converse(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    loop {
        let mut prefix = [0; 2];
        stream.read_exact(&mut prefix)?;
        let mut message = vec![0; u16::from_be_bytes(prefix).into()];
        stream.read_exact(&mut message)?;
        let Some(reply) = answer(&message) else { return Ok(()) };
        let length = u16::try_from(reply.len()).unwrap_or(u16::MAX).to_be_bytes();
        stream.write_all(&[&length[..], &reply].concat())?;
    }
}

/// The zone's answer to `query`, `None` where it is no query.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    let question = query.queries.first()?.clone();
    let zone = Name::from_ascii(ZONE).ok()?;
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.message_type = MessageType::Response;
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.authoritative = true;
    let name = question.name().clone();
    let below = zone.zone_of(&name);
    let local = name == Name::from_ascii(LOCAL).ok()?;
    let data =
        below.then(|| if local { local_data(question.query_type()) } else { record_data(question.query_type()) });
    if let Some(data) = data.flatten() {
        reply.add_answer(Record::from_rdata(name, TTL, data));
    } else {
        let soa = SOA::new(zone.clone(), zone.clone(), 1, 3600, 600, 86_400, 60);
        reply.add_authority(Record::from_rdata(if below { zone } else { Name::root() }, 60, RData::SOA(soa)));
    }
    if !below {
        reply.metadata.response_code = ResponseCode::NXDomain;
    }
    reply.add_query(question);
    reply.to_vec().ok()
}

fn record_data(rtype: RecordType) -> Option<RData> {
    match rtype {
        RecordType::A => Some(RData::A(A(ADDRESS))),
        RecordType::AAAA => Some(RData::AAAA(AAAA(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7)))),
        RecordType::TXT => Some(RData::TXT(TXT::new(vec!["a sample answer from hushgate's demo zone".into()]))),
        _ => None,
    }
}

fn local_data(rtype: RecordType) -> Option<RData> {
    (rtype == RecordType::A).then_some(RData::A(A(Ipv4Addr::LOCALHOST)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;

    fn ask(name: &str, rtype: RecordType) -> Message {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), rtype));
        Message::from_vec(&answer(&query.to_vec().unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn names_below_the_zone_have_addresses_and_others_do_not_exist() {
        assert_eq!(ask("dot.demo.example.", RecordType::A).answers[0].data, RData::A(A(ADDRESS)));
        assert!(ask("dot.demo.example.", RecordType::MX).answers.is_empty());
        assert_eq!(ask("www.example.net.", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
    }

    #[test]
    fn one_name_is_this_machine_and_has_no_other_address() {
        assert_eq!(ask("Local.demo.example.", RecordType::A).answers[0].data, RData::A(A(Ipv4Addr::LOCALHOST)));
        let none = ask("local.demo.example.", RecordType::AAAA);
        assert_eq!((none.answers.len(), none.metadata.response_code), (0, ResponseCode::NoError));
    }
}
