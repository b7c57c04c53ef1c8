//! Clients that the operator knows by name, and what each shows to be known by: a token, a server name, a certificate, a network.
//!
//! A lookup costs the same whoever asks. A token is looked for by a keyed hash, so that the time it takes tells nothing of another
//! one. What a connection was known by is named by its [`ClientId`]; a registry made without that credential does not know the id,
//! and so a client that is struck off is a stranger from then on, on connections that are open too.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher as _};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use ahash::RandomState;
use siphasher::sip::SipHasher24;
use siphasher::sip128::{Hasher128 as _, SipHasher24 as SipHasher128};

use super::Network;
use crate::peer::{ClientId, DoorId, Peer};

/// One `[[client]]`.
#[derive(Clone, Debug)]
pub struct Client {
    /// For logs and metrics.
    pub name: Arc<str>,
    /// Each of them is enough.
    pub credentials: Vec<Credential>,
    /// From where it may come; `None`: from where all may that ask at the door. From networks among its credentials in any case.
    pub allow: Option<Vec<Network>>,
}

/// What shows who a client is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// The last segment of a DoH path.
    Token(TokenHash),
    /// The name in the TLS client hello, lower case. Whoever is on the way can read it.
    ServerName(String),
    /// SHA-256 of the public key (SPKI) of its certificate.
    Key([u8; 32]),
    /// A name in a certificate that an authority of ours vouches for, lower case.
    CertificateName(String),
    /// It comes from there.
    Network(Network),
}

/// A token's keyed hash: all that is kept of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenHash(u128);

impl TokenHash {
    /// The hash of `token`, the same for as long as the process runs.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        let mut hasher = SipHasher128::new_with_keys(KEY.0, KEY.1);
        hasher.write(token);
        Self(hasher.finish128().as_u128())
    }
}

/// One key a process, so that ids and hashes stay the same from one registry to the next.
static KEY: LazyLock<(u64, u64)> = LazyLock::new(|| (rand::random(), rand::random()));

/// What becomes of those who show nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strangers {
    /// They may ask from where the door's list says.
    #[default]
    Heard,
    /// They are refused, wherever they come from.
    Refused,
}

/// From a certificate chain (DER, the client's own first) to the names that an authority vouches for; none where it does not.
pub type Vouching = dyn Fn(&[&[u8]]) -> Vec<String> + Send + Sync;

/// Who vouches for clients.
#[derive(Clone)]
pub struct Vouch(pub Arc<Vouching>);

impl fmt::Debug for Vouch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vouch")
    }
}

/// What the registry is told.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The clients; no credential twice.
    pub list: Vec<Client>,
    /// What becomes of all others.
    pub strangers: Strangers,
    /// Doors at which a client can show who it is: the encrypted ones.
    pub showing: Vec<DoorId>,
    /// Who vouches for [`Credential::CertificateName`]s.
    pub vouch: Option<Vouch>,
}

/// The registry.
#[derive(Debug)]
pub struct Clients {
    known: Box<[Known]>,
    /// Index into `known` by id, and id by credential.
    ids: HashMap<ClientId, usize, RandomState>,
    credentials: HashMap<Credential, ClientId, RandomState>,
    /// Prefix lengths among the credentials, the longest first.
    lengths: Box<[u8]>,
    /// From where clients come that no door's list lets in.
    from: Box<[Network]>,
    showing: Box<[DoorId]>,
    strangers: Strangers,
    vouch: Option<Vouch>,
}

/// A client of the registry.
#[derive(Debug)]
pub struct Known {
    /// Its name.
    pub name: Arc<str>,
    /// What its rate is counted by: the same from one registry to the next.
    pub(super) account: u64,
    allow: Option<Box<[Network]>>,
    networks: Box<[Network]>,
    asked: Arc<AtomicU64>,
}

