"""Certificates by ACME from a real authority: pebble validates at the gateway's own doors, and what it issued is what clients see,
renewed under a session that lives on. Called by run.py.
"""
import json
import os
import socket
import ssl
import struct
import tempfile
import time
import urllib.request

from servers import PATIENCE, Certificates, Process, free_port, listens, run, write

NAME = "dns.acme.example"
# Renewed at two thirds of its life.
LIFE = 15


def question():
    labels = b"".join(bytes([len(part)]) + part.encode() for part in "www.acme.example".split("."))
    message = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)
    return struct.pack(">H", len(message)) + message


class Pebble:
    """The authority and its view of the DNS."""

    def __init__(self, folder, tls_port, http_port, life):
        certificates = Certificates(folder)
        run("openssl", "x509", "-req", "-in", os.path.join(folder, "leaf.csr"), "-CA", certificates.ca, "-CAkey",
            os.path.join(folder, "ca.key"), "-CAcreateserial", "-days", "2", "-out", certificates.chain, "-extfile",
            write(folder, "pebble.ext", "subjectAltName=DNS:localhost,IP:127.0.0.1\n"), check=True)
        self.ca = certificates.ca
        self.port, self.management, self.dns, self.zone = (free_port() for _ in range(4))
        config = write(folder, "pebble.json", json.dumps({"pebble": {
            "listenAddress": f"127.0.0.1:{self.port}", "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": certificates.chain, "privateKey": certificates.key, "httpPort": http_port, "tlsPort": tls_port,
            "ocspResponderURL": "", "externalAccountBindingRequired": False, "certificateValidityPeriod": life}}))
        os.environ["PEBBLE_VA_NOSLEEP"] = "1"
        self.names = Process(folder, "challtestsrv", "pebble-challtestsrv", "-defaultIPv6", "", "-http01", "", "-https01", "",
                             "-tlsalpn01", "", "-dns01", f"127.0.0.1:{self.dns}", "-management", f"127.0.0.1:{self.zone}")
        self.names.until(listens(self.zone))
        self.process = Process(folder, "pebble", "pebble", "-config", config, "-dnsserver", f"127.0.0.1:{self.dns}")
        self.process.until(listens(self.port))
        loose = ssl._create_unverified_context()
        with urllib.request.urlopen(f"https://127.0.0.1:{self.management}/roots/0", context=loose, timeout=PATIENCE) as answer:
            self.root = write(folder, "root.pem", answer.read().decode())

    def stop(self):
        self.process.stop()
        self.names.stop()


def gateway(binary, folder, pebble, dot, names, more):
    config = write(folder, "hushgate.toml", f"""
state_dir = "{folder}/state"
workers = 1
[listen]
dot = ["127.0.0.1:{dot}"]
[admin]
listen = ["unix:{folder}/admin.sock"]
[upstream]
servers = ["udp://127.0.0.1:{pebble.dns}"]
fallback = []
[acme]
domains = {json.dumps(names)}
directory = "https://127.0.0.1:{pebble.port}/dir"
accept_terms = true
ca = "{pebble.ca}"
{more}""")
    return Process(folder, "hushgate", binary, "serve", "--config", config)


def session(port, root, name):
    """A verified DoT connection, and the certificate that was shown."""
    context = ssl.create_default_context(cafile=root)
    stream = context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE), server_hostname=name)
    return stream, stream.getpeercert(binary_form=True)


def shown(port, root, name):
    """The certificate that a client verifies there; none where it verifies none."""
    try:
        stream, certificate = session(port, root, name)
        stream.close()
        return certificate
    except OSError:
        return None


def asked(stream):
    stream.sendall(question())
    length = struct.unpack(">H", stream.recv(2))[0]
    return f"rcode {stream.recv(length)[3] & 15}"


def hook(folder, pebble):
    path = write(folder, "hook", f"""#!/bin/sh
case $1 in present) verb=set-txt;; cleanup) verb=clear-txt;; esac
exec curl -sf -d "{{\\"host\\":\\"$2.\\",\\"value\\":\\"$3\\"}}" http://127.0.0.1:{pebble.zone}/$verb
""")
    os.chmod(path, 0o700)
    return path


def proven(binary, way):
    """(what is done, transport, what must come back, what did) for one way to prove a name."""
    with tempfile.TemporaryDirectory() as folder:
        dot, http = free_port(), free_port()
        renewing = way == "tls-alpn"
        pebble = Pebble(folder, dot, http, LIFE if renewing else 86_400)
        names = [NAME, "*.acme.example"] if way == "dns" else [NAME, "b.acme.example"]
        more = {"tls-alpn": "", "http": f'http_listen = ["127.0.0.1:{http}"]', "dns": f'hook = "{hook(folder, pebble)}"'}[way]
        process = gateway(binary, folder, pebble, dot, names, f'challenge = "{way}"\n{more}')
        try:
            first = process.until(lambda: shown(dot, pebble.root, NAME))
            yield f"pebble, {way}", "dot", "^a certificate$", "a certificate"
            other = "any.acme.example" if way == "dns" else "b.acme.example"
            yield f"pebble, {way}, another name", "dot", "^True$", str(bool(shown(dot, pebble.root, other)))
            if renewing:
                held, _ = session(dot, pebble.root, NAME)
                end = time.monotonic() + 3 * LIFE
                while shown(dot, pebble.root, NAME) in (None, first) and time.monotonic() < end:
                    asked(held)
                    time.sleep(0.5)
                yield "pebble, renewed", "dot", "^True$", str(shown(dot, pebble.root, NAME) not in (None, first))
                yield "pebble, a session over the renewal", "dot", "^rcode [0-9]+$", asked(held)
        except (OSError, RuntimeError) as error:
            yield f"pebble, {way}", "dot", "^a certificate$", f"{error} {process.said()[-1000:]}"
        finally:
            process.stop()
            pebble.stop()


def rows(binary):
    for way in ["tls-alpn", "http", "dns"]:
        yield from proven(binary, way)
