"""What the gateway says of its own doors, as other people's software reads it: dig and dnspython for the records, curl and aioquic for
JSON and the set-up page, Python's plist reader for Apple's profile, its INI reader for systemd's drop-in, dnsmasq for its line. Called by run.py with the gateway of
`hushgate demo`.
"""
import asyncio
import configparser
import html.parser
import ipaddress
import json
import os
import plistlib
import re
import ssl
import struct

import dns.message
import dns.query
import dns.rdatatype
import dns.rdtypes.svcbbase

from servers import run, write

NAME = "interop.demo.example"
ADDRESS = "192.0.2.7"
DESIGNATION = "_dns.resolver.arpa"
# As a public gateway would be told of: at other ports than it listens at.
OUTSIDE = ['tls.names=["dns.example", "192.0.2.1"]', 'advertise.name="dns.example"', 'advertise.addresses=["192.0.2.1", "2001:db8::1"]',
           "advertise.dot=853", "advertise.doq=8853", "advertise.doh=443"]

# The keys of [Resolve] (resolved.conf(5)).
RESOLVED = {"DNS", "FallbackDNS", "Domains", "LLMNR", "MulticastDNS", "DNSSEC", "DNSOverTLS", "Cache", "CacheFromLocalhost", "DNSStubListener",
            "DNSStubListenerExtra", "ReadEtcHosts", "ResolveUnicastSingleLabel", "StaleRetentionSec"}


def text(result):
    return result.stdout.decode("utf-8", "replace").strip()


def dig(demo, door, *options):
    return " / ".join(text(run("dig", "@127.0.0.1", "-p", demo.ports[door], "+tries=1", "+time=5", "+short", *options)).splitlines())


def asked(demo, transport, name, rdtype):
    query = dns.message.make_query(name, rdtype, use_edns=0)
    query.flags &= ~dns.flags.RD
    where = "127.0.0.1"
    if transport == "udp":
        return dns.query.udp(query, where, timeout=5, port=int(demo.ports["udp"]))
    if transport == "tls":
        return dns.query.tls(query, where, timeout=5, port=int(demo.ports["dot"]), server_hostname="localhost", verify=demo.ca)
    query.id = 0
    if transport == "quic":
        return dns.query.quic(query, where, timeout=5, port=int(demo.ports["doq"]), server_hostname="localhost", verify=demo.ca)
    url = f"https://localhost:{demo.ports['doh2']}/dns-query"
    return dns.query.https(query, url, timeout=5, bootstrap_address=where, verify=demo.ca)


def octets(value):
    """What a parameter without a class of its own holds."""
    return value.value if isinstance(value, dns.rdtypes.svcbbase.GenericParam) else bytes(str(value), "ascii")


def designated(demo, transport):
    """Each service by dnspython's reader, which refuses keys out of order: priority, target, ALPN, port, path, hints."""
    services = []
    for record in sorted((record for rrset in asked(demo, transport, DESIGNATION, "SVCB").answer for record in rrset), key=lambda one: one.priority):
        params = {int(key): value for key, value in record.params.items()}
        alpn = ",".join(each.decode() for each in params[1].ids)
        path = octets(params[7]).decode() if 7 in params else "-"
        hints = [*params[4].addresses, *(params[6].addresses if 6 in params else ())]
        services.append(f"{record.priority} {record.target} {alpn} {params[3].port} {path} {'+'.join(hints)}")
    return "; ".join(services)


def designation(demo):
    """What `designated` must say of the doors of the demo."""
    ports = [("dot", "dot", "-"), ("doq", "doq", "-"), ("h2,h3", "doh2", "/dns-query{?dns}")]
    hints = r"127\.0\.0\.1(\+::1)?"
    return "^" + "; ".join(rf"{at} localhost\. {alpn} {demo.ports[door]} {re.escape(path)} {hints}" for at, (alpn, door, path) in enumerate(ports, 1)) + "$"


def resinfo(demo, transport, name):
    """The character strings of RESINFO, from the wire; a question without RD."""
    reply = asked(demo, transport, name, "TYPE261")
    data = b"".join(record.to_wire() for rrset in reply.answer for record in rrset)
    strings = []
    while data:
        strings.append(data[1:1 + data[0]].decode())
        data = data[1 + data[0]:]
    return " ".join(strings) or f"no answer ({len(reply.authority)} SOA)"


