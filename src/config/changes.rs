//! The difference of two configurations, key by key, and what of it a running gateway cannot take over.

use std::collections::BTreeMap;

use super::{Config, EffectiveRow};
use crate::admin::{Change, Key, Takes};

/// Keys, or sections with all in them, that hold until the gateway is started anew.
const UNTIL_RESTART: &[&str] = &[
    "state_dir",
    "workers",
    "tls.min_version",
    "acme.",
    "fleet.",
    "admin.",
    "shutdown.",
    "cache.size",
    "cache.domain_share",
    "cache.snapshot",
    "process.",
    "log.level",
    "log.format",
];

/// When a change of `key` takes effect.
#[must_use]
pub fn takes(key: &str) -> Takes {
    let is_held = |held: &str| if held.ends_with('.') { key.starts_with(held) } else { key == held };
    if UNTIL_RESTART.iter().any(|held| is_held(held)) { Takes::Restart } else { Takes::Reload }
}

/// The running configuration as it is told to others.
#[must_use]
pub fn keys(rows: &[EffectiveRow]) -> Vec<Key> {
    let key = |row: &EffectiveRow| Key { key: row.key.clone(), value: row.value.to_toml(), from: row.from.clone() };
    rows.iter().map(key).collect()
}

/// What is different in `new`, in the order of the file.
#[must_use]
pub fn between(old: &[Key], new: &[Key]) -> Vec<Change> {
    let index = |keys: &[Key]| -> BTreeMap<String, String> {
        keys.iter().map(|key| (key.key.clone(), key.value.clone())).collect()
    };
    let (before, after) = (index(old), index(new));
    let change = |key: &str| Change {
        key: key.to_owned(),
        old: before.get(key).cloned(),
        new: after.get(key).cloned(),
        takes: takes(key),
    };
    let gone = old.iter().filter(|key| !after.contains_key(&key.key));
    let changes = new.iter().chain(gone).map(|key| change(&key.key));
    changes.filter(|change| change.old != change.new).collect()
}

/// What is in force once `new` has been taken over: the keys that wait for a restart are as in `old`.
#[must_use]
pub fn in_force(old: &[Key], new: Vec<Key>) -> Vec<Key> {
    let held = old.iter().filter(|key| takes(&key.key) == Takes::Restart).cloned();
    new.into_iter().filter(|key| takes(&key.key) == Takes::Reload).chain(held).collect()
}

