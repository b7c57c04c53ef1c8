//! Handshakes that came to nothing: over what, and why. The words of the metric `handshakes_failed`, which the doors count by.

/// Over what a handshake was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Shaking {
    /// DNS over TLS.
    Dot,
    /// HTTPS on TCP.
    Doh,
    /// DNS over QUIC.
    Doq,
    /// HTTP/3.
    Doh3,
    /// QUIC where both are spoken, before the client has said which it wants.
    Quic,
}

impl Shaking {
    /// All, in the order of their counters.
    pub const ALL: [Self; 5] = [Self::Dot, Self::Doh, Self::Doq, Self::Doh3, Self::Quic];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dot => "dot",
            Self::Doh => "doh",
            Self::Doq => "doq",
            Self::Doh3 => "doh3",
            Self::Quic => "quic",
        }
    }
}

/// Why a handshake came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Failure {
    /// It was not over in its time.
    Timeout,
    /// What came is no TLS.
    NotTls,
    /// No version in common.
    Version,
    /// No cipher suite, group or signature in common.
    Cipher,
    /// No protocol in common (RFC 7301).
    Alpn,
    /// The client asked for a server name that is not served.
    ServerName,
    /// The client does not know who signed the certificate.
    UnknownCa,
    /// A signature was not that of the authority, or of the server, that the client knows by that name: as after a private authority was
    /// made anew.
    BadSignature,
    /// The client found the certificate bad; many say this of one that is for another name.
    BadCertificate,
    /// The client found the certificate expired or not yet valid.
    CertificateExpired,
    /// The client did not take the certificate, and did not say more.
    CertificateUnknown,
    /// The client cannot deal with such a certificate.
    UnsupportedCertificate,
    /// The client knows that the certificate was revoked.
    CertificateRevoked,
    /// The client sent another alert.
    ClientAlert,
    /// The client closed the connection.
    Closed,
    /// The client reset the connection.
    Reset,
    /// The gateway was stopping.
    Stopping,
    /// Anything else.
    Other,
}

impl Failure {
    /// All, in the order of their counters.
    pub const ALL: [Self; 18] = [
        Self::Timeout,
        Self::NotTls,
        Self::Version,
        Self::Cipher,
        Self::Alpn,
        Self::ServerName,
        Self::UnknownCa,
        Self::BadSignature,
        Self::BadCertificate,
        Self::CertificateExpired,
        Self::CertificateUnknown,
        Self::UnsupportedCertificate,
        Self::CertificateRevoked,
        Self::ClientAlert,
        Self::Closed,
        Self::Reset,
        Self::Stopping,
        Self::Other,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::NotTls => "not_tls",
            Self::Version => "version",
            Self::Cipher => "cipher",
            Self::Alpn => "alpn",
            Self::ServerName => "server_name",
            Self::UnknownCa => "unknown_ca",
            Self::BadSignature => "bad_signature",
            Self::BadCertificate => "bad_certificate",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateUnknown => "certificate_unknown",
            Self::UnsupportedCertificate => "unsupported_certificate",
            Self::CertificateRevoked => "certificate_revoked",
            Self::ClientAlert => "client_alert",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Stopping => "stopping",
            Self::Other => "other",
        }
    }

    /// Did the client turn away from the certificate that it was shown?
    #[must_use]
    pub const fn is_distrust(self) -> bool {
        matches!(
            self,
            Self::UnknownCa
                | Self::BadSignature
                | Self::BadCertificate
                | Self::CertificateExpired
                | Self::CertificateUnknown
                | Self::UnsupportedCertificate
                | Self::CertificateRevoked
        )
    }

    /// By an alert of the client's (RFC 8446 6, by its number).
    #[must_use]
    pub const fn told(alert: u8) -> Self {
        match alert {
            0 | 90 => Self::Closed,
            40 | 71 => Self::Cipher,
            42 => Self::BadCertificate,
            43 => Self::UnsupportedCertificate,
            44 => Self::CertificateRevoked,
            45 => Self::CertificateExpired,
            46 => Self::CertificateUnknown,
            48 => Self::UnknownCa,
            51 => Self::BadSignature,
            70 => Self::Version,
            120 => Self::Alpn,
            _ => Self::ClientAlert,
        }
    }

    /// By an alert of our own.
    #[must_use]
    pub const fn found(alert: u8) -> Self {
        match alert {
            40 | 71 => Self::Cipher,
            70 => Self::Version,
            112 => Self::ServerName,
            120 => Self::Alpn,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_in_the_order_of_the_words() {
        assert!(Shaking::ALL.iter().enumerate().all(|(index, &one)| one as usize == index));
        assert!(Failure::ALL.iter().enumerate().all(|(index, &one)| one as usize == index));
    }
}