def curl(demo, path, *options):
    """Status, version and media type; then the body."""
    told = "%{stderr}%{http_version} %{http_code} %{content_type}"
    result = run("curl", "-sS", "--cacert", demo.ca, "--max-time", "10", "-w", told, *options, f"https://localhost:{demo.ports['doh2']}{path}")
    return result.stderr.decode(), result.stdout


async def h3_get(demo, path, accept):
    from aioquic.asyncio import connect
    from aioquic.asyncio.protocol import QuicConnectionProtocol
    from aioquic.h3.connection import H3Connection
    from aioquic.h3.events import DataReceived, HeadersReceived
    from aioquic.quic.configuration import QuicConfiguration

    class Client(QuicConnectionProtocol):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.done, self.headers, self.body, self.h3 = asyncio.get_event_loop().create_future(), {}, b"", H3Connection(self._quic)

        def quic_event_received(self, event):
            for item in self.h3.handle_event(event):
                if isinstance(item, HeadersReceived):
                    self.headers = dict(item.headers)
                if isinstance(item, DataReceived):
                    self.body += item.data
                if getattr(item, "stream_ended", False) and not self.done.done():
                    self.done.set_result(None)

    settings = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name="localhost", verify_mode=ssl.CERT_REQUIRED)
    settings.load_verify_locations(demo.ca)
    async with connect("127.0.0.1", int(demo.ports["doh3"]), configuration=settings, create_protocol=Client) as client:
        stream = client._quic.get_next_available_stream_id()
        client.h3.send_headers(stream, [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"),
                                        (b":path", path.encode()), (b"accept", accept.encode())], end_stream=True)
        client.transmit()
        await asyncio.wait_for(client.done, 10)
        return f"3 {client.headers[b':status'].decode()} {client.headers[b'content-type'].decode()}", client.body


def get(demo, version, path, accept="*/*"):
    if version == "h3":
        return asyncio.run(asyncio.wait_for(h3_get(demo, path, accept), 15))
    return curl(demo, path, version, "-H", f"accept: {accept}")


def json_answer(demo, version, accept="application/dns-json"):
    """The fields that both Google's and Cloudflare's resolvers have, those of the first answer among them."""
    head, body = get(demo, version, f"/dns-query?name={NAME}&type=A&random_padding=xxxx", accept)
    if " 200 " not in head:
        return head
    reply = json.loads(body)
    record = reply["Answer"][0]
    flags = "".join(str(int(reply[flag])) for flag in ("TC", "RD", "RA", "AD", "CD"))
    question = reply["Question"][0]
    return f"{head}: {reply['Status']} {flags} {question['name']} {question['type']} {record['name']} {record['type']} {record['data']} {record['TTL'] > 0}"


class Page(html.parser.HTMLParser):
    """Which tags are open, where links lead, and what stands in `pre`."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.files, self.foreign = [], [], [], False

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "rect", "path"):
            self.open.append(tag)
        self.links += [value for name, value in attrs if name == "href"]
        self.foreign |= tag in ("script", "img", "link", "iframe", "form") or any(name in ("src", "onclick") for name, _ in attrs)
        if tag == "pre":
            self.files.append("")

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if self.open.pop() != tag:
            self.open.append("out of order")

    def handle_data(self, data):
        if self.open[-1:] == ["pre"]:
            self.files[-1] += data


def page(demo, version):
    """The page is whole, everything that it links to is there, and a file in it can be copied as it is."""
    head, body = get(demo, version, "/")
    if " 200 " not in head:
        return head
    read = Page()
    read.feed(body.decode())
    links = [get(demo, version, link)[0].split(" ", 1)[1] for link in read.links]
    drop_in = next((file for file in read.files if file.startswith("[Resolve]\n")), "")
    lines = [line.split("=")[0] for line in drop_in.splitlines()[1:]]
    return f"{head}; open {read.open}; foreign {read.foreign}; {' '.join(lines)}; {'; '.join(links)}"


def profile(binary, demo, device, *options, outside=()):
    """What `hushgate profile` prints for the demo's doors."""
    doors = [f'listen.dot=["127.0.0.1:{demo.ports["dot"]}"]', f'listen.doq=["127.0.0.1:{demo.ports["doq"]}"]',
             f'listen.doh=["127.0.0.1:{demo.ports["doh2"]}"]', f'state_dir="{os.path.dirname(demo.ca)}"', *outside]
    return run(binary, "profile", device, *options, *(part for key in doors for part in ("--set", key)))


