//! Every key the file may have, and its default as an operator would write it.
//!
//! Defaults take the same road as what is written, so a default that the checks would refuse cannot exist.

use super::nearest::{distance, tolerance};

/// A key; `*` stands for a name that the operator chooses.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Dotted.
    pub path: &'static str,
    /// TOML; None where the key is simply absent.
    pub default: Option<&'static str>,
}

const fn with(path: &'static str, default: &'static str) -> Key {
    Key { path, default: Some(default) }
}

const fn bare(path: &'static str) -> Key {
    Key { path, default: None }
}

/// All of them, in the order of the full example; keys of no section first.
pub const KEYS: &[Key] = &[
    bare("state_dir"),
    with("workers", r#""auto""#),
    bare("forward"),
    bare("client"),
    with("listen.dns", r#"["127.0.0.1:8053", "[::1]:8053"]"#),
    with("listen.dot", r#"["127.0.0.1:8853", "[::1]:8853"]"#),
    with("listen.doh", r#"["127.0.0.1:8443", "[::1]:8443"]"#),
    with("listen.doq", r#"["127.0.0.1:8853", "[::1]:8853"]"#),
    with("doh.paths", r#"["/dns-query"]"#),
    with("doh.setup_page", "true"),
    with("tls.certificates", "[]"),
    with("tls.names", r#"["localhost", "127.0.0.1", "::1"]"#),
    with("tls.min_version", r#""1.2""#),
    with("tls.strict_sni", "false"),
    bare("tls.client_ca"),
    with("acme.domains", "[]"),
    with("acme.directory", r#""https://acme-v02.api.letsencrypt.org/directory""#),
    with("acme.contact", "[]"),
    with("acme.accept_terms", "false"),
    with("acme.challenge", r#""tls-alpn""#),
    with("acme.http_listen", "[]"),
    bare("acme.hook"),
    bare("acme.ca"),
    bare("acme.eab_key_id"),
    bare("acme.eab_key_file"),
    bare("advertise.name"),
    with("advertise.addresses", "[]"),
    bare("advertise.dot"),
    bare("advertise.doh"),
    bare("advertise.doq"),
    with("advertise.discovery", "true"),
    with("advertise.resinfo", "true"),
    bare("advertise.info_url"),
    with("access.allow", r#"["private", "link"]"#),
    with("access.refuse", r#""answer""#),
    with("access.open_resolver", "false"),
    with("access.identified_only", "false"),
    with("admin.listen", r#"["127.0.0.1:8054"]"#),
    with("admin.probes", "[]"),
    bare("admin.token_file"),
    with("admin.ready_wait", r#""2s""#),
    with("admin.self_probe", "true"),
    with("shutdown.delay", r#""0s""#),
    with("shutdown.grace", r#""10s""#),
    with("shutdown.handover_grace", r#""60s""#),
    with("reload.watch", "false"),
    with(
        "upstream.servers",
        r#"[{ url = "tls://dns.quad9.net", addresses = ["9.9.9.9", "149.112.112.112", "2620:fe::fe"] }]"#,
    ),
    with(
        "upstream.fallback",
        r#"[{ url = "https://security.cloudflare-dns.com/dns-query", addresses = ["1.1.1.2", "1.0.0.2"] }]"#,
    ),
    with("upstream.strategy", r#""adaptive""#),
    with("upstream.bootstrap", "[]"),
    with("upstream.timeout", r#""4s""#),
    with("upstream.attempt_timeout", r#""1500ms""#),
    with("upstream.hedge", "true"),
    with("upstream.hedge_budget", "0.05"),
    with("upstream.time_servers_plain", r#"["pool.ntp.org", "time.cloudflare.com"]"#),
    bare("pool.*.servers"),
    bare("pool.*.fallback"),
    bare("pool.*.strategy"),
    bare("pool.*.bootstrap"),
    bare("pool.*.timeout"),
    bare("pool.*.attempt_timeout"),
    bare("pool.*.hedge"),
    bare("pool.*.hedge_budget"),
    with("cache.size", r#""64 MiB""#),
    with("cache.domain_share", "0.25"),
    with("cache.min_ttl", r#""0s""#),
    with("cache.max_ttl", r#""24h""#),
    with("cache.negative_ttl", r#""5m""#),
    with("cache.failure_ttl", r#""5s""#),
    with("cache.failure_ttl_max", r#""30s""#),
    with("cache.stale_window", r#""24h""#),
    with("cache.stale_after", r#""1800ms""#),
    with("cache.stale_ttl", r#""30s""#),
    with("cache.prefetch", "true"),
    with("cache.snapshot", "false"),
    bare("cache.rule"),
    with("privacy.ecs", r#""strip""#),
    with("privacy.padding", "true"),
    with("special.enabled", "true"),
    with("special.ask", "[]"),
    with("special.deny", "[]"),
    with("special.any", r#""minimal""#),
    bare("dns64.prefix"),
    with("dns64.exclude", r#"["::ffff:0:0/96"]"#),
    with("cookies.server", "true"),
    with("cookies.client", "true"),
    with("cookies.require", r#""when-busy""#),
    bare("cookies.secrets_file"),
    bare("fleet.secret_file"),
    with("fleet.rotate", r#""24h""#),
    bare("edns.nsid"),
    with("edns.pass", "[]"),
    with("limits.connections", r#""auto""#),
    with("limits.connections_per_client", "256"),
    with("limits.streams_per_connection", "100"),
    with("limits.queries_per_second", "5000"),
    with("limits.outstanding_per_domain", "256"),
    with("limits.waiting_per_client", "2000"),
    with("limits.connections_per_second", "100"),
    with("limits.handshakes_per_second", "50"),
    with("limits.resets_per_second", "200"),
    with("limits.errors_per_second", "20"),
    with("limits.bytes_per_client", r#""16 MiB""#),
    with("limits.memory", r#""auto""#),
    with("limits.retry", r#""when-busy""#),
    with("limits.handshake_timeout", r#""5s""#),
    with("limits.tcp_idle_timeout", r#""10s""#),
    with("limits.idle_timeout", r#""30s""#),
    with("limits.exempt", r#"["127.0.0.0/8", "::1/128"]"#),
    bare("process.user"),
    bare("process.group"),
    with("process.sandbox", r#""auto""#),
    with("process.handover", "false"),
    with("log.level", r#""info""#),
    with("log.format", r#""auto""#),
    with("log.queries", r#""off""#),
];

/// Keys of a door written as a table.
pub const DOOR: &[&str] = &["address", "allow", "proxy", "forwarded", "forwarded_header", "tls"];
/// Keys of a certificate.
pub const CERTIFICATE: &[&str] = &["chain", "key"];
/// Keys of a server written as a table.
pub const SERVER: &[&str] =
    &["url", "addresses", "tls_name", "ca", "pins", "ecs", "weight", "method", "source", "proxy", "proxy_credentials"];
/// Keys of a `[[forward]]`.
pub const FORWARD: &[&str] = &["domains", "pool", "servers", "fallthrough"];
/// Keys of a `[[client]]`.
pub const CLIENT: &[&str] = &["name", "token_file", "label", "certificate", "certificate_name", "networks", "allow"];
/// Keys of a `[[cache.rule]]`.
pub const RULE: &[&str] = &["domains", "min_ttl", "max_ttl", "negative_ttl", "stale_window", "never", "guard"];

/// What a path leads to.
#[derive(Clone, Copy, Debug)]
pub enum Known {
    /// A key.
    Key(&'static Key),
    /// A section that holds keys.
    Section,
}

impl Key {
    /// Does this key stand at `path`?
    #[must_use]
    pub fn is_at(&self, path: &[&str]) -> bool {
        self.path.split('.').count() == path.len() && self.is_under(path)
    }

    fn is_under(&self, path: &[&str]) -> bool {
        let mut own = self.path.split('.');
        path.iter().all(|segment| own.next().is_some_and(|mine| mine == "*" || mine == *segment))
    }

    fn leaf(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or_default()
    }
}

/// What `key` of a named pool is where nobody says it: as in `[upstream]`, but that nobody stands in for its own servers.
#[must_use]
pub fn pool_default(key: &str) -> Option<&'static str> {
    match key {
        "servers" => None,
        "fallback" => Some("[]"),
        other => KEYS.iter().find(|known| known.path.strip_prefix("upstream.") == Some(other))?.default,
    }
}

/// What stands at `path`?
#[must_use]
pub fn find(path: &[&str]) -> Option<Known> {
    match KEYS.iter().find(|key| key.is_at(path)) {
        Some(key) => Some(Known::Key(key)),
        None => KEYS.iter().any(|key| key.is_under(path)).then_some(Known::Section),
    }
}

/// The known key or section that an unknown `path` probably means: of its own section, or else of another.
#[must_use]
pub fn suggest(path: &[&str]) -> Option<String> {
    let (word, section) = path.split_last()?;
    let depth = section.len();
    let siblings = KEYS.iter().filter(|key| key.is_under(section)).filter_map(|key| key.path.split('.').nth(depth));
    let near = siblings.filter(|sibling| *sibling != "*").map(|sibling| {
        let full: Vec<&str> = section.iter().copied().chain([sibling]).collect();
        (distance(word, sibling), 0, full.join("."))
    });
    // A key that stands elsewhere counts as one slip more than the same key here.
    let far = KEYS.iter().filter(|key| !key.path.contains('*'));
    let far = far.map(|key| (distance(word, key.leaf()), 1, key.path.to_owned()));
    near.chain(far)
        .filter(|(slips, _, _)| *slips <= tolerance(word))
        .min_by_key(|(slips, elsewhere, _)| (slips + elsewhere, *elsewhere))
        .map(|(_, _, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_suggests_its_neighbour_and_a_misplaced_one_its_home() {
        for (path, meant) in [
            ("upstream.timout", Some("upstream.timeout")),
            ("upstream.max_ttl", Some("cache.max_ttl")),
            ("timeout", Some("upstream.timeout")),
            ("chache", Some("cache")),
            ("pool.corp.stratgey", Some("pool.corp.strategy")),
            ("limits.idle_timout", Some("limits.idle_timeout")),
            ("log.bananas", None),
        ] {
            let path: Vec<&str> = path.split('.').collect();
            assert_eq!(suggest(&path).as_deref(), meant, "{path:?}");
        }
    }
}
