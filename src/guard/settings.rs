//! What the guard is told.

use super::{Network, Trust, clients};

/// How a refused client hears of it over UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refuse {
    /// By RCODE REFUSED (with EDE 18 where the client speaks EDNS).
    #[default]
    Answer,
    /// Not at all.
    Drop,
}

/// Access and limits. Networks are resolved: `private`, `link` and `any` have been expanded by `config`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who may ask, by door: the index is the `DoorId`.
    pub allow: Vec<Vec<Network>>,
    /// How a refused client hears of it.
    pub refuse: Refuse,
    /// Connections of all clients together. Default: at most 20 000, less where open files are short.
    pub connections: usize,
    /// Connections of one client network (/32, /56). Default 256.
    pub connections_per_client: u32,
    /// Questions a second of one client network, those with a proven source and those without counted apart; 0 switches it off.
    /// Default 5000.
    pub queries_per_second: u32,
    /// Questions of one client that wait for upstreams at a time, those with a proven source and those without counted apart; 0
    /// switches it off. Default 2000.
    pub waiting_per_client: u32,
    /// Connections a second of one client network; it may begin four seconds' worth at once. 0 switches it off. Default 100.
    pub connections_per_second: u32,
    /// Those with a handshake, likewise. Default 50.
    pub handshakes_per_second: u32,
    /// Questions that one client network may take back in a second, likewise; above that it is shut out for a while. Default 200.
    pub resets_per_second: u32,
    /// Breaches of protocol of one client network in a second, likewise. Default 20.
    pub errors_per_second: u32,
    /// Octets kept for one client network: answers that it does not read, questions that are not whole. Default 16 MiB.
    pub octets_per_client: usize,
    /// Networks that no rate or connection limit applies to. Default none; `config` names loopback.
    pub exempt: Vec<Network>,
    /// Whose word about other addresses is taken, by door as in `allow`. Default nobody's.
    pub trust: Vec<Trust>,
    /// Clients known by name. Default `None`: there are none, and nothing is asked of them.
    pub clients: Option<clients::Settings>,
}

impl Default for Settings {
    /// Nobody may ask yet; all else as documented.
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            refuse: Refuse::default(),
            connections: 20_000,
            connections_per_client: 256,
            queries_per_second: 5000,
            waiting_per_client: 2000,
            connections_per_second: 100,
            handshakes_per_second: 50,
            resets_per_second: 200,
            errors_per_second: 20,
            octets_per_client: 16 << 20,
            exempt: Vec::new(),
            trust: Vec::new(),
            clients: None,
        }
    }
}
