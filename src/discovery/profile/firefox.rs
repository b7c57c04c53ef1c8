//! Firefox: DNS over HTTPS, by hand or by `policies.json`.

use serde_json::json;

use super::{File, Guide, Unfit, authority, doh_url, service, value};
use crate::discovery::{Protocol, Resolver};

const DEVICE: &str = "Firefox";

/// A URL, and the policy that says the same.
pub(super) fn guide(resolver: &Resolver, door: Option<Protocol>) -> Result<Guide, Unfit> {
    let url = doh_url(resolver, service(DEVICE, resolver, &[Protocol::Doh], door)?)?;
    let mut policies =
        json!({ "DNSOverHTTPS": { "Enabled": true, "ProviderURL": url, "Fallback": false, "Locked": false } });
    let mut steps = vec![
        "Open Settings (about:preferences#privacy), DNS over HTTPS, and choose Max Protection.".to_owned(),
        "Under \"Choose provider\" take Custom, and type the URL.".to_owned(),
        "about:networking#dns shows DoH URL and mode. For many machines, install policies.json instead: in \
         /etc/firefox/policies on Linux, in \"distribution\" beside firefox.exe on Windows, in \
         Firefox.app/Contents/Resources/distribution on a Mac."
            .to_owned(),
    ];
    if resolver.authority.is_some() {
        let import = format!(
            "First import the gateway's authority ({}): Settings, Privacy & Security, View Certificates, \
             Authorities, Import, trusted for websites. Where the system trusts it already, \
             security.enterprise_roots.enabled in about:config does.",
            authority(resolver)
        );
        steps.insert(0, import);
        if let Some(object) = policies.as_object_mut() {
            object.insert("Certificates".to_owned(), json!({ "ImportEnterpriseRoots": true }));
        }
    }
    let limits = [
        "DNS over HTTPS alone, and for Firefox alone: other programs of the machine are not changed.",
        "Increased Protection falls back to the network's own DNS; Max Protection does not. \"Fallback\" needs \
         Firefox 124 or later.",
        "The name in the URL is looked up by the network's own DNS first.",
    ];
    Ok(Guide {
        headline: format!("Firefox asks {url}."),
        values: vec![value("Custom provider URL", &*url)],
        steps,
        files: vec![File {
            name: "policies.json",
            media_type: "application/json",
            text: format!("{:#}\n", json!({ "policies": policies })),
        }],
        limits: limits.map(str::to_owned).into(),
        scan: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::examples::{local, public};
    use super::*;

    fn policies(guide: &Guide) -> serde_json::Value {
        serde_json::from_str::<serde_json::Value>(&guide.files[0].text).unwrap()["policies"].take()
    }

    #[test]
    fn policy_names_the_url_and_falls_back_to_nothing() {
        let policies = policies(&guide(&public(), None).unwrap());
        assert_eq!(policies["DNSOverHTTPS"]["ProviderURL"], "https://dns.example/dns-query");
        assert_eq!(policies["DNSOverHTTPS"]["Fallback"], false);
        assert!(policies.get("Certificates").is_none());
    }

    #[test]
    fn private_authority_is_to_be_imported() {
        let guide = guide(&local(), None).unwrap();
        assert!(guide.steps[0].contains("import"));
        assert_eq!(policies(&guide)["Certificates"]["ImportEnterpriseRoots"], true);
        assert_eq!(policies(&guide)["DNSOverHTTPS"]["ProviderURL"], "https://localhost:8443/dns-query");
    }
}
