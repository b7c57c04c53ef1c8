#!/usr/bin/env python3
"""Attacks at a load against a gateway that serves steady good traffic, and what each came to.

    cargo build --release && python3 tests/attack/run.py [path to hushgate] [--seconds 8] [--only NAME] [--blast dnsblast]

Linux. The attacker asks from 127.0.0.9, which limits apply to; the good clients from 127.0.0.1. Attackers are processes of their
own, and nicer than the gateway: on a machine shared with it they would otherwise take its cores, which those elsewhere do not.
`dnsblast`, where it is given, adds good traffic over HTTP/2, DoQ and DoH3; with `aioquic` in reach there are attacks from inside
QUIC connections too, and without it the standard library is enough. Each row: the attack and its load, good questions asked and
lost, the 99th percentile of their times before and during in milliseconds (a new connection's hello apart), the gateway's resident
memory before, at most and after in MiB, and what the metrics say of it.
"""
import argparse
import contextlib
import json
import multiprocessing
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ATTACKER = "127.0.0.9"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def question(name, number=0):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack("!6H", number, 0x100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"


def framed(message):
    return struct.pack("!H", len(message)) + message


def frame(kind, flags, stream, payload):
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


class Upstream(threading.Thread):
    """Answers every question over UDP with one A record, but those with `hang` in their name."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def run(self):
        while True:
            query, client = self.socket.recvfrom(4096)
            end = 12
            while query[end]:
                end += query[end] + 1
            if b"hang" in query.lower():
                continue
            answer = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:end + 5]
            self.socket.sendto(answer + b"\xc0\x0c\0\1\0\1\0\0\1\x2c\0\4\xc0\0\2\7", client)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Gateway:
    def __init__(self, binary, upstream, enter=None, limits=""):
        self.home = tempfile.TemporaryDirectory()
        self.ports = {door: free_port() for door in ("dns", "dot", "doh", "doq", "admin")}
        doors = "".join(f'{door} = ["127.0.0.1:{self.ports[door]}"]\n' for door in ("dns", "dot", "doh", "doq"))
        path = os.path.join(self.home.name, "hushgate.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'state_dir = "{self.home.name}/state"\n[listen]\n{doors}[admin]\nlisten = ["127.0.0.1:{self.ports["admin"]}"]\n'
                       f'[upstream]\nservers = ["udp://127.0.0.1:{upstream.port}"]\nfallback = []\n'
                       f'[limits]\nexempt = ["127.0.0.1/32"]\n{limits}[log]\nlevel = "error"\n')
        self.process = subprocess.Popen([binary, "serve", "--config", path], preexec_fn=enter)
        for _ in range(200):
            try:
                self.metrics()
                break
            except OSError:
                time.sleep(0.05)
        self.tls = ssl.create_default_context(cafile=os.path.join(self.home.name, "state/authority.pem"))

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['admin']}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
        return {key: float(value) for key, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}

    def resident(self, field="VmRSS"):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return int(re.search(field + r":\s+(\d+)", status.read()).group(1)) / 1024

    def connect(self, door, source=ATTACKER, timeout=2):
        return socket.create_connection(("127.0.0.1", self.ports[door]), timeout, (source, 0))

    def secured(self, door, alpn, source=ATTACKER):
        context = ssl.create_default_context(cafile=os.path.join(self.home.name, "state/authority.pem"))
        context.set_alpn_protocols([alpn])
        return context.wrap_socket(self.connect(door, source), server_hostname="localhost")


class Good(threading.Thread):
    """One client that asks every 10 ms, on one connection where there is one, a new one every hundred questions."""

    def __init__(self, gateway, over):
        super().__init__(daemon=True)
        self.gateway, self.over = gateway, over
        self.times, self.hellos, self.lost, self.stopping = [], [], 0, False

    def open(self):
        if self.over == "udp":
            opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            opened.connect(("127.0.0.1", self.gateway.ports["dns"]))
            opened.settimeout(2)
            return opened
        if self.over == "tcp":
            return self.gateway.connect("dns", "127.0.0.1")
        if self.over == "dot":
            return self.gateway.secured("dot", "dot", "127.0.0.1")
        return self.gateway.secured("doh", "http/1.1", "127.0.0.1")

    def ask(self, stream, number):
        message = question(f"n{number % 50}.good.example", 0 if self.over == "doh" else number % 65536)
        if self.over == "udp":
            stream.send(message)
            return len(stream.recv(4096)) > 12
        if self.over == "doh":
            head = f"POST /dns-query HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/dns-message\r\ncontent-length: {len(message)}\r\n\r\n"
            stream.sendall(head.encode() + message)
            heard = b""
            while b"\xc0\0\2\7" not in heard:
                part = stream.recv(4096)
                if not part:
                    return False
                heard += part
            return True
        stream.sendall(framed(message))
        heard = b""
        while len(heard) < 2 or len(heard) < 2 + struct.unpack("!H", heard[:2])[0]:
            part = stream.recv(4096)
            if not part:
                return False
            heard += part
        return True

    def run(self):
        stream, number = None, 0
        while not self.stopping:
            began = time.monotonic()
            try:
                if stream is None or number % 100 == 0:
                    stream = self.open()
                    self.hellos.append(time.monotonic() - began)
                    began = time.monotonic()
                answered = self.ask(stream, number)
            except OSError:
                answered, stream = False, None
            number += 1
            self.times.append(time.monotonic() - began)
            self.lost += not answered
            time.sleep(0.01)


def held(number):
    target = b"/dns-query?dns=" + __import__("base64").urlsafe_b64encode(question(f"{number}.hang.example")).rstrip(b"=")
    return b"\x82\x87\x04" + bytes([len(target)]) + target + b"\x01\x09localhost"


def repeatedly(work):
    """An attack that does `work(gateway, number)` until the time is over; errors are what it wants to provoke."""
    def attack(gateway, until):
        number = 0
        while time.monotonic() < until():
            try:
                work(gateway, number)
            except OSError:
                pass
            number += 1
        return number
    return attack


def hoard(door, first=b""):
    """Connections that are opened, say `first`, and stay."""
    def attack(gateway, until):
        kept, tries = [], 0
        while time.monotonic() < until():
            tries += 1
            try:
                stream = gateway.connect(door)
                stream.sendall(first)
                kept.append(stream)
            except OSError:
                time.sleep(0.001)
            del kept[:-4000]
        return tries
    return attack


def shake(door, alpn):
    def work(gateway, _):
        gateway.secured(door, alpn).close()
    return repeatedly(work)


def noise(door):
    def attack(gateway, until):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.bind((ATTACKER, 0))
        sent = 0
        while time.monotonic() < until():
            octets = bytearray(os.urandom(1200 if sent % 2 else 40))
            if sent % 2:
                octets[:5] = b"\xc3\0\0\0\1"
            sender.sendto(octets, ("127.0.0.1", gateway.ports[door]))
            sent += 1
        return sent
    return attack


def flood_h2(frames):
    def work(gateway, _):
        with gateway.secured("doh", "h2") as stream:
            stream.sendall(PREFACE + frame(4, 0, 0, b""))
            for part in frames():
                stream.sendall(part)
    return repeatedly(work)


def questions(gateway, until):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((ATTACKER, 0))
    sent = 0
    while time.monotonic() < until():
        sender.sendto(question(f"{sent}.hang.example", sent % 65536), ("127.0.0.1", gateway.ports["dns"]))
        sent += 1
    return sent


def unread(gateway, number):
    stream = gateway.connect("dns")
    stream.settimeout(0.2)
    stream.sendall(framed(question("n1.good.example", number % 65536)) * 20000)


def renegotiate(gateway, _):
    """A second handshake inside TLS 1.2, which only `openssl s_client` still knows how to ask for: one of its `R`s each."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(["openssl", "s_client", "-tls1_2", "-bind", ATTACKER, "-connect", f"127.0.0.1:{gateway.ports['dot']}"],
                       input=b"R\n" * 50, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=0.3, check=False)


