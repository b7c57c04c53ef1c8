#!/usr/bin/env python3
"""Twenty thousand connections over each of DoT, DoH and DoQ against a gateway that may have 64 MiB: does it live, and answer afterwards?

    cargo build --release && python3 tests/attack/small.py [path to hushgate] [--attempts 20000] [--blast dnsblast]

Linux. As root, where memory is divided by cgroups, the limit is the kernel's, which kills whoever passes it; elsewhere the
`[limits] memory` of the configuration, and what is measured is checked against it. The connections are held open as long as the
gateway lets them be. With `dnsblast`, whole handshakes and DoQ too; without it, connections over TCP that begin and go no further.
"""
import argparse
import os
import subprocess
import sys
import time

import run

LIMIT = 64 << 20


class Box:
    """A cgroup of its own for one process, of either version; or nothing, where this may not be made."""

    def __init__(self):
        self.at = None
        name = f"hushgate-{os.getpid()}"
        for parent, limit, most in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
                                    ("/sys/fs/cgroup", "memory.max", "memory.peak")):
            path = os.path.join(parent, name)
            try:
                os.mkdir(path)
                with open(os.path.join(path, limit), "w", encoding="ascii") as file:
                    file.write(str(LIMIT))
                self.at, self.most = path, os.path.join(path, most)
                return
            except OSError:
                if os.path.isdir(path):
                    os.rmdir(path)

    def enter(self):
        """Called in the process that is to be bounded."""
        if self.at:
            with open(os.path.join(self.at, "cgroup.procs"), "w", encoding="ascii") as file:
                file.write(str(os.getpid()))

    def peak(self):
        """In MiB, pages of files included."""
        with open(self.most, encoding="ascii") as file:
            return int(file.read()) / (1 << 20)

    def end(self):
        if self.at:
            os.rmdir(self.at)


def attempts(gateway, over, number, blast):
    """So many connections, by `dnsblast` where there is one; what became of them."""
    door = {"dot": "dot", "doh2": "doh", "doq": "doq"}[over]
    if blast:
        told = subprocess.run(
            [blast, "--proto", over, "--target", f"127.0.0.1:{gateway.ports[door]}", "--insecure", "--sni", "localhost",
             "--name-template", "n{}.good.example", "--names", "50", "--source-ips", "200", "--idle-hold", str(number), "2"],
            capture_output=True, text=True, check=False, timeout=600)
        return next((line.strip() for line in told.stdout.splitlines() if "opened" in line), "?")
    if over == "doq":
        return "not without dnsblast"
    kept, refused = [], 0
    for index in range(number):
        try:
            stream = gateway.connect(door, f"127.0.1.{index % 200 + 1}")
            stream.sendall(b"\x16\x03\x01\x02\0\x01")
            kept.append(stream)
        except OSError:
            refused += 1
        del kept[:-9000]
    return f"{number - refused} opened"


def answers(gateway):
    """Whether a question is answered over UDP and over DoT within twenty seconds, which is longer than any time-out that frees room."""
    until = time.monotonic() + 20
    wanted = {"udp", "dot", "doh"}
    while wanted and time.monotonic() < until:
        for over in list(wanted):
            client = run.Good(gateway, over)
            try:
                if client.ask(client.open(), 1):
                    wanted.discard(over)
            except OSError:
                time.sleep(0.2)
    return not wanted


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("binary", nargs="?", default="target/release/hushgate")
    arguments.add_argument("--attempts", type=int, default=20000)
    arguments.add_argument("--blast", help="path to dnsblast")
    chosen = arguments.parse_args()
    upstream = run.Upstream()
    upstream.start()
    box = Box()
    gateway = run.Gateway(chosen.binary, upstream, enter=box.enter, limits="" if box.at else 'memory = "64 MiB"\n')
    well = True
    print("| over | connections | resident MiB before | at most | after | answers |\n|---|---|---|---|---|---|")
    try:
        for over in ("dot", "doh2", "doq"):
            before = gateway.resident()
            told = attempts(gateway, over, chosen.attempts, chosen.blast)
            answered = gateway.process.poll() is None and answers(gateway)
            well &= answered
            if gateway.process.poll() is not None:
                print(f"| {over} | {told} | {before:.1f} | died: {gateway.process.returncode} | | |")
                break
            print(f"| {over} | {told} | {before:.1f} | {gateway.resident('VmHWM'):.1f} | {gateway.resident():.1f} | {answered} |", flush=True)
            well &= gateway.resident("VmHWM") < LIMIT >> 20
    finally:
        if gateway.process.poll() is None:
            gateway.process.terminate()
            gateway.process.wait(20)
        print(f"bounded by {box.at or 'limits.memory'}" + (f", at most {box.peak():.1f} MiB" if box.at else ""))
        box.end()
    sys.exit(not well)


if __name__ == "__main__":
    main()
