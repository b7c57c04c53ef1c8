//! A scripted upstream on real UDP and TCP sockets of one port: logs what it is asked, answers as it is told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Notify, mpsc};

use super::message::{Answer, asked_name, asked_type};

/// One question as it arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    pub message: Vec<u8>,
    pub tcp: bool,
    pub from: SocketAddr,
    /// The connection it came on, counted from 1; 0 for UDP.
    pub connection: usize,
}

impl Asked {
    pub fn name(&self) -> String {
        asked_name(&self.message)
    }

    pub fn rtype(&self) -> u16 {
        asked_type(&self.message)
    }
}

/// What the upstream does with a question.
#[derive(Clone)]
pub enum Act {
    /// Answers it.
    Answer(Answer),
    /// Sends these bytes as they are.
    Raw(Vec<u8>),
    /// Sends several messages.
    Several(Vec<Vec<u8>>),
    /// Answers it once [`Upstream::release`] is called.
    Hold(Answer),
    /// Says nothing.
    Silence,
    /// Closes the connection (TCP), says nothing (UDP).
    Close,
}

type Script = dyn Fn(&Asked) -> Act + Send + Sync;

struct State {
    script: Mutex<Arc<Script>>,
    log: Mutex<Vec<Asked>>,
    arrived: Notify,
    gate: tokio::sync::watch::Sender<usize>,
    connections: AtomicUsize,
}

/// The upstream. Its tasks end with the test's runtime.
pub struct Upstream {
    pub address: SocketAddr,
    state: Arc<State>,
}

impl Upstream {
    /// Answers every A question with 192.0.2.1 and TTL 300 until told otherwise.
    pub async fn start() -> Self {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = tcp.local_addr().unwrap();
        let script: Arc<Script> = Arc::new(|_: &Asked| Act::Answer(Answer::new().a(300, [192, 0, 2, 1])));
        let state = Arc::new(State {
            script: Mutex::new(script),
            log: Mutex::default(),
            arrived: Notify::new(),
            gate: tokio::sync::watch::Sender::new(0),
            connections: AtomicUsize::new(0),
        });
        tokio::spawn(serve_udp(udp, Arc::clone(&state)));
        tokio::spawn(serve_tcp(tcp, Arc::clone(&state)));
        Self { address, state }
    }

    /// Answers by `script` from now on.
    pub fn script(&self, script: impl Fn(&Asked) -> Act + Send + Sync + 'static) {
        *self.state.script.lock().unwrap() = Arc::new(script);
    }

    /// Answers everything with `answer` from now on.
    pub fn always(&self, answer: Answer) {
        self.script(move |_| Act::Answer(answer.clone()));
    }

    /// What has been asked so far.
    pub fn log(&self) -> Vec<Asked> {
        self.state.log.lock().unwrap().clone()
    }

    /// Forgets what has been asked so far.
    pub fn forget(&self) {
        *self.state.log.lock().unwrap() = Vec::new();
    }

    /// How many questions have been asked so far, the readiness probe's (`. NS`) left out.
    pub fn count(&self) -> usize {
        self.log().iter().filter(|asked| !asked.name().is_empty()).count()
    }

    /// Waits until `count` questions have been asked, probes left out.
    pub async fn asked(&self, count: usize) {
        loop {
            let arrived = self.state.arrived.notified();
            if self.count() >= count {
                return;
            }
            arrived.await;
        }
    }

    /// Lets every held answer go, those to come included.
    pub fn release(&self) {
        self.state.gate.send_modify(|gate| *gate += 1);
    }

    /// Holds again what is to be held from now on.
    pub fn hold_again(&self) {
        self.state.gate.send_replace(0);
    }

    /// TCP connections accepted so far.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl State {
    fn act(&self, asked: Asked) -> Act {
        let script = Arc::clone(&self.script.lock().unwrap());
        let act = script(&asked);
        self.log.lock().unwrap().push(asked);
        self.arrived.notify_waiters();
        act
    }

    /// The messages to send, after waiting where the script says so; `None` closes.
    async fn play(&self, asked: Asked) -> Option<Vec<Vec<u8>>> {
        let query = asked.message.clone();
        match self.act(asked) {
            Act::Answer(answer) => Some(vec![answer.to(&query)]),
            Act::Raw(bytes) => Some(vec![bytes]),
            Act::Several(messages) => Some(messages),
            Act::Silence => Some(Vec::new()),
            Act::Close => None,
            Act::Hold(answer) => {
                let mut gate = self.gate.subscribe();
                gate.wait_for(|&released| released > 0).await.ok()?;
                Some(vec![answer.to(&query)])
            }
        }
    }
}

async fn serve_udp(socket: UdpSocket, state: Arc<State>) {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; 65_535];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let asked = Asked { message: buffer[..length].to_vec(), tcp: false, from, connection: 0 };
        let (socket, state) = (Arc::clone(&socket), Arc::clone(&state));
        tokio::spawn(async move {
            for message in state.play(asked).await.unwrap_or_default() {
                socket.send_to(&message, from).await.ok();
            }
        });
    }
}

async fn serve_tcp(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, from)) = listener.accept().await {
        let connection = state.connections.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::spawn(converse(stream, from, connection, Arc::clone(&state)));
    }
}

async fn converse(stream: TcpStream, from: SocketAddr, connection: usize, state: Arc<State>) {
    let (mut reader, mut writer) = stream.into_split();
    let (answers, mut outbox) = mpsc::channel::<Option<Vec<u8>>>(1000);
    let reading = async move {
        while let Ok(length) = reader.read_u16().await {
            let mut message = vec![0; length.into()];
            if reader.read_exact(&mut message).await.is_err() {
                break;
            }
            let asked = Asked { message, tcp: true, from, connection };
            let (state, answers) = (Arc::clone(&state), answers.clone());
            tokio::spawn(async move {
                match state.play(asked).await {
                    Some(messages) => {
                        for message in messages {
                            answers.send(Some(message)).await.ok();
                        }
                    }
                    None => _ = answers.send(None).await,
                }
            });
        }
    };
    let writing = async move {
        while let Some(Some(message)) = outbox.recv().await {
            let framed = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
            if writer.write_all(&framed).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = writing => {}
        () = async { reading.await; std::future::pending::<()>().await } => {}
    }
}
