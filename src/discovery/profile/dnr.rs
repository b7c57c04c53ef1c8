//! All devices of a network at once: the DNR options of DHCP and router advertisements (RFC 9463), as bytes and as ready lines.
//!
//! The gateway sends none of them; whoever runs the network's DHCP server or router does.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::json;

use super::{File, Guide, Unfit, addresses, is_loopback_only, name, value};
use crate::discovery::{Protocol, Resolver, Service, params};
use crate::wire::name::from_text;

const DEVICE: &str = "DNR";
/// The options' codes: `DHCPv4` 162; `DHCPv6` and router advertisements both 144.
const V4: u8 = 162;
const V6: u8 = 144;
/// For how long a router advertisement holds, in seconds: three times the longest usual interval of 600 s (RFC 4861 6.2.1).
const LIFETIME: u32 = 1800;
/// Octets of a `DHCPv4` option before it has to be split (RFC 3396).
const LONG: usize = 255;

/// One service of the gateway, as an option says it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Designation {
    /// The lower the better, from 1.
    priority: u16,
    /// The authentication domain name in wire form.
    name: Vec<u8>,
    v4: Vec<Ipv4Addr>,
    v6: Vec<Ipv6Addr>,
    /// `SvcParams` in wire form.
    params: Vec<u8>,
    /// The same as text, in presentation form (RFC 9460 2.1).
    shown: String,
}

impl Designation {
    /// One for each service, most wanted first.
    fn all(resolver: &Resolver, door: Option<Protocol>) -> Result<Vec<Self>, Unfit> {
        let services: Vec<&Service> =
            resolver.services.iter().filter(|service| door.is_none_or(|door| door == service.protocol)).collect();
        if services.is_empty() {
            let spoken = door.map_or_else(|| "an encrypted protocol".to_owned(), |door| door.to_string());
            return Err(Unfit::NoDoor { device: DEVICE, spoken });
        }
        let named = from_text(name(DEVICE, resolver)?).map_err(|_| Unfit::NoName { device: DEVICE })?;
        if is_loopback_only(resolver) {
            return Err(Unfit::LoopbackOnly);
        }
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for ip in addresses(resolver) {
            match ip {
                IpAddr::V4(ip) => v4.push(ip),
                IpAddr::V6(ip) => v6.push(ip),
            }
        }
        if v4.is_empty() && v6.is_empty() {
            return Err(Unfit::NoAddress { device: DEVICE });
        }
        let one = |(priority, service): (u16, &Service)| Self {
            priority,
            name: named.clone(),
            v4: v4.clone(),
            v6: v6.clone(),
            params: params(service, &[]),
            shown: shown(service),
        };
        Ok((1..).zip(services).map(one).collect())
    }

    /// An instance of the `DHCPv4` option, its length in front (RFC 9463 5.1); None without an IPv4 address.
    fn dhcp4(&self) -> Result<Option<Vec<u8>>, Unfit> {
        if self.v4.is_empty() {
            return Ok(None);
        }
        let mut data = self.priority.to_be_bytes().to_vec();
        data.push(narrow(self.name.len())?);
        data.extend(&self.name);
        data.push(narrow(4 * self.v4.len())?);
        data.extend(self.v4.iter().flat_map(Ipv4Addr::octets));
        data.extend(&self.params);
        let length: u16 = narrow(data.len())?;
        Ok(Some([length.to_be_bytes().to_vec(), data].concat()))
    }

    /// What is in the `DHCPv6` option (RFC 9463 4.1); None without an IPv6 address.
    fn dhcp6(&self) -> Result<Option<Vec<u8>>, Unfit> {
        if self.v6.is_empty() {
            return Ok(None);
        }
        let mut data = self.priority.to_be_bytes().to_vec();
        self.put_place(&mut data)?;
        data.extend(&self.params);
        Ok(Some(data))
    }