impl Clients {
    /// A registry by these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::following(settings, None)
    }

    /// The same, that goes on counting the questions of those whom `former` knew by the same names.
    #[must_use]
    pub fn following(settings: Settings, former: Option<&Self>) -> Self {
        let Settings { list, strangers, showing, vouch } = settings;
        let mut credentials = HashMap::default();
        let mut ids = HashMap::default();
        let mut known = Vec::with_capacity(list.len());
        let mut from: Vec<Network> = Vec::new();
        for (number, Client { name, credentials: shown, allow }) in list.into_iter().enumerate() {
            let network = |credential: &Credential| match credential {
                Credential::Network(network) => Some(*network),
                Credential::Token(_)
                | Credential::ServerName(_)
                | Credential::Key(_)
                | Credential::CertificateName(_) => None,
            };
            let networks: Box<[Network]> = shown.iter().filter_map(network).collect();
            // Who is known by where it comes from alone shows nothing that its own list could ask for.
            if shown.iter().any(|credential| network(credential).is_none()) {
                from.extend(allow.iter().flatten());
            }
            for credential in shown {
                let id = id(&name, &credential);
                ids.insert(id, number);
                credentials.insert(credential, id);
            }
            let allow = allow.map(Vec::into_boxed_slice);
            let asked = former.and_then(|former| former.tally(&name)).unwrap_or_default();
            known.push(Known { account: account(&name), name, allow, networks, asked });
        }
        let mut lengths: Vec<u8> = known.iter().flat_map(|one| one.networks.iter().map(Network::length)).collect();
        lengths.sort_unstable_by(|one, two| two.cmp(one));
        lengths.dedup();
        from.dedup();
        Self {
            known: known.into(),
            ids,
            credentials,
            lengths: lengths.into(),
            from: from.into(),
            showing: showing.into(),
            strangers,
            vouch,
        }
    }

    /// Whose token is this?
    #[must_use]
    pub fn by_token(&self, token: &[u8]) -> Option<ClientId> {
        let plausible = (SHORTEST_TOKEN..=LONGEST_TOKEN).contains(&token.len());
        plausible.then(|| self.credentials.get(&Credential::Token(TokenHash::of(token))).copied()).flatten()
    }

    /// Who asks for the server of this name?
    #[must_use]
    pub fn by_server_name(&self, name: &str) -> Option<ClientId> {
        self.credentials.get(&Credential::ServerName(name.to_ascii_lowercase())).copied()
    }

    /// Who has shown that this certificate is its own? `key` is the SHA-256 of its public key, `chain` as the client sent it (DER).
    #[must_use]
    pub fn by_certificate(&self, key: [u8; 32], chain: &[&[u8]]) -> Option<ClientId> {
        let pinned = self.credentials.get(&Credential::Key(key));
        let vouched = || {
            let names = self.vouch.as_ref().map(|Vouch(vouch)| vouch(chain)).unwrap_or_default();
            names.into_iter().find_map(|name| self.credentials.get(&Credential::CertificateName(name)))
        };
        pinned.or_else(vouched).copied()
    }

    /// Who asks? What the connection or the request has shown comes before where it comes from.
    #[must_use]
    pub fn of(&self, peer: &Peer) -> Option<&Known> {
        let shown = peer.client.and_then(|id| self.ids.get(&id));
        let number = shown.or_else(|| self.ids.get(&self.by_address(peer.shown_ip())?));
        number.and_then(|&number| self.known.get(number))
    }

    /// Could somebody from `client` turn out at `door` to be one of ours?
    #[must_use]
    pub fn may_come(&self, door: DoorId, client: IpAddr) -> bool {
        let may_show = self.showing.contains(&door) && self.from.iter().any(|network| network.contains(client));
        may_show || self.by_address(client).is_some()
    }

    /// What becomes of those who show nothing.
    #[must_use]
    pub const fn strangers(&self) -> Strangers {
        self.strangers
    }

    /// All of them, in the order of the configuration, and how many questions each has asked.
    pub fn asked(&self) -> impl Iterator<Item = (&str, u64)> {
        self.known.iter().map(|one| (&*one.name, one.asked.load(Ordering::Relaxed)))
    }

    fn tally(&self, name: &str) -> Option<Arc<AtomicU64>> {
        self.known.iter().find(|one| *one.name == *name).map(|one| Arc::clone(&one.asked))
    }

    fn by_address(&self, client: IpAddr) -> Option<ClientId> {
        let at = |&length: &u8| self.credentials.get(&Credential::Network(Network::of(client, length)));
        self.lengths.iter().find_map(at).copied()
    }
}