ATTACKS = {
    "handshakes dot": shake("dot", "dot"),
    "handshakes doh": shake("doh", "h2"),
    "half a hello dot": hoard("dot", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "idle tcp": hoard("dns"),
    "slow tcp": hoard("dns", b"\0"),
    "clear text at dot": repeatedly(lambda gateway, _: gateway.connect("dot").sendall(b"GET / HTTP/1.1\r\n\r\n")),
    "noise at doq": noise("doq"),
    "noise at doh3": noise("doh"),
    "noise at udp": noise("dns"),
    "questions that hang": questions,
    "answers not read": repeatedly(unread),
    "rapid reset": flood_h2(lambda: (frame(1, 5, n * 2 + 1, held(n)) + frame(3, 0, n * 2 + 1, b"\0\0\0\x08") for n in range(2000))),
    "made you reset": flood_h2(lambda: (frame(1, 5, n * 2 + 1, held(n)) + frame(8, 0, n * 2 + 1, bytes(4)) for n in range(2000))),
    "continuation": flood_h2(lambda: [frame(1, 0, 1, b"\x82")] + [frame(9, 0, 1, b"\0\3x-a\x64" + b"a" * 100)] * 5000),
    "pings": flood_h2(lambda: [frame(6, 0, 0, bytes(8)) * 1000] * 20),
    "renegotiation": repeatedly(renegotiate),
    "settings": flood_h2(lambda: [frame(4, 0, 0, b"\0\3\0\0\0\x09") * 1000] * 20),
}

try:
    import quic
    ATTACKS |= quic.attacks(ATTACKER)
except ImportError:
    print("no aioquic: no attacks from inside QUIC connections", file=sys.stderr)


def percentile(times):
    ordered = sorted(times)
    return ordered[int(len(ordered) * 0.99)] * 1000 if ordered else 0.0


class Steady:
    """Good traffic of `dnsblast`: a hundred questions a second on two connections over each transport that this file does not speak."""

    def __init__(self, blast, gateway, seconds):
        self.running = {over: subprocess.Popen(
            [blast, "--proto", over, "--target", f"127.0.0.1:{gateway.ports[over[:3]]}", "--sni", "localhost",
             "--ca", os.path.join(gateway.home.name, "state/authority.pem"), "--name-template", "n{}.good.example", "--names", "50",
             "--rate", "100", "--conns", "2", "--inflight", "50", "--duration", str(seconds), "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for over in ("doh2", "doq", "doh3")} if blast else {}

    def end(self):
        """What was asked, what of it was lost over which, and the worst 99th percentile in milliseconds."""
        asked, lost, worst = 0, {}, 0.0
        for over, process in self.running.items():
            told = json.loads(process.communicate()[0])
            asked += told["sent"]
            worst = max(worst, told["latency_us"]["p99"] / 1000)
            if told["sent"] > told["answered"]:
                lost[over] = told["sent"] - told["answered"]
        return asked, lost, worst


def assault(name, gateway, seconds):
    """Two attackers, for so long; how often each of them did it is put in the queue that is returned with them."""
    fork = multiprocessing.get_context("fork")
    done, until = fork.Queue(), time.monotonic() + seconds

    def attack():
        os.nice(5)
        done.put(ATTACKS[name](gateway, lambda: until))
        # What is still held open is let go by the end of the process, as the rest of the world does it.
        done.close()
        done.join_thread()
        os._exit(0)

    attackers = [fork.Process(target=attack, daemon=True) for _ in range(2)]
    for attacker in attackers:
        attacker.start()
    return attackers, done, until


def measure(gateway, name, seconds, blast):
    clients = [Good(gateway, over) for over in ("udp", "tcp", "dot", "doh")]
    for client in clients:
        client.start()
    _, _, before = Steady(blast, gateway, 2).end() if blast else (time.sleep(2), {}, 0.0)
    before = max(before, percentile([took for client in clients for took in client.times]))
    marks = [(len(client.times), client.lost, len(client.hellos)) for client in clients]
    counted, resident = gateway.metrics(), gateway.resident()
    most = [resident]
    steady = Steady(blast, gateway, seconds)
    attackers, done, until = assault(name, gateway, seconds)
    while time.monotonic() < until:
        most.append(gateway.resident())
        time.sleep(0.1)
    times = [done.get(timeout=30) for _ in attackers]
    asked, lost, during = steady.end()
    for client in clients:
        client.stopping = True
        client.join(10)
    during = max(during, percentile([took for client, (mark, _, _) in zip(clients, marks) for took in client.times[mark:]]))
    hello = max([took for client, (_, _, mark) in zip(clients, marks) for took in client.hellos[mark:]], default=0.0) * 1000
    asked += sum(len(client.times) - mark[0] for client, mark in zip(clients, marks))
    lost |= {client.over: client.lost - mark[1] for client, mark in zip(clients, marks) if client.lost > mark[1]}
    after_metrics = gateway.metrics()
    # What clients hold open ends by the time-outs.
    time.sleep(12)
    grown = {key: after_metrics[key] - counted.get(key, 0) for key in after_metrics
             if re.match(r"hushgate_(limited|protocol_errors|handshakes_failed|overflow|connections_refused|dropped|crowded|join_full|quic_lost|strangers)", key)}
    shown = sorted(((key, value) for key, value in grown.items() if value > 0), key=lambda pair: -pair[1])[:3]
    told = ", ".join(f"{key.removeprefix('hushgate_')} +{value:.0f}" for key, value in shown)
    print(f"| {name} | {sum(times)} | {asked} | {lost or 0} | {before:.1f} | {during:.1f} | {hello:.0f} | {resident:.1f} | {max(most):.1f} | "
          f"{gateway.resident():.1f} | {told} |", flush=True)
    return not any(count for over, count in lost.items() if over != "udp")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("binary", nargs="?", default="target/release/hushgate")
    arguments.add_argument("--seconds", type=float, default=8)
    arguments.add_argument("--only", action="append", choices=list(ATTACKS))
    arguments.add_argument("--blast", help="path to dnsblast")
    chosen = arguments.parse_args()
    upstream = Upstream()
    upstream.start()
    print("| attack | times | good asked | good lost | p99 ms before | during | slowest hello | RSS MiB before | most | after | metrics |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    well = True
    for name in chosen.only or ATTACKS:
        # A gateway of its own for each, so that none is measured by what another left.
        gateway = Gateway(chosen.binary, upstream)
        try:
            well &= measure(gateway, name, chosen.seconds, chosen.blast)
        finally:
            gateway.process.send_signal(signal.SIGTERM)
            gateway.process.wait(20)
    sys.exit(not well)


if __name__ == "__main__":
    main()
