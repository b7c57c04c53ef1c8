//! What a person installs or types so that a device asks this gateway: a guide for each kind, made from the one description.
//!
//! Pure, and no promises: what a system cannot do is said beside what it can, and a guide that could not work is not made.

mod android;
pub(super) mod apple;
mod chrome;
mod dnr;
mod firefox;
mod systemd;
mod windows;

use std::net::IpAddr;

use super::{Protocol, Resolver, Service};

/// Who is to ask this gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// iOS, iPadOS, macOS.
    Apple,
    /// Android.
    Android,
    /// Windows.
    Windows,
    /// The Firefox browser, anywhere.
    Firefox,
    /// Chrome and browsers made from it, anywhere.
    Chrome,
    /// Linux with systemd-resolved.
    Systemd,
    /// All devices of a network, told by DHCP and router advertisements (RFC 9463).
    Dnr,
}

/// How one kind of device is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guide {
    /// What will be set, in a line.
    pub headline: String,
    /// Exact values, each with what it is called on the device.
    pub values: Vec<(String, String)>,
    /// What to do, in order.
    pub steps: Vec<String>,
    /// Files to install, the one that matters first.
    pub files: Vec<File>,
    /// What cannot work, or not everywhere, and why.
    pub limits: Vec<String>,
    /// What a phone takes as a QR code.
    pub scan: Option<String>,
}

/// A file to install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it goes, or how it is called.
    pub name: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// What is in it.
    pub text: String,
}

/// Why a guide would not work. Each names what to set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// No door of any protocol that the device speaks.
    #[error(
        "{device} asks over {spoken}, and there is no such door that others are told of: open one under `[listen]`, at an \
         address of the network"
    )]
    NoDoor {
        /// Who.
        device: &'static str,
        /// What it speaks.
        spoken: String,
    },
    /// Another protocol was asked for than the device speaks.
    #[error("{device} does not speak {asked}: it asks over {spoken}")]
    NotSpoken {
        /// Who.
        device: &'static str,
        /// What was asked for.
        asked: Protocol,
        /// What it speaks.
        spoken: String,
    },
    /// No name that the certificate covers.
    #[error(
        "{device} knows a gateway by name, and there is none that the certificate covers: give a certificate for one \
         (`tls.certificates`, or `tls.names` for the private authority) and say it in `[advertise]` with `name`"
    )]
    NoName {
        /// Who.
        device: &'static str,
    },
    /// Neither a name nor an address that the certificate covers.
    #[error(
        "there is neither a name nor an address that the certificate covers: give a certificate (`tls.certificates`, or \
         `tls.names` for the private authority) and say in `[advertise]` with `name` and `addresses` how devices reach this \
         gateway"
    )]
    NoHost,
    /// No address to type.
    #[error("{device} wants an address, and none is known: say it in `[advertise]` with `addresses`")]
    NoAddress {
        /// Who.
        device: &'static str,
    },
    /// Reachable from this machine alone.
    #[error(
        "only this machine reaches the gateway, at loopback addresses: open doors on an address of the network under \
         `[listen]`, or say in `[advertise]` with `addresses` how it is reached"
    )]
    LoopbackOnly,
    /// The device asks at one port alone.
    #[error(
        "{device} asks at port {wanted} alone, and {protocol} is at {port}: open it at {wanted} under `[listen]`, or map the \
         port and say so in `[advertise]`"
    )]
    Port {
        /// Who.
        device: &'static str,
        /// Over what.
        protocol: Protocol,
        /// Where it is.
        port: u16,
        /// Where it has to be.
        wanted: u16,
    },
    /// The device takes public authorities alone.
    #[error(
        "{device} trusts public authorities alone, and this certificate is from the private one: give another in \
         `tls.certificates`"
    )]
    PrivateAuthority {
        /// Who.
        device: &'static str,
    },
    /// An option's length field cannot hold it.
    #[error("the name, addresses and path are too long for an option: shorten `doh.paths`")]
    TooLong,
}

/// The guide for `device`, over `door` where the operator wants one protocol.
///
/// # Errors
/// It would not work; what to set.
pub fn guide(device: Device, resolver: &Resolver, door: Option<Protocol>) -> Result<Guide, Unfit> {
    let mut guide = match device {
        Device::Apple => apple::guide(resolver, door),
        Device::Android => android::guide(resolver, door),
        Device::Windows => windows::guide(resolver, door),
        Device::Firefox => firefox::guide(resolver, door),
        Device::Chrome => chrome::guide(resolver, door),
        Device::Systemd => systemd::guide(resolver, door),
        Device::Dnr => dnr::guide(resolver, door),
    }?;
    if is_loopback_only(resolver) {
        guide.limits.insert(0, LOCAL.to_owned());
    }
    Ok(guide)
}

