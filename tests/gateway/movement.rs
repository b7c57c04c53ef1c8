//! QUIC clients whose address changes in the middle of a connection, as behind a NAT that has forgotten them (RFC 9000 9).

use std::net::IpAddr;

use bytes::{Buf as _, Bytes};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hushgate::peer::Transport;
use tokio::time::timeout;

use crate::harness::{Answer, Ask, Rig, client, message};

/// One connection that can ask again and again, and its client's socket.
struct Client {
    endpoint: quinn::Endpoint,
    connection: quinn::Connection,
    http: Option<h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>>,
}

impl Client {
    async fn of(rig: &Rig, transport: Transport) -> Self {
        Self::at("127.0.0.1", rig, transport).await
    }

    /// One that shakes hands from `ip`.
    async fn at(ip: &str, rig: &Rig, transport: Transport) -> Self {
        let (door, alpn) = if transport == Transport::Doq { (rig.doq(), &b"doq"[..]) } else { (rig.doh(), &b"h3"[..]) };
        let endpoint = quinn::Endpoint::client((ip.parse::<IpAddr>().unwrap(), 0).into()).unwrap();
        let connection = client::quic_from(&endpoint, door, client::trust(&rig.authority(), &[alpn])).await.unwrap();
        let mut http = None;
        if transport == Transport::Doh3 {
            let (mut driver, sender) = h3::client::new(h3_quinn::Connection::new(connection.clone())).await.unwrap();
            tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
            http = Some(sender);
        }
        Self { endpoint, connection, http }
    }

    fn rebind(&self, ip: &str) {
        self.endpoint.rebind(std::net::UdpSocket::bind((ip, 0)).unwrap()).unwrap();
    }

    /// The RCODE of the answer.
    async fn ask(&mut self, rig: &Rig, name: &str) -> u16 {
        message::rcode(&self.answer(rig, &Ask::a(name)).await)
    }

    async fn answer(&mut self, rig: &Rig, ask: &Ask) -> Vec<u8> {
        let question = ask.clone().id(0).bytes();
        match &mut self.http {
            None => client::doq_exchange(&self.connection, &question).await.unwrap().message,
            Some(http) => exchange(http, rig.post(&question)).await,
        }
    }
}

async fn exchange(
    http: &mut h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
    request: Request<Full<Bytes>>,
) -> Vec<u8> {
    let (head, body) = request.into_parts();
    let mut stream = http.send_request(Request::from_parts(head, ())).await.unwrap();
    stream.send_data(body.collect().await.unwrap().to_bytes()).await.unwrap();
    stream.finish().await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 200);
    let mut whole = Vec::new();
    while let Some(mut chunk) = stream.recv_data().await.unwrap() {
        whole.extend_from_slice(&chunk.copy_to_bytes(chunk.remaining()));
    }
    whole
}

#[tokio::test]
async fn qui_06_07_a_nat_that_gives_another_port_costs_no_question_with_any_number_of_workers() {
    for workers in ["workers=1", "workers=2", "workers=8"] {
        let rig = Rig::set("", &[workers]).await;
        rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]));
        for transport in [Transport::Doq, Transport::Doh3] {
            let mut client = Client::of(&rig, transport).await;
            for turn in 0..8 {
                let name = format!("turn{turn}.example.org");
                let asked = client.ask(&rig, &name);
                assert_eq!(timeout(client::PATIENCE, asked).await.expect("is lost"), 0, "{workers} {transport:?}");
                client.rebind("127.0.0.1");
            }
            assert_eq!(client.connection.close_reason(), None);
        }
    }
}

#[tokio::test]
async fn a_client_that_moves_to_where_nobody_may_ask_is_refused_there() {
    let rig = Rig::set("[access]\nallow = [\"127.0.0.1/32\"]", &["workers=2"]).await;
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]));
    for transport in [Transport::Doq, Transport::Doh3] {
        let mut client = Client::of(&rig, transport).await;
        for (ip, rcode) in [("127.0.0.1", 0), ("127.0.0.2", 5), ("127.0.0.1", 0)] {
            client.rebind(ip);
            let asked = client.ask(&rig, "moved.example.org");
            assert_eq!(timeout(client::PATIENCE, asked).await.expect("is lost"), rcode, "{transport:?} at {ip}");
        }
    }
}

/// Anybody can write the address of somebody else on the datagrams of a connection of their own, and fetch the answers from there
/// once they are back at their own address (RFC 9000 9.3.1).
#[tokio::test]
async fn an_address_that_no_handshake_has_shown_gives_no_rights() {
    let roaming = "[[client]]\nname = \"roaming\"\ntoken_file = \"token\"\nallow = [\"any\"]\n";
    let by_list = format!("[access]\nallow = [\"127.0.0.1/32\"]\n{roaming}");
    let by_name = format!(
        "[access]\nallow = [\"192.0.2.0/24\"]\n{roaming}[[client]]\nname = \"printer\"\nnetworks = [\"127.0.0.1/32\"]"
    );
    for extra in [by_list, by_name] {
        let rig = Rig::beside(&[("token", "0123456789-abcdef-0123")], &extra, &[]).await;
        rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]));
        for transport in [Transport::Doq, Transport::Doh3] {
            let mut client = Client::at("127.0.0.2", &rig, transport).await;
            for ip in ["127.0.0.2", "127.0.0.1"] {
                client.rebind(ip);
                let asked = client.ask(&rig, "moved.example.org");
                assert_eq!(timeout(client::PATIENCE, asked).await.expect("is lost"), 5, "{transport:?} at {ip}");
            }
            let mut honest = Client::at("127.0.0.1", &rig, transport).await;
            assert_eq!(honest.ask(&rig, "moved.example.org").await, 0);
        }
    }
}

/// With a cookie of the victim's, forged datagrams would be taken for the victim's own: answered in full, and counted against it.
#[tokio::test]
async fn an_address_that_no_handshake_has_shown_is_given_no_cookie() {
    let rig = Rig::with("[cookies]\nrequire = \"always\"").await;
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]));
    let ask = |cookie: &[u8]| Ask::a("cookie.example.org").id(0).option(10, cookie);
    for transport in [Transport::Doq, Transport::Doh3] {
        for (from, answers) in [("127.0.0.2", 0), ("127.0.0.1", 1)] {
            let mut client = Client::at(from, &rig, transport).await;
            client.rebind("127.0.0.1");
            let reply = timeout(client::PATIENCE, client.answer(&rig, &ask(b"8octets!"))).await.expect("is lost");
            let cookie = message::option(&reply, 10).unwrap();
            let reply = rig.ask(Transport::Udp, &ask(&cookie).bytes()).await.message;
            assert_eq!(message::counts(&reply)[1], answers, "{transport:?} from {from}");
        }
    }
}
