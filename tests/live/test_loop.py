"""The packet loop between a device and sockets: a pair of datagram sockets takes the device's place, 127.0.0.0/8 the
network's, and a raw socket is only there where packets go through it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

import pytest
from live_kit import HOSTS, NEEDS_CSUM, TCPV4, Header, tcp, udp, without_checksum
from scapy.layers.inet import ICMP, IP

from ipsec_core.driver import Action, Driver, Filter, SecurityAssociation, UpcallKind
from ipsec_core.live._io import PacketLoop
from ipsec_core.live.loop import Clock

ENDS = ("127.4.0.1", "127.4.0.2")
HERE, THERE = IPv4Network(HOSTS[0]), IPv4Network(HOSTS[1])
SUITE = {"encryption": "AES-128-GCM", "encryption_key": bytes(20), "mode": "tunnel", "encapsulation": (4500, 4500)}
NAT_T = 4500
# ms: what is under way in this process arrives at once.
WAIT = 10


class End:
    """A computer with a packet loop: what the host writes goes into `host`, what it gets comes out of it."""

    def __init__(self, number: int) -> None:
        self.address = ENDS[number]
        self.driver = Driver(nat_traversal=True, seed=number)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.udp.setsockopt(socket.IPPROTO_UDP, 104, 1)  # UDP_GRO
        self.udp.bind((self.address, NAT_T))
        self.tun, self.host = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.host.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.tun.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.others = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) for _ in range(4)]
        esp, ah, raw, control = (one.fileno() for one in self.others)
        self.clock = Clock()
        self.loop = PacketLoop(
            self.driver,
            IPv4Address(self.address),
            tun=self.tun.fileno(),
            udp=self.udp.fileno(),
            esp=esp,
            ah=ah,
            raw=raw,
            control=control,
            mtu=1500,
            offset=self.clock.offset,
        )

    def from_host(self, packet: bytes, header: Header | None = None) -> None:
        self.host.send(bytes(header or Header()) + packet)

    def to_host(self) -> list[tuple[Header, bytes]]:
        packets = []
        while True:
            try:
                data = self.host.recv(70000)
            except BlockingIOError:
                return packets
            packets.append((Header.read(data[:10]), data[10:]))

    def close(self) -> None:
        for one in (self.udp, self.tun, self.host, *self.others):
            one.close()


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    """A tunnel in UDP from the first to the second, without negotiation."""
    made = End(0), End(1)
    made[0].driver.set_filters([Filter(1, "out", Action.NEGOTIATE, HERE, THERE, tunnel=IPv4Address(ENDS[1]))])
    yield made
    for end in made:
        end.close()


def outbound(**options: object) -> SecurityAssociation:
    return SecurityAssociation(
        "out", 4096, *ENDS, filter=1, inner_source=HERE, inner_destination=THERE, **SUITE, **options
    )  # type: ignore[arg-type]


def connect(ends: tuple[End, End]) -> int:
    ends[1].driver.add_sa(
        SecurityAssociation("in", 4096, *ENDS, inner_source=HERE, inner_destination=THERE, **SUITE)  # type: ignore[arg-type]
    )
    return ends[0].driver.add_sa(outbound(path_mtu=1500))


def exchange(ends: tuple[End, End]) -> list[tuple[Header, bytes]]:
    ends[0].loop.run(WAIT)
    ends[1].loop.run(WAIT)
    return ends[1].to_host()


def test_a_large_packet_arrives_as_one(ends: tuple[End, End]) -> None:
    """The kernel's segments are joined by GSO and GRO on the way and by us at its end: three system calls each way."""
    connect(ends)
    packet = tcp(bytes(i % 251 for i in range(40 * 1000)), flags="PA")
    header = Header(NEEDS_CSUM, TCPV4, 40, 1000, 20, 16)
    ends[0].from_host(without_checksum(packet, 16), header)
    [(got, joined)] = exchange(ends)
    assert got == header
    assert joined == without_checksum(packet, 16)
    sender, receiver = ends[0].loop.statistics(), ends[1].loop.statistics()
    assert (sender["reads"], sender["sends"], receiver["receives"], receiver["writes"]) == (1, 1, 1, 1)
    assert ends[0].driver.status_counters("out")["PROTECTED"] == 40


