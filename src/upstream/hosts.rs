//! How this machine finds names, read from its files: /etc/hosts, then the name servers of /etc/resolv.conf.
//!
//! Asked where no `bootstrap` is configured. Name servers that are our own doors are left out: on a machine whose resolver is this
//! gateway, the question would come back to us, who cannot answer it before it is answered (DOH-25).

use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::address::{Address, Host, Scheme};
use super::bootstrap::{self, Found, LookUpError};
use super::commons::Commons;
use super::kept::Home;
use super::server::Upstream;
use super::settings::Server;
use crate::trail::UpstreamId;

/// The means of the machine.
#[derive(Clone, Debug)]
pub struct Machine {
    hosts: PathBuf,
    resolv_conf: PathBuf,
    /// The port of its name servers.
    port: u16,
    /// Our own plain doors.
    own: Arc<[SocketAddr]>,
}

/// How long what a file says is good for: as often it is looked at again.
const FILE_TTL: Duration = Duration::from_mins(5);

/// What is read of a file; lists of blocked names make some of them long.
const MOST_OCTETS: u64 = 16 << 20;

/// resolv.conf(5): MAXNS.
const MOST_SERVERS: usize = 3;

/// How long a connection to a name server may take.
const PATIENCE: Duration = Duration::from_secs(2);

impl Machine {
    /// This machine, where `own` are our own plain doors.
    #[must_use]
    pub fn new(own: &[SocketAddr]) -> Self {
        Self { hosts: "/etc/hosts".into(), resolv_conf: "/etc/resolv.conf".into(), port: 53, own: own.into() }
    }

    /// The addresses of `name`.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn look_up(&self, name: &str, runtime: &Handle) -> Result<Found, LookUpError> {
        let (machine, wanted) = (self.clone(), name.to_owned());
        let read = runtime.spawn_blocking(move || machine.read(&wanted)).await;
        let (addresses, servers) = read.map_err(|_| LookUpError::Unanswered)?;
        if !addresses.is_empty() {
            return Ok(Found { addresses, ttl: FILE_TTL });
        }
        if servers.is_empty() {
            return Err(LookUpError::OwnResolver);
        }
        let home = Home::new(&Commons::alone(runtime.clone()), PATIENCE);
        let upstream = |address: &SocketAddr| Upstream::new(&plain(*address), UpstreamId::default(), &home).ok();
        let servers: Vec<_> = servers.iter().filter_map(upstream).map(Arc::new).collect();
        bootstrap::look_up(&servers, name).await
    }

    /// What the files say: addresses of `name`, and name servers that are not ourselves.
    fn read(&self, name: &str) -> (Vec<IpAddr>, Vec<SocketAddr>) {
        let mut addresses = hosts_of(&contents(&self.hosts), name);
        addresses.truncate(bootstrap::MOST);
        let servers = name_servers(&contents(&self.resolv_conf)).into_iter();
        let servers = servers.map(|address| SocketAddr::new(address, self.port));
        (addresses, servers.filter(|address| !is_own(*address, &self.own)).collect())
    }
}

fn contents(path: &Path) -> String {
    let mut octets = Vec::new();
    // A file that is not there says nothing, which is not wrong.
    let _ = File::open(path).and_then(|file| file.take(MOST_OCTETS).read_to_end(&mut octets));
    String::from_utf8_lossy(&octets).into_owned()
}

fn plain(address: SocketAddr) -> Server {
    let host = Host::Address(address.ip());
    Server::new(Address { scheme: Scheme::Udp, host, port: address.port(), path: Box::default() })
}

