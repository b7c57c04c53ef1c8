#!/usr/bin/env python3
"""Real clients and real servers against the real binary: every client x transport pair must get the right answer with the
certificate verified, and must refuse a wrong authority; clients that look closely find nothing amiss (clients.py), nor do the questions of RFC 8906 (conformance.py); other people's software reads what is said of the doors (discovery.py); who was at one gateway of a fleet is known at another (fleet.py), and who moves to another port keeps the connection (moving.py); so must the gateway of every server x transport pair (servers.py), and what it remembers must outlive its server (memory.py); proxies must be able to say who asks (proxied.py), and a real authority must give it certificates (acme.py).

    run.py HUSHGATE_BINARY HICKORY_BINARY

Needs dig, kdig, curl, openssl, dnsmasq, unbound, kresd, dnsdist, haproxy and pebble on the PATH, aioquic and dnspython (with its extras doh and doq) for this Python, and the program of hickory/ built
(`.ci/run` does all that). Starts
`hushgate demo`, which brings its own upstream, with a state directory of its own; prints a table; exits 1 if any row failed.
"""
import asyncio
import base64
import http.server
import itertools
import json
import logging
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading

import acme
import clients
import conformance
import deploy
import discovery
import fleet
import memory
import moving
import proxied
import servers

NAME = "interop.demo.example"
ADDRESS = "192.0.2.7"


def query(name=NAME, ident=0):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack(">HHHHHH", ident, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)


def address_in(message):
    """The last four octets of a demo answer without OPT are the A record's data."""
    return socket.inet_ntoa(message[-4:]) if len(message) > 40 and message[3] & 15 == 0 else f"rcode {message[3] & 15}"


def run(*command, **options):
    return subprocess.run(command, capture_output=True, timeout=20, **options)


class Demo:
    """The gateway under test."""

    def __init__(self, binary):
        self.folder = tempfile.TemporaryDirectory()
        environment = dict(os.environ, XDG_STATE_HOME=self.folder.name)
        environment.pop("STATE_DIRECTORY", None)
        self.process = subprocess.Popen([binary, "demo", "--json"], stdout=subprocess.PIPE, text=True, env=environment)
        self.facts = json.loads(self.process.stdout.readline())
        self.ports = {row["door"]: row["address"].rsplit(":", 1)[1] for row in self.facts["doors"]}
        self.ca = self.facts["authority"]
        self.wrong = os.path.join(self.folder.name, "wrong.pem")
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "/dev/null",
            "-subj", "/CN=somebody else", "-days", "2", "-out", self.wrong)

    def stop(self):
        self.process.terminate()
        status = self.process.wait(20)
        self.folder.cleanup()
        return status


def text(result):
    return result.stdout.decode("utf-8", "replace").strip()


def kdig(demo, door, *options):
    result = run("kdig", "@127.0.0.1", "-p", demo.ports[door], "+retry=0", "+time=5", *options, NAME, "A", "+short")
    return text(result) or ("no answer" if result.returncode >= 0 else f"killed by signal {-result.returncode}")


def kdig_trusting(demo, door, ca, *options, name="localhost"):
    # The transport comes last: +tls-ca means +tls as well, and kdig 3.2 crashes where it comes after +quic.
    return kdig(demo, door, f"+tls-ca={ca}", f"+tls-hostname={name}", *options)


def dig(demo, door, *options):
    return text(run("dig", "@127.0.0.1", "-p", demo.ports[door], "+tries=1", "+time=5", *options, NAME, "A", "+short")) or "no answer"


def curl(demo, ca, *options, get=False):
    url = f"https://localhost:{demo.ports['doh2']}/dns-query"
    if get:
        url += "?dns=" + base64.urlsafe_b64encode(query()).rstrip(b"=").decode()
        body = []
    else:
        body = ["-H", "content-type: application/dns-message", "--data-binary", "@-"]
    result = run("curl", "-sS", "--cacert", ca, "--max-time", "10", *options, *body, url, input=None if get else query())
    return address_in(result.stdout) if result.returncode == 0 else f"curl {result.returncode}"


def curl_doh_url(demo, ca):
    """curl resolves a name through the gateway, and fetches a page from where it points."""
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(ADDRESS.encode())

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        result = run("curl", "-sS", "--max-time", "10", "--cacert", ca, "--doh-url", f"https://localhost:{demo.ports['doh2']}/dns-query",
                     f"http://local.demo.example:{server.server_port}/")
        return text(result) if result.returncode == 0 else f"curl {result.returncode}"
    finally:
        server.shutdown()


def openssl_alpn(demo, door, offered):
    result = run("openssl", "s_client", "-connect", f"127.0.0.1:{demo.ports[door]}", "-servername", "localhost", "-CAfile", demo.ca,
                 "-verify_return_error", "-alpn", offered, input=b"")
    found = re.search(r"ALPN protocol: (\S+)", text(result))
    return found.group(1) if found else "refused"