def test_order_and_kinds_stay(ends: tuple[End, End]) -> None:
    connect(ends)
    packets = [udp(bytes([i]) * (i * 37 % 1300)) for i in range(100)]
    got = []
    for start in range(0, len(packets), 9):
        for packet in packets[start : start + 9]:
            ends[0].from_host(packet)
        got += [packet for _, packet in exchange(ends)]
    assert got == packets


def test_without_segmentation_by_the_kernel(ends: tuple[End, End]) -> None:
    connect(ends)
    packet = tcp(bytes(9000))
    ends[0].loop = PacketLoop(
        ends[0].driver,
        ENDS[0],
        tun=ends[0].tun.fileno(),
        udp=ends[0].udp.fileno(),
        esp=ends[0].others[0].fileno(),
        ah=ends[0].others[1].fileno(),
        raw=ends[0].others[2].fileno(),
        control=ends[0].others[3].fileno(),
        mtu=1500,
        offset=ends[0].clock.offset,
        gso=False,
    )
    ends[0].from_host(without_checksum(packet, 16), Header(NEEDS_CSUM, TCPV4, 40, 1000, 20, 16))
    [(_, joined)] = exchange(ends)
    assert ends[0].loop.statistics()["sends"] == 9
    assert joined == without_checksum(packet, 16)


def test_a_question_of_the_driver_ends_the_wait(ends: tuple[End, End]) -> None:
    """The first packet asks for an SA and waits for it; then it goes before newer ones."""
    ends[0].from_host(udp(b"first"))
    before = time.monotonic()
    assert ends[0].loop.run(20_000) == (True, False)
    assert time.monotonic() < before + 10
    [upcall] = ends[0].driver.upcalls()
    assert upcall.kind is UpcallKind.ACQUIRE
    assert abs(upcall.time - ends[0].clock()) < 10
    connect(ends)
    ends[0].from_host(udp(b"second"))
    ends[0].loop.run(0, True)
    ends[1].loop.run(0)
    assert [packet for _, packet in ends[1].to_host()] == [udp(b"first"), udp(b"second")]


def test_ike_goes_up_and_keep_alives_end(ends: tuple[End, End]) -> None:
    """RFC 3948 2.2 and 2.3."""
    message = bytes(4) + b"an IKE message"
    for data in (b"\xff", message, b"\xff\xff", message):
        ends[0].udp.sendto(data, (ENDS[1], NAT_T))
    assert ends[1].loop.run(0) == (True, False)
    packets = ends[1].loop.datagrams()
    assert ends[1].loop.datagrams() == []
    assert [bytes(IP(packet).payload.payload) for packet in packets] == [message, message]
    assert (IP(packets[0]).src, IP(packets[0]).dst, IP(packets[0]).sport) == (*ENDS, NAT_T)
    assert ends[1].to_host() == []
    assert ends[1].driver.status_counters("in")["KEEPALIVE"] == 1


def test_a_flood_of_ike_is_bounded(ends: tuple[End, End]) -> None:
    for _ in range(30):
        ends[0].udp.sendto(bytes(60000), (ENDS[1], NAT_T))
        ends[1].loop.run(0)
    kept = len(ends[1].loop.datagrams())
    assert 0 < kept < 10
    assert ends[1].loop.statistics()["lost_up"] == 30 - kept


def test_forgeries_reach_nobody(ends: tuple[End, End]) -> None:
    connect(ends)
    forged = (4096).to_bytes(4) + (1).to_bytes(4) + bytes(60)
    for data in (forged, (4097).to_bytes(4) + forged[4:], forged[:8], b"", b"\0"):
        ends[0].udp.sendto(data, (ENDS[1], NAT_T))
    assert exchange(ends) == []
    counters = ends[1].driver.status_counters("in")
    assert (counters["NOT_AUTHENTICATED"], counters["BAD_SPI"]) == (1, 1)


