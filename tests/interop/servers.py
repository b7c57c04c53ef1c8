"""Real servers behind the real binary: hushgate asks unbound, knot-resolver, dnsdist and hickory over each transport they speak,
and what dig gets from it must be what they serve. With an authority or a name that is not theirs, SERVFAIL with EDE 23.

Each serves `corp.example` on free ports of loopback; dnsdist stands in front of unbound, and asks it one question of a connection
after the other: so unbound answers the gateway's own `. NS` without a look around for the root. They run as whoever runs this, in a
folder of their own, and end with it. Called by run.py.
"""
import os
import re
import socket
import subprocess
import tempfile
import time

ADDRESS = "192.0.2.80"
ADDRESS6 = "2001:db8::80"
WWW, BIG = "www.corp.example", "big.corp.example"
HOST = "resolver.corp.example"
# 20 strings of 250 octets: no UDP answer holds them.
STRINGS = [f"{index:02}" + "x" * 248 for index in range(20)]
PATIENCE = 20


def run(*command, **options):
    return subprocess.run(command, capture_output=True, timeout=PATIENCE, **options)


def free_port():
    """A port that is free over UDP and TCP now."""
    while True:
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            stream.bind(("127.0.0.1", 0))
            try:
                datagrams.bind(stream.getsockname())
            except OSError:
                continue
            return stream.getsockname()[1]


def dig(port, name, rtype, *options):
    # Cookies off: what is asked twice in a second must not differ for that.
    return run("dig", "@127.0.0.1", "-p", str(port), "+tries=1", "+time=5", "+nocookie", *options, name, rtype).stdout.decode("utf-8", "replace")


class Certificates:
    """An authority with one certificate for HOST, and another authority."""

    def __init__(self, folder):
        path = lambda name: os.path.join(folder, name)
        self.ca, self.wrong, self.chain, self.key = map(path, ["ca.pem", "wrong.pem", "chain.pem", "key.pem"])
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        for certificate, key, subject in [(self.ca, path("ca.key"), "interop"), (self.wrong, path("wrong.key"), "somebody else")]:
            run("openssl", "req", "-x509", *new_key, "-keyout", key, "-subj", f"/CN={subject}", "-days", "2", "-out", certificate, check=True)
        with open(path("leaf.ext"), "w") as file:
            file.write(f"basicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:{HOST}\n")
        run("openssl", "req", "-new", *new_key, "-keyout", self.key, "-subj", f"/CN={HOST}", "-out", path("leaf.csr"), check=True)
        run("openssl", "x509", "-req", "-in", path("leaf.csr"), "-CA", self.ca, "-CAkey", path("ca.key"), "-CAcreateserial", "-days", "2",
            "-extfile", path("leaf.ext"), "-out", self.chain, check=True)


