//! Plain DNS over UDP toward a server, hardened against forgery (RFC 5452).
//!
//! Every exchange has a socket of its own, bound to port 0 and connected: the kernel draws the source port at random from its
//! ephemeral range and passes up only datagrams from the server's address and port (SPF-01, SPF-04); the id comes from a CSPRNG
//! (SPF-03); the question's letters have random case (SPF-07) and a cookie goes along (CKI-19). What matches no question of ours is
//! ignored (SPF-02), until there is too much of it to be an accident (SPF-06).
//!
//! An ICMP error can be forged as well, by whoever guesses the port. So the first is not believed: the datagram is sent again, and
//! only a second error, or silence for [`GRACE`], ends the attempt.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::ask::{Ask, Leg};
use super::case;
use super::delivery::{Window, is_truncated};
use super::error::Cause;
use super::hop::Hop;
use super::jar::{Cookie, Jar, Taste};
use super::sockets::fault;
use crate::wire::MAX_MESSAGE;

/// What came of asking over UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The answer, its question spelled as asked.
    Answer(Bytes),
    /// A matching answer with TC: its content means nothing (TCF-01).
    Truncated,
    /// So many mismatches that somebody is guessing: UDP is not to be trusted with this question.
    Besieged,
    /// An answer that matches but for letter case: a forger's, or the server does not keep case (SPF-07).
    Folded,
    /// Only answers without the right cookie: a forger's, or the server has stopped doing cookies (CKI-21).
    Uncookied,
    /// BADCOOKIE: the jar now holds what to show (CKI-22).
    BadCookie,
}

/// How one server is asked.
#[derive(Clone, Copy, Debug)]
pub struct Manner<'a> {
    /// The address that questions leave from; None: the system chooses.
    pub source: Option<IpAddr>,
    /// Does the question have random letter case, and must the answer keep it?
    pub mixed: bool,
    /// The server's cookies; None: it is shown none.
    pub jar: Option<&'a Jar>,
}

/// Mismatched datagrams after which UDP is given up for a question.
const MISMATCHES: u32 = 10;

/// How long the true answer may still take after something that looks like the end: it may have been forged.
pub const GRACE: Duration = Duration::from_millis(200);

/// Asks `address`, and asks once more after a third of the window if `window.sends` allows.
///
/// The second datagram is the first one again, id and port included: two ids in flight would double a forger's chances.
///
/// # Errors
/// [`Cause::Timeout`], [`Cause::Connect`] where the network says that nobody is there, [`Cause::Busy`] where there is no socket.
pub async fn ask(ask: &Ask, address: SocketAddr, window: Window, manner: Manner<'_>) -> Result<Heard, Cause> {
    let socket = open(address, manner.source).await.map_err(|error| fault(&error))?;
    let source = socket.local_addr().map_err(|_| Cause::Connect)?.ip();
    let jar = manner.jar.filter(|_| !ask.without_edns);
    let cookie = jar.and_then(|jar| jar.show(address, source));
    let id = rand::random();
    let mut query = BytesMut::with_capacity(512);
    ask.compose(Leg { id, cookie: cookie.as_ref().map(Cookie::data), ..Leg::default() }, &mut query);
    if manner.mixed {
        case::mix(&mut query, &ask.question);
    }
    let now = Instant::now();
    let third = window.until.saturating_duration_since(now) / 3;
    let mut siege = Siege {
        ask,
        id,
        query,
        mixed: manner.mixed,
        jar,
        cookie,
        place: (address, source),
        until: window.until,
        again_at: (window.sends > 1).then(|| now + third),
        mismatches: 0,
        doubted: false,
        refused: false,
        buffer: Vec::with_capacity(MAX_MESSAGE),
    };
    siege.run(&socket).await
}

