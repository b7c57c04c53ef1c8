//! The DoH door on real sockets, with clients of other make.

mod flow;
mod one;
mod two;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::*;
use crate::listen::rehearsal::Rehearsal;

const ALT_SVC: &str = "h3=\":443\"; ma=86400";

/// A connection to the door of `rehearsal`: the client's end, and the server's task.
async fn connect(rehearsal: &Rehearsal, alpn: Option<&[u8]>) -> (TcpStream, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let peer = Rehearsal::peer(Transport::Tcp);
    let permit = rehearsal.guard.admit(peer.door, peer.ip()).unwrap();
    let session = Session { peer, permit, alpn: alpn.map(<[u8]>::to_vec) };
    let site = Arc::new(Site { alt_svc: Some(HeaderValue::from_static(ALT_SVC)) });
    (client, tokio::spawn(serve(stream, session, site, rehearsal.context.clone())))
}