    /// The whole option of a router advertisement (RFC 9463 6.1); None without an IPv6 address.
    fn advertisement(&self) -> Result<Option<Vec<u8>>, Unfit> {
        if self.v6.is_empty() {
            return Ok(None);
        }
        let mut option = self.priority.to_be_bytes().to_vec();
        option.extend(LIFETIME.to_be_bytes());
        self.put_place(&mut option)?;
        option.extend(narrow::<u16>(self.params.len())?.to_be_bytes());
        option.extend(&self.params);
        // With type and length a multiple of 8 octets, and counted in them.
        let units = (option.len() + 2).div_ceil(8);
        option.resize(units * 8 - 2, 0);
        Ok(Some([vec![V6, narrow(units)?], option].concat()))
    }

    /// Name and IPv6 addresses, a length of two octets before each.
    fn put_place(&self, out: &mut Vec<u8>) -> Result<(), Unfit> {
        out.extend(narrow::<u16>(self.name.len())?.to_be_bytes());
        out.extend(&self.name);
        out.extend(narrow::<u16>(16 * self.v6.len())?.to_be_bytes());
        out.extend(self.v6.iter().flat_map(Ipv6Addr::octets));
        Ok(())
    }
}

/// The bytes, and what known servers take.
pub(super) fn guide(resolver: &Resolver, door: Option<Protocol>) -> Result<Guide, Unfit> {
    let all = Designation::all(resolver, door)?;
    let known_as = name(DEVICE, resolver)?;
    let v4s = all.iter().filter_map(|one| one.dhcp4().transpose()).collect::<Result<Vec<_>, _>>()?;
    let v4 = v4s.concat();
    let v6 = all.iter().filter_map(|one| one.dhcp6().transpose()).collect::<Result<Vec<_>, _>>()?;
    let routers = all.iter().filter_map(|one| one.advertisement().transpose()).collect::<Result<Vec<_>, _>>()?;
    let mut values = vec![value("Authentication domain name", known_as)];
    values.extend(all.iter().map(|one| (format!("Service {}", one.priority), one.shown.clone())));
    if !v4.is_empty() {
        values.push((format!("DHCPv4 option {V4}"), hex(&v4, "")));
    }
    let numbered = |kind: &str, list: &[Vec<u8>]| {
        (1..)
            .zip(list)
            .map(|(at, data): (usize, _)| (format!("{kind}, service {at}"), hex(data, "")))
            .collect::<Vec<_>>()
    };
    values.extend(numbered(&format!("DHCPv6 option {V6}"), &v6));
    values.extend(numbered(&format!("Router advertisement option {V6}, whole"), &routers));
    let first = v6.first().map(Vec::as_slice);
    let steps = [
        "Put the lines for your DHCP server into its configuration and restart it; the hexadecimal values are \
         for any other that takes raw options.",
        "A device that knows DNR takes it up when it joins the network again: newer builds of Windows 11 do, \
         and systemd 257 or later.",
    ];
    Ok(Guide {
        headline: format!("DHCP and routers tell every device of the network that {known_as} answers encrypted DNS."),
        values,
        steps: steps.map(str::to_owned).into(),
        files: vec![
            file("dnsmasq.conf", dnsmasq(&v4s, first)),
            file("kea-dhcp4.conf or kea-dhcp6.conf, within \"option-data\"", kea(&v4, first)),
            file("/etc/config/dhcp of OpenWrt (odhcpd), within \"config dhcp\"", odhcpd(&all, known_as)),
        ],
        limits: limits(resolver, &all, v4.len()),
        scan: None,
    })
}

fn limits(resolver: &Resolver, all: &[Designation], v4: usize) -> Vec<String> {
    let mut limits = vec![
        "Devices that do not know DNR ignore it: Android and Apple's systems are set up by name or profile.".to_owned(),
        "DNR is as trustworthy as the network: devices verify the name's certificate, not who sent the option."
            .to_owned(),
        "radvd has no setting for it in the versions known here: send it by DHCP, or with odhcpd.".to_owned(),
        "systemd-networkd takes DNR as a client, and does not send it.".to_owned(),
    ];
    if all.len() > 1 && all.iter().any(|one| !one.v6.is_empty()) {
        limits.push(
            "The DHCPv6 lines for dnsmasq and Kea have the most wanted service alone: they may send an option once only."
                .to_owned(),
        );
    }
    if v4 > LONG {
        limits.push(format!(
            "DHCPv4 option {V4} has {v4} octets: over {LONG} the server must split it (RFC 3396), as Kea does. dnsmasq \
             cannot: its line has the services that fit, and --door says which; fewer addresses make room."
        ));
    }
    if resolver.authority.is_some() {
        limits.push(
            "The certificate is from the private authority: only devices that trust it go over to encrypted DNS."
                .to_owned(),
        );
    }
    limits
}

