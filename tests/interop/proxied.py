"""Real proxies in front of the real binary: haproxy and dnsdist say who asks by PROXY headers of both versions, haproxy by
X-Forwarded-For and Forwarded too; so do kdig and curl for themselves. Whoever may ask is answered, and all others are not, whatever
the proxy may. Called by run.py.

Clients are told apart by their address on loopback: 127.0.0.2 may ask; 127.0.0.1, where the proxies ask from, and 127.0.0.3 may not,
but that curl says 127.0.0.1 for itself at the doh door.
"""
import re
import socket
import struct
import tempfile

from servers import ADDRESS, HOST, WWW, Certificates, Process, free_port, listens, run, unbound, write

MAY, MAY_NOT = "127.0.0.2", "127.0.0.3"
SAID_MAY, SAID_MAY_NOT = "198.51.100.7-192.0.2.1", "203.0.113.9-192.0.2.1"


def text(result):
    return result.stdout.decode("utf-8", "replace")


def kdig(port, *options):
    """The address in the answer, its RCODE, or that there is none."""
    said = text(run("kdig", "@127.0.0.1", "-p", str(port), "+retry=0", "+time=3", *options, WWW, "A"))
    status = re.search(r"status: (\w+)", said)
    return ADDRESS if ADDRESS in said else status[1] if status else "no answer"


def curl(port, certificates, *options):
    """A question in JSON: the address in the answer, the RCODE, or the HTTP status."""
    result = run("curl", "-s", "-o", "-", "-w", "\n%{http_code}", "--max-time", "5", "--cacert", certificates.ca, "--connect-to",
                 f"{HOST}:{port}:127.0.0.1:{port}", *options, f"https://{HOST}:{port}/dns-query?name={WWW}")
    body, _, status = text(result).rpartition("\n")
    rcode = re.search(r'"Status":\s*(\d+)', body)
    return ADDRESS if ADDRESS in body else f"rcode {rcode[1]}" if rcode else f"HTTP {status}"


def gateway(binary, folder, certificates, upstream):
    """hushgate behind proxies at 127.0.0.1, and its ports by door."""
    ports = {door: free_port() for door in ("dns", "dot", "doh", "web", "forwarded")}
    at = lambda door, more: f'{{ address = "127.0.0.1:{ports[door]}", {more} }}'
    proxy, web = 'proxy = ["127.0.0.1/32"]', 'tls = false, forwarded = ["127.0.0.1/32"]'
    config = write(folder, "hushgate.toml", f"""
state_dir = "{folder}/state"
[listen]
dns = [{at("dns", proxy)}]
dot = [{at("dot", proxy)}]
doh = [{at("doh", proxy + f', allow = ["127.0.0.1/32", "{MAY}/32"]')}, {at("web", web)}, {at("forwarded", web + ', forwarded_header = "forwarded"')}]
[access]
allow = ["{MAY}/32", "198.51.100.0/24"]
[tls]
certificates = [{{ chain = "{certificates.chain}", key = "{certificates.key}" }}]
[upstream]
servers = ["udp://127.0.0.1:{upstream}"]
fallback = []
[admin]
listen = ["unix:{folder}/admin.sock"]
""")
    process = Process(folder, "hushgate", binary, "serve", "--config", config)
    process.until(listens(ports["forwarded"]))
    return process, ports


def haproxy(folder, certificates, ports):
    """Frontends by what they lead to."""
    own = {name: free_port() for name in ("tcp v1", "tcp v2", "dot v1", "dot v2", "doh v2", "web", "forwarded")}
    options = {"v1": "send-proxy", "v2": "send-proxy-v2 proxy-v2-options crc32c,unique-id,ssl,authority"}
    with open(f"{folder}/both.pem", "w") as both:
        for part in (certificates.chain, certificates.key):
            with open(part) as file:
                both.write(file.read())
    lines = ["defaults", " timeout connect 5s", " timeout client 10s", " timeout server 10s"]
    for number, (name, port) in enumerate(own.items()):
        door, _, version = name.partition(" ")
        behind = ports["dns" if door == "tcp" else door]
        if version:
            lines += [f"listen l{number}", " mode tcp", f" bind 127.0.0.1:{port}", " unique-id-format %ci", f" server s 127.0.0.1:{behind} {options[version]}"]
        else:
            header = " option forwardfor" if door == "web" else " http-request set-header forwarded for=%[src];proto=https"
            lines += [f"listen l{number}", " mode http", f" bind 127.0.0.1:{port} ssl crt {folder}/both.pem alpn h2,http/1.1", header,
                      f" server s 127.0.0.1:{behind}"]
    process = Process(folder, "haproxy", "haproxy", "-db", "-f", write(folder, "haproxy.cfg", "\n".join(lines) + "\n"))
    process.until(listens(own["forwarded"]))
    return process, own


