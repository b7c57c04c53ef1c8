//! A plain server (`udp://`): asked over UDP, and over TCP where UDP will not do or the client came over a stream.
//!
//! Neither is taken for granted. A truncated or doubtful answer is asked for again over TCP at once. Where TCP is dropped in
//! silence, it gets half of the first question's time and is then left alone for `NO_TCP`.
//!
//! Where three questions in a row get nothing over UDP (FRG-06: answers that arrive in fragments may all be lost), TCP is asked first
//! for `NO_UDP`.
//!
//! Some servers do not keep letter case, and some stop doing cookies. Their answers look forged, and each would cost a question
//! over TCP for ever. So when TCP has shown three times in a row that the server is well and only has that habit, it is
//! asked without for a while. Where there is no TCP to ask, a second question over UDP without the check stands in for it:
//! a forger would have to win twice, from another port and under another id.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Ask;
use super::delivery::{Delivered, Facts, Window};
use super::dial::Dialer;
use super::error::Cause;
use super::jar::Jar;
use super::kept::{Home, Kept};
use super::proxy::ProxyError;
use super::resolve::Addresses;
use super::server::Log;
use super::settings::Server;
use super::sockets::Share;
use super::spell::{Doubt, Spell};
use super::tally::Tally;
use super::tcp::Tcp;
use super::udp::{self, Heard, Manner};
use crate::peer::Transport;
use crate::trail::AttemptEnd;

/// A server of `udp://`.
#[derive(Debug)]
pub struct Plain {
    addresses: Addresses,
    sockets: Share,
    tcp: Kept<Tcp>,
    /// No connection could be opened lately.
    no_tcp: Spell,
    /// Nothing came over UDP lately, and TCP has not failed since.
    no_udp: Spell,
    unheard: Doubt,
    /// None: it is shown no cookies.
    jar: Option<Jar>,
    /// It does not keep letter case.
    folding: Spell,
    folds: Doubt,
    uncookied: Doubt,
}

/// A habit of a server that makes its answers look forged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// Letters come back in another case.
    Folding,
    /// Cookies come no more.
    Uncookied,
}

/// How long TCP is left alone after no connection could be opened.
const NO_TCP: Duration = Duration::from_mins(1);

/// How long TCP is asked first after nothing came over UDP.
const NO_UDP: Duration = Duration::from_mins(1);

/// How long a server that folds letter case is asked without random case.
const FOLDING: Duration = Duration::from_mins(10);

impl Plain {
    /// Makes `server` ready; nothing is sent yet.
    ///
    /// # Errors
    /// Its proxy.
    pub fn new(server: &Server, home: &Home, tally: &Arc<Tally>) -> Result<Self, ProxyError> {
        // Silence on TCP must leave time for UDP within the same attempt.
        let brief = Home { patience: home.patience / 2, ..home.clone() };
        Ok(Self {
            addresses: Addresses::of(server, &home.commons),
            sockets: Share::new(&home.commons.sockets),
            tcp: Kept::new(Tcp::new(Dialer::new(server, home)?), brief, tally),
            no_tcp: Spell::default(),
            no_udp: Spell::default(),
            unheard: Doubt::default(),
            jar: home.commons.cookies.then(Jar::default),
            folding: Spell::default(),
            folds: Doubt::default(),
            uncookied: Doubt::default(),
        })
    }

