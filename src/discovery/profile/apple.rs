//! iPhone, iPad and Mac: a configuration profile (`.mobileconfig`) with the DNS settings and, where it is needed, the authority to trust.
//!
//! Identifiers are made from the gateway's host, so that a profile that is installed again replaces the one before.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use std::hash::Hasher as _;

use super::{File, Guide, Unfit, addresses, doh_url, escaped, host, name, service, url, value};
use crate::discovery::{Protocol, Resolver, Service};

/// How the profile is called, and where the set-up page has it.
pub const FILE: &str = "hushgate.mobileconfig";
/// What makes a device offer to install it.
pub const MEDIA_TYPE: &str = "application/x-apple-aspen-config";

const DEVICE: &str = "Apple's system";

/// The profile, and how it is installed.
pub(super) fn guide(resolver: &Resolver, door: Option<Protocol>) -> Result<Guide, Unfit> {
    let service = chosen(resolver, door)?;
    let settings = Settings::of(resolver, service)?;
    let ways = if resolver.has_page { "open the set-up page there, scan its QR code, or " } else { "" };
    let mut steps = vec![
        format!("Get {FILE} onto the device: {ways}send it by AirDrop or mail."),
        "iPhone, iPad: Settings, \"Profile Downloaded\", Install. Mac: System Settings, search for \"Device Management\", \
         double-click it, Install."
            .to_owned(),
        "It is in use at once; Settings, General, VPN & Device Management, DNS shows and changes it.".to_owned(),
    ];
    let mut limits = vec![
        "iOS 14, macOS 11 or later. The profile is not signed, and the device says so when it is installed.".to_owned(),
        "A VPN, iCloud Private Relay (in Safari) and browsers with secure DNS of their own go past it.".to_owned(),
    ];
    if resolver.authority.is_some() {
        let trust = "iPhone, iPad: Settings, General, About, Certificate Trust Settings: switch on full trust for the \
                     gateway's authority, which the profile carries.";
        steps.push(trust.to_owned());
        if resolver.has_page {
            let first = "Before that the device does not know the authority: its browser warns of the set-up page.";
            limits.push(first.to_owned());
        }
    }
    if settings.addresses.is_empty() {
        limits.push("Without addresses the name is looked up by the network's own DNS first.".to_owned());
    }
    let mut values = vec![value("DNSProtocol", settings.protocol), value(settings.key, &*settings.server)];
    if !settings.addresses.is_empty() {
        values.push(value("ServerAddresses", settings.addresses.join(", ")));
    }
    values.push(value("PayloadIdentifier", &*settings.identifier));
    Ok(Guide {
        headline: format!("The device asks {} by {}, in every network.", settings.host, service.protocol),
        values,
        steps,
        files: vec![File { name: FILE, media_type: MEDIA_TYPE, text: profile(resolver, &settings) }],
        limits,
        scan: download(resolver),
    })
}

/// DoH wherever it is; DoT at the one port that the system asks at.
fn chosen(resolver: &Resolver, door: Option<Protocol>) -> Result<&Service, Unfit> {
    let found = service(DEVICE, resolver, &[Protocol::Doh, Protocol::Dot], door)?;
    let wanted = Protocol::Dot.default_port();
    if found.protocol == Protocol::Dot && found.port != wanted {
        return Err(Unfit::Port { device: DEVICE, protocol: Protocol::Dot, port: found.port, wanted });
    }
    Ok(found)
}

/// Where the set-up page has the profile, if there is one.
fn download(resolver: &Resolver) -> Option<String> {
    let doh =
        resolver.has_page.then_some(resolver)?.services.iter().find(|service| service.protocol == Protocol::Doh)?;
    url(resolver, doh.port, &format!("/{FILE}")).ok()
}

/// What the profile sets.
struct Settings {
    protocol: &'static str,
    /// Under which the server is named.
    key: &'static str,
    server: String,
    addresses: Vec<String>,
    host: String,
    identifier: String,
}

impl Settings {
    fn of(resolver: &Resolver, service: &Service) -> Result<Self, Unfit> {
        let (protocol, key, server) = match service.protocol {
            Protocol::Doh => ("HTTPS", "ServerURL", doh_url(resolver, service)?),
            Protocol::Dot | Protocol::Doq => ("TLS", "ServerName", name(DEVICE, resolver)?.to_owned()),
        };
        let host = host(resolver)?;
        let identifier = identifier(&host);
        let addresses = addresses(resolver).iter().map(ToString::to_string).collect();
        Ok(Self { protocol, key, server, addresses, host, identifier })
    }
}

