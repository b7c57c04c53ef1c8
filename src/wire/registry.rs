//! The numbers of the DNS registries that this gateway names (IANA "Domain Name System (DNS) Parameters").

/// Resource record types, RFC 1035 3.2.2 and the registry.
pub mod rtype {
    /// IPv4 address.
    pub const A: u16 = 1;
    /// Authoritative name server.
    pub const NS: u16 = 2;
    /// Canonical name.
    pub const CNAME: u16 = 5;
    /// Start of a zone of authority.
    pub const SOA: u16 = 6;
    /// Pointer.
    pub const PTR: u16 = 12;
    /// Mail exchange.
    pub const MX: u16 = 15;
    /// Text.
    pub const TXT: u16 = 16;
    /// SIG(0), RFC 2931.
    pub const SIG: u16 = 24;
    /// IPv6 address.
    pub const AAAA: u16 = 28;
    /// Service location, RFC 2782.
    pub const SRV: u16 = 33;
    /// Redirection of a subtree, RFC 6672.
    pub const DNAME: u16 = 39;
    /// EDNS pseudo-record, RFC 6891.
    pub const OPT: u16 = 41;
    /// Delegation signer.
    pub const DS: u16 = 43;
    /// DNSSEC signature.
    pub const RRSIG: u16 = 46;
    /// DNSSEC denial.
    pub const NSEC: u16 = 47;
    /// DNSSEC key.
    pub const DNSKEY: u16 = 48;
    /// DNSSEC hashed denial.
    pub const NSEC3: u16 = 50;
    /// Service binding, RFC 9460.
    pub const SVCB: u16 = 64;
    /// Service binding for HTTPS, RFC 9460.
    pub const HTTPS: u16 = 65;
    /// Transaction signature, RFC 8945.
    pub const TSIG: u16 = 250;
    /// Incremental zone transfer, RFC 1995.
    pub const IXFR: u16 = 251;
    /// Zone transfer, RFC 5936.
    pub const AXFR: u16 = 252;
    /// All types.
    pub const ANY: u16 = 255;
    /// Resolver information, RFC 9606.
    pub const RESINFO: u16 = 261;
}

/// Classes.
pub mod class {
    /// The Internet.
    pub const IN: u16 = 1;
    /// Chaosnet.
    pub const CH: u16 = 3;
    /// Any class: of questions only, no record has it (RFC 1035 3.2.5).
    pub const ANY: u16 = 255;
}

/// Response codes, extended ones included (RFC 6895 2.3).
pub mod rcode {
    /// No error.
    pub const NOERROR: u16 = 0;
    /// The question could not be read.
    pub const FORMERR: u16 = 1;
    /// The question could not be answered.
    pub const SERVFAIL: u16 = 2;
    /// The name does not exist.
    pub const NXDOMAIN: u16 = 3;
    /// The opcode or type is not served.
    pub const NOTIMP: u16 = 4;
    /// Policy says no.
    pub const REFUSED: u16 = 5;
    /// The EDNS version is not known (RFC 6891 6.1.3).
    pub const BADVERS: u16 = 16;
    /// The server cookie is missing or wrong (RFC 7873 8).
    pub const BADCOOKIE: u16 = 23;
}

/// EDNS option codes.
pub mod option {
    /// Name server identifier, RFC 5001.
    pub const NSID: u16 = 3;
    /// Client subnet, RFC 7871.
    pub const ECS: u16 = 8;
    /// Cookie, RFC 7873.
    pub const COOKIE: u16 = 10;
    /// TCP keepalive, RFC 7828.
    pub const KEEPALIVE: u16 = 11;
    /// Padding, RFC 7830.
    pub const PADDING: u16 = 12;
    /// Extended DNS error, RFC 8914.
    pub const EDE: u16 = 15;
}

/// Extended DNS error codes, RFC 8914 4 and the registry.
pub mod ede {
    /// Other.
    pub const OTHER: u16 = 0;
    /// Stale answer.
    pub const STALE: u16 = 3;
    /// Cached error.
    pub const CACHED_ERROR: u16 = 13;
    /// Not ready.
    pub const NOT_READY: u16 = 14;
    /// Prohibited.
    pub const PROHIBITED: u16 = 18;
    /// Stale NXDOMAIN answer.
    pub const STALE_NXDOMAIN: u16 = 19;
    /// Not supported.
    pub const NOT_SUPPORTED: u16 = 21;
    /// No reachable authority.
    pub const NO_REACHABLE_AUTHORITY: u16 = 22;
    /// Network error.
    pub const NETWORK_ERROR: u16 = 23;
    /// Invalid data.
    pub const INVALID_DATA: u16 = 24;
    /// Synthesized: made here of what an upstream said.
    pub const SYNTHESIZED: u16 = 29;
}
