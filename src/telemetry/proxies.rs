//! What came of the words that proxies and web servers in front had to say of their clients, as it is counted.

/// What came of a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Introduction {
    /// It named a client.
    Accepted,
    /// The proxy asked for itself.
    Local,
    /// It was broken, or not of this door.
    Malformed,
    /// A proxy that must send one sent something else.
    Missing,
    /// At a door for proxies somebody came who is none.
    Untrusted,
    /// It did not come in time.
    Timeout,
}

impl Introduction {
    /// Names of all, in the order of their counters.
    pub const NAMES: [&'static str; 6] = ["accepted", "local", "malformed", "missing", "untrusted", "timeout"];
}

/// What came of a request from a web server that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// Its header named the client.
    Accepted,
    /// It had no such header: the web server asked for itself.
    Absent,
    /// Its header did not tell who asks.
    Unusable,
}

impl Forwarding {
    /// Names of all, in the order of their counters.
    pub const NAMES: [&'static str; 3] = ["accepted", "absent", "unusable"];
}
