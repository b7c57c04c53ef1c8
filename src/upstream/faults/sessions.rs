//! TLS sessions over QUIC: resumed, each ticket once, without early data.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};

use super::super::testing::{Authority, quic_server_with, reply, serve_doq};
use super::{Leg, good, h3_server};

/// Notes which sessions were resumed.
#[derive(Debug)]
struct Noted {
    store: Arc<ServerSessionMemoryCache>,
    resumed: Mutex<Vec<Vec<u8>>>,
}

impl StoresServerSessions for Noted {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.store.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.store.get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.resumed.lock().unwrap().push(key.to_vec());
        self.store.take(key)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn doq_29_sessions_resume_and_no_ticket_is_used_twice() {
    for (scheme, alpn) in [("h3", "h3"), ("quic", "doq")] {
        let authority = Authority::new();
        let (config, _) = authority.identity(&["127.0.0.1"], &[alpn]);
        let mut config = (*config).clone();
        let noted = Arc::new(Noted { store: ServerSessionMemoryCache::new(64), resumed: Mutex::default() });
        config.session_storage = Arc::clone(&noted) as _;
        // The server would take early data.
        config.max_early_data_size = u32::MAX;
        let address =
            quic_server_with(Arc::new(config), "127.0.0.1:0".parse().unwrap(), 100, move |connection| async move {
                if alpn == "doq" {
                    return serve_doq(connection, |query| reply(query, 0)).await;
                }
                let _control = h3_server::greet(&connection).await;
                while let Ok((sending, mut receiving)) = connection.accept_bi().await {
                    assert!(!receiving.is_0rtt());
                    let query = h3_server::body(&receiving.read_to_end(65_536).await.unwrap());
                    h3_server::respond(sending, good(&query), tokio::sync::mpsc::unbounded_channel().0).await;
                }
            });
        let mut leg = Leg::open(&authority.server(scheme, address)).await;
        for _ in 0..4 {
            leg.ask("a.example").await.unwrap();
            leg = leg.reopen().await;
        }
        let resumed = noted.resumed.lock().unwrap();
        assert_eq!(resumed.len(), 4, "{scheme}");
        assert_eq!(resumed.iter().collect::<BTreeSet<_>>().len(), 4, "{scheme}: a ticket was used twice");
    }
}
