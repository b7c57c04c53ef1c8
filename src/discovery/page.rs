//! The set-up page on the DoH port: what a person needs to set a device up, without script, without anything from elsewhere.
//!
//! Made once from the description. It says what the gateway's certificate and discovery say anyhow, and no version.

use super::profile::apple;
use super::profile::{Device, File, Guide, Unfit, escaped, guide};
use super::qr::Code;
use super::{Protocol, Resolver};

/// Something at a path of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// With a slash in front.
    pub path: String,
    /// The value of Content-Type.
    pub media_type: &'static str,
    /// What is there.
    pub body: Vec<u8>,
}

/// Where the private authority's certificate is.
const AUTHORITY: &str = "/authority.crt";

/// On the page, in this order. What tells whole networks is for whoever runs them, and not here.
const DEVICES: [Device; 6] =
    [Device::Apple, Device::Android, Device::Windows, Device::Firefox, Device::Chrome, Device::Systemd];

/// The page and what it links to; none where no DoH is told of, since there is nowhere to have them.
#[must_use]
pub fn documents(resolver: &Resolver) -> Vec<Document> {
    let Some(doh) = resolver.services.iter().find(|service| service.protocol == Protocol::Doh) else {
        return Vec::new();
    };
    let apple = guide(Device::Apple, resolver, None);
    let profile = apple.ok().and_then(|guide| guide.files.into_iter().next());
    let mut all = vec![Document {
        path: "/".to_owned(),
        media_type: "text/html; charset=utf-8",
        body: page(resolver).into_bytes(),
    }];
    let profile = profile.map(|file| Document {
        path: format!("/{}", apple::FILE),
        media_type: file.media_type,
        body: file.text.into_bytes(),
    });
    let authority = resolver.authority.clone();
    let authority =
        authority.map(|body| Document { path: AUTHORITY.to_owned(), media_type: "application/x-x509-ca-cert", body });
    all.extend(profile.into_iter().chain(authority));
    // DNS comes first where somebody has given it a path of these.
    all.retain(|document| doh.path.as_deref() != Some(document.path.as_str()));
    all
}

fn page(resolver: &Resolver) -> String {
    let name = resolver.names.first().map_or("this gateway", String::as_str);
    let name = escaped(name);
    let trust = resolver.authority.as_ref().map(|_| {
        format!(
            "<section><h2>First: trust its authority</h2><p>The certificate here is signed by the gateway's own \
             authority, which no device knows yet. Compare what you get with whoever runs the gateway before you \
             trust it.</p>\
             <p><a class=\"get\" href=\"{AUTHORITY}\">Certificate of the authority</a></p></section>"
        )
    });
    let sections: String = DEVICES.iter().map(|device| section(*device, &guide(*device, resolver, None))).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Encrypted DNS: {name}</title><style>{STYLE}</style></head><body><h1>Encrypted DNS at {name}</h1>\
         <p>This gateway looks names up for your device, encrypted on the way. Choose your device below.</p>\
         {}{sections}</body></html>\n",
        trust.unwrap_or_default(),
    )
}

fn section(device: Device, guide: &Result<Guide, Unfit>) -> String {
    let title = device.title();
    let body = match guide {
        Ok(guide) => told(device, guide),
        Err(why) => format!("<p>Not at this gateway: {}.</p>", escaped(&why.to_string())),
    };
    format!("<section><h2>{title}</h2>{body}</section>\n")
}

fn told(device: Device, guide: &Guide) -> String {
    let mut html = format!("<p>{}</p>", escaped(&guide.headline));
    if device == Device::Apple {
        html.extend([format!("<p><a class=\"get\" href=\"/{}\">Configuration profile</a></p>", apple::FILE)]);
    }
    let values = guide.values.iter().map(|(name, value)| (escaped(name), escaped(value)));
    html.extend([format!(
        "<dl>{}</dl>",
        values
            .map(|(name, value)| format!("<dt>{name}</dt><dd><code>{value}</code></dd>"))
            .collect::<Vec<_>>()
            .concat()
    )]);
    html.extend([format!("<ol>{}</ol>", items(&guide.steps))]);
    let shown = guide.files.iter().filter(|file| file.media_type != apple::MEDIA_TYPE);
    html.extend(shown.map(|File { name, text, .. }| format!("<p>{}</p><pre>{}</pre>", escaped(name), escaped(text))));
    if let Some(code) = guide.scan.as_deref().and_then(Code::of) {
        html.extend([format!("<details><summary>QR code for a phone</summary>{}</details>", code.svg())]);
    }
    html + &format!("<details><summary>What cannot work</summary><ul>{}</ul></details>", items(&guide.limits))
}

