//! Just enough DNS for questions in flight: a client over UDP and TCP, and an upstream that answers when it is told to.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A question for the address of `name`.
pub fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// The RCODE and the number of answers.
pub fn told(reply: &[u8]) -> (u8, u8) {
    (reply[3] & 15, reply[7])
}

/// A question on its way over UDP.
pub fn send_udp(server: SocketAddr, name: &str) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(&question(name), server).unwrap();
    socket
}

pub fn receive_udp(socket: &UdpSocket) -> Vec<u8> {
    let mut reply = vec![0; 1500];
    let length = socket.recv(&mut reply).unwrap();
    reply.truncate(length);
    reply
}

/// A question on its way over TCP.
pub fn send_tcp(server: SocketAddr, name: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let message = question(name);
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], &message].concat()).unwrap();
    stream
}

pub fn receive_tcp(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut reply = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut reply).unwrap();
    reply
}

/// An upstream that says what it has been asked, and answers when it is told to.
pub struct Upstream {
    pub address: SocketAddr,
    socket: UdpSocket,
    asked: Receiver<Vec<u8>>,
    held: Arc<Mutex<Vec<Held>>>,
}

/// A question, and who asked it.
type Held = (Vec<u8>, SocketAddr);

impl Upstream {
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (address, receiving) = (socket.local_addr().unwrap(), socket.try_clone().unwrap());
        let (tell, asked) = channel();
        let held = Arc::new(Mutex::new(Vec::new()));
        let holding = Arc::clone(&held);
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = receiving.recv_from(&mut buffer) {
                let message = buffer[..length].to_vec();
                holding.lock().unwrap().push((message.clone(), from));
                if tell.send(message).is_err() {
                    return;
                }
            }
        });
        Self { address, socket, asked, held }
    }

    /// Waits for a question for each of `names`, in any order.
    pub fn wait_until_asked(&self, names: &[&str]) {
        let mut wanted: Vec<Vec<u8>> = names.iter().map(|name| question(name)).collect();
        while !wanted.is_empty() {
            // Others are the gateway's own, to know whether its upstream lives, and the same once more.
            let asked = self.asked.recv_timeout(PATIENCE).expect("a question at the upstream");
            let lower = asked[12..].to_ascii_lowercase();
            wanted.retain(|question| !lower.starts_with(&question[12..]));
        }
    }

    pub fn answer_all(&self) {
        for (message, from) in self.held.lock().unwrap().drain(..) {
            self.socket.send_to(&answer(&message), from).unwrap();
        }
    }
}

/// `query` with an address, and without the OPT that may have come with it.
fn answer(query: &[u8]) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|&octet| octet == 0).unwrap() + 5;
    let mut reply = query[..end].to_vec();
    reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 7]);
    reply
}

const PATIENCE: Duration = Duration::from_secs(30);
