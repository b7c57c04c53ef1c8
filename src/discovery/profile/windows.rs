//! Windows: each address, with the template (or name) that it is to be asked by.

use std::net::IpAddr;

use super::{File, Guide, Unfit, addresses, authority, doh_url, name, service, value};
use crate::discovery::{Protocol, Resolver, Service};

const DEVICE: &str = "Windows";

/// A script for an administrator, and the same by hand.
pub(super) fn guide(resolver: &Resolver, door: Option<Protocol>) -> Result<Guide, Unfit> {
    let service = service(DEVICE, resolver, &[Protocol::Doh, Protocol::Dot], door)?;
    let addresses = addresses(resolver);
    if addresses.is_empty() {
        return Err(Unfit::NoAddress { device: DEVICE });
    }
    let mut guide = match service.protocol {
        Protocol::Doh => over_https(resolver, service, &addresses)?,
        Protocol::Dot | Protocol::Doq => over_tls(resolver, service, &addresses)?,
    };
    let listed = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    guide.values.insert(0, value("DNS servers", listed));
    if resolver.authority.is_some() {
        let file = if resolver.has_page { "authority.crt" } else { "authority.pem" };
        let trust = format!(
            "First make the machine trust the gateway's authority ({}), as administrator: \
             Import-Certificate -FilePath {file} -CertStoreLocation Cert:\\LocalMachine\\Root",
            authority(resolver)
        );
        guide.steps.insert(0, trust);
    }
    guide.limits.push("Browsers with secure DNS of their own, and a VPN, go past it.".to_owned());
    Ok(guide)
}

fn over_https(resolver: &Resolver, service: &Service, addresses: &[IpAddr]) -> Result<Guide, Unfit> {
    let template = doh_url(resolver, service)?;
    let register = |ip: &IpAddr| {
        let template = quoted(&template);
        format!(
            "Add-DnsClientDohServerAddress -ServerAddress {ip} -DohTemplate {template} -AllowFallbackToUdp $False \
             -AutoUpgrade $True\n"
        )
    };
    let mut text: String = addresses.iter().map(register).collect();
    text += &set_addresses(addresses);
    let by_netsh = addresses.first().map(|ip| {
        format!(
            "In place of the first lines, netsh does the same for each address: netsh dns add encryption server={ip} \
             dohtemplate={template} autoupgrade=yes udpfallback=no"
        )
    });
    let steps = [
        "In PowerShell as administrator, run hushgate.ps1, or type its lines; Get-NetAdapter tells what the \
         network interface is called."
            .to_owned(),
        "By hand: Settings, Network & internet, the properties of Wi-Fi or Ethernet, DNS server assignment, Edit, Manual; \
         type an address, take \"DNS over HTTPS: On (manual template)\" and the template, and leave the fall-back to plain \
         text off."
            .to_owned(),
        "The interface's properties then say (Encrypted) behind the address.".to_owned(),
    ];
    let mut limits = vec!["Windows 11, or Server 2022: Windows 10 has no DNS over HTTPS of its own.".to_owned()];
    if service.port != Protocol::Doh.default_port() {
        limits.push(format!(
            "Port {} is in the template. Microsoft documents port 443 only; where Windows does not encrypt, map \
             443 to the gateway.",
            service.port
        ));
    }
    Ok(Guide {
        headline: format!("Windows asks {template}."),
        values: vec![value("DNS over HTTPS template", template)],
        steps: steps.into_iter().chain(by_netsh).collect(),
        files: vec![File { name: "hushgate.ps1", media_type: "text/plain", text }],
        limits,
        scan: None,
    })
}

fn over_tls(resolver: &Resolver, service: &Service, addresses: &[IpAddr]) -> Result<Guide, Unfit> {
    let name = name(DEVICE, resolver)?;
    let (port, wanted) = (service.port, Protocol::Dot.default_port());
    if port != wanted {
        return Err(Unfit::Port { device: DEVICE, protocol: Protocol::Dot, port, wanted });
    }
    let register = |ip: &IpAddr| format!("netsh dns add encryption server={ip} dothost={name} autoupgrade=yes\n");
    let mut text = "netsh dns add global dot=yes\n".to_owned();
    text.extend(addresses.iter().map(register));
    text += &set_addresses(addresses);
    text += "ipconfig /flushdns\n";
    let steps = [
        "In PowerShell as administrator, run hushgate.ps1, or type its lines; Get-NetAdapter tells what the \
         network interface is called.",
        "netsh dns show encryption lists what is registered.",
    ];
    let limits = [
        "DNS over TLS came with Windows 11 preview builds from 25158 on: where netsh does not know dothost, take --door doh.",
        "The port is 853 and cannot be another.",
    ];
    Ok(Guide {
        headline: format!("Windows asks {name} over TLS."),
        values: vec![value("dothost", name)],
        steps: steps.map(str::to_owned).into(),
        files: vec![File { name: "hushgate.ps1", media_type: "text/plain", text }],
        limits: limits.map(str::to_owned).into(),
        scan: None,
    })
}

fn set_addresses(addresses: &[IpAddr]) -> String {
    let listed = addresses.iter().map(|ip| format!("'{ip}'")).collect::<Vec<_>>().join(", ");
    format!("Set-DnsClientServerAddress -InterfaceAlias 'Ethernet' -ServerAddresses {listed}\n")
}

/// PowerShell's literal string.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::super::examples::{local, public, service};
    use super::*;

    #[test]
    fn each_address_is_registered_with_the_template() {
        let guide = guide(&public(), None).unwrap();
        let text = &guide.files[0].text;
        for ip in ["192.0.2.1", "2001:db8::1"] {
            let line = format!(
                "Add-DnsClientDohServerAddress -ServerAddress {ip} -DohTemplate 'https://dns.example/dns-query' \
                 -AllowFallbackToUdp $False -AutoUpgrade $True\n"
            );
            assert!(text.contains(&line), "{text}");
        }
        assert!(text.ends_with("-ServerAddresses '192.0.2.1', '2001:db8::1'\n"), "{text}");
        assert_eq!(quoted("a'b"), "'a''b'");
    }

    #[test]
    fn other_port_is_warned_of_and_private_authority_trusted_first() {
        let guide = guide(&local(), None).unwrap();
        assert!(guide.limits.iter().any(|limit| limit.contains("8443")), "{:?}", guide.limits);
        assert!(guide.steps[0].contains("Import-Certificate"));
    }

    #[test]
    fn over_tls_the_host_is_named_and_the_port_is_the_usual_one() {
        let text = guide(&public(), Some(Protocol::Dot)).unwrap().files.remove(0).text;
        assert!(
            text.starts_with(
                "netsh dns add global dot=yes\nnetsh dns add encryption server=192.0.2.1 dothost=dns.example "
            ),
            "{text}"
        );
        let elsewhere = Resolver { services: vec![service(Protocol::Dot, 8853)], ..public() };
        assert!(matches!(guide(&elsewhere, None), Err(Unfit::Port { .. })));
    }
}
