//! Many questions on one stream: TCP and DoT (RFC 7766 6.2.1.1, 7; RFC 7858 3.3).
//!
//! One task owns the stream. Ids are random and never shared by two questions in flight (SPF-08); answers come in any order and
//! are matched by id and question (TCP-06). When the task ends, however it ends, its waiters hear [`Cause::Closed`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ahash::RandomState;
use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::Ask;
use super::ask::Leg;
use super::delivery::{Delivered, Facts, check_stream};
use super::error::Cause;
use super::kept::{Carrier, Terms};
use crate::wire::framing::{self, Frame};
use crate::wire::registry::rtype;
use crate::wire::{Edns, HEADER_LEN, Header, Records, patch, u16_at};

/// Opens the streams that questions share: what TCP and DoT differ in. All else a [`Mux`] does for both.
pub trait Streams: Send + Sync + fmt::Debug + 'static {
    /// Opens one, on the current runtime. No octet of a question leaves before the server has proven itself (DOT-09).
    fn connect(&self, until: Instant) -> impl Future<Output = Result<Mux, Cause>> + Send;
}

impl<S: Streams> Carrier for S {
    type Connection = Mux;

    async fn open(&self, until: Instant) -> Result<Mux, Cause> {
        self.connect(until).await
    }

    fn is_open(&self, connection: &Mux) -> bool {
        connection.is_open()
    }

    fn facts(connection: &Mux) -> &Facts {
        connection.facts()
    }

    fn terms(connection: &Mux) -> Terms {
        connection.terms()
    }

    async fn closed(connection: &Mux) {
        connection.closed().await;
    }

    fn cut(connection: &Mux) {
        connection.cut();
    }

    async fn ask(&self, connection: &Mux, ask: &Arc<Ask>) -> Result<Delivered, Cause> {
        connection.ask(ask).await
    }
}

/// The asking end of a stream. Dropping it ends the stream once what is in flight has been answered.
#[derive(Debug)]
pub struct Mux {
    queue: mpsc::Sender<Request>,
    facts: Facts,
    shared: Arc<Shared>,
}

/// What both ends know.
#[derive(Debug)]
struct Shared {
    /// The server's last edns-tcp-keepalive TIMEOUT, in units of 100 ms, or [`UNTOLD`].
    keepalive: AtomicU32,
    /// The word to end at once.
    cut: Notify,
}

/// No edns-tcp-keepalive has come.
const UNTOLD: u32 = u32::MAX;

#[derive(Debug)]
struct Request {
    ask: Arc<Ask>,
    answer: oneshot::Sender<Result<Bytes, Cause>>,
}

/// Questions in flight on one stream.
const FLIGHTS: usize = 1024;

/// Questions that wait for the task.
const QUEUE: usize = FLIGHTS;

/// Octets that one read has room for: many answers where there are many.
const ROOM: usize = 4096;

/// Octets composed but not yet written, above which no further question is taken.
const UNWRITTEN: usize = 16 * 1024;

/// Answers to nothing we asked, after which the server is taken to be broken.
const STRAYS: u32 = 64;

/// How often questions whose asker has gone are counted.
const SWEEP: Duration = Duration::from_secs(1);

/// How long the last words (`close_notify`, FIN) may take.
const FAREWELL: Duration = Duration::from_secs(1);