def apple(binary, demo):
    """The settings, and whether the authority in the profile is the demo's."""
    read = plistlib.loads(profile(binary, demo, "apple").stdout)
    settings, root = read["PayloadContent"]
    with open(demo.ca) as file:
        trusted = root["PayloadContent"] == ssl.PEM_cert_to_DER_cert(file.read())
    told = settings["DNSSettings"]
    return f"{settings['PayloadType']} {told['DNSProtocol']} {told['ServerURL']} {'+'.join(told['ServerAddresses'])} {root['PayloadType']} {trusted}"


def apple_served(binary, demo):
    """The page has the same profile as the command prints, but for the addresses that only one of them knows."""
    served, printed = plistlib.loads(get(demo, "--http2", "/hushgate.mobileconfig")[1]), plistlib.loads(profile(binary, demo, "apple").stdout)
    for read in (served, printed):
        read["PayloadContent"][0]["DNSSettings"].pop("ServerAddresses")
    return "same" if served == printed else "another"


class Octets:
    """Takes numbers and octets off the front."""

    def __init__(self, data):
        self.data = data

    def take(self, count):
        if count > len(self.data):
            raise ValueError("an option ends early")
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def number(self, count):
        return int.from_bytes(self.take(count), "big")


def service(name, addresses, params):
    """An instance in words: a name, addresses, and SvcParams in ascending order."""
    labels = []
    while length := name.number(1):
        labels.append(name.take(length).decode())
    told, last = [], 0
    while params.data:
        key, value = params.number(2), params.take(params.number(2))
        if key <= last:
            raise ValueError("keys are out of order")
        last = key
        told.append({1: lambda: value[1:].decode("latin-1"), 3: lambda: str(struct.unpack(">H", value)[0]), 7: lambda: value.decode()}[key]())
    return f"{'.'.join(labels)} {'+'.join(map(str, addresses))} {' '.join(told)}".replace("\x02", ",")


def dnr(binary, demo, kind):
    """The options of RFC 9463, read by its figures."""
    values = json.loads(profile(binary, demo, "dnr", "--json", outside=OUTSIDE).stdout)["values"]
    told = []
    for data in (Octets(bytes.fromhex(value)) for name, value in values.items() if name.startswith(kind)):
        while data.data:
            if kind.startswith("DHCPv4"):
                one = Octets(data.take(data.number(2)))
                priority, name = one.number(2), Octets(one.take(one.number(1)))
                listed = one.take(one.number(1))
                addresses = [ipaddress.IPv4Address(listed[at:at + 4]) for at in range(0, len(listed), 4)]
            else:
                one, is_router = data, kind.startswith("Router")
                if is_router and (one.number(1), one.number(1) * 8) != (144, len(one.data) + 2):
                    raise ValueError("type or length is wrong")
                priority, lifetime = one.number(2), one.number(4) if is_router else None
                name = Octets(one.take(one.number(2)))
                listed = one.take(one.number(2))
                addresses = [ipaddress.IPv6Address(listed[at:at + 16]) for at in range(0, len(listed), 16)]
                if is_router:
                    params = Octets(one.take(one.number(2)))
                    if lifetime == 0 or len(one.data) > 7 or any(one.data):
                        raise ValueError("padding or lifetime is wrong")
                    told.append(f"{priority} {service(name, addresses, params)}")
                    break
            told.append(f"{priority} {service(name, addresses, one)}")
    return "; ".join(told)


def dnsmasq(binary, demo):
    """Would dnsmasq start with its lines?"""
    files = json.loads(profile(binary, demo, "dnr", "--json", outside=OUTSIDE).stdout)["files"]
    config = write(demo.folder.name, "dnsmasq.conf", files[0]["text"])
    return run("dnsmasq", "--test", "-C", config).stderr.decode().strip()


class Settings(configparser.RawConfigParser):
    """A file as systemd reads it, but that nothing in it is passed over."""

    optionxform = staticmethod(str)

    def __init__(self):
        super().__init__(delimiters="=", comment_prefixes="#;", strict=True, empty_lines_in_values=False)


