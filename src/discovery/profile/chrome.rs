//! Chrome, Edge, Chromium and their kin: "secure DNS", by hand or by policy.

use serde_json::json;

use super::{File, Guide, Unfit, authority, doh_url, service, value};
use crate::discovery::{Protocol, Resolver};

const DEVICE: &str = "Chrome";

/// A template, and the policy that says the same.
pub(super) fn guide(resolver: &Resolver, door: Option<Protocol>) -> Result<Guide, Unfit> {
    let url = doh_url(resolver, service(DEVICE, resolver, &[Protocol::Doh], door)?)?;
    let template = format!("{url}{{?dns}}");
    let mut steps = vec![
        "Open Settings, Privacy and security, Security (chrome://settings/security), and switch on \"Use secure DNS\"."
            .to_owned(),
        "Under \"Select DNS provider\" take \"Add custom DNS service provider\", and type the template.".to_owned(),
        "For many machines, install the policy instead: in /etc/opt/chrome/policies/managed on Linux; the same two names \
         are in the registry under Software\\Policies\\Google\\Chrome on Windows, and in com.google.Chrome on a Mac."
            .to_owned(),
    ];
    if resolver.authority.is_some() {
        let trust = format!(
            "First make the system trust the gateway's authority ({}); on Linux import it at \
             chrome://certificate-manager.",
            authority(resolver)
        );
        steps.insert(0, trust);
    }
    let limits = [
        "DNS over HTTPS alone, and for the browser alone: other programs of the machine are not changed.",
        "A browser with any other policy of an organisation ignores what is set by hand: use the policy there.",
        "The name in the template is looked up by the system's own DNS first.",
    ];
    let policy = json!({ "DnsOverHttpsMode": "secure", "DnsOverHttpsTemplates": template });
    Ok(Guide {
        headline: format!("The browser asks {url}."),
        values: vec![value("Custom DNS service provider", &*template)],
        steps,
        files: vec![File { name: "hushgate.json", media_type: "application/json", text: format!("{policy:#}\n") }],
        limits: limits.map(str::to_owned).into(),
        scan: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::examples::{local, public};
    use super::*;

    #[test]
    fn policy_is_secure_mode_with_a_template() {
        let guide = guide(&public(), None).unwrap();
        let policy: serde_json::Value = serde_json::from_str(&guide.files[0].text).unwrap();
        assert_eq!(policy["DnsOverHttpsMode"], "secure");
        assert_eq!(policy["DnsOverHttpsTemplates"], "https://dns.example/dns-query{?dns}");
        assert_eq!(guide.values[0].1, "https://dns.example/dns-query{?dns}");
    }

    #[test]
    fn private_authority_is_to_be_trusted_first() {
        assert!(guide(&local(), None).unwrap().steps[0].contains("authority.pem"));
    }
}