/// `example.dns.hushgate` for `dns.example`: one for each host, whatever is asked there.
fn identifier(host: &str) -> String {
    let plain: String =
        host.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '-' }).collect();
    let labels: Vec<&str> = plain.split('.').rev().collect();
    format!("{}.hushgate", labels.join("."))
}

/// A UUID that is the same for the same payload of the same host, always (version 8 of RFC 9562: made as we like).
fn uuid(identifier: &str) -> String {
    let mut hasher = SipHasher13::new_with_keys(0x6875_7368_6761_7465, 0x6d6f_6269_6c65_6366);
    hasher.write(identifier.as_bytes());
    let bits = hasher.finish128().as_u128() & !(0xf << 76) & !(0x3 << 62) | (0x8 << 76) | (0x2 << 62);
    let hex = format!("{bits:032X}");
    let ends = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    ends.map(|(from, to)| hex.get(from..to).unwrap_or_default()).join("-")
}

/// The file.
fn profile(resolver: &Resolver, settings: &Settings) -> String {
    let mut payloads = dns(settings);
    if let Some(certificate) = &resolver.authority {
        payloads += &root(certificate, settings);
    }
    let removal = "Devices with it ask this gateway for names. Remove it to go back to the network's own DNS.";
    let head = header("Configuration", &settings.identifier, &format!("DNS: {}", settings.host));
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n<dict>\n{head}{}\
         <key>PayloadRemovalDisallowed</key>\n<false/>\n\
         <key>PayloadContent</key>\n<array>\n{payloads}</array>\n</dict>\n</plist>\n",
        text("PayloadDescription", removal),
    )
}

fn dns(settings: &Settings) -> String {
    let list =
        settings.addresses.iter().map(|ip| format!("<string>{}</string>\n", escaped(ip))).collect::<Vec<_>>().concat();
    let addresses =
        if list.is_empty() { String::new() } else { format!("<key>ServerAddresses</key>\n<array>\n{list}</array>\n") };
    let head = header(
        "com.apple.dnsSettings.managed",
        &format!("{}.dns", settings.identifier),
        &format!("DNS: {}", settings.host),
    );
    format!(
        "<dict>\n{head}<key>DNSSettings</key>\n<dict>\n{}{}{addresses}</dict>\n<key>ProhibitDisablement</key>\n<false/>\n</dict>\n",
        text("DNSProtocol", settings.protocol),
        text(settings.key, &settings.server),
    )
}

fn root(certificate: &[u8], settings: &Settings) -> String {
    let head = header(
        "com.apple.security.root",
        &format!("{}.authority", settings.identifier),
        &format!("Authority of {}", settings.host),
    );
    format!(
        "<dict>\n{head}{}<key>PayloadContent</key>\n<data>{}</data>\n</dict>\n",
        text("PayloadCertificateFileName", "authority.cer"),
        STANDARD.encode(certificate),
    )
}

/// What every payload begins with.
fn header(kind: &str, identifier: &str, shown: &str) -> String {
    let fields = [
        ("PayloadType", kind),
        ("PayloadIdentifier", identifier),
        ("PayloadUUID", &uuid(identifier)),
        ("PayloadDisplayName", shown),
    ];
    let texts: String = fields.iter().map(|(key, value)| text(key, value)).collect();
    format!("{texts}<key>PayloadVersion</key>\n<integer>1</integer>\n")
}

fn text(key: &str, value: &str) -> String {
    format!("<key>{key}</key>\n<string>{}</string>\n", escaped(value))
}

#[cfg(test)]
mod tests {
    use plist::{Dictionary, Value};

    use super::super::examples::{local, public, service};
    use super::*;

    fn read(guide: &Guide) -> Dictionary {
        Value::from_reader_xml(guide.files[0].text.as_bytes()).unwrap().into_dictionary().unwrap()
    }

    fn payload(profile: &Dictionary, kind: &str) -> Option<Dictionary> {
        let payloads = profile["PayloadContent"].as_array().unwrap().iter().map(|one| one.as_dictionary().unwrap());
        payloads.into_iter().find(|one| one["PayloadType"].as_string() == Some(kind)).cloned()
    }