def systemd(binary, demo):
    """The drop-in by the keys and forms of resolved.conf(5): DNS is addresses as ADDRESS:PORT#NAME."""
    files = json.loads(profile(binary, demo, "systemd", "--json", outside=OUTSIDE).stdout)["files"]
    read = Settings()
    read.read_string(files[0]["text"])
    if read.sections() != ["Resolve"]:
        raise ValueError("only [Resolve] is read")
    settings = dict(read["Resolve"])
    if unknown := settings.keys() - RESOLVED:
        raise ValueError(f"no keys of resolved.conf: {unknown}")
    told = []
    for server in settings["DNS"].split():
        address, port, name = re.fullmatch(r"(\[[^]]+\]|[^:]+):(\d+)#([\w.-]+)", server).groups()
        told.append(f"{ipaddress.ip_address(address.strip('[]'))} {int(port)} {name}")
    return f"{', '.join(told)}; {settings['DNSOverTLS']} {settings['Domains']}"


def attempt(what, *arguments):
    try:
        return what(*arguments)
    except Exception as error:  # the kind of failure is the result
        return f"{type(error).__name__}: {error}"


def rows(binary, demo):
    """As those of run.py."""
    svcb = rf'1 localhost\. alpn="dot" port={demo.ports["dot"]} .* / 2 localhost\. alpn="doq" .* / 3 localhost\. alpn="h2,h3" port={demo.ports["doh2"]} '
    for door, extra in [("udp", []), ("tcp", ["+tcp"])]:
        yield "dig SVCB _dns.resolver.arpa", door, svcb, dig(demo, door, *extra, "SVCB", DESIGNATION)
    for transport, door in [("udp", "udp"), ("tls", "dot"), ("https", "doh2"), ("quic", "doq")]:
        yield "dnspython: services told of", door, designation(demo), attempt(designated, demo, transport)
        yield "dnspython: RESINFO, no RD", door, r"^exterr=[\d,-]+$", attempt(resinfo, demo, transport, "resolver.arpa")
    fields = rf": 0 01100 {re.escape(NAME)}\. 1 {re.escape(NAME)}\. 1 {re.escape(ADDRESS)} True$"
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    for version, number, door in [("--http1.1", r"1\.1", "doh1"), ("--http2", "2", "doh2"), ("h3", "3", "doh3")]:
        client = "aioquic" if version == "h3" else "curl"
        yield f"{client} application/dns-json", door, f"^{number} 200 application/dns-json{fields}", attempt(json_answer, demo, version)
        yield f"{client} JSON as a browser asks", door, f"^{number} 200 application/dns-json{fields}", attempt(json_answer, demo, version, browser)
        whole = (rf"^{number} 200 text/html; charset=utf-8; open \[\]; foreign False; DNS DNSOverTLS Domains; "
                 r"200 application/x-x509-ca-cert; 200 application/x-apple-aspen-config$")
        yield f"{client} set-up page", door, whole, attempt(page, demo, version)
    url = re.escape(f"https://localhost:{demo.ports['doh2']}/dns-query")
    yield "profile apple, plistlib", "doh2", rf"^com\.apple\.dnsSettings\.managed HTTPS {url} 127\.0\.0\.1 com\.apple\.security\.root True$", attempt(apple, binary, demo)
    yield "profile apple, as the page has it", "doh2", "^same$", attempt(apple_served, binary, demo)
    for kind, address in [("DHCPv4", "192.0.2.1"), ("DHCPv6", "2001:db8::1"), ("Router", "2001:db8::1")]:
        at = re.escape(f"dns.example {address}")
        yield f"profile dnr, {kind} bytes", "-", rf"^1 {at} dot; 2 {at} doq 8853; 3 {at} h2,h3 /dns-query\{{\?dns\}}$", attempt(dnr, binary, demo, kind)
    at = re.escape("192.0.2.1 853 dns.example, 2001:db8::1 853 dns.example")
    yield "profile systemd, resolved.conf", "-", rf"^{at}; yes ~\.$", attempt(systemd, binary, demo)
    yield "profile dnr, dnsmasq --test", "-", r"syntax check OK\.$", attempt(dnsmasq, binary, demo)
