"""What the real binary remembers while its server is gone, told by dig: stale answers, a restart, a flush. Called by run.py.

unbound serves names that live for a second and names that live long; it is killed, and what dig still gets is the cache's.
"""
import re
import tempfile

import servers
from servers import ADDRESS, HOST, Certificates, Gateway, dig, run, unbound

SHORT, MISSING = "short.corp.example", "missing.corp.example"
CACHE = """
[cache]
snapshot = true
"""


def told(port, name):
    """RCODE, TTL of the first record, extended error."""
    said = dig(port, name, "A")
    status = re.search(r"status: (\w+)", said)
    ttl = re.search(rf"^\S+\.\s+(\d+)\s+IN\s+(?:A|SOA)\s", said, re.MULTILINE)
    extended = re.search(r"EDE: (\d+)", said)
    parts = [status and status[1], ttl and f"TTL {ttl[1]}", extended and f"EDE {extended[1]}"]
    return " ".join(part for part in parts if part) or "no answer"


def cache(binary, folder, *arguments):
    result = run(binary, "cache", *arguments, "--admin", f"unix:{folder}/admin.sock")
    return f"exit {result.returncode}: " + " ".join(result.stdout.decode("utf-8", "replace").split())


def outlived(port):
    """Until what lives for a second has died: the server is asked no more by then."""
    def is_stale():
        return "EDE 3" in told(port, SHORT) and "EDE 19" in told(port, MISSING)
    return is_stale


def rows(binary):
    """(what is done, transport, what must come back, what did)"""
    with tempfile.TemporaryDirectory() as folder:
        certificates = Certificates(folder)
        server, ports = unbound(folder, certificates)
        settings = (binary, folder, "udp", ports["udp"], certificates.ca, HOST, CACHE)
        try:
            with Gateway(*settings) as gateway:
                port = gateway.door
                yield "dig, the server there", "udp", "^NOERROR TTL 1$", told(port, SHORT)
                yield "dig, no such name", "udp", "^NXDOMAIN TTL 1$", told(port, MISSING)
                gateway.addresses()
                server.stop()
                gateway.process.until(outlived(port))
                yield "dig, the server gone", "udp", "^NOERROR TTL 30 EDE 3$", told(port, SHORT)
                yield "dig, no such name, the server gone", "udp", "^NXDOMAIN TTL 30 EDE 19$", told(port, MISSING)
                yield "dig, a name that lives long", "udp", r"^NOERROR TTL \d+$", told(port, servers.WWW)
                yield "hushgate cache show", "unix", rf"^exit 0: .*stale.*{re.escape(ADDRESS)}", cache(binary, folder, "show", SHORT)
            with Gateway(*settings) as gateway:
                port = gateway.door
                gateway.process.until(lambda: told(port, servers.WWW).startswith("NOERROR"))
                yield "dig, after a restart", "udp", r"^NOERROR TTL \d+$", told(port, servers.WWW)
                yield "dig, stale after a restart", "udp", "^NOERROR TTL 30 EDE 3$", told(port, SHORT)
                yield "hushgate cache flush", "unix", "^exit 0: Dropped", cache(binary, folder, "flush", "--suffix", "corp.example")
                yield "dig, after the flush", "udp", r"^SERVFAIL EDE 2[23]$", told(port, SHORT)
        except (OSError, RuntimeError) as error:
            yield "unbound or the gateway", "-", "^started$", str(error)
        finally:
            server.stop()