impl Mux {
    /// Takes `stream` over, on the current runtime.
    #[must_use]
    pub fn start<S>(stream: S, facts: Facts) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (queue, requests) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared { keepalive: AtomicU32::new(UNTOLD), cut: Notify::new() });
        let encrypted = facts.secured.is_some();
        let flights = Flights { waiting: HashMap::default(), strays: 0, encrypted, shared: Arc::clone(&shared) };
        tokio::spawn(converse(stream, requests, flights));
        Self { queue, facts, shared }
    }

    /// May another question go over it? Not when the stream has ended, nor when the server has said that it will end it as soon as
    /// it owes nothing (RFC 7828 3.4: a TIMEOUT of 0).
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.queue.is_closed() && self.shared.keepalive.load(Ordering::Relaxed) != 0
    }

    /// Ends when the stream has.
    pub async fn closed(&self) {
        self.queue.closed().await;
    }

    /// Ends the stream at once; the questions on it hear [`Cause::Closed`].
    pub fn cut(&self) {
        self.shared.cut.notify_one();
    }

    /// Facts about the stream.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What the server has said about the stream.
    #[must_use]
    pub fn terms(&self) -> Terms {
        let units = self.shared.keepalive.load(Ordering::Relaxed);
        let rest = (units != UNTOLD).then(|| Duration::from_millis(100) * units);
        Terms { rest, flights: Some(FLIGHTS) }
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn ask(&self, ask: &Arc<Ask>) -> Result<Delivered, Cause> {
        let (answer, answered) = oneshot::channel();
        let request = Request { ask: Arc::clone(ask), answer };
        self.queue.try_send(request).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Cause::Busy,
            mpsc::error::TrySendError::Closed(_) => Cause::Closed,
        })?;
        let message = answered.await.unwrap_or(Err(Cause::Closed))?;
        Ok(Delivered { message, age: 0, facts: self.facts })
    }
}

/// The questions in flight.
struct Flights {
    waiting: HashMap<u16, Request, RandomState>,
    strays: u32,
    encrypted: bool,
    shared: Arc<Shared>,
}

/// The server does not keep to the protocol: the stream cannot be trusted any more.
struct Broken;

impl Flights {
    /// Gives `request` an id of its own and writes it, length and message as one piece (TCP-03).
    fn take_off(&mut self, request: Request, output: &mut BytesMut) {
        if request.answer.is_closed() {
            return;
        }
        // The table is bounded far below 65 536, so a free id is found in a draw or two.
        let place = loop {
            if let Entry::Vacant(place) = self.waiting.entry(rand::random()) {
                break place;
            }
        };
        let start = output.len();
        output.put_u16(0);
        let leg = Leg { id: *place.key(), encrypted: self.encrypted, keepalive: true, ..Leg::default() };
        request.ask.compose(leg, output);
        let length = u16::try_from(output.len() - start - 2).unwrap_or(u16::MAX);
        patch::put_u16(output, start, length);
        place.insert(request);
    }

    /// Takes what else has queued up, so that it leaves in the same write.
    fn take_off_queued(&mut self, requests: &mut mpsc::Receiver<Request>, output: &mut BytesMut) {
        while self.waiting.len() < FLIGHTS && output.len() < UNWRITTEN {
            let Ok(request) = requests.try_recv() else { return };
            self.take_off(request, output);
        }
    }

    /// Hands every whole answer in `input` to its asker.
    fn land(&mut self, input: &mut BytesMut) -> Result<(), Broken> {
        loop {
            let used = match framing::next(input) {
                Frame::Whole { message, used } => {
                    self.land_one(message)?;
                    used
                }
                Frame::Partial { wanted } => {
                    input.reserve(wanted.saturating_sub(input.len()).max(ROOM));
                    return Ok(());
                }
            };
            bytes::Buf::advance(input, used);
        }
    }

    fn land_one(&mut self, message: &[u8]) -> Result<(), Broken> {
        if message.len() < HEADER_LEN {
            return Err(Broken);
        }
        let id = u16_at(message, 0).map_err(|_| Broken)?;
        let Some(request) = self.waiting.remove(&id) else {
            self.strays += 1;
            return if self.strays > STRAYS { Err(Broken) } else { Ok(()) };
        };
        let outcome = check_stream(&request.ask, message, id).map(|()| Bytes::copy_from_slice(message));
        if let (Ok(_), Some(units)) = (&outcome, keepalive(message)) {
            self.shared.keepalive.store(units.into(), Ordering::Relaxed);
        }
        // An asker whose time has run out needs no answer.
        let _ = request.answer.send(outcome);
        Ok(())
    }

