//! What to try while the demo stays up: each line can be pasted as it is.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::doors::ADMIN_ADDRESS;
use super::tour::Plan;
use crate::peer::Transport;

/// The lines. `program` is how the demo itself was called.
#[must_use]
pub fn text(plan: &Plan, program: &str) -> String {
    let port =
        |transport| plan.doors.iter().find(|(found, _)| *found == transport).map_or(0, |(_, address)| address.port());
    let (dns, dot) = (port(Transport::Udp), port(Transport::Dot));
    let (doh, doq) = (port(Transport::Doh2), port(Transport::Doq));
    let authority = quoted(&plan.authority.to_string_lossy());
    let program = quoted(program);
    let mut out = format!(
        "
Still serving. Try, in another terminal:

  dig @127.0.0.1 -p {dns} any.demo.example
  kdig @127.0.0.1 -p {dot} +tls-ca={authority} +tls-hostname=localhost +tls any.demo.example
  {program} query https://localhost:{doh} any.demo.example AAAA --ca {authority}
  {program} query quic://localhost:{doq} any.demo.example TXT --ca {authority}
  curl --cacert {authority} 'https://localhost:{doh}/dns-query?name=any.demo.example'
  dig @127.0.0.1 -p {dns} TYPE64 _dns.resolver.arpa
"
    );
    if let Some(admin) = plan.admin {
        let _ = write!(
            out,
            "  curl --cacert {authority} --doh-url https://localhost:{doh}/dns-query \\
       -H 'host: {admin}' http://local.demo.example:{}/healthz
  {program} explain any.demo.example --door dot{}

Status page: http://{admin}/    metrics: http://{admin}/metrics    for devices: https://localhost:{doh}/
",
            admin.port(),
            flag(admin),
        );
    }
    let _ = write!(
        out,
        "
For real: `{program} serve` asks a public resolver over TLS, on the usual ports and with this same authority.
For your network: copy deploy/hushgate.toml, give [listen] your addresses (\"0.0.0.0:853\") and [tls] your names, and
try it with `{program} check --config hushgate.toml`. certs/README.md tells how clients come to trust the authority.

Ctrl-C stops the demo.
"
    );
    out
}

/// `--admin`, where it is not the default.
fn flag(admin: SocketAddr) -> String {
    if admin == ADMIN_ADDRESS { String::new() } else { format!(" --admin {admin}") }
}

/// As a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(admin: SocketAddr) -> Plan {
        let doors = Transport::ALL.into_iter().map(|transport| (transport, ([127, 0, 0, 1], 8853).into())).collect();
        Plan { doors, authority: "/home/a user/authority.pem".into(), admin: Some(admin) }
    }

    #[test]
    fn lines_can_be_pasted() {
        let text = text(&plan(ADMIN_ADDRESS), "target/debug/hushgate");
        assert!(text.contains("+tls-ca='/home/a user/authority.pem' "), "{text}");
        assert!(text.contains("  target/debug/hushgate explain any.demo.example --door dot\n"), "{text}");
        assert!(text.contains("'https://localhost:8853/dns-query?name=any.demo.example'\n"), "{text}");
    }

    #[test]
    fn an_admin_listener_that_moved_is_named() {
        let text = text(&plan(([127, 0, 0, 1], 4000).into()), "hushgate");
        assert!(text.contains("--door dot --admin 127.0.0.1:4000\n"), "{text}");
    }
}