fn file(name: &'static str, text: String) -> File {
    File { name, media_type: "text/plain", text }
}

/// Of the instances of the `DHCPv4` option those that fit into one, which is all that dnsmasq sends.
fn dnsmasq(v4s: &[Vec<u8>], v6: Option<&[u8]>) -> String {
    let mut v4 = Vec::new();
    for instance in v4s {
        if v4.len() + instance.len() <= LONG {
            v4.extend(instance);
        }
    }
    let mut text = String::new();
    if !v4.is_empty() {
        text.extend([format!("dhcp-option={V4},{}\n", hex(&v4, ":"))]);
    }
    text + &v6.map(|data| format!("dhcp-option=option6:{V6},{}\n", hex(data, ":"))).unwrap_or_default()
}

fn kea(v4: &[u8], v6: Option<&[u8]>) -> String {
    let option = |space: &str, code: u8, data: &[u8]| {
        format!("{}\n", json!({ "space": space, "code": code, "csv-format": false, "data": hex(data, "") }))
    };
    let four = if v4.is_empty() { String::new() } else { option("dhcp4", V4, v4) };
    four + &v6.map(|data| option("dhcp6", V6, data)).unwrap_or_default()
}

fn odhcpd(all: &[Designation], name: &str) -> String {
    let line = |one: &Designation| {
        let v4 = one.v4.iter().map(ToString::to_string);
        let listed = v4.chain(one.v6.iter().map(ToString::to_string)).collect::<Vec<_>>().join(",");
        // As in a shell, a quote ends the string and is put in from outside of it.
        let shown = one.shown.replace('\'', "'\\''");
        format!("list dnr '{} {name} {listed} {shown}'\n", one.priority)
    };
    all.iter().map(line).collect()
}

/// The same parameters as text.
fn shown(service: &Service) -> String {
    let mut shown = format!("alpn={}", service.protocol.alpn().join(","));
    if service.port != service.protocol.default_port() {
        shown.extend([format!(" port={}", service.port)]);
    }
    if let Some(path) = &service.path {
        shown.extend([format!(" dohpath={path}{{?dns}}")]);
    }
    shown
}

/// A length in the field that it goes into.
fn narrow<T: TryFrom<usize>>(length: usize) -> Result<T, Unfit> {
    T::try_from(length).map_err(|_| Unfit::TooLong)
}