fn items(texts: &[String]) -> String {
    texts.iter().map(|text| format!("<li>{}</li>", escaped(text))).collect::<Vec<_>>().concat()
}

/// Readable on a phone, by day and by night.
const STYLE: &str = ":root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:44rem;margin:0 auto;padding:1rem}\
     section{border-top:1px solid #8888;margin-top:1.5rem}code,pre{font-family:ui-monospace,monospace;font-size:.9rem}\
     code{overflow-wrap:anywhere;user-select:all}pre{overflow-x:auto;background:#8882;padding:.75rem;border-radius:.5rem}\
     dt{font-weight:600}dd{margin:0 0 .5rem}summary{cursor:pointer;padding:.5rem 0}svg{width:14rem;max-width:100%}\
     .get{display:inline-block;padding:.6rem 1rem;border:1px solid;border-radius:.5rem}";

#[cfg(test)]
mod tests {
    use super::super::Service;
    use super::super::profile::examples::{local, public, service};
    use super::*;

    fn html(resolver: &Resolver) -> String {
        String::from_utf8(documents(resolver).remove(0).body).unwrap()
    }

    #[test]
    fn page_has_every_device_and_nothing_from_elsewhere() {
        let html = html(&public());
        for device in DEVICES {
            assert!(html.contains(&format!("<h2>{}</h2>", device.title())), "{device:?}");
        }
        assert!(
            html.contains("<code>https://dns.example/dns-query</code>")
                && html.contains("href=\"/hushgate.mobileconfig\"")
        );
        for foreign in ["<script", "src=", "@import", "url(", "<link", env!("CARGO_PKG_VERSION")] {
            assert!(!html.contains(foreign), "{foreign}");
        }
        assert!(html.contains("color-scheme:light dark"));
        // Balanced as a whole, since what is put in is escaped.
        for tag in ["section", "ol", "dl", "pre", "details", "svg", "li"] {
            let count = |text: String| html.matches(&text).count();
            assert_eq!(count(format!("<{tag}")), count(format!("</{tag}>")), "{tag}");
        }
    }

    #[test]
    fn file_to_copy_from_the_page_has_its_lines() {
        let html = html(&public());
        for lines in
            ["[Resolve]\nDNS=192.0.2.1:853#dns.example ", "\nDNSOverTLS=yes\n", "$True\nSet-DnsClientServerAddress"]
        {
            assert!(html.contains(lines), "{lines}");
        }
    }

    #[test]
    fn what_is_linked_is_there() {
        let all = documents(&local());
        let paths: Vec<(&str, &str)> = all.iter().map(|one| (one.path.as_str(), one.media_type)).collect();
        let expected = [
            ("/", "text/html; charset=utf-8"),
            ("/hushgate.mobileconfig", "application/x-apple-aspen-config"),
            ("/authority.crt", "application/x-x509-ca-cert"),
        ];
        assert_eq!(paths, expected);
        assert_eq!(Some(&all[2].body), local().authority.as_ref());
        assert!(plist::Value::from_reader_xml(all[1].body.as_slice()).is_ok());
        assert!(html(&local()).contains("href=\"/authority.crt\""));
        assert_eq!(documents(&public()).len(), 2);
    }

    #[test]
    fn device_that_cannot_be_set_up_is_told_why() {
        assert!(html(&local()).contains("<h2>Android</h2><p>Not at this gateway: only this machine reaches"));
    }

    #[test]
    fn what_the_operator_wrote_is_text_and_no_markup() {
        let doh = Service { path: Some("/<b>'&\"".to_owned()), ..service(Protocol::Doh, 443) };
        let html = html(&Resolver { services: vec![doh], ..public() });
        assert!(!html.contains("<b>") && html.contains("/&lt;b&gt;&#39;&amp;&quot;"));
    }

    #[test]
    fn path_of_dns_is_left_to_dns_and_without_doh_there_is_no_page() {
        let doh = Service { path: Some("/".to_owned()), ..service(Protocol::Doh, 443) };
        assert!(documents(&Resolver { services: vec![doh], ..public() }).iter().all(|one| one.path != "/"));
        assert!(documents(&Resolver { services: vec![service(Protocol::Dot, 853)], ..public() }).is_empty());
    }
}
