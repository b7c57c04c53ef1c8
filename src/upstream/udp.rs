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
use std::net::{IpAddr, SocketAddr};
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
use super::origin::Origin;
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
    /// Where questions leave from.
    pub origin: Origin,
    /// Does the question have random letter case, and must the answer keep it?
    pub mixed: bool,
    /// The server's cookies; None: it is shown none.
    pub jar: Option<&'a Jar>,
}

/// Mismatched datagrams after which UDP is given up for a question.
const MISMATCHES: u32 = 10;

/// How long the true answer may still take after something that looks like the end: it may have been forged.
pub const GRACE: Duration = Duration::from_millis(200);

/// Asks `address`, and asks once more after a third of the window if `window.sends` allows; says with how many datagrams.
///
/// The second datagram is the first one again, id and port included: two ids in flight would double a forger's chances.
///
/// # Errors
/// [`Cause::Timeout`], [`Cause::Connect`] where the network says that nobody is there, [`Cause::Busy`] where there is no socket.
pub async fn ask(ask: &Ask, address: SocketAddr, window: Window, manner: Manner<'_>) -> Result<(Heard, u8), Cause> {
    let socket = open(address, manner.origin).await.map_err(|error| fault(&error))?;
    let source = socket.local_addr().map_err(|_| Cause::Connect)?.ip();
    let mut siege = Siege::new(ask, (address, source), window, manner);
    let heard = siege.run(&socket).await?;
    Ok((heard, window.sends.saturating_sub(siege.sends)))
}

async fn open(address: SocketAddr, origin: Origin) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(origin.local(address)).await?;
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
    /// How often it may still be sent.
    sends: u8,
    mismatches: u32,
    /// Has there been an answer with nothing wrong but its cookie?
    doubted: bool,
    /// Has the network said once that nobody is there?
    refused: bool,
    /// An error without a question, which shows nothing of the letter case: taken if nothing better comes.
    bare: Option<Bytes>,
    buffer: Vec<u8>,
}

impl<'a> Siege<'a> {
    fn new(ask: &'a Ask, place: (SocketAddr, IpAddr), window: Window, manner: Manner<'a>) -> Self {
        let Manner { mixed, .. } = manner;
        let jar = manner.jar.filter(|_| !ask.without_edns);
        let cookie = jar.and_then(|jar| jar.show(place.0, place.1));
        let id = rand::random();
        let mut query = BytesMut::with_capacity(512);
        ask.compose(Leg { id, cookie: cookie.as_ref().map(Cookie::data), ..Leg::default() }, &mut query);
        if mixed {
            case::mix(&mut query, &ask.question);
        }
        let (now, until) = (Instant::now(), window.until);
        let again_at = (window.sends > 1).then(|| now + until.saturating_duration_since(now) / 3);
        let (sends, mismatches, doubted, refused, bare) = (window.sends, 0, false, false, None);
        let buffer = Vec::with_capacity(MAX_MESSAGE);
        #[rustfmt::skip]
        let siege = Self {
            ask, id, query, mixed, jar, cookie, place, until, again_at, sends, mismatches, doubted, refused, bare, buffer,
        };
        siege
    }

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

