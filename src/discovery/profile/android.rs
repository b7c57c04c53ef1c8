//! Android: the name of the gateway in "Private DNS".

use super::{Guide, Unfit, is_loopback_only, name, service, value};
use crate::discovery::{Protocol, Resolver};

const DEVICE: &str = "Android's private DNS";

/// Private DNS takes a name and nothing else.
pub(super) fn guide(resolver: &Resolver, door: Option<Protocol>) -> Result<Guide, Unfit> {
    let service = service(DEVICE, resolver, &[Protocol::Dot], door)?;
    let name = name(DEVICE, resolver)?;
    if is_loopback_only(resolver) {
        return Err(Unfit::LoopbackOnly);
    }
    let (port, wanted) = (service.port, Protocol::Dot.default_port());
    if port != wanted {
        return Err(Unfit::Port { device: DEVICE, protocol: Protocol::Dot, port, wanted });
    }
    if resolver.authority.is_some() {
        return Err(Unfit::PrivateAuthority { device: DEVICE });
    }
    let steps = [
        "Open Settings, then Network & internet (Connections on a Samsung: More connection settings), then Private DNS.",
        "Choose \"Private DNS provider hostname\".",
        "Type the host name and save. The line below Private DNS shows it once it works; otherwise it says that \
         it could not connect.",
    ];
    let limits = [
        "Android 9 or later. The name is all it takes: no address, no port, no path; it is looked up by the \
         network's own DNS first.",
        "DNS over TLS at port 853 alone. HTTP/3 is kept for a few large providers that Android knows by name.",
        "Public authorities alone: a certificate that you install yourself counts for apps, not for private DNS.",
        "Networks that block port 853 leave the phone without names until private DNS is off.",
    ];
    Ok(Guide {
        headline: format!("Android asks {name} over TLS, in every network."),
        values: vec![value("Private DNS provider hostname", name)],
        steps: steps.map(str::to_owned).into(),
        limits: limits.map(str::to_owned).into(),
        scan: Some(name.to_owned()),
        files: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::examples::{public, service};
    use super::*;

    #[test]
    fn the_name_is_what_is_typed_and_scanned() {
        let guide = guide(&public(), None).unwrap();
        assert_eq!(guide.values, [value("Private DNS provider hostname", "dns.example")]);
        assert_eq!(guide.scan.as_deref(), Some("dns.example"));
    }

    #[test]
    fn other_port_and_private_authority_cannot_work() {
        let elsewhere = Resolver { services: vec![service(Protocol::Dot, 8853)], ..public() };
        let error = guide(&elsewhere, None).unwrap_err();
        assert!(error.to_string().contains("at port 853 alone, and DNS over TLS is at 8853"), "{error}");
        let private = Resolver { authority: Some(vec![0x30]), ..public() };
        assert_eq!(guide(&private, None), Err(Unfit::PrivateAuthority { device: DEVICE }));
    }
}
