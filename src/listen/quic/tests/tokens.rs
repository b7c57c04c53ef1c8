//! Tokens of address validation: whose visit is spared a Retry, and at which instance.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use quinn::TokenStore;

use super::{Load, Plan, Rig, ask, raw, receive, until};

/// Everybody whose address is not proven gets a Retry.
const WARY: Option<Load> = Some(Load { retry_from: 0, refuse_from: 9 });

/// The first octet's upper half.
const RETRY: u8 = 0b1111;
const INITIAL: u8 = 0b1100;

/// Keeps the last token and shows it again and again, as no client should.
#[derive(Default)]
struct Shown(Mutex<Option<Bytes>>);

impl TokenStore for Shown {
    fn insert(&self, _: &str, token: Bytes) {
        *self.0.lock().unwrap() = Some(token);
    }

    fn take(&self, _: &str) -> Option<Bytes> {
        self.0.lock().unwrap().clone()
    }
}

/// A client that has a token of `rig`, and where it keeps it.
async fn known_to(rig: &Rig) -> (quinn::Endpoint, Arc<Shown>) {
    let shown = Arc::new(Shown::default());
    let mut config = rig.client_config("doq");
    config.token_store(Arc::clone(&shown) as Arc<dyn TokenStore>);
    let mut client = rig.client("doq");
    client.set_default_client_config(config);
    let connection = client.connect(rig.address, "dns.test").unwrap().await.unwrap();
    ask(&connection, "now").await;
    until(|| shown.0.lock().unwrap().is_some()).await;
    (client, shown)
}

/// A first datagram of `client`.
async fn initial(client: &quinn::Endpoint) -> Vec<u8> {
    let bait = raw();
    let connecting = client.connect(bait.local_addr().unwrap(), "dns.test").unwrap();
    let initial = receive(&bait).await;
    drop(connecting);
    initial
}

/// The kind of packet that `address` answers `initial` with when it comes from `source`.
async fn reply(initial: &[u8], source: &str, address: SocketAddr) -> u8 {
    let socket = UdpSocket::bind((source, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.send_to(initial, address).unwrap();
    receive(&socket).await[0] >> 4
}

#[tokio::test]
async fn doq_26_a_token_of_one_instance_spares_the_retry_at_another_once_and_at_its_own_address() {
    let here = Rig::with(Plan { fleet: Some(1), ..Plan::default() });
    let there = Rig::with(Plan { fleet: Some(1), load: WARY, ..Plan::default() });
    let (client, _) = known_to(&here).await;
    let first = initial(&client).await;
    assert_eq!(reply(&first, "127.0.0.2", there.address).await, RETRY, "replayed from another address");
    assert_eq!(reply(&first, "127.0.0.1", there.address).await, INITIAL);
    let second = initial(&client).await;
    assert_eq!(reply(&second, "127.0.0.1", there.address).await, RETRY, "shown a second time");
}

#[tokio::test]
async fn doq_26_a_token_of_strangers_or_a_forged_one_is_ignored() {
    let here = Rig::with(Plan { fleet: Some(1), ..Plan::default() });
    let others = [Some(2), None].map(|fleet| Rig::with(Plan { fleet, load: WARY, ..Plan::default() }));
    let (client, shown) = known_to(&here).await;
    for other in &others {
        assert_eq!(reply(&initial(&client).await, "127.0.0.1", other.address).await, RETRY);
    }
    let wary = Rig::with(Plan { fleet: Some(1), load: WARY, ..Plan::default() });
    let token = shown.0.lock().unwrap().clone().unwrap();
    for bit in (0..token.len() * 8).step_by(61) {
        let mut forged = token.to_vec();
        forged[bit / 8] ^= 1 << (bit % 8);
        *shown.0.lock().unwrap() = Some(forged.into());
        assert_eq!(reply(&initial(&client).await, "127.0.0.1", wary.address).await, RETRY, "bit {bit}");
    }
    *shown.0.lock().unwrap() = Some(token);
    assert_eq!(reply(&initial(&client).await, "127.0.0.1", wary.address).await, INITIAL);
}

#[tokio::test]
async fn doq_26_where_retry_is_on_each_connection_brings_a_token_for_the_next() {
    let rig = Rig::with(Plan { load: WARY, ..Plan::default() });
    let (client, _) = known_to(&rig).await;
    assert_eq!(reply(&initial(&client).await, "127.0.0.1", rig.address).await, INITIAL);
}