    /// Sends the question, if it may be sent again. An ICMP error that has come in meanwhile is told by the call that sends.
    async fn send(&mut self, socket: &UdpSocket) -> Result<(), Cause> {
        for _ in 0..2 {
            if self.sends == 0 {
                return Ok(());
            }
            match socket.send(&self.query).await {
                Ok(_) => {
                    self.sends -= 1;
                    return Ok(());
                }
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

    fn give_up(&mut self) -> Result<Heard, Cause> {
        if let Some(bare) = self.bare.take() {
            return Ok(if is_truncated(&bare) { Heard::Truncated } else { Heard::Answer(bare) });
        }
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
            // A forger need not guess the letters for this one: the server's own answer, if there is another, comes first.
            Taste::Fine if self.mixed && case::has_no_question(&self.buffer) => {
                let bare = Bytes::copy_from_slice(&self.buffer);
                self.bare.get_or_insert(bare);
                self.end_soon();
                self.mismatch()
            }
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

    use super::super::testing::{ask as question, cookie_of, cookied, datagrams, reply, reply_as, unheard, window};
    use super::*;
    use crate::wire::{Flags, u16_at};

    async fn ask(ask: &Ask, address: SocketAddr, window: Window, manner: Manner<'_>) -> Result<Heard, Cause> {
        super::ask(ask, address, window, manner).await.map(|(heard, _)| heard)
    }

    const CAREFUL: Manner<'static> = Manner { origin: Origin::new(None), mixed: true, jar: None };

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

    /// What comes of one question when the server sends what `respond` makes of it.
    async fn hear<R: AsRef<[u8]>>(jar: &Jar, respond: impl FnOnce(&[u8]) -> Vec<R>) -> (Result<Heard, Cause>, Vec<u8>) {
        let (server, address) = datagrams().await;
        hear_at(jar, &server, address, respond).await
    }

    async fn hear_at<R: AsRef<[u8]>>(
        jar: &Jar,
        server: &UdpSocket,
        address: SocketAddr,
        respond: impl FnOnce(&[u8]) -> Vec<R>,
    ) -> (Result<Heard, Cause>, Vec<u8>) {
        let question = question("Good.example");
        let manner = Manner { jar: Some(jar), ..CAREFUL };
        let serving = async {
            let mut buffer = [0; 512];
            let (length, client) = server.recv_from(&mut buffer).await.unwrap();
            for message in respond(&buffer[..length]) {
                server.send_to(message.as_ref(), client).await.unwrap();
            }
            buffer[..length].to_vec()
        };
        tokio::join!(ask(&question, address, window(LONG, 1), manner), serving)
    }

    #[tokio::test]
    async fn spf_07_an_answer_is_believed_only_in_the_letter_case_asked_and_told_in_the_askers() {
        let swap = |octet: &u8| if octet.is_ascii_alphabetic() { octet ^ 0x20 } else { *octet };
        let (folded, _) = hear(&Jar::default(), |query| {
            let mut other = reply(query, Flags::TC);
            other.iter_mut().skip(12).for_each(|octet| *octet = swap(octet));
            vec![other]
        })
        .await;
        assert_eq!(folded, Ok(Heard::Folded));
        let (kept, query) = hear(&Jar::default(), |query| vec![reply(query, 0)]).await;
        let Ok(Heard::Answer(answer)) = kept else { panic!("{kept:?}") };
        assert_eq!(answer[12..], question("Good.example").question[..]);
        assert!(query[12..].to_ascii_lowercase().starts_with(b"\x04good\x07example"));
    }

    fn without_question(query: &[u8], rcode: u16) -> Vec<u8> {
        let mut bare = reply(query, 0)[..12].to_vec();
        bare[3] |= rcode.to_be_bytes()[1];
        bare[4..12].fill(0);
        bare
    }

    #[tokio::test]
    async fn spf_07_an_error_that_shows_no_letters_is_taken_only_where_nothing_better_comes() {
        let (heard, _) = hear(&Jar::default(), |query| vec![without_question(query, 1), reply(query, Flags::AA)]).await;
        assert!(matches!(&heard, Ok(Heard::Answer(answer)) if answer.len() > 12), "{heard:?}");
        let (heard, _) = hear(&Jar::default(), |query| vec![without_question(query, 1)]).await;
        assert!(matches!(&heard, Ok(Heard::Answer(answer)) if answer.len() == 12), "{heard:?}");
    }

    #[tokio::test]
    async fn tcf_04_truncation_with_junk_behind_it_is_truncation_all_the_same() {
        let (heard, _) = hear(&Jar::default(), |query| {
            let mut junk = reply(query, Flags::TC);
            junk[6..12].fill(0xff);
            junk.extend([0xc0; 300]);
            vec![junk]
        })
        .await;
        assert_eq!(heard, Ok(Heard::Truncated));
    }

    #[tokio::test]
    async fn spf_02_empty_and_short_datagrams_are_passed_over() {
        let (heard, _) = hear(&Jar::default(), |query| {
            let mut messages = vec![Vec::new(), vec![0], query[..11].to_vec(), Vec::new()];
            messages.push(reply(query, 0));
            messages
        })
        .await;
        assert!(matches!(heard, Ok(Heard::Answer(_))), "{heard:?}");
    }

    #[tokio::test]
    async fn prg_07_the_largest_datagram_there_is_is_read_whole() {
        let (heard, _) = hear(&Jar::default(), |query| {
            let mut large = reply(query, 0);
            large.resize(65_507, 0);
            vec![large]
        })
        .await;
        let Ok(Heard::Answer(answer)) = heard else { panic!("{heard:?}") };
        assert_eq!(answer.len(), 65_507);
    }

    #[tokio::test]
    async fn cki_19_21_a_forged_cookie_is_passed_over_and_the_good_one_shown_from_then_on() {
        let jar = Jar::default();
        let (server, address) = datagrams().await;
        let (heard, first) = hear_at(&jar, &server, address, |query| {
            let mut forged = cookied(query, 0, &[6; 16]);
            let at = forged.len() - 24;
            forged[at] ^= 1;
            vec![forged, cookied(query, 0, &[5; 3]), cookied(query, 0, &[5; 16])]
        })
        .await;
        assert!(matches!(heard, Ok(Heard::Answer(_))), "{heard:?}");
        let (_, second) = hear_at(&jar, &server, address, |query| vec![cookied(query, 0, &[5; 16])]).await;
        assert_eq!(cookie_of(&first).len(), 8);
        assert_eq!(cookie_of(&second), [&cookie_of(&first)[..], &[5; 16]].concat());
        let (heard, _) = hear_at(&jar, &server, address, |query| vec![reply(query, 0)]).await;
        assert_eq!(heard, Ok(Heard::Uncookied), "a server that is known to give cookies");
    }

    #[tokio::test]
    async fn cki_22_badcookie_fills_the_jar() {
        let jar = Jar::default();
        let (server, address) = datagrams().await;
        let (heard, _) = hear_at(&jar, &server, address, |query| vec![cookied(query, 23, &[5; 8])]).await;
        assert_eq!(heard, Ok(Heard::BadCookie));
        let (_, second) = hear_at(&jar, &server, address, |query| vec![cookied(query, 0, &[5; 8])]).await;
        assert_eq!(cookie_of(&second)[8..], [5; 8]);
    }

    #[tokio::test]
    async fn one_icmp_error_may_be_forged_and_only_makes_the_question_go_out_again() {
        let (server, address) = unheard().await;
        let question = question("a.example");
        let socket = open(address, Origin::default()).await.unwrap();
        let place = (address, socket.local_addr().unwrap().ip());
        let mut siege = Siege::new(&question, place, window(LONG, 2), CAREFUL);
        siege.send(&socket).await.unwrap();
        // The error has come; from now on the server hears this client.
        server.connect(socket.local_addr().unwrap()).await.unwrap();
        let serving = async {
            let mut buffer = [0; 512];
            let length = server.recv(&mut buffer).await.unwrap();
            server.send(&reply(&buffer[..length], 0)).await.unwrap();
        };
        let (heard, ()) = tokio::join!(siege.run(&socket), serving);
        assert!(matches!(heard, Ok(Heard::Answer(_))), "{heard:?}");
        assert!(siege.refused);
    }

    #[tokio::test]
    async fn questions_leave_from_the_address_that_was_configured() {
        let (server, address) = datagrams().await;
        let source = Some("127.0.0.9".parse().unwrap());
        let origin = Origin::new(source);
        let asking = async { ask(&question("a.example"), address, window(300, 1), Manner { origin, ..CAREFUL }).await };
        let mut buffer = [0; 512];
        let (_, heard) = tokio::join!(asking, server.recv_from(&mut buffer));
        assert_eq!(Some(heard.unwrap().1.ip()), source);
        let other = Manner { origin: Origin::new(Some("::1".parse().unwrap())), ..CAREFUL };
        assert_eq!(ask(&question("a.example"), address, window(LONG, 1), other).await, Err(Cause::Connect));
    }
}