def openssl_version(demo, flag):
    result = run("openssl", "s_client", "-connect", f"127.0.0.1:{demo.ports['dot']}", "-CAfile", demo.ca, "-verify_return_error",
                 "-verify_hostname", "localhost", "-cipher", "DEFAULT@SECLEVEL=0", flag, input=b"")
    found = re.search(r"Protocol\s*: (\S+)|New, (TLSv[\d.]+), Cipher is (?!\(NONE\))", text(result))
    return (found.group(1) or found.group(2)) if found and b"(NONE)" not in result.stdout else "refused"


def openssl_resumes(demo):
    session = os.path.join(demo.folder.name, "session.pem")
    base = ["openssl", "s_client", "-connect", f"127.0.0.1:{demo.ports['dot']}", "-servername", "localhost", "-CAfile", demo.ca]
    # The ticket comes after the handshake: one question keeps the connection until it has.
    framed = struct.pack(">H", len(query())) + query()
    script = subprocess.Popen([*base, "-sess_out", session, "-quiet", "-no_ign_eof"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL)
    script.stdin.write(framed)
    script.stdin.flush()
    script.stdout.read(2 + len(query()) + 16)
    script.stdin.close()
    script.wait(10)
    return "reused" if b"Reused," in run(*base, "-sess_in", session, input=b"").stdout else "new"


async def aioquic_exchange(demo, door, alpn, ca):
    from aioquic.asyncio import connect
    from aioquic.asyncio.protocol import QuicConnectionProtocol
    from aioquic.h3.connection import H3Connection
    from aioquic.h3.events import DataReceived, HeadersReceived
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.events import ConnectionTerminated, StreamDataReceived

    class Client(QuicConnectionProtocol):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.done, self.data, self.h3 = asyncio.get_event_loop().create_future(), b"", None
            # A connection may end with nobody waiting for an answer: that is no news.
            self.done.add_done_callback(lambda done: done.cancelled() or done.exception())

        def quic_event_received(self, event):
            if isinstance(event, ConnectionTerminated) and not self.done.done():
                self.done.set_exception(ConnectionError(event.reason_phrase))
            if self.h3 is None:
                if isinstance(event, StreamDataReceived):
                    self.data += event.data
                    if event.end_stream and not self.done.done():
                        self.done.set_result(self.data[2:])
                return
            for item in self.h3.handle_event(event):
                if isinstance(item, HeadersReceived):
                    status = dict(item.headers)[b":status"]
                    if status != b"200" and not self.done.done():
                        self.done.set_exception(ValueError(f"status {status.decode()}"))
                if isinstance(item, DataReceived):
                    self.data += item.data
                if getattr(item, "stream_ended", False) and not self.done.done():
                    self.done.set_result(self.data)

    settings = QuicConfiguration(is_client=True, alpn_protocols=[alpn], server_name="localhost", verify_mode=ssl.CERT_REQUIRED)
    settings.load_verify_locations(ca)
    async with connect("127.0.0.1", int(demo.ports[door]), configuration=settings, create_protocol=Client) as client:
        stream = client._quic.get_next_available_stream_id()
        if alpn == "h3":
            client.h3 = H3Connection(client._quic)
            client.h3.send_headers(stream, [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"localhost"),
                                            (b":path", b"/dns-query"), (b"content-type", b"application/dns-message")])
            client.h3.send_data(stream, query(), end_stream=True)
        else:
            client._quic.send_stream_data(stream, struct.pack(">H", len(query())) + query(), end_stream=True)
        client.transmit()
        return address_in(await asyncio.wait_for(client.done, 10))


def aioquic(demo, door, alpn, ca):
    try:
        return asyncio.run(asyncio.wait_for(aioquic_exchange(demo, door, alpn, ca), 15))
    except Exception as error:  # the kind of failure is the result
        return f"refused ({type(error).__name__})"


def hushgate_query(binary, demo, scheme, door, ca):
    result = run(binary, "query", f"{scheme}://localhost:{demo.ports[door]}", NAME, "A", "--ca", ca, "--json")
    return ADDRESS if ADDRESS in text(result) and result.returncode == 0 else f"exit {result.returncode}"


