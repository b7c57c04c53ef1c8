//! What the ACME client is told.

use std::net::SocketAddr;
use std::path::PathBuf;

/// How control of a name is proven to the authority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// TLS-ALPN-01 (RFC 8737) at the `DoT` and `DoH` doors, which the outside reaches on port 443.
    #[default]
    TlsAlpn,
    /// HTTP-01 (RFC 8555 8.3) at these addresses, which the outside reaches on port 80.
    Http(Vec<SocketAddr>),
    /// DNS-01 (RFC 8555 8.4) by this program.
    Dns(PathBuf),
}

impl Method {
    /// As the configuration names it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TlsAlpn => "tls-alpn",
            Self::Http(_) => "http",
            Self::Dns(_) => "dns",
        }
    }
}

/// The account at the authority's own shop that ours belongs to (RFC 8555 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// Its key's id.
    pub id: String,
    /// The file that holds the key in base64url.
    pub key_file: PathBuf,
}

/// One certificate from one authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The names it is for; at least one.
    pub domains: Vec<String>,
    /// The authority's directory, an https URL.
    pub directory: String,
    /// `mailto:` URLs.
    pub contact: Vec<String>,
    /// How names are proven.
    pub method: Method,
    /// PEM: whom to trust as the directory; none: the system's authorities.
    pub ca: Option<PathBuf>,
    /// The account that ours belongs to.
    pub external: Option<External>,
    /// Account and certificate are kept below it, in `acme/`.
    pub state_dir: PathBuf,
}
