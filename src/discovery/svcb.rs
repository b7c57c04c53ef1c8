//! `SvcParams` of a service on the wire (RFC 9460 2.2, RFC 9461): for SVCB records, and for the options of RFC 9463.

use std::net::IpAddr;

use super::Service;

/// `SvcParamKeys` (RFC 9460 14.3.2), in the order that they stand in on the wire.
mod key {
    pub const ALPN: u16 = 1;
    pub const PORT: u16 = 3;
    pub const V4_HINT: u16 = 4;
    pub const V6_HINT: u16 = 6;
    pub const DOH_PATH: u16 = 7;
}

/// The parameters of `service`, keys ascending. `hints` are addresses to try before the target's are known; an option of DHCP has
/// none, because it holds the addresses itself (RFC 9463 3.1.5).
///
/// The port is told only where it is not the protocol's own; where it stands it is mandatory without a word (RFC 9461 4.2).
#[must_use]
pub fn params(service: &Service, hints: &[IpAddr]) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    let mut alpn = Vec::with_capacity(8);
    for name in service.protocol.alpn() {
        alpn.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        alpn.extend(name.as_bytes());
    }
    put(&mut out, key::ALPN, &alpn);
    if service.port != service.protocol.default_port() {
        put(&mut out, key::PORT, &service.port.to_be_bytes());
    }
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for hint in hints {
        match hint {
            IpAddr::V4(hint) => v4.extend(hint.octets()),
            IpAddr::V6(hint) => v6.extend(hint.octets()),
        }
    }
    for (key, hints) in [(key::V4_HINT, v4), (key::V6_HINT, v6)] {
        // An empty list of hints is malformed (RFC 9460 7.3).
        if !hints.is_empty() {
            put(&mut out, key, &hints);
        }
    }
    if let Some(path) = &service.path {
        put(&mut out, key::DOH_PATH, format!("{path}{{?dns}}").as_bytes());
    }
    out
}

/// A path has 128 octets at most, and there are 8 hints at most: no value comes near the bound of its length.
fn put(out: &mut Vec<u8>, key: u16, value: &[u8]) {
    out.extend(key.to_be_bytes());
    out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(value);
}

#[cfg(test)]
mod tests {
    use super::super::Protocol;
    use super::*;

    #[test]
    fn svc_07_keys_ascend_and_hold_what_rfc_9461_says() {
        let service = Service { protocol: Protocol::Doh, port: 8443, path: Some("/q".into()) };
        let hints = ["2001:db8::1", "192.0.2.1"].map(|text| text.parse().unwrap());
        let expected = [
            &b"\0\x01\0\x06\x02h2\x02h3"[..],
            b"\0\x03\0\x02\x20\xfb",
            b"\0\x04\0\x04\xc0\0\x02\x01",
            b"\0\x06\0\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01",
            b"\0\x07\0\x08/q{?dns}",
        ];
        assert_eq!(params(&service, &hints), expected.concat());
    }

    #[test]
    fn svc_06_the_port_is_told_only_where_it_is_not_the_usual_one() {
        for (protocol, port, expected) in [
            (Protocol::Dot, 853, &b"\0\x01\0\x04\x03dot"[..]),
            (Protocol::Dot, 443, b"\0\x01\0\x04\x03dot\0\x03\0\x02\x01\xbb"),
            (Protocol::Doq, 853, b"\0\x01\0\x04\x03doq"),
            (Protocol::Doh, 443, b"\0\x01\0\x06\x02h2\x02h3"),
            (Protocol::Doh, 853, b"\0\x01\0\x06\x02h2\x02h3\0\x03\0\x02\x03\x55"),
        ] {
            assert_eq!(params(&Service { protocol, port, path: None }, &[]), expected, "{protocol:?} {port}");
        }
    }
}