async fn open(address: SocketAddr, source: Option<IpAddr>) -> io::Result<UdpSocket> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((source.unwrap_or(any), 0)).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// One question and what has happened to it.
struct Siege<'a> {
    ask: &'a Ask,
    id: u16,
    query: BytesMut,
    mixed: bool,
    jar: Option<&'a Jar>,
    cookie: Option<Cookie>,
    /// The server's address and ours.
    place: (SocketAddr, IpAddr),
    /// When waiting ends.
    until: Instant,
    /// When the question is sent once more.
    again_at: Option<Instant>,
    mismatches: u32,
    /// Has there been an answer with nothing wrong but its cookie?
    doubted: bool,
    /// Has the network said once that nobody is there?
    refused: bool,
    buffer: Vec<u8>,
}

impl Siege<'_> {
    async fn run(&mut self, socket: &UdpSocket) -> Result<Heard, Cause> {
        self.send(socket).await?;
        loop {
            self.buffer.clear();
            let wake = self.again_at.map_or(self.until, |again_at| again_at.min(self.until));
            match timeout_at(wake, socket.recv_buf(&mut self.buffer)).await {
                Ok(Ok(_)) => {
                    if let Some(heard) = self.hear() {
                        return Ok(heard);
                    }
                }
                Ok(Err(_)) => {
                    self.refuse()?;
                    self.send(socket).await?;
                }
                Err(_) if Instant::now() >= self.until => return self.give_up(),
                Err(_) => {
                    self.again_at = None;
                    self.send(socket).await?;
                }
            }
        }
    }

    /// Sends the question. An ICMP error that has come in meanwhile is told by the call that sends.
    async fn send(&mut self, socket: &UdpSocket) -> Result<(), Cause> {
        for _ in 0..2 {
            match socket.send(&self.query).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.refuse()?,
                Err(_) => return Err(Cause::Connect),
            }
        }
        Ok(())
    }

    /// Takes note that the network says nobody is there.
    fn refuse(&mut self) -> Result<(), Cause> {
        if self.refused {
            return Err(Cause::Connect);
        }
        self.refused = true;
        self.end_soon();
        Ok(())
    }

    fn end_soon(&mut self) {
        self.until = self.until.min(Instant::now() + GRACE);
        self.again_at = None;
    }

    fn give_up(&self) -> Result<Heard, Cause> {
        match (self.doubted, self.refused) {
            (true, _) => Ok(Heard::Uncookied),
            (false, true) => Err(Cause::Connect),
            (false, false) => Err(Cause::Timeout),
        }
    }

    /// What the datagram in the buffer means; None: nothing, the wait goes on.
    fn hear(&mut self) -> Option<Heard> {
        if self.ask.check(&self.buffer, self.id).is_err() {
            return self.mismatch();
        }
        if self.mixed && !case::is_kept(&self.buffer, &self.query, &self.ask.question) {
            return Some(Heard::Folded);
        }
        match self.taste() {
            Taste::Fine if is_truncated(&self.buffer) => Some(Heard::Truncated),
            Taste::Fine => {
                case::restore(&mut self.buffer, &self.ask.question);
                Some(Heard::Answer(Bytes::copy_from_slice(&self.buffer)))
            }
            Taste::Renew => Some(Heard::BadCookie),
            Taste::Doubtful => {
                self.doubted = true;
                self.end_soon();
                self.mismatch()
            }
        }
    }

    fn taste(&self) -> Taste {
        let Some(jar) = self.jar else { return Taste::Fine };
        jar.taste(self.cookie.as_ref(), self.place, &self.buffer, &Hop::read(&self.buffer))
    }

    fn mismatch(&mut self) -> Option<Heard> {
        self.mismatches += 1;
        (self.mismatches >= MISMATCHES).then_some(Heard::Besieged)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::testing::{ask as question, datagrams, reply, reply_as, window};
    use super::*;
    use crate::wire::{Flags, u16_at};

    const CAREFUL: Manner<'static> = Manner { source: None, mixed: true, jar: None };

    const LONG: u64 = 10_000;

    #[tokio::test]
    async fn spf_01_02_wrong_id_source_and_question_are_ignored_and_the_good_answer_taken() {
        let (server, address) = datagrams().await;
        let (forger, _) = datagrams().await;
        let asking =
            tokio::spawn(async move { ask(&question("good.example"), address, window(LONG, 1), CAREFUL).await });
        let mut buffer = [0; 512];
        let (length, client) = server.recv_from(&mut buffer).await.unwrap();
        let query = &buffer[..length];
        let id = u16_at(query, 0).unwrap();
        forger.send_to(&reply(query, Flags::AA), client).await.unwrap();
        server.send_to(&reply_as(id.wrapping_add(1), query), client).await.unwrap();
        let mut other = BytesMut::new();
        question("evil.example").compose(Leg { id, ..Leg::default() }, &mut other);
        server.send_to(&reply(&other, 0), client).await.unwrap();
        server.send_to(query, client).await.unwrap();
        let good = reply(query, 0);
        server.send_to(&good, client).await.unwrap();
        let Heard::Answer(answer) = asking.await.unwrap().unwrap() else { panic!("no answer") };
        assert_eq!(answer[12..], question("good.example").question[..]);
        assert_eq!(answer[..12], good[..12]);
    }

    #[tokio::test]
    async fn spf_06_ten_mismatches_end_trust_in_udp_and_tcf_03_a_forged_tc_is_one_of_them() {
        let (server, address) = datagrams().await;
        let asking = tokio::spawn(async move { ask(&question("a.example"), address, window(LONG, 1), CAREFUL).await });
        let mut buffer = [0; 512];
        let (length, client) = server.recv_from(&mut buffer).await.unwrap();
        let query = &buffer[..length];
        let mut forged = reply(query, Flags::TC);
        forged[0] ^= 0xff;
        for _ in 0..10 {
            server.send_to(&forged, client).await.unwrap();
        }
        assert!(matches!(asking.await.unwrap(), Ok(Heard::Besieged)));
    }

    #[tokio::test]
    async fn neg_15_a_lost_datagram_is_sent_once_more_from_the_same_port_with_the_same_id() {
        let (server, address) = datagrams().await;
        let asking = tokio::spawn(async move { ask(&question("a.example"), address, window(300, 2), CAREFUL).await });
        let (mut first, mut second) = ([0; 512], [0; 512]);
        let one = server.recv_from(&mut first).await.unwrap();
        let two = server.recv_from(&mut second).await.unwrap();
        assert_eq!((one, first), (two, second));
        assert_eq!(asking.await.unwrap().unwrap_err(), Cause::Timeout);
        assert!(server.try_recv_from(&mut first).is_err(), "a third datagram");
    }

    #[tokio::test]
    async fn spf_03_04_ids_and_source_ports_differ_from_question_to_question() {
        let (server, address) = datagrams().await;
        let (mut ids, mut ports) = (HashSet::new(), HashSet::new());
        for _ in 0..64 {
            let asking =
                tokio::spawn(async move { ask(&question("a.example"), address, window(LONG, 1), CAREFUL).await });
            let mut buffer = [0; 512];
            let (length, client) = server.recv_from(&mut buffer).await.unwrap();
            ids.insert(u16_at(&buffer, 0).unwrap());
            ports.insert(client.port());
            server.send_to(&reply(&buffer[..length], 0), client).await.unwrap();
            assert!(matches!(asking.await.unwrap(), Ok(Heard::Answer(_))));
        }
        assert!(ids.len() > 55 && ports.len() > 55, "{} ids, {} ports", ids.len(), ports.len());
    }

    #[tokio::test]
    async fn prg_07_an_answer_far_over_the_announced_size_is_used() {
        let (server, address) = datagrams().await;
        let asking = tokio::spawn(async move { ask(&question("a.example"), address, window(LONG, 1), CAREFUL).await });
        let mut buffer = [0; 512];
        let (length, client) = server.recv_from(&mut buffer).await.unwrap();
        let mut large = reply(&buffer[..length], 0);
        large.resize(5000, 0);
        server.send_to(&large, client).await.unwrap();
        let Heard::Answer(answer) = asking.await.unwrap().unwrap() else { panic!("no answer") };
        assert_eq!(answer.len(), 5000);
    }
}
