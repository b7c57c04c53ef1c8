//! What a configuration depends on beside its own words: the machine and the environment it is read in.

use std::net::IpAddr;
use std::path::PathBuf;

use nix::ifaddrs::getifaddrs;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::SockaddrStorage;

use super::machine;
use crate::guard::Network;
use crate::upstream::hosts::machines_name_servers;

/// Looked up once, so that reading a configuration is a function of its arguments.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Files this process may open: the hard limit, which is what is raised to at start.
    pub open_files: u64,
    /// Octets of memory this process may have; 0 where the system does not tell.
    pub memory: u64,
    /// Cores this process may use.
    pub cores: usize,
    /// Networks of our own interfaces.
    pub link: Vec<Network>,
    /// Whom this machine asks for names.
    pub name_servers: Vec<IpAddr>,
    /// Where state goes unless `state_dir` says otherwise.
    pub state_dir: Option<PathBuf>,
}

impl Surroundings {
    /// This machine, now.
    #[must_use]
    pub fn look_up() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            open_files: getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(_, hard)| hard),
            memory: machine::memory(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            link: own_networks(),
            name_servers: machines_name_servers(),
            state_dir: state_dir(variable),
        }
    }
}

/// systemd's directory, else the user's: the XDG base directory specification, which ignores relative paths.
fn state_dir(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let systemd = variable("STATE_DIRECTORY").and_then(|list| {
        let first = list.to_str()?.split(':').next()?;
        Some(PathBuf::from(first))
    });
    systemd
        .or_else(|| Some(variable("XDG_STATE_HOME").filter(|path| path.is_absolute())?.join("hushgate")))
        .or_else(|| Some(variable("HOME").filter(|path| path.is_absolute())?.join(".local/state/hushgate")))
}

fn own_networks() -> Vec<Network> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let mut networks = Vec::new();
    for interface in interfaces {
        let address = interface.address.as_ref().and_then(ip);
        let mask = interface.netmask.as_ref().and_then(ip);
        let Some(network) = address.zip(mask).and_then(|(address, mask)| network(address, mask)) else { continue };
        if !networks.contains(&network) {
            networks.push(network);
        }
    }
    networks
}

/// The addresses of our own interfaces that other machines may reach, in the order of the system.
#[must_use]
pub fn machine_addresses() -> Vec<IpAddr> {
    let interfaces = getifaddrs().into_iter().flatten();
    let mut found = Vec::new();
    for address in interfaces.filter_map(|interface| interface.address.as_ref().and_then(ip)) {
        let is_of_one_link = match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            // Without the interface it leads nowhere, and no record can name that.
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        if !address.is_loopback() && !is_of_one_link && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// None for a mask of no bits, which some tunnels have: it would let everybody in.
fn network(address: IpAddr, mask: IpAddr) -> Option<Network> {
    let length = match mask {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    };
    let length = u8::try_from(length).ok().filter(|&length| length > 0)?;
    Some(Network::of(address, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_goes_where_systemd_says_else_where_xdg_says_else_home() {
        let with = |known: &'static [(&str, &str)]| {
            state_dir(move |name| known.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value)))
        };
        let all = &[("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"), ("XDG_STATE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(with(all), Some("/var/lib/a".into()));
        assert_eq!(with(&[("XDG_STATE_HOME", "/x"), ("HOME", "/h")]), Some("/x/hushgate".into()));
        assert_eq!(with(&[("XDG_STATE_HOME", "x"), ("HOME", "/h")]), Some("/h/.local/state/hushgate".into()));
        assert_eq!(with(&[]), None);
    }

    #[test]
    fn the_loopback_network_is_found_and_a_mask_of_no_bits_is_not_believed() {
        let link = Surroundings::look_up().link;
        assert!(link.iter().any(|network| network.contains("127.0.0.1".parse().unwrap())), "{link:?}");
        assert_eq!(network("10.0.0.1".parse().unwrap(), "0.0.0.0".parse().unwrap()), None);
    }
}