impl Device {
    /// What it is called in a heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Apple => "iPhone, iPad and Mac",
            Self::Android => "Android",
            Self::Windows => "Windows",
            Self::Firefox => "Firefox",
            Self::Chrome => "Chrome, Edge and Chromium",
            Self::Systemd => "Linux with systemd-resolved",
            Self::Dnr => "DHCP and router advertisements",
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dot => "DNS over TLS",
            Self::Doh => "DNS over HTTPS",
            Self::Doq => "DNS over QUIC",
        })
    }
}

/// The service to ask at: of what the device speaks, best first, or what the operator wants.
fn service<'a>(
    device: &'static str,
    resolver: &'a Resolver,
    spoken: &[Protocol],
    door: Option<Protocol>,
) -> Result<&'a Service, Unfit> {
    let listed = || spoken.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    if let Some(asked) = door.filter(|door| !spoken.contains(door)) {
        return Err(Unfit::NotSpoken { device, asked, spoken: listed() });
    }
    let mut wanted = spoken.iter().filter(|protocol| door.is_none_or(|door| door == **protocol));
    let found = wanted.find_map(|protocol| resolver.services.iter().find(|service| service.protocol == *protocol));
    let spoken = || door.map_or_else(listed, |door| door.to_string());
    found.ok_or_else(|| Unfit::NoDoor { device, spoken: spoken() })
}

/// The name that the gateway goes by.
fn name<'a>(device: &'static str, resolver: &'a Resolver) -> Result<&'a str, Unfit> {
    resolver.names.first().map(String::as_str).ok_or(Unfit::NoName { device })
}

/// The host of a URL: the name, else an address that the certificate covers.
pub(super) fn host(resolver: &Resolver) -> Result<String, Unfit> {
    let by_address = || resolver.addresses.iter().find(|address| address.is_certified);
    let literal = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let named = resolver.names.first().cloned();
    named.or_else(|| by_address().map(|address| literal(address.ip))).ok_or(Unfit::NoHost)
}

/// `https://host:port/path`, the port left out where it is the usual one.
pub(super) fn url(resolver: &Resolver, port: u16, path: &str) -> Result<String, Unfit> {
    let host = host(resolver)?;
    Ok(if port == Protocol::Doh.default_port() {
        format!("https://{host}{path}")
    } else {
        format!("https://{host}:{port}{path}")
    })
}

/// Where DoH is asked.
fn doh_url(resolver: &Resolver, service: &Service) -> Result<String, Unfit> {
    url(resolver, service.port, service.path.as_deref().unwrap_or("/dns-query"))
}

/// The addresses that a device may use, in order: those of loopback only where there are no others.
fn addresses(resolver: &Resolver) -> Vec<IpAddr> {
    let local = is_loopback_only(resolver);
    resolver.addresses.iter().map(|address| address.ip).filter(|ip| local || !ip.is_loopback()).collect()
}

fn is_loopback_only(resolver: &Resolver) -> bool {
    !resolver.addresses.is_empty() && resolver.addresses.iter().all(|address| address.ip.is_loopback())
}

/// `text` in XML or HTML, as text or between quotes.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // No form of XML 1.0 can hold them; ends of lines it can, and files have them.
            _ if character.is_control() && character != '\n' => {}
            _ => out.push(character),
        }
    }
    out
}

fn value(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

/// The first limit of a guide for a gateway that no other machine reaches.
const LOCAL: &str = "Only this machine reaches the gateway, at loopback addresses. For other devices open doors on an address \
                     of the network under `[listen]`, or say in `[advertise]` how it is reached.";

/// Where the private authority's certificate is found, for steps that need it.
const fn authority(resolver: &Resolver) -> &'static str {
    if resolver.has_page {
        "authority.pem in the gateway's state_dir, or authority.crt on its set-up page"
    } else {
        "authority.pem in the gateway's state_dir"
    }
}

#[cfg(test)]
pub(super) mod examples {
    use super::*;
    use crate::discovery::Address;

    pub(crate) fn service(protocol: Protocol, port: u16) -> Service {
        let path = (protocol == Protocol::Doh).then(|| "/dns-query".to_owned());
        Service { protocol, port, path }
    }

    /// A gateway that all the world may see, at the usual ports.
    pub(crate) fn public() -> Resolver {
        let address = |ip: &str| Address { ip: ip.parse().expect("an address"), is_certified: true };
        Resolver {
            names: vec!["dns.example".to_owned()],
            addresses: vec![address("192.0.2.1"), address("2001:db8::1")],
            services: vec![service(Protocol::Dot, 853), service(Protocol::Doq, 853), service(Protocol::Doh, 443)],
            authority: None,
            has_page: true,
        }
    }