def rows(binary, demo):
    """(client, transport, what must come back, what did)"""
    ca, wrong = demo.ca, demo.wrong
    good, refused = "^" + re.escape(ADDRESS) + "$", "^no answer$"
    yield "dig", "udp", good, dig(demo, "udp")
    yield "dig +tcp", "tcp", good, dig(demo, "tcp", "+tcp")
    yield "dig +cookie +dnssec", "udp", good, dig(demo, "udp", "+cookie", "+dnssec")
    yield "kdig", "udp", good, kdig(demo, "udp")
    yield "kdig +tcp", "tcp", good, kdig(demo, "tcp", "+tcp")
    yield "kdig +tls", "dot", good, kdig_trusting(demo, "dot", ca, "+tls")
    yield "kdig +tls +padding", "dot", good, kdig_trusting(demo, "dot", ca, "+tls", "+padding")
    yield "kdig +tls, wrong authority", "dot", refused, kdig_trusting(demo, "dot", wrong, "+tls")
    yield "kdig +https", "doh2", good, kdig_trusting(demo, "doh2", ca, "+https")
    yield "kdig +https-get", "doh2", good, kdig_trusting(demo, "doh2", ca, "+https-get")
    yield "kdig +https, wrong authority", "doh2", refused, kdig_trusting(demo, "doh2", wrong, "+https")
    yield "kdig +quic", "doq", good, kdig_trusting(demo, "doq", ca, "+quic")
    yield "kdig +quic, wrong authority", "doq", refused, kdig_trusting(demo, "doq", wrong, "+quic")
    for option, door in [("+tls", "dot"), ("+https", "doh2"), ("+quic", "doq")]:
        yield f"kdig {option}, wrong name", door, refused, kdig_trusting(demo, door, ca, option, name="elsewhere.example")
    yield "curl --http1.1 POST", "doh1", good, curl(demo, ca, "--http1.1")
    yield "curl --http1.1 GET", "doh1", good, curl(demo, ca, "--http1.1", get=True)
    yield "curl --http2 POST", "doh2", good, curl(demo, ca, "--http2")
    yield "curl --http2 GET", "doh2", good, curl(demo, ca, "--http2", get=True)
    yield "curl, wrong authority", "doh2", "^curl 60$", curl(demo, wrong)
    yield "curl --doh-url", "doh2", good, curl_doh_url(demo, ca)
    yield "aioquic h3", "doh3", good, aioquic(demo, "doh3", "h3", ca)
    yield "aioquic h3, wrong authority", "doh3", r"^refused \(ConnectionError\)$", aioquic(demo, "doh3", "h3", wrong)
    yield "aioquic doq", "doq", good, aioquic(demo, "doq", "doq", ca)
    yield "aioquic doq, wrong authority", "doq", r"^refused \(ConnectionError\)$", aioquic(demo, "doq", "doq", wrong)
    yield "aioquic dq (draft ALPN)", "doq", r"^refused \(ConnectionError\)$", aioquic(demo, "doq", "dq", ca)
    yield "openssl ALPN dot", "dot", "^dot$", openssl_alpn(demo, "dot", "dot")
    yield "openssl ALPN h2,http/1.1", "doh2", "^h2$", openssl_alpn(demo, "doh2", "h2,http/1.1")
    yield "openssl ALPN h2 at the DoT door", "dot", "^refused$", openssl_alpn(demo, "dot", "h2")
    yield "openssl TLS 1.3", "dot", r"^TLSv1\.3$", openssl_version(demo, "-tls1_3")
    yield "openssl TLS 1.2", "dot", r"^TLSv1\.2$", openssl_version(demo, "-tls1_2")
    yield "openssl TLS 1.1", "dot", "^refused$", openssl_version(demo, "-tls1_1")
    yield "openssl session resumption", "dot", "^reused$", openssl_resumes(demo)
    for scheme, door in [("tls", "dot"), ("https", "doh2"), ("h3", "doh3"), ("quic", "doq")]:
        yield f"hushgate query {scheme}://", door, good, hushgate_query(binary, demo, scheme, door, ca)
        yield f"hushgate query {scheme}://, wrong authority", door, r"^exit [1-9]", hushgate_query(binary, demo, scheme, door, wrong)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    # A certificate that is refused is what some rows are about.
    logging.getLogger("quic").setLevel(logging.CRITICAL)
    binary, hickory = map(os.path.abspath, sys.argv[1:])
    demo, failed, passed = Demo(binary), 0, 0
    try:
        for client, transport, wanted, got in itertools.chain(rows(binary, demo), clients.rows(demo), conformance.rows(binary), discovery.rows(binary, demo), fleet.rows(binary, demo), moving.rows(binary, demo), servers.rows(binary, hickory), memory.rows(binary), proxied.rows(binary), acme.rows(binary), deploy.rows(binary)):
            good = re.search(wanted, got) is not None
            failed, passed = failed + (not good), passed + good
            print(f"{'ok  ' if good else 'FAIL'} {client:38} {transport:5} {got}", flush=True)
    finally:
        status = demo.stop()
    if status != 0:
        failed += 1
        print(f"FAIL the demo ended with status {status} on SIGTERM")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