    /// Ids of questions given up stay taken, since their answers may still come; too many, and the stream has had its day.
    fn is_worn_out(&self) -> bool {
        self.waiting.len() >= FLIGHTS / 2
            && self.waiting.values().filter(|request| request.answer.is_closed()).count() >= FLIGHTS / 2
    }

    fn fail(&mut self, cause: Cause) {
        for (_, request) in self.waiting.drain() {
            let _ = request.answer.send(Err(cause));
        }
    }
}

async fn converse<S>(stream: S, mut requests: mpsc::Receiver<Request>, mut flights: Flights)
where
    S: AsyncRead + AsyncWrite + Send,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let end = talk(&mut reader, &mut writer, &mut requests, &mut flights).await;
    // Those who wait ask again as soon as they hear of the end: by then nobody may take this stream for open.
    requests.close();
    drop((flights, requests));
    match end {
        End::Ours => drop(timeout(FAREWELL, writer.shutdown()).await),
        End::Broken => {}
    }
}

/// How a stream comes to its end.
enum End {
    /// We have had enough of it, and say so.
    Ours,
    /// There is nobody to say anything to.
    Broken,
}

async fn talk<S>(
    reader: &mut ReadHalf<S>,
    writer: &mut WriteHalf<S>,
    requests: &mut mpsc::Receiver<Request>,
    flights: &mut Flights,
) -> End
where
    S: AsyncRead + AsyncWrite + Send,
{
    let mut input = BytesMut::with_capacity(ROOM);
    let mut output = BytesMut::new();
    let mut unflushed = false;
    let mut taking = true;
    let shared = Arc::clone(&flights.shared);
    let (mut cut, mut sweep) = (pin!(shared.cut.notified()), pin!(sleep(SWEEP)));
    while taking || !flights.waiting.is_empty() {
        let room = taking && flights.waiting.len() < FLIGHTS && output.len() < UNWRITTEN;
        tokio::select! {
            read = reader.read_buf(&mut input) => {
                if !read.is_ok_and(|octets| octets > 0) {
                    return End::Broken;
                }
                if flights.land(&mut input).is_err() {
                    flights.fail(Cause::Malformed);
                    return End::Broken;
                }
            }
            pushed = push(writer, &mut output), if unflushed || !output.is_empty() => match pushed {
                Ok(flushed) => unflushed = !flushed,
                Err(_) => return End::Broken,
            },
            request = requests.recv(), if room => match request {
                Some(request) => {
                    flights.take_off(request, &mut output);
                    flights.take_off_queued(requests, &mut output);
                }
                // Every asker's handle is gone: what is in flight may land, nothing else starts.
                None => taking = false,
            },
            () = cut.as_mut() => return End::Broken,
            () = sweep.as_mut() => {
                sweep.as_mut().reset(Instant::now() + SWEEP);
                // Also seen here: a stream that takes no octets leaves no room to look for requests.
                taking &= !requests.is_closed();
                let deserted = !taking && flights.waiting.values().all(|request| request.answer.is_closed());
                if deserted || flights.is_worn_out() {
                    break;
                }
            }
        }
    }
    End::Ours
}

/// Writes what there is, or flushes when all is written: answers whether nothing is left. Cancel-safe.
async fn push<S: AsyncWrite>(writer: &mut WriteHalf<S>, output: &mut BytesMut) -> io::Result<bool> {
    if output.is_empty() {
        writer.flush().await?;
        return Ok(true);
    }
    match writer.write_buf(output).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        _ => Ok(false),
    }
}