/// Gives `new` the values of `running` wherever a restart would be needed.
#[must_use]
pub fn hold_back(running: &Config, mut new: Config) -> Config {
    new.workers = running.workers;
    new.state_dir.clone_from(&running.state_dir);
    new.tls.state_dir.clone_from(&running.tls.state_dir);
    new.tls.min_version = running.tls.min_version;
    // What the file of secrets holds is read again without a reload.
    new.tls.fleet.clone_from(&running.tls.fleet);
    new.acme.clone_from(&running.acme);
    new.upstream.state_dir.clone_from(&running.upstream.state_dir);
    new.admin = running.admin.clone();
    new.shutdown = running.shutdown;
    new.cache.size = running.cache.size;
    new.cache.domain_share = running.cache.domain_share;
    new.cache.snapshot = running.cache.snapshot;
    // No key of the file.
    new.cache.spread = running.cache.spread;
    new.log.events = running.log.events;
    new.process = running.process.clone();
    new.handover = running.handover;
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::KEYS;
    use crate::config::{Source, Surroundings, load_in};

    const SERVER: &str = "servers = [\"udp://192.0.2.7\"]";

    /// For each key what stands in the file before, and what does afterwards; files are in the folder of the file.
    const CHANGED: &[(&str, &str, &str)] = &[
        ("state_dir", "state_dir = 'one'", "state_dir = 'two'"),
        ("workers", "workers = 1", "workers = 3"),
        ("forward", "", "[[forward]]\ndomains = ['corp.example']\nservers = ['udp://192.0.2.7']"),
        ("client", "", "[[client]]\nname = 'a'\nnetworks = ['192.0.2.0/24']"),
        ("listen.dns", "[listen]\ndns = ['127.0.0.1:53']", "[listen]\ndns = ['127.0.0.1:54']"),
        (
            "listen.dot",
            "[listen]\ndot = ['127.0.0.1:853']",
            "[listen]\ndot = [{ address = '127.0.0.1:853', proxy = ['192.0.2.1'] }]",
        ),
        (
            "listen.doh",
            "[listen]\ndoh = ['127.0.0.1:443']",
            "[listen]\ndoh = [{ address = '127.0.0.1:443', forwarded = ['192.0.2.1'] }]",
        ),
        (
            "listen.doq",
            "[listen]\ndoq = ['127.0.0.1:853']",
            "[listen]\ndoq = [{ address = '127.0.0.1:853', allow = ['192.0.2.1'] }]",
        ),
        ("doh.paths", "", "[doh]\npaths = ['/other']"),
        ("doh.setup_page", "", "[doh]\nsetup_page = false"),
        ("tls.certificates", "", "[tls]\ncertificates = [{ chain = 'file', key = 'file' }]"),
        ("tls.names", "", "[tls]\nnames = ['dns.example']"),
        ("tls.min_version", "", "[tls]\nmin_version = '1.3'"),
        ("tls.strict_sni", "", "[tls]\nstrict_sni = true"),
        ("tls.client_ca", "CLIENT", "CLIENT[tls]\nclient_ca = 'ca'"),
        ("acme.domains", "ACME", "HTTPS[acme]\naccept_terms = true\ndomains = ['other.example']"),
        ("acme.directory", "ACME", "ACMEdirectory = 'https://acme.example/directory'"),
        ("acme.contact", "ACME", "ACMEcontact = ['mailto:ops@dns.example']"),
        ("acme.accept_terms", "HTTPS", "ACME"),
        (
            "acme.challenge",
            "ACMEhttp_listen = ['127.0.0.1:80']",
            "ACMEhttp_listen = ['127.0.0.1:80']\nchallenge = 'http'",
        ),
        (
            "acme.http_listen",
            "ACMEhttp_listen = ['127.0.0.1:80']\nchallenge = 'http'",
            "ACMEhttp_listen = ['127.0.0.1:81']\nchallenge = 'http'",
        ),
        ("acme.hook", "ACMEchallenge = 'dns'\nhook = '/bin/sh'", "ACMEchallenge = 'dns'\nhook = '/bin/ls'"),
        ("acme.ca", "ACME", "ACMEca = 'ca'"),
        ("acme.eab_key_id", "ACMEeab_key_file = 'eab'\neab_key_id = 'a'", "ACMEeab_key_file = 'eab'\neab_key_id = 'b'"),
        (
            "acme.eab_key_file",
            "ACMEeab_key_file = 'eab'\neab_key_id = 'a'",
            "ACMEeab_key_file = 'eab2'\neab_key_id = 'a'",
        ),
        ("advertise.name", "", "[advertise]\nname = 'dns.example'"),
        ("advertise.addresses", "", "[advertise]\naddresses = ['192.0.2.1']"),
        ("advertise.dot", "", "[advertise]\ndot = 853"),
        ("advertise.doh", "", "[advertise]\ndoh = 443"),
        ("advertise.doq", "", "[advertise]\ndoq = 853"),
        ("advertise.discovery", "", "[advertise]\ndiscovery = false"),
        ("advertise.resinfo", "", "[advertise]\nresinfo = false"),
        ("advertise.info_url", "", "[advertise]\ninfo_url = 'https://dns.example/about'"),
        ("access.allow", "", "[access]\nallow = ['192.0.2.0/24']"),
        ("access.refuse", "", "[access]\nrefuse = 'drop'"),
        ("access.identified_only", "CLIENT", "CLIENT[access]\nidentified_only = true"),
        ("admin.listen", "", "[admin]\nlisten = ['127.0.0.1:9999']"),
        ("admin.probes", "", "[admin]\nprobes = ['127.0.0.1:9999']"),
        ("admin.token_file", "", "[admin]\ntoken_file = 'token'"),
        ("admin.ready_wait", "", "[admin]\nready_wait = '3s'"),
        ("admin.self_probe", "", "[admin]\nself_probe = false"),
        ("shutdown.delay", "", "[shutdown]\ndelay = '1s'"),
        ("shutdown.grace", "", "[shutdown]\ngrace = '1s'"),
        ("shutdown.handover_grace", "", "[shutdown]\nhandover_grace = '1s'"),
        ("reload.watch", "", "[reload]\nwatch = true"),
        ("upstream.servers", "", "[upstream]\nservers = ['udp://192.0.2.7']"),
        ("upstream.fallback", "", "[upstream]\nfallback = []"),
        ("upstream.strategy", "", "[upstream]\nstrategy = 'ordered'"),
        ("upstream.bootstrap", "", "[upstream]\nbootstrap = ['192.0.2.8']"),
        ("upstream.timeout", "", "[upstream]\ntimeout = '3s'"),
        ("upstream.attempt_timeout", "", "[upstream]\nattempt_timeout = '1s'"),
        ("upstream.hedge", "", "[upstream]\nhedge = false"),
        ("upstream.hedge_budget", "", "[upstream]\nhedge_budget = 0.1"),
        ("upstream.time_servers_plain", "", "[upstream]\ntime_servers_plain = ['time.example']"),
        ("pool.*.servers", "POOL", "[pool.corp]\nservers = ['udp://192.0.2.8']\nFORWARD"),
        ("pool.*.fallback", "POOL", "[pool.corp]\nfallback = ['udp://192.0.2.8']\nSERVER"),
        ("pool.*.strategy", "POOL", "[pool.corp]\nstrategy = 'ordered'\nSERVER"),
        ("pool.*.bootstrap", "POOL", "[pool.corp]\nbootstrap = ['192.0.2.8']\nSERVER"),
        ("pool.*.timeout", "POOL", "[pool.corp]\ntimeout = '3s'\nSERVER"),
        ("pool.*.attempt_timeout", "POOL", "[pool.corp]\nattempt_timeout = '1s'\nSERVER"),
        ("pool.*.hedge", "POOL", "[pool.corp]\nhedge = false\nSERVER"),
        ("pool.*.hedge_budget", "POOL", "[pool.corp]\nhedge_budget = 0.1\nSERVER"),
        ("cache.size", "", "[cache]\nsize = '2 MiB'"),
        ("cache.domain_share", "", "[cache]\ndomain_share = 0.5"),
        ("cache.min_ttl", "", "[cache]\nmin_ttl = '1s'"),
        ("cache.max_ttl", "", "[cache]\nmax_ttl = '1h'"),
        ("cache.negative_ttl", "", "[cache]\nnegative_ttl = '1m'"),
        ("cache.failure_ttl", "", "[cache]\nfailure_ttl = '2s'"),
        ("cache.failure_ttl_max", "", "[cache]\nfailure_ttl_max = '20s'"),
        ("cache.stale_window", "", "[cache]\nstale_window = '1h'"),
        ("cache.stale_after", "", "[cache]\nstale_after = '1s'"),
        ("cache.stale_ttl", "", "[cache]\nstale_ttl = '10s'"),
        ("cache.prefetch", "", "[cache]\nprefetch = false"),
        ("cache.snapshot", "", "[cache]\nsnapshot = true"),
        ("cache.rule", "", "[[cache.rule]]\ndomains = ['corp.example']\nnever = true"),
        ("privacy.ecs", "", "[privacy]\necs = 'forward'"),
        ("privacy.padding", "", "[privacy]\npadding = false"),
        ("special.enabled", "", "[special]\nenabled = false"),
        ("special.ask", "", "[special]\nask = ['test']"),
        ("special.deny", "", "[special]\ndeny = ['ads.example']"),
        ("special.any", "", "[special]\nany = 'full'"),
        ("dns64.prefix", "", "[dns64]\nprefix = '64:ff9b::/96'"),
        ("dns64.exclude", "[dns64]\nprefix = '64:ff9b::/96'", "[dns64]\nprefix = '64:ff9b::/96'\nexclude = []"),
        ("cookies.server", "", "[cookies]\nserver = false"),
        ("cookies.client", "", "[cookies]\nclient = false"),
        ("cookies.require", "", "[cookies]\nrequire = 'always'"),
        ("cookies.secrets_file", "", "[cookies]\nsecrets_file = 'cookies'"),
        ("fleet.secret_file", "", "[fleet]\nsecret_file = 'fleet'"),
        ("fleet.rotate", "", "[fleet]\nrotate = '12h'"),
        ("edns.nsid", "", "[edns]\nnsid = 'here'"),
        ("edns.pass", "", "[edns]\npass = [65001]"),
        ("limits.connections", "", "[limits]\nconnections = 1000"),
        ("limits.connections_per_client", "", "[limits]\nconnections_per_client = 10"),
        ("limits.streams_per_connection", "", "[limits]\nstreams_per_connection = 10"),
        ("limits.queries_per_second", "", "[limits]\nqueries_per_second = 10"),
        ("limits.outstanding_per_domain", "", "[limits]\noutstanding_per_domain = 10"),
        ("limits.waiting_per_client", "", "[limits]\nwaiting_per_client = 10"),
        ("limits.connections_per_second", "", "[limits]\nconnections_per_second = 10"),
        ("limits.handshakes_per_second", "", "[limits]\nhandshakes_per_second = 10"),
        ("limits.resets_per_second", "", "[limits]\nresets_per_second = 10"),
        ("limits.errors_per_second", "", "[limits]\nerrors_per_second = 10"),
        ("limits.bytes_per_client", "", "[limits]\nbytes_per_client = '8 MiB'"),
        ("limits.memory", "", "[limits]\nmemory = '4 GiB'"),
        ("limits.retry", "", "[limits]\nretry = 'always'"),
        ("limits.handshake_timeout", "", "[limits]\nhandshake_timeout = '4s'"),
        ("limits.tcp_idle_timeout", "", "[limits]\ntcp_idle_timeout = '4s'"),
        ("limits.idle_timeout", "", "[limits]\nidle_timeout = '40s'"),
        ("limits.exempt", "", "[limits]\nexempt = []"),
        ("process.user", "", "[process]\nuser = 'nobody'"),
        ("process.group", "[process]\nuser = 'nobody'", "[process]\nuser = 'nobody'\ngroup = 'nobody'"),
        ("process.handover", "", "[process]\nhandover = true"),
        ("process.sandbox", "", "[process]\nsandbox = 'off'"),
        ("log.level", "", "[log]\nlevel = 'debug'"),
        ("log.format", "", "[log]\nformat = 'json'"),
        ("log.queries", "", "[log]\nqueries = 'errors'"),
    ];

    /// Keys that only say what else may stand in the file.
    const PERMITS: &[&str] = &["access.open_resolver"];

    fn whole(text: &str) -> String {
        let forward = "[[forward]]\ndomains = ['corp.example']\npool = 'corp'\n";
        let text = text.replace("POOL", "[pool.corp]\nSERVER").replace("SERVER", &format!("{SERVER}\nFORWARD"));
        let client = "[[client]]\nname = 'a'\nnetworks = ['192.0.2.0/24']\n";
        let https = "[listen]\ndoh = ['127.0.0.1:443']\n";
        let acme = "HTTPS[acme]\naccept_terms = true\ndomains = ['dns.example']\n";
        text.replace("FORWARD", forward).replace("CLIENT", client).replace("ACME", acme).replace("HTTPS", https)
    }

    fn load(folder: &std::path::Path, text: &str) -> Config {
        let file = folder.join("hushgate.toml");
        std::fs::write(&file, whole(text)).unwrap();
        let source = Source { file: Some(file), ..Source::default() };
        let around = Surroundings {
            open_files: 65_536,
            memory: 16 << 30,
            cores: 4,
            state_dir: Some("/var/lib/hushgate".into()),
            ..Surroundings::default()
        };
        let loaded = load_in(&source, &around);
        let config = loaded.config.unwrap_or_else(|| panic!("{text}: {:?}", loaded.problems));
        // What the sandbox is told, once.
        Config { named: Vec::new(), ..config }
    }

    #[test]
    fn every_key_takes_effect_by_a_reload_or_is_said_to_need_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let authority = rcgen::KeyPair::generate().unwrap();
        let authority = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&authority).unwrap().pem();
        let eab = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA\n";
        let files = [
            ("file", String::new()),
            ("ca", authority),
            ("eab", eab.to_owned()),
            ("eab2", eab.replace('c', "d")),
            ("token", "0123456789abcdef0123456789abcdef\n".to_owned()),
            ("cookies", "42".repeat(16)),
            ("fleet", "5a".repeat(32)),
        ];
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
        let mut wrong = Vec::new();
        for key in KEYS.iter().map(|key| key.path).filter(|key| !PERMITS.contains(key)) {
            let Some((_, before, after)) = CHANGED.iter().find(|row| row.0 == key) else { panic!("no row for {key}") };
            let (running, wanted) = (load(folder.path(), before), load(folder.path(), after));
            let shown = |config: &Config| format!("{config:#?}");
            let vouched = |config: &Config| config.guard.clients.as_ref().is_some_and(|all| all.vouch.is_some());
            let is_same = |one: &Config, other: &Config| shown(one) == shown(other) && vouched(one) == vouched(other);
            assert!(!is_same(&running, &wanted), "{key}: the row changes nothing");
            let held = is_same(&running, &hold_back(&running, wanted));
            if takes(key) != if held { Takes::Restart } else { Takes::Reload } {
                wrong.push(key);
            }
        }
        assert!(wrong.is_empty(), "said to take effect otherwise than they do: {wrong:?}");
        assert_eq!(CHANGED.len() + PERMITS.len(), KEYS.len(), "a row for a key that there is not");
    }
}
