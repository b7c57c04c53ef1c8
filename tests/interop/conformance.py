"""The query set of RFC 8906 with its own command lines: dig over UDP and TCP, kdig over TLS, HTTPS and QUIC where it knows how to ask.
Behind the gateway stands an upstream of this file that tells the root as a good server does. Called by run.py.
"""
import re
import socketserver
import struct
import tempfile
import threading

from servers import Process, free_port, run, write

MISSING, RRSIG, DNSKEY, SOA, OPT = 0, 46, 48, 6, 41
ROOT_SOA = b"\x01a\x04root\0\x05nstld\0" + struct.pack(">5L", 1, 1800, 900, 604800, 86400)
SIGNATURE = struct.pack(">HBBLLLH", SOA, 8, 0, 300, 0x7FFFFFFF, 1, 7) + b"\0" + b"\5" * 64


def record(rtype, data, ttl=300):
    return struct.pack(">BHHLH", 0, rtype, 1, ttl, len(data)) + data


def told(query):
    """The root: a SOA, signed for who sets DO; a large DNSKEY set; no data of other types."""
    end = query.index(b"\0", 12) + 5
    rtype, opt = struct.unpack(">H", query[end - 4:end - 2])[0], query[end:]
    signed = len(opt) >= 9 and opt[7] & 0x80 != 0
    answers = {SOA: [record(SOA, ROOT_SOA)], DNSKEY: [record(DNSKEY, b"\1\1\3\x08" + bytes([n]) * 256) for n in range(4)]}.get(rtype, [])
    if signed and rtype == SOA:
        answers.append(record(RRSIG, SIGNATURE))
    authorities = [] if answers else [record(SOA, ROOT_SOA)]
    reply_opt = struct.pack(">BHHLH", 0, OPT, 1232, 0x8000 if signed else 0, 0) if opt else b""
    counts = struct.pack(">4H", 1, len(answers), len(authorities), 1 if opt else 0)
    return query[:2] + struct.pack(">H", 0x8080 | query[2] << 8 & 0x100) + counts + query[12:end] + b"".join(answers + authorities) + reply_opt


class Datagrams(socketserver.BaseRequestHandler):
    def handle(self):
        octets, socket = self.request
        reply = told(octets)
        if len(reply) > 1232:
            reply = reply[:2] + bytes([reply[2] | 2, reply[3]]) + struct.pack(">4H", 1, 0, 0, 0) + reply[12:17]
        socket.sendto(reply, self.client_address)


class Streams(socketserver.StreamRequestHandler):
    def handle(self):
        while len(length := self.rfile.read(2)) == 2:
            reply = told(self.rfile.read(struct.unpack(">H", length)[0]))
            self.wfile.write(struct.pack(">H", len(reply)) + reply)


