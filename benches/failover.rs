//! A server stalls or dies under 2000 questions a second: how many answers are lost, and how late the others are.
//!
//! The whole gateway on loopback, plain DNS at its door, two servers over TCP behind it that answer after 2 ms. Ten seconds
//! before and ten after; `cargo bench --bench failover`, or with `-- 3 500` for three seconds each at 500 a second. Ends with 1 if
//! a question is lost, or if one in a hundred waits longer than a hedge and the silence that makes a server suspect explain.

#![allow(clippy::print_stdout, reason = "a measurement is printed")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};

use hushgate::config::{self, Source};
use hushgate::gateway::{Gateway, Running};
use hushgate::listen::DoorKind;

/// What a server takes for an answer.
const DELAY: Duration = Duration::from_millis(2);
/// How long an answer may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// The client's receive buffer: answers that come in a burst, because this machine was busy, must not be lost here.
const BUFFER: usize = 4 << 20;
/// What a failure may add to the time of the slowest hundredth: the least hedge delay, and the least silence that is suspicious.
const GRACE: Duration = Duration::from_millis(10 + 100);

/// How the first of the two servers fails.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Stall,
    Kill,
}

/// Questions a second, and for how long before and after the failure.
#[derive(Clone, Copy)]
struct Pace {
    seconds: u32,
    rate: u32,
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Answered, after so long.
    Answered(Duration),
    /// Answered with an error.
    Failed,
    /// Not answered.
    Unanswered,
}

/// What became of the questions of ten seconds.
struct Phase {
    questions: usize,
    failed: usize,
    unanswered: usize,
    /// In order.
    times: Vec<Duration>,
}

