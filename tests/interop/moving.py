"""Clients whose address changes on the way, as behind a NAT that has forgotten them: aioquic over DoQ and HTTP/3 asks a gateway of four
workers through a relay that goes on from another port before each question, and again while one is under way. And a gateway
that is killed and comes back tells a client at its next packet that its connection is gone (RFC 9000 9, 10.3). Called by
run.py with the gateway of `hushgate demo`, which answers for these.
"""
import asyncio
import os
import ssl
import struct
import tempfile

from fleet import NAME, question
from servers import Process, free_port, run, write

WORKERS = 4
MOVES = 12


class Gateway:
    """One with its own state, which it finds again when it is started again."""

    def __init__(self, binary, folder, upstream):
        self.binary, self.folder = binary, folder
        self.dns, self.doh, self.doq = (free_port() for _ in range(3))
        self.config = write(folder, "hushgate.toml", f"""state_dir = "{folder}/state"
workers = {WORKERS}
[listen]
dns = ["127.0.0.1:{self.dns}"]
doh = ["127.0.0.1:{self.doh}"]
doq = ["127.0.0.1:{self.doq}"]
[admin]
listen = ["unix:admin.sock"]
[upstream]
servers = ["udp://127.0.0.1:{upstream}"]
fallback = []
""")
        self.ca = os.path.join(folder, "state", "authority.pem")
        self.start()

    def start(self):
        self.process = Process(self.folder, "hushgate", self.binary, "serve", "--config", self.config)
        self.process.until(self.answers)

    def answers(self):
        said = run("dig", "@127.0.0.1", "-p", str(self.dns), "+tries=1", "+time=2", NAME, "A").stdout
        return b"status: NOERROR" in said

    def kill(self):
        self.process.process.kill()
        self.process.process.wait()


class Relay(asyncio.DatagramProtocol):
    """The way of one client to a port of the gateway."""

    class Far(asyncio.DatagramProtocol):
        def __init__(self, relay):
            self.relay = relay

        def datagram_received(self, data, _):
            self.relay.received.append(data)
            self.relay.near.sendto(data, self.relay.client)

    async def open(self, port):
        self.port, self.received, self.far = port, [], None
        self.near, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, ("127.0.0.1", 0))
        await self.move()
        return self.near.get_extra_info("sockname")[1]

    async def move(self):
        """Goes on from another port; what is sent to the old one is lost."""
        old = self.far
        self.far, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: Relay.Far(self), remote_addr=("127.0.0.1", self.port))
        if old:
            old.close()

    def datagram_received(self, data, source):
        self.client = source
        self.far.sendto(data)

    def close(self):
        self.near.close()
        self.far.close()


def client_of(alpn):
    """The class of a client that asks over this, again and again."""
    from aioquic.asyncio.protocol import QuicConnectionProtocol
    from aioquic.h3.connection import H3Connection
    from aioquic.h3.events import DataReceived, HeadersReceived
    from aioquic.quic.events import ConnectionTerminated, StreamDataReceived

    class Client(QuicConnectionProtocol):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.http = H3Connection(self._quic) if alpn == "h3" else None
            self.waiting = {}

        def quic_event_received(self, event):
            if isinstance(event, ConnectionTerminated):
                for _, done in self.waiting.values():
                    done.cancel()
            events = self.http.handle_event(event) if self.http else [event] if isinstance(event, StreamDataReceived) else []
            for item in events:
                if isinstance(item, (DataReceived, StreamDataReceived)) and item.stream_id in self.waiting:
                    self.waiting[item.stream_id][0].extend(item.data)
                if getattr(item, "end_stream", False) or getattr(item, "stream_ended", False):
                    octets, done = self.waiting.pop(item.stream_id, (None, None))
                    if done and not done.done():
                        done.set_result(bytes(octets))

        def ask(self):
            """Sends a question; its answer is to be awaited."""
            stream, message = self._quic.get_next_available_stream_id(), question()
            done = asyncio.get_running_loop().create_future()
            self.waiting[stream] = bytearray(), done
            if self.http:
                self.http.send_headers(stream, [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"localhost"),
                                                (b":path", b"/dns-query"), (b"content-type", b"application/dns-message")])
                self.http.send_data(stream, message, end_stream=True)
            else:
                self._quic.send_stream_data(stream, struct.pack(">H", len(message)) + message, end_stream=True)
            self.transmit()
            return done

    return Client


