//! Linux with systemd-resolved: a drop-in that asks over TLS.

use std::net::IpAddr;

use super::{File, Guide, Unfit, addresses, authority, service, value};
use crate::discovery::{Protocol, Resolver};

const DEVICE: &str = "systemd-resolved";

/// A drop-in with each address, and the name to verify it by.
pub(super) fn guide(resolver: &Resolver, door: Option<Protocol>) -> Result<Guide, Unfit> {
    let port = service(DEVICE, resolver, &[Protocol::Dot], door)?.port;
    let name = resolver.names.first();
    // Without a name it is the address that the certificate must be for.
    let is_certified = |ip: &IpAddr| resolver.addresses.iter().any(|address| address.ip == *ip && address.is_certified);
    let usable: Vec<IpAddr> = addresses(resolver).into_iter().filter(|ip| name.is_some() || is_certified(ip)).collect();
    if usable.is_empty() {
        return Err(if name.is_some() { Unfit::NoAddress { device: DEVICE } } else { Unfit::NoHost });
    }
    let verified = name.map(|name| format!("#{name}")).unwrap_or_default();
    let server = |ip: &IpAddr| format!("{}{verified}", std::net::SocketAddr::new(*ip, port));
    let servers = usable.iter().map(server).collect::<Vec<_>>().join(" ");
    let mut steps = vec![
        "As root, put hushgate.conf into /etc/systemd/resolved.conf.d (make the directory where there is none)."
            .to_owned(),
        "systemctl restart systemd-resolved".to_owned(),
        "resolvectl status shows +DNSOverTLS and the server; resolvectl query example.com asks it.".to_owned(),
    ];
    if resolver.authority.is_some() {
        let trust = format!(
            "First make the system trust the gateway's authority ({}): on Debian and Ubuntu copy it to \
             /usr/local/share/ca-certificates/hushgate.crt and run update-ca-certificates; on Fedora to \
             /etc/pki/ca-trust/source/anchors and run update-ca-trust.",
            authority(resolver)
        );
        steps.insert(0, trust);
    }
    let limits = [
        "DNS over TLS alone: systemd-resolved speaks neither DoH nor DoQ.",
        "Programs that do not ask the system (browsers with secure DNS, a /etc/resolv.conf that names another \
         server) go past it.",
        "Domains=~. sends all names here; a link with a routing domain of its own, such as a VPN, still takes that domain.",
    ];
    let text = format!("[Resolve]\nDNS={servers}\nDNSOverTLS=yes\nDomains=~.\n");
    Ok(Guide {
        headline: format!("The machine asks {} over TLS.", name.map_or("the gateway", String::as_str)),
        values: vec![value("DNS", servers), value("DNSOverTLS", "yes"), value("Domains", "~.")],
        steps,
        files: vec![File { name: "hushgate.conf", media_type: "text/plain", text }],
        limits: limits.map(str::to_owned).into(),
        scan: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::examples::{local, public};
    use super::*;

    #[test]
    fn drop_in_has_each_address_with_port_and_name() {
        let text = guide(&public(), None).unwrap().files.remove(0).text;
        assert_eq!(
            text,
            "[Resolve]\nDNS=192.0.2.1:853#dns.example [2001:db8::1]:853#dns.example\nDNSOverTLS=yes\nDomains=~.\n"
        );
        let text = guide(&local(), None).unwrap().files.remove(0).text;
        assert!(text.contains("DNS=127.0.0.1:8853#localhost [::1]:8853#localhost\n"), "{text}");
    }

    #[test]
    fn without_a_name_only_certified_addresses_are_taken() {
        let mut resolver = Resolver { names: Vec::new(), ..public() };
        resolver.addresses[0].is_certified = false;
        let text = guide(&resolver, None).unwrap().files.remove(0).text;
        assert!(text.contains("DNS=[2001:db8::1]:853\n"), "{text}");
    }

    #[test]
    fn name_without_address_is_not_enough() {
        let resolver = Resolver { addresses: Vec::new(), ..public() };
        assert_eq!(guide(&resolver, None), Err(Unfit::NoAddress { device: DEVICE }));
    }
}