fn hex(data: &[u8], between: &str) -> String {
    let mut text = String::new();
    for (at, octet) in data.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}{octet:02x}", if at == 0 { "" } else { between });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::examples::{public, service};
    use super::*;
    use crate::discovery::Address;

    /// Reads what is in an option, from front to back, as RFC 9463 draws it.
    struct Reader<'a>(&'a [u8]);

    impl<'a> Reader<'a> {
        fn take(&mut self, length: usize) -> &'a [u8] {
            let (taken, rest) = self.0.split_at(length);
            self.0 = rest;
            taken
        }

        fn number(&mut self, octets: usize) -> usize {
            self.take(octets).iter().fold(0, |number, octet| number << 8 | usize::from(*octet))
        }

        fn name(&mut self, length: usize) -> String {
            let mut labels = Reader(self.take(length));
            let mut name = String::new();
            loop {
                let length = labels.number(1);
                if length == 0 {
                    assert!(labels.0.is_empty(), "nothing after the root");
                    return name;
                }
                name += std::str::from_utf8(labels.take(length)).unwrap();
                name.push('.');
            }
        }

        /// Keys ascending, lengths right; as text.
        fn params(mut self) -> Vec<String> {
            let (mut last, mut found) = (0, Vec::new());
            while !self.0.is_empty() {
                let (key, length) = (self.number(2), self.number(2));
                assert!(key > last, "ascending and not mandatory(0)");
                last = key;
                let mut value = Reader(self.take(length));
                found.push(match key {
                    1 => {
                        let mut ids = Vec::new();
                        while !value.0.is_empty() {
                            let length = value.number(1);
                            ids.push(String::from_utf8(value.take(length).to_vec()).unwrap());
                        }
                        format!("alpn={}", ids.join(","))
                    }
                    3 => format!("port={}", value.number(2)),
                    7 => format!("dohpath={}", std::str::from_utf8(value.0).unwrap()),
                    other => panic!("key {other} has no place in DNR"),
                });
            }
            found
        }
    }

    #[derive(Debug, PartialEq)]
    struct Read {
        priority: usize,
        name: String,
        addresses: Vec<IpAddr>,
        params: Vec<String>,
    }

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn found(guide: &Guide, kind: &str) -> Vec<Vec<u8>> {
        guide.values.iter().filter(|(name, _)| name.starts_with(kind)).map(|(_, hex)| bytes(hex)).collect()
    }

    fn read4(data: &[u8]) -> Vec<Read> {
        let (mut all, mut found) = (Reader(data), Vec::new());
        while !all.0.is_empty() {
            let length = all.number(2);
            let mut one = Reader(all.take(length));
            let priority = one.number(2);
            let length = one.number(1);
            let name = one.name(length);
            let length = one.number(1);
            let addresses =
                one.take(length).chunks(4).map(|ip| IpAddr::from(<[u8; 4]>::try_from(ip).unwrap())).collect();
            found.push(Read { priority, name, addresses, params: one.params() });
        }
        found
    }

    fn place6(one: &mut Reader<'_>) -> (String, Vec<IpAddr>) {
        let length = one.number(2);
        let name = one.name(length);
        let length = one.number(2);
        (name, one.take(length).chunks(16).map(|ip| IpAddr::from(<[u8; 16]>::try_from(ip).unwrap())).collect())
    }

    fn read6(data: &[u8]) -> Read {
        let mut one = Reader(data);
        let priority = one.number(2);
        let (name, addresses) = place6(&mut one);
        Read { priority, name, addresses, params: one.params() }
    }

    fn read_router(option: &[u8]) -> Read {
        let mut one = Reader(option);
        assert_eq!((one.number(1), one.number(1) * 8), (144, option.len()));
        let priority = one.number(2);
        assert_eq!(one.number(4), 1800);
        let (name, addresses) = place6(&mut one);
        let length = one.number(2);
        let params = Reader(one.take(length)).params();
        assert!(one.0.len() < 8 && one.0.iter().all(|octet| *octet == 0), "padded with zeros");
        Read { priority, name, addresses, params }
    }

    fn expected(priority: usize, address: &str, params: &[&str]) -> Read {
        Read {
            priority,
            name: "dns.example.".to_owned(),
            addresses: vec![address.parse().unwrap()],
            params: params.iter().map(ToString::to_string).collect(),
        }
    }

    fn services() -> Resolver {
        Resolver {
            services: vec![service(Protocol::Dot, 853), service(Protocol::Doq, 8853), service(Protocol::Doh, 8443)],
            ..public()
        }
    }

    const PARAMS: [&[&str]; 3] =
        [&["alpn=dot"], &["alpn=doq", "port=8853"], &["alpn=h2,h3", "port=8443", "dohpath=/dns-query{?dns}"]];

    #[test]
    fn dnr_01_options_say_name_addresses_and_parameters_of_each_service() {
        let guide = guide(&services(), None).unwrap();
        let all =
            |address: &str| (1..).zip(PARAMS).map(|(at, params)| expected(at, address, params)).collect::<Vec<_>>();
        let [v4] = found(&guide, "DHCPv4 option 162").try_into().unwrap();
        assert_eq!(read4(&v4), all("192.0.2.1"));
        let v6: Vec<Read> = found(&guide, "DHCPv6 option 144").iter().map(|data| read6(data)).collect();
        assert_eq!(v6, all("2001:db8::1"));
        let routers: Vec<Read> =
            found(&guide, "Router advertisement").iter().map(|option| read_router(option)).collect();
        assert_eq!(routers, all("2001:db8::1"));
    }

    #[test]
    fn dnr_01_ready_lines_hold_the_same_bytes() {
        let guide = guide(&services(), None).unwrap();
        let text = |at: usize| guide.files[at].text.as_str();
        let line = |start: &str| text(0).lines().find_map(|line| line.strip_prefix(start)).unwrap().replace(':', "");
        assert_eq!(bytes(&line("dhcp-option=162,")), found(&guide, "DHCPv4")[0]);
        assert_eq!(bytes(&line("dhcp-option=option6:144,")), found(&guide, "DHCPv6")[0]);
        let options: Vec<serde_json::Value> = text(1).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&options[0]["code"], &options[1]["code"]), (&json!(162), &json!(144)));
        assert_eq!(bytes(options[0]["data"].as_str().unwrap()), found(&guide, "DHCPv4")[0]);
        assert_eq!(
            text(2).lines().last().unwrap(),
            "list dnr '3 dns.example 192.0.2.1,2001:db8::1 alpn=h2,h3 port=8443 dohpath=/dns-query{?dns}'"
        );
    }

    #[test]
    fn quote_in_a_path_does_not_end_the_line_of_openwrt() {
        let doh = Service { path: Some("/it's".to_owned()), ..service(Protocol::Doh, 443) };
        let text = guide(&Resolver { services: vec![doh], ..public() }, None).unwrap().files.remove(2).text;
        assert!(text.ends_with("dohpath=/it'\\''s{?dns}'\n"), "{text}");
    }

    #[test]
    fn without_a_door_it_is_the_door_that_is_missed() {
        let none = Resolver { names: Vec::new(), services: Vec::new(), ..public() };
        assert!(matches!(guide(&none, None), Err(Unfit::NoDoor { .. })));
    }

    #[test]
    fn one_door_makes_one_designation() {
        let guide = guide(&services(), Some(Protocol::Doq)).unwrap();
        let [v4] = found(&guide, "DHCPv4 option 162").try_into().unwrap();
        assert_eq!(read4(&v4), [expected(1, "192.0.2.1", PARAMS[1])]);
    }

    #[test]
    fn family_without_an_address_has_no_option() {
        let mut resolver = services();
        resolver.addresses.remove(1);
        let guide = guide(&resolver, None).unwrap();
        assert!(found(&guide, "DHCPv6").is_empty() && found(&guide, "Router").is_empty());
        assert_eq!(guide.files[0].text.lines().count(), 1);
    }

    #[test]
    fn what_no_length_field_holds_is_refused_and_what_must_be_split_is_said() {
        let path = |length: usize| {
            let doh = Service { path: Some(format!("/{}", "a".repeat(length))), ..service(Protocol::Doh, 443) };
            Resolver { services: vec![doh], ..public() }
        };
        assert_eq!(guide(&path(3000), None), Err(Unfit::TooLong));
        let long = guide(&path(300), None).unwrap();
        assert!(long.limits.iter().any(|limit| limit.contains("RFC 3396")), "{:?}", long.limits);
    }

    #[test]
    fn line_for_dnsmasq_has_the_services_that_fit_into_an_option() {
        let addresses = (1..=8).map(|last| Address { ip: Ipv4Addr::new(192, 0, 2, last).into(), is_certified: true });
        let name = format!("{}.{}.example", "a".repeat(40), "b".repeat(30));
        let crowded = Resolver { names: vec![name], addresses: addresses.collect(), ..services() };
        let guide = guide(&crowded, None).unwrap();
        let line = guide.files[0].text.strip_prefix("dhcp-option=162,").unwrap().trim().replace(':', "");
        let (line, [whole]) = (bytes(&line), found(&guide, "DHCPv4 option 162").try_into().unwrap());
        assert!(whole.len() > LONG && line.len() <= LONG, "{} {}", whole.len(), line.len());
        assert_eq!(read4(&line), read4(&whole)[..1]);
        // A path that only a quarter of an option would hold still leaves room for others.
        let doh = Service { path: Some(format!("/{}", "a".repeat(300))), ..service(Protocol::Doh, 443) };
        let mixed = Resolver { services: vec![doh, service(Protocol::Dot, 853)], ..public() };
        let line = super::guide(&mixed, None).unwrap().files.remove(0).text;
        assert!(line.starts_with("dhcp-option=162,00:1d:00:02:0d:"), "{line}");
    }
}