def dnsdist(folder, port):
    """It asks with PROXY version 2, over UDP, and over TCP what came over TCP."""
    own = free_port()
    config = write(folder, "proxying.conf", f"""
setLocal('127.0.0.1:{own}')
newServer({{ address = '127.0.0.1:{port}', useProxyProtocol = true, healthCheckMode = 'up' }})
""")
    process = Process(folder, "dnsdist-proxying", "dnsdist", "--supervised", "--disable-syslog", "-C", config)
    process.until(listens(own))
    return process, own


def checked(port):
    """What haproxy's health check of version 2 says: LOCAL, and a question behind it."""
    name = b"".join(bytes([len(part)]) + part.encode() for part in WWW.split(".")) + b"\0"
    query = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + name + struct.pack(">HH", 1, 1)
    with socket.create_connection(("127.0.0.1", port), 5) as stream:
        stream.sendall(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0" + struct.pack(">H", len(query)) + query)
        reply = stream.recv(600)
    return f"rcode {reply[5] & 15}" if len(reply) > 6 else "closed"


def direct(certificates, ports):
    for label, options in [("udp", []), ("tcp", ["+tcp"])]:
        yield "kdig +proxy", label, f"^{ADDRESS}$", kdig(ports["dns"], f"+proxy={SAID_MAY}", *options)
        yield "kdig +proxy, who may not", label, "^(REFUSED|no answer)$", kdig(ports["dns"], f"+proxy={SAID_MAY_NOT}", *options)
        yield "kdig without a header", label, "^no answer$", kdig(ports["dns"], *options)
        yield "kdig +proxy, a stranger", label, "^no answer$", kdig(ports["dns"], "-b", MAY, f"+proxy={SAID_MAY}", *options)
    for version in ("--http1.1", "--http2"):
        yield f"curl {version}, PROXY 1 of its own address", "doh", f"^{ADDRESS}$", curl(ports["doh"], certificates, version, "--haproxy-protocol")
        yield f"curl {version}, without a header", "doh", "^HTTP 000$", curl(ports["doh"], certificates, version)
    yield "LOCAL, as a check sends it", "tcp", "^rcode 5$", checked(ports["dns"])


def through(certificates, own, dnsdist_port):
    tls = ["+tls", f"+tls-ca={certificates.ca}", f"+tls-hostname={HOST}"]
    for name, options in [("tcp v1", ["+tcp"]), ("tcp v2", ["+tcp"]), ("dot v1", tls), ("dot v2", tls)]:
        yield "kdig, haproxy", name, f"^{ADDRESS}$", kdig(own[name], "-b", MAY, *options)
        yield "kdig, haproxy, who may not", name, "^no answer$", kdig(own[name], "-b", MAY_NOT, *options)
    for name, refused in [("doh v2", "HTTP 000"), ("web", "rcode 5"), ("forwarded", "rcode 5")]:
        yield "curl, haproxy", name, f"^{ADDRESS}$", curl(own[name], certificates, "--interface", MAY)
        yield "curl, haproxy, who may not", name, f"^{refused}$", curl(own[name], certificates, "--interface", MAY_NOT)
    spoof = ["-H", f"X-Forwarded-For: {MAY}", "-H", f"Forwarded: for={MAY}", "--interface", MAY_NOT]
    for name in ("web", "forwarded"):
        yield "curl, haproxy, with a header of its own", name, "^rcode 5$", curl(own[name], certificates, *spoof)
    for label, options in [("udp", []), ("tcp", ["+tcp"])]:
        yield "kdig, dnsdist", label, f"^{ADDRESS}$", kdig(dnsdist_port, "-b", MAY, *options)
        yield "kdig, dnsdist, who may not", label, "^(REFUSED|SERVFAIL|no answer)$", kdig(dnsdist_port, "-b", MAY_NOT, *options)


def rows(binary):
    """(who asks, transport, what must come back, what did)"""
    started = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            certificates = Certificates(folder)
            server, behind = unbound(folder, certificates)
            started.append(server)
            process, ports = gateway(binary, folder, certificates, behind["udp"])
            started.append(process)
            process, own = haproxy(folder, certificates, ports)
            started.append(process)
            process, dnsdist_port = dnsdist(folder, ports["dns"])
            started.append(process)
            yield from direct(certificates, ports)
            yield from through(certificates, own, dnsdist_port)
        except (OSError, RuntimeError) as error:
            yield "a proxy or the gateway", "-", "^started$", str(error)
        finally:
            for process in reversed(started):
                process.stop()