impl Known {
    /// May it ask from `client`, at a door whose own list says `listed` of that?
    #[must_use]
    pub fn may_ask_from(&self, client: IpAddr, listed: bool) -> bool {
        let among = |networks: &[Network]| networks.iter().any(|network| network.contains(client));
        self.allow.as_deref().map_or(listed, among) || among(&self.networks)
    }

    /// Counts a question.
    pub fn count(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }
}

/// The same for the same name and credential for as long as the process runs.
fn id(name: &str, credential: &Credential) -> ClientId {
    let mut hasher = SipHasher24::new_with_keys(KEY.0, KEY.1);
    (name, credential).hash(&mut hasher);
    ClientId(hasher.finish())
}

fn account(name: &str) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(KEY.0, KEY.1);
    name.hash(&mut hasher);
    hasher.finish()
}

/// The shortest token: 16 characters of 64 are 96 bits.
pub const SHORTEST_TOKEN: usize = 16;

/// The longest.
pub const LONGEST_TOKEN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Transport;

    const TOKEN: &[u8] = b"0123456789abcdef";

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn client(name: &str, credentials: Vec<Credential>, allow: Option<&[&str]>) -> Client {
        Client { name: name.into(), credentials, allow: allow.map(networks) }
    }

    fn registry(list: Vec<Client>) -> Clients {
        Clients::new(Settings { list, showing: vec![DoorId(1)], ..Settings::default() })
    }

    fn peer(from: &str, client: Option<ClientId>) -> Peer {
        let address = |ip: &str| std::net::SocketAddr::new(ip.parse().unwrap(), 5300);
        Peer { client, ..Peer::new(address(from), address("192.0.2.1"), DoorId(1), Transport::Dot) }
    }

    fn name(clients: &Clients, from: &str, client: Option<ClientId>) -> Option<String> {
        clients.of(&peer(from, client)).map(|known| known.name.to_string())
    }

    #[test]
    fn each_credential_is_enough_and_no_other_will_do() {
        let vouch =
            Vouch(Arc::new(|chain| chain.iter().map(|der| String::from_utf8_lossy(der).into_owned()).collect()));
        let shown = vec![
            Credential::Token(TokenHash::of(TOKEN)),
            Credential::ServerName("kitchen.dns.example".into()),
            Credential::Key([7; 32]),
            Credential::CertificateName("tablet.corp.example".into()),
        ];
        let clients = Clients::new(Settings {
            list: vec![client("tablet", shown, None)],
            vouch: Some(vouch),
            ..Settings::default()
        });
        let found = [
            clients.by_token(TOKEN),
            clients.by_server_name("Kitchen.DNS.example"),
            clients.by_certificate([7; 32], &[]),
            clients.by_certificate([8; 32], &[b"tablet.corp.example"]),
        ];
        assert!(found.iter().all(|id| name(&clients, "198.51.100.1", *id).as_deref() == Some("tablet")), "{found:?}");
        let others = [
            clients.by_token(b"0123456789abcdeg"),
            clients.by_token(b"0123"),
            clients.by_token(&[b'a'; 65]),
            clients.by_server_name("dns.example"),
            clients.by_server_name("kitchen"),
            clients.by_certificate([8; 32], &[b"other.corp.example"]),
        ];
        assert_eq!(others, [None; 6]);
    }

    #[test]
    fn a_credential_struck_off_is_unknown_to_the_next_registry_and_the_others_stay() {
        let token = |text: &[u8]| Credential::Token(TokenHash::of(text));
        let other: &[u8] = b"another-token-of-some-length";
        let before = registry(vec![client("tablet", vec![token(TOKEN), token(other)], None)]);
        let after = registry(vec![client("phone", vec![], None), client("tablet", vec![token(other)], None)]);
        let renamed = registry(vec![client("pad", vec![token(TOKEN)], None)]);
        let (old, kept) = (before.by_token(TOKEN), before.by_token(other));
        assert_eq!(name(&before, "192.0.2.9", old).as_deref(), Some("tablet"));
        assert_eq!(name(&after, "192.0.2.9", old), None);
        assert_eq!(name(&after, "192.0.2.9", kept).as_deref(), Some("tablet"));
        assert_eq!(name(&renamed, "192.0.2.9", old), None);
    }

    #[test]
    fn the_longest_network_names_the_client_and_what_it_shows_comes_first() {
        let network = |text: &str| Credential::Network(text.parse().unwrap());
        let clients = registry(vec![
            client("home", vec![network("192.0.2.0/24"), network("2001:db8::/32")], None),
            client("kitchen", vec![network("192.0.2.7")], None),
            client("tablet", vec![Credential::Token(TokenHash::of(TOKEN))], None),
        ]);
        for (from, who) in [
            ("192.0.2.7", Some("kitchen")),
            ("192.0.2.8", Some("home")),
            ("2001:db8:5::1", Some("home")),
            ("198.51.100.1", None),
            ("::1", None),
        ] {
            assert_eq!(name(&clients, from, None).as_deref(), who, "{from}");
        }
        assert_eq!(name(&clients, "192.0.2.7", clients.by_token(TOKEN)).as_deref(), Some("tablet"));
        // An id that nobody has any more is as good as none.
        assert_eq!(name(&clients, "192.0.2.7", Some(ClientId(1))).as_deref(), Some("kitchen"));
    }

    #[test]
    fn who_may_come_from_anywhere_is_let_in_where_it_can_show_itself() {
        let token = Credential::Token(TokenHash::of(TOKEN));
        let roaming = registry(vec![client("tablet", vec![token.clone()], Some(&["0.0.0.0/0", "::/0"]))]);
        let from = |door, text: &str| roaming.may_come(DoorId(door), text.parse().unwrap());
        assert!(from(1, "198.51.100.1") && from(1, "2001:db8::1"));
        assert!(!from(0, "198.51.100.1"), "a plain door");
        let printer = Credential::Network("192.0.2.7".parse().unwrap());
        let placed = registry(vec![client("printer", vec![printer], Some(&["0.0.0.0/0"]))]);
        let may_come = |from: &str| placed.may_come(DoorId(1), from.parse().unwrap());
        assert!(!may_come("198.51.100.1") && may_come("192.0.2.7"), "it is known by its network alone");
        let tied = registry(vec![
            client("tablet", vec![token], None),
            client("printer", vec![Credential::Network("192.0.2.7".parse().unwrap())], None),
        ]);
        assert!(!tied.may_come(DoorId(1), "198.51.100.1".parse().unwrap()));
        assert!(tied.may_come(DoorId(0), "192.0.2.7".parse().unwrap()));
    }

    #[test]
    fn from_where_a_client_may_ask_is_its_own_list_or_the_doors_and_its_networks() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let network = Credential::Network("192.0.2.7".parse().unwrap());
        let clients =
            registry(vec![client("listed", vec![network], None), client("own", vec![], Some(&["198.51.100.0/24"]))]);
        let [listed, own] = &*clients.known else { panic!("two") };
        assert!(listed.may_ask_from(ip("203.0.113.1"), true) && !listed.may_ask_from(ip("203.0.113.1"), false));
        assert!(listed.may_ask_from(ip("192.0.2.7"), false));
        assert!(own.may_ask_from(ip("198.51.100.9"), false) && !own.may_ask_from(ip("203.0.113.1"), true));
    }
}