class Process:
    """A program that runs until it is stopped; what it says goes to a file, shown if it ends too early."""

    def __init__(self, folder, name, *command):
        self.name, self.path = name, os.path.join(folder, f"{name}.log")
        with open(self.path, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=folder)

    def said(self):
        with open(self.path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def until(self, ready):
        """Waits until `ready` gives something, and gives it."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            if found := ready():
                return found
            time.sleep(0.05)
        status = self.process.poll()
        self.stop()
        raise RuntimeError(f"{self.name}: {'not ready' if status is None else f'ended with status {status}'}: {self.said()[-2000:]}")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def answers(port):
    return lambda: ADDRESS in dig(port, WWW, "A", "+short", "+time=1")


def listens(port):
    """Does somebody accept connections there?"""
    def ask():
        with socket.socket() as stream:
            return stream.connect_ex(("127.0.0.1", port)) == 0
    return ask


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def unbound(folder, certificates):
    plain, tls, https = free_port(), free_port(), free_port()
    big = " ".join(f'"{string}"' for string in STRINGS)
    config = write(folder, "unbound.conf", f"""server:
    interface: 127.0.0.1@{plain}
    interface: 127.0.0.1@{tls}
    interface: 127.0.0.1@{https}
    tls-port: {tls}
    https-port: {https}
    tls-service-pem: "{certificates.chain}"
    tls-service-key: "{certificates.key}"
    do-daemonize: no
    use-syslog: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    module-config: "iterator"
    local-data: ". 300 NS ns.corp.example."
    local-zone: "corp.example." static
    local-data: "corp.example. 1 SOA ns.corp.example. admin.corp.example. 1 3600 600 86400 1"
    local-data: "{WWW}. 300 A {ADDRESS}"
    local-data: "short.corp.example. 1 A {ADDRESS}"
    local-data: "{WWW}. 300 AAAA {ADDRESS6}"
    local-data: '{BIG}. 300 TXT {big}'
remote-control:
    control-enable: no
""")
    process = Process(folder, "unbound", "unbound", "-d", "-c", config)
    process.until(answers(plain))
    return process, {"udp": plain, "tcp": plain, "tls": tls, "https": https}


def knot_resolver(folder, certificates):
    plain, tls, https = free_port(), free_port(), free_port()
    big = "".join(f"'{chr(92)}{len(string)}{string}', " for string in STRINGS)
    config = write(folder, "kresd.conf", f"""
log_level('notice')
net.listen('127.0.0.1', {plain}, {{ kind = 'dns' }})
net.listen('127.0.0.1', {tls}, {{ kind = 'tls' }})
net.listen('127.0.0.1', {https}, {{ kind = 'doh2' }})
net.tls('{certificates.chain}', '{certificates.key}')
cache.size = 10 * MB
trust_anchors.remove('.')
modules = {{ 'policy' }}
local function name(text) return {{ todname(text) }} end
policy.add(policy.domains(policy.ANSWER({{
    [kres.type.A] = {{ rdata = kres.str2ip('{ADDRESS}'), ttl = 300 }},
    [kres.type.AAAA] = {{ rdata = kres.str2ip('{ADDRESS6}'), ttl = 300 }},
}}), name('{WWW}')))
policy.add(policy.domains(policy.ANSWER({{
    [kres.type.TXT] = {{ rdata = table.concat({{ {big} }}), ttl = 300 }},
}}), name('{BIG}')))
""")
    state = os.path.join(folder, "kresd")
    os.mkdir(state)
    process = Process(folder, "kresd", "kresd", "--noninteractive", "--config", config, state)
    process.until(answers(plain))
    return process, {"udp": plain, "tcp": plain, "tls": tls, "https": https}


def dnsdist(folder, certificates, behind):
    plain, tls, https = free_port(), free_port(), free_port()
    config = write(folder, "dnsdist.conf", f"""
setLocal('127.0.0.1:{plain}')
addTLSLocal('127.0.0.1:{tls}', '{certificates.chain}', '{certificates.key}')
addDOHLocal('127.0.0.1:{https}', '{certificates.chain}', '{certificates.key}', '/dns-query')
newServer({{ address = '127.0.0.1:{behind}', checkName = '{WWW}.', tcpOnly = true }})
""")
    process = Process(folder, "dnsdist", "dnsdist", "--supervised", "--disable-syslog", "-C", config)
    process.until(answers(plain))
    process.until(listens(https))
    return process, {"tls": tls, "https": https}


def hickory(folder, certificates, binary):
    process = Process(folder, "hickory", binary, certificates.chain, certificates.key)
    ports = process.until(lambda: re.fullmatch(r"doq (\d+)\nh3 (\d+)\n", process.said()))
    return process, {"quic": int(ports[1]), "h3": int(ports[2])}


class Gateway:
    """hushgate with one upstream."""

    def __init__(self, binary, folder, scheme, port, ca, name, more=""):
        self.door = free_port()
        is_plain = scheme in ("udp", "tcp")
        trust = "" if is_plain else f', ca = "{ca}", tls_name = "{name}"'
        config = write(folder, "hushgate.toml", f"""
state_dir = "{folder}/state"
workers = 1
[listen]
dns = ["127.0.0.1:{self.door}"]
[admin]
listen = ["unix:{folder}/admin.sock"]
[upstream]
servers = [{{ url = "{scheme}://127.0.0.1:{port}"{trust} }}]
fallback = []
{more}""")
        self.process = Process(folder, "hushgate", binary, "serve", "--config", config)
        # Answered here, whatever the upstream does.
        self.process.until(lambda: dig(self.door, "localhost", "A", "+short", "+time=1").strip() == "127.0.0.1")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stop()

    def addresses(self):
        """What both kinds of address and a long TXT record, by way of truncation, come to."""
        found = [dig(self.door, WWW, rtype, "+short").strip() for rtype in ("A", "AAAA")]
        strings = re.findall(r'"([^"]*)"', dig(self.door, BIG, "TXT", "+short"))
        long = "long TXT" if strings == STRINGS else f"TXT of {len(strings)} strings"
        return " ".join([*found, long])

    def trouble(self):
        """The RCODE and the extended error."""
        said = dig(self.door, WWW, "A")
        status, extended = re.search(r"status: (\w+)", said), re.search(r"EDE: (\d+)", said)
        return f"{status[1] if status else 'no answer'} EDE {extended[1] if extended else 'none'}"


def rows_of(binary, folder, certificates, server, ports):
    """(server, transport, what must come back, what did)"""
    good = "^" + re.escape(f"{ADDRESS} {ADDRESS6} long TXT") + "$"
    refused = "^SERVFAIL EDE 23$"
    for scheme, port in ports.items():
        with Gateway(binary, folder, scheme, port, certificates.ca, HOST) as gateway:
            yield server, scheme, good, gateway.addresses()
        if scheme in ("udp", "tcp"):
            continue
        for what, ca, name in [("authority", certificates.wrong, HOST), ("name", certificates.ca, "elsewhere.corp.example")]:
            with Gateway(binary, folder, scheme, port, ca, name) as gateway:
                yield f"{server}, wrong {what}", scheme, refused, gateway.trouble()


def rows(binary, hickory_binary):
    """The rows of every server."""
    with tempfile.TemporaryDirectory() as folder:
        certificates, running = Certificates(folder), []

        def started(process, ports):
            running.append(process)
            return ports

        try:
            ports = started(*unbound(folder, certificates))
            plain = ports["udp"]
            yield from rows_of(binary, folder, certificates, "to unbound", ports)
            ports = started(*knot_resolver(folder, certificates))
            yield from rows_of(binary, folder, certificates, "to knot-resolver", ports)
            ports = started(*dnsdist(folder, certificates, plain))
            yield from rows_of(binary, folder, certificates, "to dnsdist", ports)
            ports = started(*hickory(folder, certificates, hickory_binary))
            yield from rows_of(binary, folder, certificates, "to hickory", ports)
        except (OSError, RuntimeError) as error:
            yield "a server or the gateway", "-", "^started$", str(error)
        finally:
            for process in running:
                process.stop()