/// The addresses of `name` in a hosts(5) file.
#[must_use]
pub fn hosts_of(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        let named = words.any(|word| word.trim_end_matches('.').eq_ignore_ascii_case(name));
        // 0.0.0.0 is how such files block a name.
        if named && !address.is_unspecified() && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// The name servers in a resolv.conf(5) file; one that names none means this machine.
#[must_use]
pub fn name_servers(text: &str) -> Vec<IpAddr> {
    let mut servers = Vec::new();
    for line in text.lines().map(|line| line.split(['#', ';']).next().unwrap_or_default()) {
        let mut words = line.split_ascii_whitespace();
        if words.next() == Some("nameserver") {
            servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
        }
    }
    servers.truncate(MOST_SERVERS);
    if servers.is_empty() {
        servers.push(Ipv4Addr::LOCALHOST.into());
    }
    servers
}

/// The name servers of the machine we are on.
#[must_use]
pub fn machines_name_servers() -> Vec<IpAddr> {
    name_servers(&contents(Path::new("/etc/resolv.conf")))
}

/// Would a question to `address` arrive at one of `own`, our doors? One on an unspecified address hears all that is for this
/// machine.
#[must_use]
pub fn is_own(address: SocketAddr, own: &[SocketAddr]) -> bool {
    let asked = address.ip().to_canonical();
    own.iter().filter(|door| door.port() == address.port()).map(SocketAddr::ip).any(|door| {
        let everywhere = door.is_unspecified() && door.is_ipv4() == asked.is_ipv4();
        door == asked || asked.is_unspecified() || (everywhere && is_local(asked))
    })
}

/// Is `address` this machine's? The system sends what is for itself from the same address.
fn is_local(address: IpAddr) -> bool {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = || {
        // Connecting a datagram socket sends nothing: it only looks the route up.
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((address, 53)).ok()?;
        socket.local_addr().ok()
    };
    address.is_loopback() || source().is_some_and(|source| source.ip() == address)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::bootstrap::tests::here;
    use super::super::testing::udp_server;
    use super::*;
    use crate::identity::scratch::Scratch;

    /// A machine whose files say this.
    pub fn machine(scratch: &Scratch, hosts: &str, resolv_conf: &str, port: u16, own: &[&str]) -> Machine {
        Machine {
            hosts: scratch.write("hosts", hosts),
            resolv_conf: scratch.write("resolv.conf", resolv_conf),
            port,
            own: own.iter().map(|door| door.parse().unwrap()).collect(),
        }
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_hosts_file_gives_every_address_of_a_name_and_no_other() {
        let text = "127.0.0.1 localhost\n# 192.0.2.9 dns.example\n192.0.2.1\tother.example DNS.Example # dns.example\n\
                    nonsense dns.example\n2001:db8::1 dns.example.\n0.0.0.0 dns.example\n192.0.2.1 dns.example\n192.0.2.2 # dns.example";
        assert_eq!(hosts_of(text, "dns.example"), ips(&["192.0.2.1", "2001:db8::1"]));
        assert_eq!(hosts_of(text, "example"), ips(&[]));
    }

    #[test]
    fn a_resolv_conf_gives_its_first_three_name_servers_or_means_this_machine() {
        let text = "domain a.example\nsearch b.example\n; nameserver 192.0.2.8\n nameserver\t192.0.2.1 # first\n\
                    nameserver 2001:db8::1\nnameserver fe80::1%eth0\nnameserver\nnameservers 192.0.2.9\n\
                    nameserver 192.0.2.2\nnameserver 192.0.2.3\noptions edns0";
        assert_eq!(name_servers(text), ips(&["192.0.2.1", "2001:db8::1", "192.0.2.2"]));
        assert_eq!(name_servers("# none"), ips(&["127.0.0.1"]));
    }

    #[test]
    fn doh_25_a_door_on_all_addresses_covers_whatever_is_this_machines() {
        let own = |address: &str, door: &str| is_own(address.parse().unwrap(), &[door.parse().unwrap()]);
        for address in ["127.0.0.1:53", "127.0.0.53:53", "0.0.0.0:53"] {
            assert!(own(address, "0.0.0.0:53"), "{address}");
        }
        assert!(own("[::ffff:127.0.0.1]:53", "127.0.0.1:53"));
        assert!(own("[::1]:53", "[::]:53"));
        assert!(own("127.0.0.1:53", "127.0.0.1:53"));
        assert!(!own("127.0.0.53:53", "127.0.0.1:53"), "a stub beside us may be asked");
        assert!(!own("127.0.0.1:53", "0.0.0.0:8053"));
        assert!(!own("192.0.2.53:53", "0.0.0.0:53"));
        assert!(!own("127.0.0.1:53", "[::]:53"), "IPv6 doors hear IPv6 alone");
    }

    #[tokio::test]
    async fn doh_25_a_machine_that_asks_us_has_nobody_to_ask_but_its_hosts_file() {
        let scratch = Scratch::new();
        let machine = machine(
            &scratch,
            "192.0.2.1 near.example",
            "nameserver 127.0.0.1\nnameserver 127.0.0.2",
            53,
            &["0.0.0.0:53"],
        );
        let runtime = Handle::current();
        assert_eq!(machine.look_up("far.example", &runtime).await, Err(LookUpError::OwnResolver));
        let near = machine.look_up("near.example", &runtime).await.unwrap();
        assert_eq!(near.addresses, ips(&["192.0.2.1"]));
    }

    #[tokio::test]
    async fn doh_25_name_servers_beside_ourselves_are_asked() {
        let (address, heard) = udp_server(here).await;
        let scratch = Scratch::new();
        let own = format!("127.0.0.2:{}", address.port());
        let machine = machine(&scratch, "", "nameserver 127.0.0.2\nnameserver 127.0.0.1", address.port(), &[&own]);
        let found = machine.look_up("dns.example", &Handle::current()).await.unwrap();
        assert_eq!(found.addresses, ips(&["127.0.0.1"]));
        assert!(heard.load(std::sync::atomic::Ordering::SeqCst) >= 2, "A and AAAA");
    }
}
