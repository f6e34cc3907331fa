"""First messages, 1000 a second over a real wire, at a running agent: in the peer's own name and in many others. The
peer, which is strongSwan, negotiates in the midst of them."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from pathlib import Path

import pytest
from agent import Agent, tunnel_policy
from charon import PRESHARED_KEY, Charon, connection
from namespaces import OUR_ADDRESS, OUR_HOST, PEER_ADDRESS, PEER_HOST, Namespaces

from ipsec_core.ike import Encryption, Group, Hash, MainModeOffer, vendor_ids, wire
from ipsec_core.ike.iana import ExchangeType, PayloadType
from ipsec_core.ike.offers import main_mode_proposal
from ipsec_core.ike.options import IkeOptions

pytestmark = pytest.mark.interop
RATE, SECONDS, KNOCKS = 1000, 10.0, 5.0
# A few milliseconds' worth at a time: nobody sleeps exactly one.
BATCH = 10
OFFER = MainModeOffer(Encryption.AES_CBC, Hash.SHA1, Group.MODP_1024, key_bits=128)
SELECTORS = {"local_ts": f"{PEER_HOST}/32", "remote_ts": f"{OUR_HOST}/32"}


class Flood:
    """From raw sockets of the peer's namespace; every other message in the peer's name."""

    def __init__(self, lab: Namespaces) -> None:
        with lab.peers.entered():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        payloads = (main_mode_proposal((OFFER,)), *vendor_ids.announce(IkeOptions()))
        header = wire.Header(b"c" * 8, wire.NO_COOKIE, ExchangeType.MAIN_MODE, next_payload=PayloadType.SA)
        self._rest = wire.encode_clear(header, payloads)[8:]
        self.sent = 0
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < SECONDS:
            while self.sent < RATE * passed:
                self._send()
            time.sleep(BATCH / RATE)

    def _send(self) -> None:
        self.sent += 1
        number = self.sent
        source = PEER_ADDRESS if number % 2 else f"10.99.{1 + number // 250 % 200}.{1 + number % 250}"
        message = os.urandom(8) + self._rest
        datagram = struct.pack(">HHHH", 20000 + number % 20000, 500, 8 + len(message), 0) + message
        packet = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(datagram), 0, 0, 64, socket.IPPROTO_UDP, 0)
        packet += socket.inet_aton(source) + socket.inet_aton(OUR_ADDRESS) + datagram
        self._socket.sendto(packet, (OUR_ADDRESS, 0))

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()
        self._socket.close()


def resident(process: int) -> int:
    """Pages in memory."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1])


def test_a_peer_gets_through_a_flood(lab: Namespaces, carrying_charon: Charon) -> None:
    for space, host in ((lab.ours, OUR_HOST), (lab.peers, PEER_HOST)):
        lab.give(space, host)
    carrying_charon.start(connection("aes128-sha1-modp1024", "aes128gcm16", mode="tunnel", child=SELECTORS))
    agent = Agent(lab, lab.ours, "OURS")
    policy = tunnel_policy(
        "AES-128-SHA1-2",
        "ESP[AES-128-GCM]",
        PRESHARED_KEY,
        hosts=(OUR_HOST, PEER_HOST),
        gateways=(OUR_ADDRESS, PEER_ADDRESS),
    )
    agent.start(policy, "--profile", "modern")
    flood = Flood(lab)
    flood.start()
    try:
        time.sleep(KNOCKS)
        size = resident(agent.program.process.pid)
        begun = time.monotonic()
        initiation = carrying_charon.initiate()
        initiation.process.wait(20.0)
        took = time.monotonic() - begun
    finally:
        flood.join()
    print(f"{flood.sent} first messages; {took:.2f} s for the peer's negotiation; {size} pages, then", end=" ")
    print(resident(agent.program.process.pid))
    assert flood.sent > 0.8 * RATE * SECONDS
    assert initiation.process.returncode == 0, initiation.output
    # charon sends a second copy of what has no answer after 2 s: there was none.
    assert not carrying_charon.said("sending retransmit")
    assert agent.audits(541)
    assert resident(agent.program.process.pid) < 1.2 * size
    agent.program.stop()
    assert agent.program.process.returncode == 0