    /// Asks; a detour is written to `log`.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) async fn ask(&self, ask: &Arc<Ask>, window: Window, log: &mut Log<'_>) -> Result<Delivered, Cause> {
        if (ask.prefer_stream || self.no_udp.lasts()) && !self.no_tcp.lasts() {
            let outcome = self.over_tcp(ask, window).await;
            if outcome.is_err() {
                self.no_udp.end();
            }
            match outcome {
                // The server is one of `udp://`, and a client of a stream is served as well as another.
                Err(cause) if self.no_tcp.lasts() => {
                    log.end(if cause == Cause::Timeout { AttemptEnd::Timeout } else { AttemptEnd::Connect });
                }
                outcome => return outcome,
            }
        }
        self.over_udp(ask, window, log).await
    }

    async fn over_udp(&self, ask: &Arc<Ask>, window: Window, log: &mut Log<'_>) -> Result<Delivered, Cause> {
        let (mut heard, sent) = self.datagram(ask, window, self.manner()).await?;
        let mut left = Window { sends: window.sends.saturating_sub(sent), ..window };
        if heard.0 == Heard::BadCookie && left.sends > 0 {
            log.end(AttemptEnd::Failed);
            let (again, sent) = self.datagram(ask, left, self.manner()).await?;
            left.sends = left.sends.saturating_sub(sent);
            heard = again;
        }
        let (end, cause, habit) = match heard {
            (Heard::Answer(message), address) => {
                self.folds.dispel();
                self.uncookied.dispel();
                return Ok(delivered(message, address));
            }
            (Heard::Truncated, _) => (AttemptEnd::Truncated, Cause::Truncated, None),
            (Heard::Besieged, _) => (AttemptEnd::Malformed, Cause::Mismatched, None),
            (Heard::BadCookie, _) => (AttemptEnd::Failed, Cause::Mismatched, None),
            (Heard::Folded, _) => (AttemptEnd::Malformed, Cause::Mismatched, Some(Habit::Folding)),
            (Heard::Uncookied, _) => (AttemptEnd::Malformed, Cause::Mismatched, Some(Habit::Uncookied)),
        };
        log.end(end);
        // Known to lead nowhere; a datagram client's truncated answer is worth another try, there is no other way to it.
        let skip = self.no_tcp.lasts() && (ask.prefer_stream || habit.is_some());
        let outcome = if skip { Err(Cause::Connect) } else { self.over_tcp(ask, window).await };
        match (outcome, habit) {
            (Ok(delivered), habit) => {
                self.confirm(habit);
                Ok(delivered)
            }
            (Err(_), Some(habit)) if self.no_tcp.lasts() => {
                if !skip {
                    log.end(AttemptEnd::Connect);
                }
                self.once_more(ask, left, habit).await.ok_or(cause)
            }
            (Err(_), _) => Err(cause),
        }
    }

    /// Asks again without the check that `habit` fails.
    async fn once_more(&self, ask: &Ask, window: Window, habit: Habit) -> Option<Delivered> {
        if window.sends == 0 {
            return None;
        }
        let manner = match habit {
            Habit::Folding => Manner { mixed: false, ..self.manner() },
            Habit::Uncookied => Manner { jar: None, ..self.manner() },
        };
        let ((Heard::Answer(message), address), _) = self.datagram(ask, window, manner).await.ok()? else {
            return None;
        };
        self.confirm(Some(habit));
        Some(delivered(message, address))
    }

    /// The server is well and has `habit`.
    fn confirm(&self, habit: Option<Habit>) {
        match habit {
            Some(Habit::Folding) if self.folds.confirm() => self.folding.begin(FOLDING),
            Some(Habit::Uncookied) if self.uncookied.confirm() => self.jar.iter().for_each(Jar::give_up),
            Some(Habit::Folding | Habit::Uncookied) | None => {}
        }
    }

    fn manner(&self) -> Manner<'_> {
        Manner { origin: self.addresses.origin(), mixed: !self.folding.lasts(), jar: self.jar.as_ref() }
    }

    /// What is heard of whom, and how many datagrams it took.
    async fn datagram(
        &self,
        ask: &Ask,
        window: Window,
        manner: Manner<'_>,
    ) -> Result<((Heard, SocketAddr), u8), Cause> {
        let _socket = self.sockets.enter(window.until).await?;
        let reach = |address, until| async move {
            let window = Window { until, ..window };
            udp::ask(ask, address, window, manner).await.map(|(heard, sent)| ((heard, address), sent))
        };
        let outcome = self.addresses.in_turn(window.until, reach).await;
        match &outcome {
            Ok(_) => self.unheard.dispel(),
            Err(Cause::Timeout) if self.unheard.confirm() => self.no_udp.begin(NO_UDP),
            Err(_) => {}
        }
        outcome
    }

    async fn over_tcp(&self, ask: &Arc<Ask>, window: Window) -> Result<Delivered, Cause> {
        let outcome = timeout_at(window.until, self.tcp.exchange(ask, window)).await.unwrap_or(Err(Cause::Timeout));
        match &outcome {
            Ok(_) => self.no_tcp.end(),
            Err(Cause::Connect) => self.no_tcp.begin(NO_TCP),
            // Before the time was over: it was the opening that got no answer.
            Err(Cause::Timeout) if Instant::now() < window.until => self.no_tcp.begin(NO_TCP),
            Err(_) => {}
        }
        outcome
    }
}

const fn delivered(message: bytes::Bytes, address: SocketAddr) -> Delivered {
    Delivered { message, age: 0, facts: Facts { address, transport: Transport::Udp, secured: None } }
}

