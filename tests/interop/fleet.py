"""Clients that come back to another gateway of the fleet: openssl over DoT, aioquic over DoQ and HTTP/3, dig with its cookie. Called by
run.py with the gateway of `hushgate demo`, which answers for all of them.
"""
import asyncio
import os
import re
import ssl
import struct
import tempfile

from servers import Process, free_port, run, write

NAME = "interop.demo.example"


def question():
    labels = b"".join(bytes([len(part)]) + part.encode() for part in NAME.split("."))
    return struct.pack(">HHHHHH", 0, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)


class Member:
    """A gateway with the secret of this octet, in hex."""

    def __init__(self, binary, folder, name, octet, upstream):
        os.mkdir(os.path.join(folder, name))
        folder = os.path.join(folder, name)
        self.dns, self.dot, self.doh, self.doq = (free_port() for _ in range(4))
        write(folder, "secret", f"# of this fleet\n{octet * 32}\n")
        config = write(folder, "hushgate.toml", f"""state_dir = "{folder}/state"
[listen]
dns = ["127.0.0.1:{self.dns}"]
dot = ["127.0.0.1:{self.dot}"]
doh = ["127.0.0.1:{self.doh}"]
doq = ["127.0.0.1:{self.doq}"]
[admin]
listen = ["unix:admin.sock"]
[fleet]
secret_file = "secret"
[upstream]
servers = ["udp://127.0.0.1:{upstream}"]
fallback = []
""")
        self.ca = os.path.join(folder, "state", "authority.pem")
        self.process = Process(folder, "hushgate", binary, "serve", "--config", config)
        self.process.until(lambda: "status: NOERROR" in self.dig())

    def dig(self, *options):
        return run("dig", "@127.0.0.1", "-p", str(self.dns), "+tries=1", "+time=2", *options, NAME, "A").stdout.decode("utf-8", "replace")


def openssl(first, second, version):
    """A session of one gateway shown at another."""
    session = first.ca + ".session"
    command = lambda member: ["openssl", "s_client", "-connect", f"127.0.0.1:{member.dot}", "-servername", "localhost", "-CAfile", first.ca, version]
    # The first answer comes behind the ticket; the end of input before it would be too early.
    framed = struct.pack(">H", len(question())) + question()
    run("sh", "-c", '(cat; sleep 1) | "$@"', "sh", *command(first), "-sess_out", session, "-quiet", input=framed)
    said = run(*command(second), "-sess_in", session, input=b"").stdout
    return "reused" if b"Reused," in said else "new" if b"New," in said else "no handshake"


async def visit(port, alpn, ca, ticket=None):
    """Shakes hands; whether the session was resumed, and a ticket for the next visit."""
    from aioquic.asyncio import connect
    from aioquic.quic.configuration import QuicConfiguration

    tickets = asyncio.Queue()
    settings = QuicConfiguration(is_client=True, alpn_protocols=[alpn], server_name="localhost", verify_mode=ssl.CERT_REQUIRED, session_ticket=ticket)
    settings.load_verify_locations(ca)
    async with connect("127.0.0.1", port, configuration=settings, session_ticket_handler=tickets.put_nowait) as client:
        await client.wait_connected()
        return client._quic.tls.session_resumed, await asyncio.wait_for(tickets.get(), 5)


def aioquic(first, second, door, alpn):
    async def both():
        _, ticket = await visit(getattr(first, door), alpn, first.ca)
        # The authority of the first alone is trusted: without the ticket nothing comes about at the second.
        resumed, _ = await visit(getattr(second, door), alpn, first.ca, ticket)
        return "resumed" if resumed else "new"
    try:
        return asyncio.run(asyncio.wait_for(both(), 15))
    except Exception as error:  # the kind of failure is the result
        return f"refused ({type(error).__name__})"


def cookie(first, second):
    """What dig says of the second's answer to the first's cookie: one that is good and young comes back as it is."""
    given = lambda said: re.search(r"; COOKIE: ([0-9a-f]{48})", said)
    shown = given(first.dig("+cookie=0123456789abcdef"))
    if not shown:
        return "no cookie"
    again = given(second.dig(f"+cookie={shown.group(1)}"))
    return "kept" if again and again.group(1) == shown.group(1) else "replaced"


def rows(binary, demo):
    """(what is done, transport, what must come back, what did)"""
    members = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name, octet in [("one", "5a"), ("two", "5a"), ("other", "5b")]:
                members.append(Member(binary, folder, name, octet, demo.ports["udp"]))
            one, two, other = members
            for version in ["-tls1_3", "-tls1_2"]:
                yield f"openssl {version}, same fleet", "dot", "^reused$", openssl(one, two, version)
                yield f"openssl {version}, another fleet", "dot", "^new$", openssl(one, other, version)
            for door, alpn, transport in [("doq", "doq", "doq"), ("doh", "h3", "doh3")]:
                yield f"aioquic {alpn}, same fleet", transport, "^resumed$", aioquic(one, two, door, alpn)
                yield f"aioquic {alpn}, another fleet", transport, r"^refused \(ConnectionError\)$", aioquic(one, other, door, alpn)
            yield "dig +cookie, same fleet", "udp", "^kept$", cookie(one, two)
            yield "dig +cookie, another fleet", "udp", "^replaced$", cookie(one, other)
        except (OSError, RuntimeError) as error:
            yield "gateways of a fleet", "-", "^started$", str(error)
        finally:
            for member in members:
                member.process.stop()
