//! Whether a server has proven itself, and if not why: kept per server, said once when it changes, read by `check --live` and `query`.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{AlertDescription, CertificateError, InvalidMessage};
use tracing::{debug, info, warn};

use crate::identity::credential::day;

/// Why TLS with a server did not come about, as a person would be told.
#[derive(Clone, Debug, PartialEq)]
pub enum TlsFault {
    /// Its certificate has ended, by the time it was judged by (seconds since 1970).
    Expired {
        /// When.
        ended: i64,
        /// By which time.
        judged_by: i64,
    },
    /// Its certificate has not begun, by the time it was judged by (seconds since 1970).
    NotYetValid {
        /// When it will.
        begins: i64,
        /// By which time.
        judged_by: i64,
    },
    /// No authority that we trust has signed it.
    UnknownAuthority,
    /// It is for other names.
    Name {
        /// The name to verify.
        expected: String,
        /// The names it is for.
        presented: Vec<String>,
    },
    /// Its public key is none of `pins`.
    Pin {
        /// The digest of the key it has.
        found: [u8; 32],
    },
    /// Its authority has withdrawn it.
    Revoked,
    /// It has not shown that it holds the key of its certificate.
    Key,
    /// Something else is wrong with its certificate.
    Certificate(CertificateError),
    /// It speaks none of the protocols we offered (ALPN).
    Protocol,
    /// It ended the handshake with this alert.
    Alert(AlertDescription),
    /// What answers there is no TLS.
    NotTls,
    /// It closed the connection before the handshake was over.
    Closed,
    /// Something else, in the TLS library's words.
    Other(rustls::Error),
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { ended, judged_by } => {
                write!(f, "its certificate expired on {}, and today is {}", day(*ended), day(*judged_by))
            }
            Self::NotYetValid { begins, judged_by } => {
                write!(
                    f,
                    "its certificate is valid from {}, and today is {} by this machine's clock",
                    day(*begins),
                    day(*judged_by)
                )
            }
            Self::UnknownAuthority => f.write_str("its certificate is signed by an authority that is not trusted here"),
            Self::Name { expected, presented } if presented.is_empty() => {
                write!(f, "its certificate is not for {expected}, nor for any other name")
            }
            Self::Name { expected, presented } => {
                write!(f, "its certificate is not for {expected} but for {}", listed(presented))
            }
            Self::Pin { found } => {
                write!(f, "its public key is none of the pins; it is sha256/{}", STANDARD.encode(found))
            }
            Self::Revoked => f.write_str("its certificate has been revoked"),
            Self::Key => f.write_str("it has not shown that it holds the key of its certificate"),
            Self::Certificate(error) => write!(f, "its certificate cannot be used: {error}"),
            Self::Protocol => f.write_str("it does not speak the protocol of this URL (no common ALPN)"),
            Self::Alert(alert) => write!(f, "it ended the TLS handshake with the alert {alert:?}"),
            Self::NotTls => f.write_str("what answers there does not speak TLS"),
            Self::Closed => f.write_str("it closed the connection during the TLS handshake"),
            Self::Other(error) => write!(f, "the TLS handshake failed: {error}"),
        }
    }
}

impl From<&rustls::Error> for TlsFault {
    fn from(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => error.into(),
            rustls::Error::NoApplicationProtocol
            | rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Self::Protocol,
            rustls::Error::AlertReceived(alert) => Self::Alert(*alert),
            rustls::Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => Self::NotTls,
            other => Self::Other(other.clone()),
        }
    }
}

impl From<&CertificateError> for TlsFault {
    fn from(error: &CertificateError) -> Self {
        match error {
            CertificateError::ExpiredContext { time, not_after } => {
                Self::Expired { ended: seconds(*not_after), judged_by: seconds(*time) }
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                Self::NotYetValid { begins: seconds(*not_before), judged_by: seconds(*time) }
            }
            // A trusted authority of the same name with another key: a stranger all the same.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::NotValidForNameContext { expected, presented } => {
                let bare = |name: &String| bare(name).to_owned();
                let presented = presented.iter().take(NAMES_KEPT).map(bare).collect();
                Self::Name { expected: expected.to_str().into_owned(), presented }
            }
            other => Self::Certificate(other.clone()),
        }
    }
}