def test_the_host_hears_of_packets_that_are_too_long(ends: tuple[End, End]) -> None:
    handle = connect(ends)
    packet = tcp(bytes(1450))
    ends[0].from_host(packet)
    assert exchange(ends) == []
    [(header, answer)] = ends[0].to_host()
    message = IP(answer)
    assert header == Header()
    assert (message.src, message.dst) == (HOSTS[1], HOSTS[0])
    assert (message[ICMP].type, message[ICMP].code) == (3, 4)
    assert message[ICMP].nexthopmtu == ends[0].driver.clear_mtu(handle)
    ends[0].from_host(tcp(bytes(message[ICMP].nexthopmtu - 40)))
    assert len(exchange(ends)) == 1


def test_fragments_of_the_host_are_joined_before_ipsec(ends: tuple[End, End]) -> None:
    """RFC 2401 B.2; a filter with ports would not know the later ones."""
    connect(ends)
    whole = udp(bytes(3000))
    for start in (0, 1480, 2960):
        piece = IP(whole[:20])
        piece.len, piece.chksum = None, None
        piece.flags, piece.frag = (1 if start < 2960 else 0), start // 8
        ends[0].from_host(bytes(piece / whole[20 + start : 1500 + start]))
    [(_, joined)] = exchange(ends)
    assert joined == whole
    assert ends[0].driver.counters()["packets_outbound"] == 1


def test_what_the_kernel_never_sends_is_counted(ends: tuple[End, End]) -> None:
    ends[0].from_host(bytes(60), Header(NEEDS_CSUM, TCPV4, 40, 100, 20, 16))
    ends[0].loop.run(0)
    assert ends[0].loop.statistics()["malformed"] == 1
    assert ends[0].driver.counters()["packets_outbound"] == 0


def test_the_wait_ends_in_time_and_for_the_control_level(ends: tuple[End, End]) -> None:
    before = time.monotonic()
    assert ends[0].loop.run(30) == (False, False)
    assert time.monotonic() >= before + 0.03
    control = ends[0].others[3]
    control.bind((ENDS[0], 0))
    ends[1].udp.sendto(b"x", control.getsockname())
    assert ends[0].loop.run(-1) == (False, False)


def test_clear_packets_to_us_pass_the_driver(ends: tuple[End, End]) -> None:
    """What comes out of the device with our address as its destination has come in clear."""
    peer, stranger, me = (IPv4Network(one) for one in ("192.0.2.1", "192.0.2.2", ENDS[0]))
    ends[0].driver.set_filters(
        [Filter(1, "in", Action.NEGOTIATE, peer, me), Filter(2, "in", Action.PERMIT, stranger, me)]
    )

    def clear(source: IPv4Network) -> bytes:
        packet = IP(udp(b"clear" * 30))
        packet.src, packet.dst, packet.chksum, packet.payload.chksum = str(source[0]), ENDS[0], None, None
        return bytes(packet)

    for _ in range(70):
        ends[0].from_host(clear(peer))
        ends[0].loop.run(0)
    ends[0].from_host(clear(stranger))
    ends[0].loop.run(WAIT)
    assert ends[0].to_host() == [(Header(), clear(stranger))]
    assert ends[0].driver.status_counters("in")["SHOULD_BE_SECURED"] == 70
    assert ends[0].driver.counters()["packets_outbound"] == 0
    assert ends[0].loop.statistics()["clear"] == 71


def test_clear_fragments_to_us_are_joined_first(ends: tuple[End, End]) -> None:
    whole = IP(udp(bytes(3000)))
    whole.dst, whole.chksum, whole.payload.chksum = ENDS[0], None, None
    packet = bytes(whole)
    for start in (0, 1480, 2960):
        piece = IP(packet[:20])
        piece.len, piece.chksum = None, None
        piece.flags, piece.frag = (1 if start < 2960 else 0), start // 8
        ends[0].from_host(bytes(piece / packet[20 + start : 1500 + start]))
    ends[0].loop.run(WAIT)
    assert [got for _, got in ends[0].to_host()] == [packet]
    assert ends[0].driver.status_counters("in")["NO_FILTER"] == 1
