//! The stream protocol over an in-memory pipe, most of it by a paused clock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::listen::Limits;
use crate::listen::scripted::{Script, framed, header, peer, query};
use crate::peer::{DoorId, Transport};
use crate::shutdown::Stop;
use crate::telemetry::Counters;

mod slow;

/// A served connection, and the client's end of it.
struct Served {
    script: Arc<Script>,
    counters: Arc<Counters>,
    client: DuplexStream,
    stop: Stop,
    serving: JoinHandle<()>,
}

fn session(context: &Context) -> Session {
    let permit = context.terms().guard.admit(DoorId(0), "192.0.2.7".parse().unwrap()).unwrap();
    Session { peer: peer(Transport::Tcp), permit, alpn: None }
}

fn start_with(limits: Limits, room: usize) -> Served {
    let script = Script::new();
    let (stop, drain) = Stop::new();
    let context = script.context_with(drain, "0.0.0.0/0", limits);
    let counters = Arc::clone(&context.counters);
    let (client, server) = duplex(room);
    let serving = tokio::spawn(serve(server, session(&context), context));
    Served { script, counters, client, stop, serving }
}

fn start() -> Served {
    start_with(Limits::default(), 1 << 20)
}

impl Served {
    async fn send(&mut self, octets: &[u8]) {
        self.client.write_all(octets).await.unwrap();
    }

    async fn ask(&mut self, id: u16, name: &str) {
        self.send(&framed(&query(id, name))).await;
    }

    /// The id of the next reply.
    async fn reply(&mut self) -> u16 {
        let length = self.client.read_u16().await.unwrap();
        let mut message = vec![0; length.into()];
        self.client.read_exact(&mut message).await.unwrap();
        header(&message).id
    }

    /// Waits for the server to close, and answers what it sent before.
    async fn end(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.client.read_to_end(&mut rest).await.unwrap();
        drop(self.client);
        self.serving.await.unwrap();
        rest
    }
}

/// Several messages behind each other.
fn pipelined(ids: impl Iterator<Item = u16>, name: &str) -> Vec<u8> {
    ids.flat_map(|id| framed(&query(id, name))).collect()
}

#[tokio::test(start_paused = true)]
async fn tcp_02_framing_survives_every_split() {
    let both = [framed(&query(1, "now")), framed(&query(2, "now"))].concat();
    for split in 0..=both.len() {
        let mut served = start();
        served.send(&both[..split]).await;
        // Long enough for the server to have taken the first part, by the paused clock.
        sleep(Duration::from_millis(1)).await;
        served.send(&both[split..]).await;
        assert_eq!((served.reply().await, served.reply().await), (1, 2), "split at {split}");
    }
}

#[tokio::test(start_paused = true)]
async fn tcp_02_framing_survives_single_octets() {
    let mut served = start();
    for octet in pipelined(1..4, "now") {
        served.send(&[octet]).await;
        sleep(Duration::from_millis(1)).await;
    }
    for id in 1..4 {
        assert_eq!(served.reply().await, id);
    }
}

/// Counts writes.
struct Writes<S>(S, Arc<AtomicUsize>);

impl<S: AsyncRead + Unpin> AsyncRead for Writes<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Waking<'_>, read: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Writes<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Waking<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Waking<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Waking<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn tcp_03_answers_of_one_turn_go_out_in_one_write_and_turns_are_bounded() {
    for (questions, writes) in [(1, 1), (30, 1), (100, 4)] {
        let script = Script::new();
        let (_stop, context) = script.context();
        let (mut client, server) = duplex(1 << 20);
        client.write_all(&pipelined(0..questions, "now")).await.unwrap();
        client.shutdown().await.unwrap();
        let counted = Arc::default();
        serve(Writes(server, Arc::clone(&counted)), session(&context), context).await;
        assert_eq!(script.count(), usize::from(questions));
        assert_eq!(counted.load(Ordering::Relaxed), writes, "{questions} questions");
    }
}

#[tokio::test]
async fn tcp_04_pipelined_questions_are_all_answered() {
    let mut served = start();
    served.send(&pipelined(0..200, "now")).await;
    for id in 0..200 {
        assert_eq!(served.reply().await, id);
    }
}

#[tokio::test(start_paused = true)]
async fn tcp_04_questions_in_flight_are_bounded_and_all_answered() {
    let mut served = start();
    served.send(&pipelined(0..200, "later")).await;
    sleep(Duration::from_millis(290)).await;
    assert_eq!(served.script.count(), 100);
    served.script.open();
    let mut ids = BTreeSet::new();
    for _ in 0..200 {
        ids.insert(served.reply().await);
    }
    assert_eq!(ids, (0..200).collect());
}

#[tokio::test(start_paused = true)]
async fn tcp_05_a_hit_passes_as_many_questions_as_may_wait_once_nothing_comes_of_them() {
    let mut served = start();
    served.send(&pipelined(0..120, "later")).await;
    served.send(&pipelined(500..501, "now")).await;
    sleep(Duration::from_millis(290)).await;
    assert_eq!(served.script.count(), 100);
    assert_eq!(served.reply().await, 500);
    assert_eq!((served.script.count(), served.counters.overflow.value()), (121, 20));
    served.script.open();
    let mut ids = BTreeSet::new();
    for _ in 0..100 {
        ids.insert(served.reply().await);
    }
    assert_eq!(ids, (0..100).collect(), "those that waited are answered, the others have been told");
}