class Upstream:
    def __init__(self):
        self.port = free_port()
        where = ("127.0.0.1", self.port)
        self.servers = [socketserver.ThreadingUDPServer(where, Datagrams), socketserver.ThreadingTCPServer(where, Streams)]
        for server in self.servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def stop(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()


# (row of RFC 8906, what is asked, what must be shown: by summary). The summary is: status, flags, records in the answer, the OPT.
SET = [
    ("8.1.1 SOA", "+noedns +noad soa .", "NOERROR qr rd ra 1 no OPT"),
    ("8.1.2 TYPE1000", "+noedns +noad type1000 .", "NOERROR qr rd ra 0 no OPT"),
    ("8.1.3.1 CD", "+noedns +noad +cd soa .", "NOERROR qr rd ra cd 1 no OPT"),
    ("8.1.3.2 AD", "+noedns +ad soa .", "NOERROR qr rd ra 1 no OPT"),
    ("8.1.3.3 Z", "+noedns +noad +zflag soa .", "NOERROR qr rd ra 1 no OPT"),
    ("8.1.3.4 RD clear", "+noedns +noad +norec soa .", "NOERROR qr ra 1 no OPT"),
    ("8.2.1 EDNS", "+nocookie +edns=0 +noad soa .", "NOERROR qr rd ra 1 version 0 flags options"),
    ("8.2.2 version 1", "+nocookie +edns=1 +noednsneg +noad soa .", "BADVERS qr rd ra 0 version 0 flags options"),
    ("8.2.3 option 100", "+nocookie +ednsopt=100 +noad soa .", "NOERROR qr rd ra 1 version 0 flags options"),
    ("8.2.4 flag 0x40", "+nocookie +ednsflags=0x40 +noad soa .", "NOERROR qr rd ra 1 version 0 flags options"),
    ("8.2.5 version 1, flag", "+nocookie +edns=1 +noednsneg +noad +ednsflags=0x40 soa .", "BADVERS qr rd ra 0 version 0 flags options"),
    ("8.2.6 version 1, option", "+nocookie +edns=1 +noednsneg +noad +ednsopt=100 soa .", "BADVERS qr rd ra 0 version 0 flags options"),
    ("8.2.8 DO", "+nocookie +noad +dnssec soa .", "NOERROR qr rd ra 2 version 0 flags do options"),
    ("8.2.9 version 1, DO", "+nocookie +edns=1 +noednsneg +noad +dnssec soa .", "BADVERS qr rd ra 0 version 0 flags do options"),
    ("8.2.10 many options", "+cookie=0102030405060708 +nsid +expire +subnet=0.0.0.0/0 +noad soa .", "NOERROR qr rd ra 1 version 0 flags options COOKIE"),
]


def summary(shown):
    """What both programs show, in one form."""
    status, flags = re.search(r"status: ([A-Z]+)", shown), re.search(r"^;; [Ff]lags: ([a-z ]*);([^\n]*)", shown, re.M)
    if not status or not flags:
        return "no answer"
    # dig says the extended RCODE in the header's place, kdig in that of the OPT.
    extended = re.search(r"ext-rcode: (\w+)", shown)
    code = extended[1] if extended and extended[1] != "NOERROR" else status[1]
    odd = " MBZ" if "MBZ" in shown else ""
    answers = re.search(r"ANSWER: (\d+)", flags[2])[1]
    opt = re.search(r"(?:; EDNS: version: |;; Version: )(\d+)[,;] flags: ?([a-z ]*)", shown)
    if not opt:
        edns = "no OPT"
    else:
        section = shown[opt.end():].partition("QUESTION SECTION")[0].partition("\n")[2]
        options = re.findall(r"^;;? ([A-Z][A-Za-z-]+|OPT=\d+|Option \(\d+\)|PADDING)\b", section, re.M)
        edns = " ".join(["version", opt[1], "flags", *opt[2].split(), "options", *[name for name in options if name != "PADDING"]])
    return f"{code} {' '.join(flags[1].split())} {answers} {edns}{odd}"


def dig(port, *options):
    return run("dig", "@127.0.0.1", "-p", str(port), "+tries=1", "+time=5", *options).stdout.decode("utf-8", "replace")


def of_dig(port):
    for extra in ([], ["+tcp"]):
        transport = "tcp" if extra else "udp"
        for name, command, wanted in SET:
            yield f"8906 {name}", transport, f"^{wanted}$", summary(dig(port, *extra, *command.split()))
        for opcode in range(1, 16):
            shown = dig(port, *extra, "+noedns", "+noad", f"+opcode={opcode}", "+norec", "+header-only")
            echoed = re.search(r"opcode: (\w+)", shown)
            got = f"{echoed and echoed[1]} {summary(shown)}"
            yield f"8906 8.1.4 opcode {opcode}", transport, r"^(?!QUERY)\w+ NOTIMP qr ra 0 no OPT$", got
    shown = dig(port, "+dnssec", "+nocookie", "+noad", "+bufsize=512", "+ignore", "dnskey", ".")
    yield "8906 8.2.7 small buffer", "udp", "^NOERROR qr tc rd ra 0 version 0 flags do options$", summary(shown)
    shown = dig(port, "+dnssec", "+nocookie", "+noad", "+bufsize=512", "dnskey", ".")
    yield "8906 8.2.7 and then over TCP", "tcp", "^NOERROR qr rd ra 4 version 0 flags do options$", summary(shown)


def of_kdig(ports, ca):
    for option, door in [("+tls", "dot"), ("+https", "doh"), ("+https-get", "doh"), ("+quic", "doq")]:
        for name, command, wanted in SET:
            # kdig has no way to set EDNS flags; its +nocookie, +noad and +noednsneg are what it does unasked.
            words = [word for word in command.split() if word not in ("+noednsneg", "+nocookie", "+noad")]
            words = [{"+cd": "+cdflag", "+ad": "+adflag"}.get(word, word) for word in words]
            if any(word.startswith("+ednsflags") for word in words):
                continue
            shown = run("kdig", "@127.0.0.1", "-p", str(ports[door]), "+retry=0", "+time=5", f"+tls-ca={ca}", "+tls-hostname=localhost",
                        option, *words).stdout.decode("utf-8", "replace")
            yield f"8906 {name}, kdig {option}", door, f"^{wanted}$", summary(shown)


def rows(binary):
    """As those of run.py."""
    upstream = Upstream()
    with tempfile.TemporaryDirectory() as folder:
        ports = {door: free_port() for door in ("dns", "dot", "doh", "doq")}
        doors = "\n".join(f'{door} = ["127.0.0.1:{port}"]' for door, port in ports.items())
        config = write(folder, "hushgate.toml", f"""
state_dir = "{folder}/state"
workers = 1
[listen]
{doors}
[admin]
listen = ["unix:{folder}/admin.sock"]
[upstream]
servers = ["udp://127.0.0.1:{upstream.port}"]
fallback = []
""")
        process = Process(folder, "hushgate", binary, "serve", "--config", config)
        try:
            process.until(lambda: dig(ports["dns"], "+short", "+time=1", "localhost", "A").strip() == "127.0.0.1")
            yield from of_dig(ports["dns"])
            yield from of_kdig(ports, f"{folder}/state/authority.pem")
        except (OSError, RuntimeError) as error:
            yield "the gateway", "-", "^started$", str(error)
        finally:
            process.stop()
            upstream.stop()