    fn settings(guide: &Guide) -> Dictionary {
        let dns = payload(&read(guide), "com.apple.dnsSettings.managed").unwrap();
        assert_eq!(dns["ProhibitDisablement"].as_boolean(), Some(false));
        dns["DNSSettings"].as_dictionary().unwrap().clone()
    }

    fn word<'a>(dictionary: &'a Dictionary, key: &str) -> &'a str {
        dictionary[key].as_string().unwrap()
    }

    #[test]
    fn profile_is_a_plist_with_every_field_that_apple_wants() {
        let guide = guide(&public(), None).unwrap();
        let profile = read(&guide);
        assert_eq!(word(&profile, "PayloadType"), "Configuration");
        assert_eq!(word(&profile, "PayloadIdentifier"), "example.dns.hushgate");
        assert_eq!(profile["PayloadVersion"].as_signed_integer(), Some(1));
        assert_eq!(profile["PayloadRemovalDisallowed"].as_boolean(), Some(false));
        let dns = payload(&profile, "com.apple.dnsSettings.managed").unwrap();
        assert_eq!(word(&dns, "PayloadIdentifier"), "example.dns.hushgate.dns");
        let dns = settings(&guide);
        assert_eq!((word(&dns, "DNSProtocol"), word(&dns, "ServerURL")), ("HTTPS", "https://dns.example/dns-query"));
        assert!(!dns.contains_key("ServerName"));
        let addresses: Vec<_> =
            dns["ServerAddresses"].as_array().unwrap().iter().map(|ip| ip.as_string().unwrap()).collect();
        assert_eq!(addresses, ["192.0.2.1", "2001:db8::1"]);
        assert!(payload(&profile, "com.apple.security.root").is_none());
    }

    #[test]
    fn ports_and_paths_of_ones_own_are_kept_and_escaped() {
        let doh = Service { path: Some("/own&path<1>".to_owned()), ..service(Protocol::Doh, 8443) };
        let guide = guide(&Resolver { services: vec![doh], ..public() }, None).unwrap();
        assert_eq!(word(&settings(&guide), "ServerURL"), "https://dns.example:8443/own&path<1>");
        assert_eq!(guide.scan.as_deref(), Some("https://dns.example:8443/hushgate.mobileconfig"));
    }

    #[test]
    fn over_tls_the_server_has_a_name_and_the_default_port() {
        let guide = guide(&public(), Some(Protocol::Dot)).unwrap();
        let dns = settings(&guide);
        assert_eq!((word(&dns, "DNSProtocol"), word(&dns, "ServerName")), ("TLS", "dns.example"));
        assert!(!dns.contains_key("ServerURL"));
        let elsewhere = Resolver { services: vec![service(Protocol::Dot, 8853)], ..public() };
        assert!(matches!(super::guide(&elsewhere, None), Err(Unfit::Port { port: 8853, .. })));
    }

    #[test]
    fn private_authority_comes_along() {
        let resolver = local();
        let guide = guide(&resolver, None).unwrap();
        let root = payload(&read(&guide), "com.apple.security.root").unwrap();
        assert_eq!(root["PayloadContent"].as_data(), resolver.authority.as_deref());
        assert!(guide.steps.iter().any(|step| step.contains("Certificate Trust Settings")));
    }

    #[test]
    fn identifiers_stay_and_differ_by_payload_and_host() {
        let uuids = |resolver: &Resolver| {
            let profile = read(&guide(resolver, None).unwrap());
            let payloads = profile["PayloadContent"].as_array().unwrap().iter().map(|one| one.as_dictionary().unwrap());
            let all = std::iter::once(&profile).chain(payloads).map(|one| word(one, "PayloadUUID").to_owned());
            all.collect::<Vec<_>>()
        };
        let (mine, theirs) = (uuids(&local()), uuids(&public()));
        // Another door, address or port of the same host replaces what was installed.
        let moved = Resolver { services: vec![service(Protocol::Doh, 443)], addresses: Vec::new(), ..local() };
        assert_eq!(mine, uuids(&moved));
        let mut all: Vec<&String> = mine.iter().chain(&theirs).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 5);
        for uuid in all {
            let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
            assert_eq!(groups, [8, 4, 4, 4, 12], "{uuid}");
            assert!(uuid.as_bytes()[14] == b'8' && b"89AB".contains(&uuid.as_bytes()[19]), "{uuid}");
        }
    }
}