fn main() -> anyhow::Result<ExitCode> {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let pace = Pace { seconds: numbers.next().unwrap_or(10), rate: numbers.next().unwrap_or(2000).max(1) };
    print!("{:8} {:12} {:6} {:>9} {:>6} {:>10}", "", "", "", "questions", "failed", "unanswered");
    println!(" {:>9} {:>9} {:>9}", "p50", "p99", "max");
    let mut code = ExitCode::SUCCESS;
    for failure in [Failure::Stall, Failure::Kill] {
        for strategy in ["adaptive", "ordered"] {
            if !measure(failure, strategy, pace)? {
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Is all as it should be?
fn measure(failure: Failure, strategy: &str, pace: Pace) -> anyhow::Result<bool> {
    let (first, second) = (Server::start()?, Server::start()?);
    let state = tempfile::tempdir()?;
    let (running, door) = gateway(state.path(), strategy, [first.address, second.address])?;
    let stalled = Arc::clone(&first.stalled);
    let mut victim = Some(first);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Borrowed: a server that stalls must not be gone once it has been told to.
    let times = runtime.block_on(load(door, pace, || match failure {
        Failure::Stall => stalled.store(true, Ordering::SeqCst),
        Failure::Kill => drop(victim.take()),
    }))?;
    let (before, after) = times.split_at(times.len() / 2);
    let (before, after) = (Phase::of(before), Phase::of(after));
    before.print(&format!("{failure:?} {strategy:12} before"));
    after.print(&format!("{failure:?} {strategy:12} after"));
    running.stop();
    Ok(before.lost() + after.lost() == 0 && after.at(990) <= before.at(990) + GRACE)
}

impl Phase {
    fn of(ends: &[End]) -> Self {
        let count = |wanted: End| ends.iter().filter(|&&end| end == wanted).count();
        let time = |end: &End| if let End::Answered(time) = end { Some(*time) } else { None };
        let mut times: Vec<Duration> = ends.iter().filter_map(time).collect();
        times.sort_unstable();
        Self { questions: ends.len(), failed: count(End::Failed), unanswered: count(End::Unanswered), times }
    }

    const fn lost(&self) -> usize {
        self.failed + self.unanswered
    }

    fn at(&self, per_mille: usize) -> Duration {
        let index = (self.times.len() * per_mille / 1000).min(self.times.len().saturating_sub(1));
        self.times.get(index).copied().unwrap_or_default()
    }

    fn print(&self, what: &str) {
        let Self { questions, failed, unanswered, .. } = self;
        let [p50, p99, max] =
            [500, 990, 1000].map(|per_mille| format!("{:.1} ms", self.at(per_mille).as_secs_f64() * 1e3));
        println!("{what:28} {questions:>9} {failed:>6} {unanswered:>10} {p50:>9} {p99:>9} {max:>9}");
    }
}

fn gateway(state: &std::path::Path, strategy: &str, servers: [SocketAddr; 2]) -> anyhow::Result<(Running, SocketAddr)> {
    let [first, second] = servers;
    let file = state.join("hushgate.toml");
    let text = format!(
        "state_dir = {:?}\n[listen]\ndns = [\"127.0.0.1:0\"]\ndot = []\ndoh = []\ndoq = []\n[admin]\nlisten = []\n[upstream]\n\
         strategy = \"{strategy}\"\nservers = [\"tcp://{first}\", \"tcp://{second}\"]\nfallback = []\n[log]\nlevel = \"error\"\n",
        state.join("state").display().to_string(),
    );
    std::fs::write(&file, text)?;
    let loaded = config::load(&Source { file: Some(file), environment: None, sets: Vec::new() });
    let problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    let config = loaded.config.ok_or_else(|| anyhow::anyhow!("{}", problems.join("; ")))?;
    let bound = Gateway::build(config)?.bind()?;
    let door = bound.doors().into_iter().find(|(kind, _)| *kind == DoorKind::Dns).map(|(_, address)| address);
    let door = door.ok_or_else(|| anyhow::anyhow!("no door"))?;
    Ok((bound.serve()?, door))
}

/// Asks at a steady rate, whatever comes back, and tells how long each answer took.
async fn load(door: SocketAddr, pace: Pace, fail: impl FnOnce()) -> anyhow::Result<Vec<End>> {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
    socket2::SockRef::from(&*socket).set_recv_buffer_size(BUFFER)?;
    socket.connect(door).await?;
    let total = (pace.rate * pace.seconds * 2).min(65_000);
    let hearing = tokio::spawn(hear(Arc::clone(&socket), total));
    let (mut fail, start) = (Some(fail), Instant::now());
    let mut sent = Vec::new();
    for number in 0..total {
        let due = start + Duration::from_secs(1) * number / pace.rate;
        tokio::time::sleep_until(due.into()).await;
        if let Some(fail) = fail.take_if(|_| number == total / 2) {
            fail();
        }
        sent.push(Instant::now());
        socket.send(&question(u16::try_from(number)?)).await?;
    }
    let heard = hearing.await?;
    let end = |(id, at)| match u16::try_from(id).ok().and_then(|id| heard.get(&id)) {
        Some(Ok(heard)) => End::Answered(heard.duration_since(at)),
        Some(Err(Failed)) => End::Failed,
        None => End::Unanswered,
    };
    Ok(sent.into_iter().enumerate().map(end).collect())
}

/// An answer that is an error.
struct Failed;

/// The time of each good answer, by id.
async fn hear(socket: Arc<UdpSocket>, total: u32) -> HashMap<u16, Result<Instant, Failed>> {
    let mut heard = HashMap::new();
    let mut buffer = [0; 1232];
    while heard.len() < total as usize {
        let Ok(Ok(_)) = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await else { break };
        let [high, low, _, flags, ..] = buffer;
        let rcode = flags & 0xf;
        heard.insert(u16::from_be_bytes([high, low]), if rcode == 0 { Ok(Instant::now()) } else { Err(Failed) });
    }
    heard
}

/// The question for A of a name of its own.
fn question(id: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 5]);
    message.extend(format!("{id:05}").as_bytes());
    message.extend(b"\x07example\x00\x00\x01\x00\x01");
    message
}

/// A server on a thread of its own; dropped, it is gone with its connections.
struct Server {
    address: SocketAddr,
    stalled: Arc<AtomicBool>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start() -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let (address, stalled) = (listener.local_addr()?, Arc::new(AtomicBool::new(false)));
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let silent = Arc::clone(&stalled);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async move {
                tokio::spawn(serve(listener, silent));
                let _: Result<(), _> = ended.await;
            });
        });
        Ok(Self { address, stalled, end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, stalled: Arc<AtomicBool>) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(converse(stream, Arc::clone(&stalled)));
    }
}

/// Answers each query with an address, [`DELAY`] after it came, until stalled.
async fn converse(stream: TcpStream, stalled: Arc<AtomicBool>) -> std::io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let (queue, mut due) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((at, answer)) = due.recv().await {
            tokio::time::sleep_until((at + DELAY).into()).await;
            if !stalled.load(Ordering::SeqCst) && writer.write_all(&answer).await.is_err() {
                return;
            }
        }
    });
    loop {
        let mut message = vec![0; reader.read_u16().await?.into()];
        reader.read_exact(&mut message).await?;
        let _ = queue.send((Instant::now(), answer(&message)));
    }
}

/// An address for the question of `query`, behind its length.
fn answer(query: &[u8]) -> Vec<u8> {
    const HEADER: usize = 12;
    let name = query.get(HEADER..).unwrap_or_default();
    let end = HEADER + name.iter().position(|&octet| octet == 0).unwrap_or_default() + 5;
    let mut message = query.get(..2).unwrap_or_default().to_vec();
    message.extend([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    message.extend(query.get(HEADER..end).unwrap_or_default());
    message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1]);
    let length = u16::try_from(message.len()).unwrap_or_default();
    [&length.to_be_bytes()[..], &message].concat()
}