    /// One as the defaults make it, seen from its own machine.
    pub(crate) fn local() -> Resolver {
        let address = |ip: &str| Address { ip: ip.parse().expect("an address"), is_certified: true };
        Resolver {
            names: vec!["localhost".to_owned()],
            addresses: vec![address("127.0.0.1"), address("::1")],
            services: vec![service(Protocol::Dot, 8853), service(Protocol::Doh, 8443)],
            authority: Some(vec![0x30, 0x03, 0x02, 0x01, 0x05]),
            has_page: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::examples::{local, public};
    use super::*;

    const ALL: [Device; 7] = [
        Device::Apple,
        Device::Android,
        Device::Windows,
        Device::Firefox,
        Device::Chrome,
        Device::Systemd,
        Device::Dnr,
    ];

    #[test]
    fn no_guide_speaks_of_a_page_that_is_switched_off() {
        for resolver in [public(), local()] {
            for (device, has_page) in ALL.into_iter().flat_map(|device| [(device, true), (device, false)]) {
                let Ok(guide) = guide(device, &Resolver { has_page, ..resolver.clone() }, None) else { continue };
                let words = [guide.steps.concat(), guide.limits.concat(), guide.headline].concat();
                let is_spoken_of = ["set-up page", "authority.crt", "scan"].iter().any(|word| words.contains(word));
                assert!(has_page || !is_spoken_of, "{device:?}: {words}");
                assert!(!has_page || device != Device::Apple || guide.scan.is_some() && is_spoken_of, "{words}");
                assert!(has_page || device != Device::Apple || guide.scan.is_none(), "a code that leads nowhere");
            }
        }
    }

    #[test]
    fn public_gateway_has_a_guide_for_every_device() {
        for device in ALL {
            let guide = guide(device, &public(), None).unwrap();
            assert!(!guide.headline.is_empty() && !guide.values.is_empty() && !guide.steps.is_empty(), "{device:?}");
            assert!(!guide.limits.is_empty(), "{device:?}: what cannot work is said");
            assert!(!guide.limits.contains(&LOCAL.to_owned()), "{device:?}");
        }
    }

    #[test]
    fn gateway_on_loopback_serves_its_own_machine_and_says_so() {
        for device in ALL {
            match (device, guide(device, &local(), None)) {
                (Device::Android | Device::Dnr, outcome) => {
                    assert_eq!(outcome, Err(Unfit::LoopbackOnly), "{device:?}");
                }
                (_, outcome) => assert_eq!(outcome.unwrap().limits[0], LOCAL, "{device:?}"),
            }
        }
    }

    #[test]
    fn without_name_and_certified_address_there_is_no_guide() {
        let mut resolver = Resolver { names: Vec::new(), ..public() };
        resolver.addresses.iter_mut().for_each(|address| address.is_certified = false);
        for device in ALL {
            let error = guide(device, &resolver, None).unwrap_err();
            assert!(error.to_string().contains("`[advertise]`"), "{device:?}: {error}");
        }
    }

    #[test]
    fn protocol_that_is_not_spoken_and_door_that_is_not_open_are_named() {
        for device in ALL {
            if device != Device::Dnr {
                let error = guide(device, &public(), Some(Protocol::Doq)).unwrap_err();
                assert!(matches!(error, Unfit::NotSpoken { .. }), "{device:?}: {error}");
            }
            let closed = Resolver { services: Vec::new(), ..public() };
            let error = guide(device, &closed, None).unwrap_err();
            assert!(
                matches!(error, Unfit::NoDoor { .. }) && error.to_string().contains("`[listen]`"),
                "{device:?}: {error}"
            );
        }
    }

    #[test]
    fn known_by_address_alone_the_url_has_the_certified_one() {
        let mut resolver = Resolver { names: Vec::new(), ..public() };
        assert_eq!(url(&resolver, 443, "/q").unwrap(), "https://192.0.2.1/q");
        resolver.addresses[0].is_certified = false;
        assert_eq!(url(&resolver, 8443, "/q").unwrap(), "https://[2001:db8::1]:8443/q");
    }

    #[test]
    fn what_means_something_in_xml_is_escaped() {
        assert_eq!(escaped("/a&b<c>\"d'\u{7}é"), "/a&amp;b&lt;c&gt;&quot;d&#39;é");
        assert_eq!(escaped("[Resolve]\nDNS=\u{0}192.0.2.1\n"), "[Resolve]\nDNS=192.0.2.1\n");
    }
}