#[tokio::test]
async fn tcp_05_a_slow_question_does_not_delay_a_later_one() {
    let mut served = start();
    served.ask(1, "later").await;
    served.ask(2, "now").await;
    assert_eq!(served.reply().await, 2);
    served.script.open();
    assert_eq!(served.reply().await, 1);
}

#[tokio::test]
async fn tcp_11_a_client_that_is_gone_ends_its_connection() {
    let mut served = start();
    served.ask(1, "later").await;
    served.script.asked(1).await;
    drop(served.client);
    served.script.open();
    served.serving.await.unwrap();
}

#[tokio::test]
async fn tcp_12_a_half_closed_client_gets_its_answers() {
    let mut served = start();
    served.ask(1, "later").await;
    served.ask(2, "now").await;
    // The beginning of a question that will never be whole.
    served.send(&[0, 40, 1]).await;
    served.client.shutdown().await.unwrap();
    assert_eq!(served.reply().await, 2);
    served.script.open();
    assert_eq!(served.reply().await, 1);
    assert!(served.end().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn tcp_16_what_is_no_question_closes_the_connection() {
    let mut response = query(1, "now");
    response[2] |= 0x80;
    for bad in [framed(&[]), framed(&query(1, "now")[..11]), framed(&response)] {
        let mut served = start();
        let (began, counters) = (Instant::now(), Arc::clone(&served.counters));
        served.ask(7, "now").await;
        served.send(&bad).await;
        served.ask(8, "now").await;
        assert_eq!(served.reply().await, 7);
        assert!(served.end().await.is_empty());
        assert_eq!(counters.protocol_errors.value(), 1);
        assert!(began.elapsed() <= LINGER);
    }
}

#[tokio::test(start_paused = true)]
async fn tcp_17_messages_of_any_size_pass() {
    let mut served = start();
    let mut long = query(1, "now");
    long.resize(65_535, 0);
    served.send(&framed(&long)).await;
    assert_eq!(served.reply().await, 1);
    served.ask(2, "huge").await;
    assert_eq!(served.reply().await, 2);
}

#[tokio::test]
async fn silence_is_kept_where_the_pipeline_says_so() {
    let mut served = start();
    served.ask(1, "drop").await;
    served.ask(2, "now").await;
    assert_eq!(served.reply().await, 2);
}

#[tokio::test(start_paused = true)]
async fn draining_finishes_what_is_in_flight_and_closes() {
    let mut served = start();
    served.ask(1, "later").await;
    served.script.asked(1).await;
    served.stop.begin();
    sleep(Duration::from_secs(1)).await;
    served.ask(2, "now").await;
    served.script.open();
    assert_eq!(served.reply().await, 1);
    assert!(served.end().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn draining_closes_an_idle_connection_at_once() {
    let served = start();
    let began = Instant::now();
    sleep(Duration::from_millis(1)).await;
    served.stop.begin();
    assert!(served.end().await.is_empty());
    assert!(began.elapsed() <= LINGER);
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_with_its_last_allowed_question() {
    let script = Script::new();
    let (_stop, context) = script.context();
    let (mut client, server) = duplex(1 << 20);
    let mut connection = Connection::new(server, peer(Transport::Tcp), session(&context).permit.purse(), context);
    connection.questions = MOST_QUESTIONS - 2;
    client.write_all(&pipelined(0..5, "now")).await.unwrap();
    assert_eq!(poll_fn(|cx| connection.poll(cx)).await, Ending::Done);
    assert_eq!(script.count(), 2);
}

#[tokio::test]
async fn a_panic_while_a_question_waits_is_counted_and_costs_that_question() {
    let mut served = start();
    served.ask(1, "boom").await;
    served.ask(2, "later").await;
    served.script.open();
    assert_eq!(served.reply().await, 2);
    assert_eq!(served.counters.panics.value(), 1);
}

#[tokio::test]
async fn an_idle_connection_holds_no_buffer() {
    let script = Script::new();
    let (_stop, context) = script.context();
    let (mut client, server) = duplex(1 << 20);
    let mut connection = Connection::new(server, peer(Transport::Tcp), session(&context).permit.purse(), context);
    client.write_all(&pipelined(0..5, "now")).await.unwrap();
    assert!(timeout(Duration::ZERO, poll_fn(|cx| connection.poll(cx))).await.is_err());
    assert_eq!(script.count(), 5);
    assert_eq!((connection.inbox.capacity(), connection.outbox.tail().capacity()), (0, 0));
}
#[tokio::test]
async fn the_task_of_a_connection_is_small() {
    let script = Script::new();
    let (_stop, context) = script.context();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let task = size_of_val(&serve(stream, session(&context), context));
    assert!(task + size_of::<Connection<tokio::net::TcpStream>>() <= 1536, "{task}");
}