def is_answer(octets, alpn):
    message = octets if alpn == "h3" else octets[2:]
    # NOERROR, to this question, with one record.
    return len(message) > 12 and message[3] & 15 == 0 and message[6:8] == b"\0\1"


def connect(port, alpn, ca):
    from aioquic.asyncio import connect
    from aioquic.quic.configuration import QuicConfiguration

    settings = QuicConfiguration(is_client=True, alpn_protocols=[alpn], server_name="localhost", verify_mode=ssl.CERT_REQUIRED)
    settings.load_verify_locations(ca)
    return connect("127.0.0.1", port, configuration=settings, create_protocol=client_of(alpn))


async def moves(gateway, port, alpn):
    """How many questions were answered on one connection that moved between them and below them."""
    relay, answered = Relay(), 0
    near = await relay.open(port)
    try:
        async with connect(near, alpn, gateway.ca) as client:
            # Who moves before the handshake is confirmed is lost (RFC 9000 9): the client repeats its Finished, which the server reads no more.
            await asyncio.wait_for(client.ping(), 10)
            for _ in range(MOVES):
                await relay.move()
                answered += is_answer(await asyncio.wait_for(client.ask(), 10), alpn)
                # The answer to this one goes to a port that is no more, or comes just before.
                asked = client.ask()
                await relay.move()
                # A server that has answered already hears by this where its client is now.
                await asyncio.wait_for(client.ping(), 10)
                answered += is_answer(await asyncio.wait_for(asked, 10), alpn)
    except Exception as error:  # the kind of failure is the result
        return f"{answered} and then {type(error).__name__}"
    finally:
        relay.close()
    return f"{answered} of {2 * MOVES}"


async def restart(gateway, port, alpn):
    """What comes for a client after the gateway was killed and started again: aioquic knows the token and looks for none."""
    relay = Relay()
    near = await relay.open(port)
    async with connect(near, alpn, gateway.ca) as client:
        await asyncio.wait_for(client.ask(), 10)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, gateway.kill)
        await loop.run_in_executor(None, gateway.start)
        # The socket has heard that nobody was there, if anything was sent meanwhile.
        await relay.move()
        relay.received.clear()
        client.ask().add_done_callback(lambda _: None)
        tokens = [known.stateless_reset_token for known in [client._quic._peer_cid, *client._quic._peer_cid_available]]
        end = loop.time() + 10
        while loop.time() < end and not relay.received:
            await asyncio.sleep(0.01)
        relay.close()
        told = any(data[-16:] in tokens for data in relay.received)
        client._quic.close()
    return "reset" if told else f"{len(relay.received)} datagrams, no reset"


def shown(what):
    try:
        return asyncio.run(asyncio.wait_for(what, 90))
    except Exception as error:  # the kind of failure is the result
        return f"{type(error).__name__}: {error}"


def rows(binary, demo):
    """(what is done, transport, what must come back, what did)"""
    gateway = None
    with tempfile.TemporaryDirectory() as folder:
        try:
            gateway = Gateway(binary, folder, demo.ports["udp"])
            doors = [("doq", gateway.doq, "doq"), ("h3", gateway.doh, "doh3")]
            for alpn, port, transport in doors:
                yield f"aioquic {alpn}, the NAT changes ports", transport, f"^{2 * MOVES} of {2 * MOVES}$", shown(moves(gateway, port, alpn))
            for alpn, port, transport in doors:
                yield f"aioquic {alpn}, the gateway was killed", transport, "^reset$", shown(restart(gateway, port, alpn))
        except (OSError, RuntimeError) as error:
            yield "a gateway of several workers", "-", "^started$", str(error)
        finally:
            if gateway:
                gateway.process.stop()