/// The TIMEOUT of an edns-tcp-keepalive option in `message`, in units of 100 ms (RFC 7828 3.1).
fn keepalive(message: &[u8]) -> Option<u16> {
    let header = Header::parse(message).ok()?;
    if header.additionals == 0 {
        return None;
    }
    let opt = Records::new(message, &header).ok()?.flatten().find(|record| record.rtype == rtype::OPT)?;
    let edns = Edns::parse(message, opt.class, opt.ttl, opt.rdata).ok()?;
    edns.keepalive.and_then(|data| data.of(message).try_into().ok()).map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::future::Future as _;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{DuplexStream, duplex};
    use tokio::task::JoinSet;

    use super::super::delivery::Secured;
    use super::super::testing::{ask as question, label, read_frame, reply, reply_as, write_frame};
    use super::*;
    use crate::peer::Transport;
    use crate::wire::Flags;

    fn pair() -> (Arc<Mux>, DuplexStream) {
        let (ours, theirs) = duplex(64 * 1024);
        let facts = Facts { address: "127.0.0.1:53".parse().unwrap(), transport: Transport::Tcp, secured: None };
        (Arc::new(Mux::start(ours, facts)), theirs)
    }

    async fn answer_to(respond: fn(&[u8]) -> Vec<u8>) -> Result<Delivered, Cause> {
        let (mux, mut server) = pair();
        let asking = tokio::spawn(async move { mux.ask(&question("a.example")).await });
        let query = read_frame(&mut server).await.unwrap();
        write_frame(&mut server, &respond(&query)).await;
        asking.await.unwrap()
    }

    #[tokio::test]
    async fn tcp_06_spf_08_fifty_reversed_answers_reach_their_askers_under_unique_ids() {
        let (mux, mut server) = pair();
        let mut asking = JoinSet::new();
        for number in 0..50 {
            let mux = Arc::clone(&mux);
            asking.spawn(async move {
                let delivered = mux.ask(&question(&format!("n{number}.example"))).await.unwrap();
                assert_eq!(label(&delivered.message), format!("n{number}"));
            });
        }
        let mut queries = Vec::new();
        for _ in 0..50 {
            queries.push(read_frame(&mut server).await.unwrap());
        }
        let ids: HashSet<_> = queries.iter().map(|query| u16_at(query, 0).unwrap()).collect();
        assert_eq!(ids.len(), 50);
        for query in queries.iter().rev() {
            write_frame(&mut server, &reply(query, 0)).await;
        }
        while let Some(done) = asking.join_next().await {
            done.unwrap();
        }
    }

    #[tokio::test]
    async fn an_answer_to_nothing_is_passed_over() {
        let (mux, mut server) = pair();
        let asking = tokio::spawn(async move { mux.ask(&question("a.example")).await });
        let query = read_frame(&mut server).await.unwrap();
        let id = u16_at(&query, 0).unwrap();
        write_frame(&mut server, &reply_as(id.wrapping_add(1), &query)).await;
        write_frame(&mut server, &reply(&query, 0)).await;
        assert_eq!(asking.await.unwrap().unwrap().message, reply(&query, 0));
    }

    #[tokio::test]
    async fn broken_answers_are_named_at_once() {
        let other = |query: &[u8]| {
            let mut message = reply(query, 0);
            message[13] ^= 1;
            message
        };
        assert_eq!(answer_to(other).await.unwrap_err(), Cause::Mismatched);
        assert_eq!(answer_to(<[u8]>::to_vec).await.unwrap_err(), Cause::Malformed);
        assert_eq!(answer_to(|query| query[..11].to_vec()).await.unwrap_err(), Cause::Malformed);
        assert_eq!(answer_to(|_| Vec::new()).await.unwrap_err(), Cause::Malformed);
    }

    #[tokio::test]
    async fn tcf_06_tc_on_a_stream_is_a_broken_answer() {
        assert_eq!(answer_to(|query| reply(query, Flags::TC)).await.unwrap_err(), Cause::Truncated);
    }

    #[tokio::test]
    async fn a_stream_that_ends_tells_its_waiters() {
        let (mux, mut server) = pair();
        let asker = Arc::clone(&mux);
        let asking = tokio::spawn(async move { asker.ask(&question("a.example")).await });
        read_frame(&mut server).await.unwrap();
        drop(server);
        assert_eq!(asking.await.unwrap().unwrap_err(), Cause::Closed);
        assert!(!mux.is_open());
    }

    #[tokio::test]
    async fn dropping_the_askers_handle_ends_the_stream() {
        let (mux, mut server) = pair();
        drop(mux);
        assert_eq!(read_frame(&mut server).await, None);
    }

    /// What an asker finds when it is told of the end: is the stream still open?
    struct Look {
        mux: Arc<Mux>,
        found: std::sync::Mutex<Option<bool>>,
    }

    impl std::task::Wake for Look {
        fn wake(self: Arc<Self>) {
            self.found.lock().unwrap().get_or_insert(self.mux.is_open());
        }
    }

    #[tokio::test]
    async fn tcp_15_who_hears_of_the_end_of_a_stream_finds_it_closed() {
        let (mux, mut server) = pair();
        let look = Arc::new(Look { mux: Arc::clone(&mux), found: std::sync::Mutex::default() });
        let question = question("a.example");
        let mut asking = pin!(mux.ask(&question));
        let waker = std::task::Waker::from(Arc::clone(&look));
        assert!(asking.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        read_frame(&mut server).await.unwrap();
        drop(server);
        mux.closed().await;
        while look.found.lock().unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(*look.found.lock().unwrap(), Some(false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_takes_nothing_any_more_is_let_go_with_its_askers() {
        let (ours, mut server) = duplex(64);
        let facts = Facts { address: "127.0.0.1:53".parse().unwrap(), transport: Transport::Tcp, secured: None };
        let mux = Arc::new(Mux::start(ours, facts));
        let name = format!("{0}.{0}.{0}.example", "a".repeat(60));
        for _ in 0..QUEUE {
            let (mux, name) = (Arc::clone(&mux), name.clone());
            tokio::spawn(async move { timeout(Duration::from_millis(100), mux.ask(&question(&name))).await });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(Arc::strong_count(&mux), 1, "an asker still waits");
        drop(mux);
        tokio::time::sleep(2 * SWEEP + FAREWELL).await;
        assert!(server.write_all(b"\0").await.is_err(), "the stream is still held");
    }

    /// Remembers every write.
    struct Recorder {
        stream: DuplexStream,
        writes: Arc<std::sync::Mutex<Vec<usize>>>,
    }

    impl AsyncRead for Recorder {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Recorder {
        fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
            self.writes.lock().unwrap().push(octets.len());
            Pin::new(&mut self.stream).poll_write(context, octets)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(context)
        }
    }

    #[tokio::test]
    async fn tcp_03_length_and_message_and_all_that_has_queued_go_out_in_one_write() {
        let (ours, mut server) = duplex(64 * 1024);
        let writes = Arc::default();
        let facts = Facts { address: "127.0.0.1:53".parse().unwrap(), transport: Transport::Tcp, secured: None };
        let mux = Arc::new(Mux::start(Recorder { stream: ours, writes: Arc::clone(&writes) }, facts));
        let mut asking = JoinSet::new();
        for _ in 0..20 {
            let mux = Arc::clone(&mux);
            asking.spawn(async move { mux.ask(&question("a.example")).await });
        }
        let mut octets = 0;
        for _ in 0..20 {
            octets += 2 + read_frame(&mut server).await.unwrap().len();
        }
        assert_eq!(*writes.lock().unwrap(), [octets]);
    }

    #[tokio::test]
    async fn kal_08_the_question_carries_an_empty_keepalive_and_pad_05_padding_comes_after_it() {
        for (transport, secured) in [(Transport::Tcp, None), (Transport::Dot, Some(SECURED))] {
            let (ours, mut server) = duplex(1024);
            let mux = Mux::start(ours, Facts { address: "127.0.0.1:53".parse().unwrap(), transport, secured });
            let asking = tokio::spawn(async move { mux.ask(&question("a.example")).await });
            let query = read_frame(&mut server).await.unwrap();
            let tail = &query[12 + 15 + 11..];
            assert_eq!(tail[..4], [0, 11, 0, 0]);
            match transport {
                Transport::Dot => assert_eq!((query.len(), &tail[4..6]), (128, &[0, 12][..])),
                _ => assert_eq!(tail.len(), 4),
            }
            asking.abort();
        }
    }

    const SECURED: Secured =
        Secured { version: rustls::ProtocolVersion::TLSv1_3, cipher: None, alpn: None, resumed: None };
}
