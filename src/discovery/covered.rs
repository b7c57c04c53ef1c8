//! What a certificate is for: the names and addresses that a client may verify it by (RFC 9525 6).

use std::net::IpAddr;

/// The subjects of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Covered {
    /// Its dNSName entries in lower case, those with a wildcard too.
    pub names: Vec<String>,
    /// Its iPAddress entries.
    pub addresses: Vec<IpAddr>,
}

impl Covered {
    /// Sorts `subjects` into names and addresses.
    pub fn of<'a>(subjects: impl IntoIterator<Item = &'a str>) -> Self {
        let mut covered = Self::default();
        for subject in subjects {
            match subject.parse() {
                Ok(address) => covered.addresses.push(address),
                Err(_) => covered.names.push(subject.trim_end_matches('.').to_ascii_lowercase()),
            }
        }
        covered
    }

    /// Would a client that knows the gateway as `name` verify it? A wildcard stands for one label, the first (RFC 9525 6.3).
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        let below = name.split_once('.').map(|(_, rest)| rest);
        self.names.iter().any(|covered| {
            covered.eq_ignore_ascii_case(name)
                || covered
                    .strip_prefix("*.")
                    .is_some_and(|rest| below.is_some_and(|below| below.eq_ignore_ascii_case(rest)))
        })
    }

    /// Would a client that knows the gateway as `address` verify it?
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address.to_canonical())
    }

    /// The names that are names of one host. A certificate may hold anything, and these go into files that are run and obeyed.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        let is_label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
        };
        self.names.iter().map(String::as_str).filter(move |name| name.split('.').all(is_label))
    }

    /// The first name that stands for many hosts.
    #[must_use]
    pub fn wildcard(&self) -> Option<&str> {
        self.names.iter().map(String::as_str).find(|name| name.starts_with("*."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers_one_label_and_no_address_is_a_name() {
        let covered = Covered::of(["DNS.example.", "*.home.example", "192.0.2.1", "2001:db8::1"]);
        for (name, is_covered) in [
            ("dns.example", true),
            ("Dns.Example", true),
            ("a.home.example", true),
            ("home.example", false),
            ("a.b.home.example", false),
            ("192.0.2.1", false),
        ] {
            assert_eq!(covered.has_name(name), is_covered, "{name}");
        }
        assert!(covered.has_address("::ffff:192.0.2.1".parse().unwrap()));
        assert!(covered.has_address("2001:DB8::1".parse().unwrap()));
        assert!(!covered.has_address("192.0.2.2".parse().unwrap()));
        assert_eq!(covered.hosts().collect::<Vec<_>>(), ["dns.example"]);
    }
}