/// The name within the library's `DnsName("a.example")`, made safe to print.
fn bare(name: &str) -> &str {
    let inner = name.split_once("(\"").and_then(|(_, rest)| rest.strip_suffix("\")"));
    let inner = inner.or_else(|| name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')));
    inner.unwrap_or(name)
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// Names of a certificate that are kept, of the hundreds that some have.
const NAMES_KEPT: usize = 8;

/// Names that a message shows.
const NAMES_SHOWN: usize = 3;

/// The first few of `names`, and that there are more.
#[must_use]
pub fn listed(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES_SHOWN).map(String::as_str).collect();
    let more = if names.len() > shown.len() { ", …" } else { "" };
    format!("{}{more}", shown.join(", ")).replace(char::is_control, "?")
}

/// What is known of one server's proof. Several connections may be under way at once; the latest word counts.
#[derive(Debug)]
pub struct Proof {
    name: String,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    fault: Option<TlsFault>,
    certificate: Option<CertificateDer<'static>>,
}

impl Proof {
    /// Of the server that must prove to be `name`.
    #[must_use]
    pub fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), last: Mutex::default() })
    }

    /// Notes a failure. The log tells the first of a kind; repetition is no news.
    pub fn fail(&self, fault: TlsFault) {
        debug!(name = self.name, %fault, "TLS handshake with an upstream failed");
        let kind = std::mem::discriminant(&fault);
        if self.fault().is_none_or(|before| std::mem::discriminant(&before) != kind) {
            warn!(name = self.name, %fault, "an upstream has not proven itself and is not asked");
        }
        self.with_last(|last| last.fault = Some(fault));
    }

    /// Notes a certificate that holds. The handshake may still fail for another reason.
    pub fn present(&self, certificate: &CertificateDer<'_>) {
        let certificate = certificate.clone().into_owned();
        self.with_last(|last| last.certificate = Some(certificate));
    }

    /// Notes that a handshake, new or resumed, has come to its good end.
    pub fn succeed(&self) {
        if self.with_last(|last| last.fault.take()).is_some() {
            info!(name = self.name, "an upstream has proven itself again");
        }
    }

    /// Why the last handshake failed; None where it did not.
    #[must_use]
    pub fn fault(&self) -> Option<TlsFault> {
        self.with_last(|last| last.fault.clone())
    }

    /// The certificate that held last.
    #[must_use]
    pub fn certificate(&self) -> Option<CertificateDer<'static>> {
        self.with_last(|last| last.certificate.clone())
    }

    fn with_last<R>(&self, act: impl FnOnce(&mut Last) -> R) -> R {
        act(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_in_words() {
        let time = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let expired = CertificateError::ExpiredContext { time: time(86_400 * 400), not_after: time(86_400) };
        assert_eq!(
            TlsFault::from(&expired).to_string(),
            "its certificate expired on 1970-01-02, and today is 1971-02-05"
        );
        let names = ["DnsName(\"a.example\")", "DnsName(\"*.b.example\")", "IpAddress(192.0.2.1)", "DnsName(\"c\")"];
        let name = CertificateError::NotValidForNameContext {
            expected: "dns.example".try_into().unwrap(),
            presented: names.map(ToOwned::to_owned).to_vec(),
        };
        assert_eq!(
            TlsFault::from(&name).to_string(),
            "its certificate is not for dns.example but for a.example, *.b.example, 192.0.2.1, …"
        );
        let alert = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
        assert_eq!(TlsFault::from(&alert), TlsFault::Protocol);
        let clear = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert_eq!(TlsFault::from(&clear), TlsFault::NotTls);
    }

    #[test]
    fn the_latest_word_counts() {
        let proof = Proof::new("dns.example");
        proof.fail(TlsFault::UnknownAuthority);
        assert_eq!(proof.fault(), Some(TlsFault::UnknownAuthority));
        proof.present(&CertificateDer::from(vec![1]));
        assert!(proof.fault().is_some(), "the handshake is not over");
        proof.succeed();
        assert_eq!((proof.fault(), proof.certificate()), (None, Some(CertificateDer::from(vec![1]))));
    }
}