#[cfg(test)]
mod tests {
    use super::super::server::Upstream;
    use super::super::testing::{
        ask as question, attempt, cookie_of, cookied, deaf_pair, home, listener, plain, reply, reply_as, serve_stream,
        udp_server, window,
    };
    use super::*;
    use crate::trail::{Attempts, UpstreamId};
    use crate::wire::{Flags, Header};
    use std::sync::atomic::Ordering;

    /// UDP that sends `times` of `respond`, and TCP that answers with AA, on one port.
    async fn both(mut respond: impl FnMut(&[u8]) -> Vec<u8> + Send + 'static, times: usize) -> SocketAddr {
        loop {
            let (listener, address) = listener().await;
            let Ok(socket) = tokio::net::UdpSocket::bind(address).await else { continue };
            tokio::spawn(async move {
                let mut buffer = [0; 512];
                while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                    for _ in 0..times {
                        socket.send_to(&respond(&buffer[..length]), peer).await.unwrap();
                    }
                }
            });
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve_stream(stream, |query| reply(query, Flags::AA)));
                }
            });
            return address;
        }
    }

    async fn truncating() -> SocketAddr {
        both(|query| reply(query, Flags::TC), 1).await
    }

    fn ends(attempts: &Attempts) -> Vec<AttemptEnd> {
        attempts.kept().iter().map(|attempt| attempt.end).collect()
    }

    #[tokio::test]
    async fn tcf_01_04_a_truncated_answer_is_asked_for_again_over_tcp() {
        let (result, attempts) = attempt(&plain("udp", truncating().await), &question("big.example")).await;
        let delivered = result.unwrap();
        assert_eq!(delivered.facts.transport, Transport::Tcp);
        assert!(Header::parse(&delivered.message).unwrap().flags.has(Flags::AA));
        assert_eq!(ends(&attempts), [AttemptEnd::Truncated, AttemptEnd::Answered]);
    }

    #[tokio::test]
    async fn spf_06_a_question_under_siege_moves_to_tcp() {
        let address = both(|query| reply_as(!u16::from_be_bytes([query[0], query[1]]), query), 10).await;
        let (result, attempts) = attempt(&plain("udp", address), &question("a.example")).await;
        assert_eq!(result.unwrap().facts.transport, Transport::Tcp);
        assert_eq!(ends(&attempts), [AttemptEnd::Malformed, AttemptEnd::Answered]);
    }

    #[tokio::test]
    async fn prg_06_a_question_from_a_stream_goes_over_tcp_at_once() {
        let ask = Arc::new(Ask { prefer_stream: true, ..(*question("a.example")).clone() });
        let (result, attempts) = attempt(&plain("udp", truncating().await), &ask).await;
        assert_eq!(result.unwrap().facts.transport, Transport::Tcp);
        assert_eq!(ends(&attempts), [AttemptEnd::Answered]);
    }

    #[tokio::test]
    async fn a_question_from_a_stream_goes_over_udp_where_the_server_has_no_tcp() {
        let (address, _) = udp_server(|query| reply(query, 0)).await;
        let ask = Arc::new(Ask { prefer_stream: true, ..(*question("a.example")).clone() });
        let (result, attempts) = attempt(&plain("udp", address), &ask).await;
        assert_eq!(result.unwrap().facts.transport, Transport::Udp);
        assert_eq!(ends(&attempts), [AttemptEnd::Connect, AttemptEnd::Answered]);
    }

    #[tokio::test]
    async fn tcf_05_a_truncated_answer_without_tcp_stays_truncated() {
        let (address, _) = udp_server(|query| reply(query, Flags::TC)).await;
        let (result, attempts) = attempt(&plain("udp", address), &question("big.example")).await;
        assert_eq!(result.unwrap_err().cause, Cause::Truncated);
        assert_eq!(ends(&attempts), [AttemptEnd::Truncated, AttemptEnd::Truncated]);
    }

    #[tokio::test]
    async fn a_closed_port_is_known_at_once() {
        // Held, and for one other peer only: for us nobody is there.
        let (socket, _deaf, address) = deaf_pair().await;
        socket.connect("127.0.0.1:9").await.unwrap();
        let (result, _) = attempt(&plain("udp", address), &question("a.example")).await;
        assert_eq!(result.unwrap_err().cause, Cause::Connect);
    }

    fn folded(query: &[u8]) -> Vec<u8> {
        let mut message = reply(query, 0);
        message[12..].make_ascii_lowercase();
        message
    }

    /// A client of a datagram, or of a stream, asks; the transport of the answer, and how the attempts ended.
    async fn ask_at(upstream: &Upstream, stream: bool) -> (Result<Transport, Cause>, Vec<AttemptEnd>) {
        let ask = Arc::new(Ask { prefer_stream: stream, ..(*question("some.long.name.with.letters.example")).clone() });
        let mut attempts = Attempts::default();
        let result = upstream.attempt(&ask, window(10_000, 2), &mut attempts).await;
        let transport = result.map(|(delivered, _)| delivered.facts.transport).map_err(|error| error.cause);
        (transport, ends(&attempts))
    }

    fn upstream(address: SocketAddr, home: &Home) -> Upstream {
        Upstream::new(&plain("udp", address), UpstreamId(7), home).unwrap()
    }

    #[tokio::test]
    async fn spf_07_a_server_that_folds_case_is_asked_over_tcp_until_that_is_known_to_be_its_habit() {
        let upstream = upstream(both(folded, 1).await, &home());
        let detour = (Ok(Transport::Tcp), vec![AttemptEnd::Malformed, AttemptEnd::Answered]);
        for _ in 0..3 {
            assert_eq!(ask_at(&upstream, false).await, detour);
        }
        assert_eq!(ask_at(&upstream, false).await, (Ok(Transport::Udp), vec![AttemptEnd::Answered]));
    }

    #[tokio::test]
    async fn spf_07_a_server_that_folds_case_and_has_no_tcp_is_asked_twice_over_udp() {
        let (address, _) = udp_server(folded).await;
        let upstream = upstream(address, &home());
        let detour = |ends: &[AttemptEnd]| (Ok(Transport::Udp), ends.to_vec());
        let (wrong, refused, answered) = (AttemptEnd::Malformed, AttemptEnd::Connect, AttemptEnd::Answered);
        assert_eq!(ask_at(&upstream, false).await, detour(&[wrong, refused, answered]));
        assert_eq!(ask_at(&upstream, false).await, detour(&[wrong, answered]));
        assert_eq!(ask_at(&upstream, false).await, detour(&[wrong, answered]));
        assert_eq!(ask_at(&upstream, false).await, detour(&[answered]));
    }

    #[tokio::test]
    async fn cki_22_badcookie_is_asked_once_more_with_the_new_cookie_and_then_over_tcp() {
        let strict = |query: &[u8]| {
            let good = cookie_of(query).get(8..).is_some_and(|server| server == [7; 8]);
            cookied(query, if good { 0 } else { 23 }, &[7; 8])
        };
        let server = upstream(both(strict, 1).await, &home());
        let (failed, answered) = (AttemptEnd::Failed, AttemptEnd::Answered);
        assert_eq!(ask_at(&server, false).await, (Ok(Transport::Udp), vec![failed, answered]));
        assert_eq!(ask_at(&server, false).await, (Ok(Transport::Udp), vec![answered]));
        let never = upstream(both(|query| cookied(query, 23, &rand::random::<[u8; 8]>()), 1).await, &home());
        assert_eq!(ask_at(&never, false).await, (Ok(Transport::Tcp), vec![failed, failed, answered]));
    }

    #[tokio::test]
    async fn neg_15_badcookie_and_folded_case_together_take_no_more_datagrams_than_an_attempt_may_send() {
        let (address, heard) = udp_server(|query| {
            let mut message = cookied(query, 23, &rand::random::<[u8; 8]>());
            if cookie_of(query).len() > 8 {
                let end = 12 + question("some.long.name.with.letters.example").question.len();
                message[12..end].make_ascii_lowercase();
            }
            message
        })
        .await;
        let (result, _) = ask_at(&upstream(address, &home()), false).await;
        assert_eq!(result, Err(Cause::Mismatched));
        assert_eq!(heard.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn cki_21_a_server_that_stops_giving_cookies_is_asked_over_tcp_until_that_is_known_to_be_its_habit() {
        let mut first = true;
        let forgetful = move |query: &[u8]| {
            if std::mem::take(&mut first) { cookied(query, 0, &[7; 8]) } else { reply(query, 0) }
        };
        let upstream = upstream(both(forgetful, 1).await, &home());
        let direct = (Ok(Transport::Udp), vec![AttemptEnd::Answered]);
        assert_eq!(ask_at(&upstream, false).await, direct);
        for _ in 0..3 {
            let detour = (Ok(Transport::Tcp), vec![AttemptEnd::Malformed, AttemptEnd::Answered]);
            assert_eq!(ask_at(&upstream, false).await, detour);
        }
        assert_eq!(ask_at(&upstream, false).await, direct);
    }

    /// A server over UDP that answers with `flags`, at a port whose queue for TCP is full: the system drops what else
    /// comes in, and nobody says no.
    async fn silent_over_tcp(flags: u16) -> SocketAddr {
        let (socket, deaf, address) = deaf_pair().await;
        deaf.listen(0).unwrap();
        let brief = Duration::from_millis(50);
        let connect = |_| std::net::TcpStream::connect_timeout(&address, brief).ok();
        let held: Vec<_> = (0..4).map_while(connect).collect();
        tokio::spawn(async move {
            let _full = (deaf, held);
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                socket.send_to(&reply(&buffer[..length], flags), peer).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn prg_06_tcp_that_is_dropped_in_silence_leaves_time_for_udp_and_is_left_alone_for_a_while() {
        let address = silent_over_tcp(0).await;
        let upstream = upstream(address, &Home { patience: Duration::from_millis(200), ..home() });
        assert_eq!(
            ask_at(&upstream, true).await,
            (Ok(Transport::Udp), vec![AttemptEnd::Timeout, AttemptEnd::Answered])
        );
        assert_eq!(ask_at(&upstream, true).await, (Ok(Transport::Udp), vec![AttemptEnd::Answered]));
    }

    #[tokio::test]
    async fn frg_06_where_nothing_comes_over_udp_three_times_tcp_is_asked_first_for_a_while() {
        let (socket, address) = loop {
            let (listener, address) = listener().await;
            let Ok(socket) = tokio::net::UdpSocket::bind(address).await else { continue };
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve_stream(stream, |query| reply(query, Flags::AA)));
                }
            });
            break (socket, address);
        };
        let upstream = upstream(address, &home());
        for _ in 0..3 {
            let mut attempts = Attempts::default();
            let lost = upstream.attempt(&question("large.example"), window(50, 2), &mut attempts).await;
            assert_eq!(lost.unwrap_err().cause, Cause::Timeout);
        }
        let heard = || {
            let mut buffer = [0; 512];
            std::iter::from_fn(|| socket.try_recv(&mut buffer).ok()).count()
        };
        // What was sent so far, which the runtime has to hear of first.
        socket.readable().await.unwrap();
        assert!(heard() >= 3);
        for _ in 0..2 {
            assert_eq!(ask_at(&upstream, false).await, (Ok(Transport::Tcp), vec![AttemptEnd::Answered]));
        }
        assert_eq!(heard(), 0, "not one datagram more");
    }

    #[tokio::test]
    async fn frg_06_a_server_without_tcp_is_asked_over_udp_however_often_it_was_silent() {
        let silent = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let (socket, deaf, address) = deaf_pair().await;
        let mute = Arc::clone(&silent);
        tokio::spawn(async move {
            let _deaf = deaf;
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                if !mute.load(Ordering::SeqCst) {
                    socket.send_to(&reply(&buffer[..length], 0), peer).await.unwrap();
                }
            }
        });
        let upstream = upstream(address, &home());
        for _ in 0..3 {
            let mut attempts = Attempts::default();
            let lost = upstream.attempt(&question("large.example"), window(50, 2), &mut attempts).await;
            assert_eq!(lost.unwrap_err().cause, Cause::Timeout);
        }
        silent.store(false, Ordering::SeqCst);
        let (refused, answered) = (AttemptEnd::Connect, AttemptEnd::Answered);
        assert_eq!(ask_at(&upstream, false).await, (Ok(Transport::Udp), vec![refused, answered]));
        assert_eq!(ask_at(&upstream, false).await, (Ok(Transport::Udp), vec![answered]));
    }

    #[tokio::test]
    async fn tcf_05_truncation_where_tcp_is_dropped_in_silence_stays_truncation() {
        let address = silent_over_tcp(Flags::TC).await;
        let upstream = upstream(address, &Home { patience: Duration::from_millis(200), ..home() });
        let cut = AttemptEnd::Truncated;
        assert_eq!(ask_at(&upstream, true).await, (Err(Cause::Truncated), vec![AttemptEnd::Timeout, cut, cut]));
        assert_eq!(ask_at(&upstream, false).await, (Err(Cause::Truncated), vec![cut, cut]));
    }
}
