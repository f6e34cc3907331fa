"""Path MTU discovery: no packet vanishes, whatever its size; what routers say is believed as far as it should be."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
from driver_kit import A6, B6, GATEWAY_A, GATEWAYS, HOSTS, SPI, A, B, add, ip, ip6, make, negotiate
from scapy.layers.inet import ICMP, IP, UDP, defragment
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6, IPv6ExtHdrDestOpt, defragment6
from scapy.packet import Packet, Raw

from ipsec_core import Action, Burst, Driver, Filter, PathMtuDiscovery, Status
from ipsec_core.driver import PathMtu, icmp_path_mtu, icmp_too_big, learn_path_mtu
from ipsec_core.errors import DriverError

HEADER = {4: 20, 6: 40}
ROUTER = {4: "203.0.113.9", 6: "2001:db8:9::9"}
LEAST = {4: 68, 6: 1280}
QUOTED = {4: 28, 6: 1232}
SUITES = ("gcm", "3des-sha1", "null-sha256", "ah-sha1", "ah-gmac")
# Mode, family inside, family outside.
SHAPES = [("transport", 4, 4), ("transport", 6, 6)] + [("tunnel", i, o) for i in (4, 6) for o in (4, 6)]
EXCEEDS, GOOD = Status.EXCEEDS_MTU, Status.PROTECTED


def clear(family: int, size: int, df: bool = False) -> bytes:
    """An IP packet of the hosts, `size` bytes long in all."""
    data = bytes(n * size % 251 for n in range(size - HEADER[family]))
    return ip6(data) if family == 6 else ip(data, fragment=0x4000 * df, identification=size)


def pair(suite: str, mode: str, outer: int, path_mtu: int, **fields: Any) -> tuple[Driver, Driver, int]:
    """Sender, receiver and the handle of the sender's SA."""
    out, into = Driver(seed=1), Driver(seed=2)
    out.set_filters([Filter(1, "out", Action.NEGOTIATE, None, None)])
    handle = add(out, make("out", suite, mode, outer, path_mtu=path_mtu, **fields))  # type: ignore[arg-type]
    add(into, make("in", suite, mode, outer, replay_window=0))  # type: ignore[arg-type]
    return out, into, handle


def fragments(burst: Burst, mtu: int, identification: int = 0) -> tuple[list[bytes], int]:
    """What a sender of the burst gives to the network."""
    start, out, sent = 0, Burst(64, 2048), []
    while start < len(burst):
        before = start
        start, identification = burst.fragment(out, mtu, start=start, identification=identification)
        assert start > before
        assert set(out.status.tolist()) <= {GOOD, Status.UNPROCESSED}
        sent += out.packets() or [out.packet(i) for i in range(len(out))]
    return sent, identification


def received(into: Driver, wires: list[bytes], now: float = 0.0) -> list[bytes]:
    """What the receiver's host gets."""
    packets: list[bytes] = []
    for start in range(0, len(wires), 256):
        burst = Burst(256, 4096).load(wires[start : start + 256])
        into.inbound(burst, now)
        assert set(burst.status.tolist()) <= {GOOD, Status.REASSEMBLING}
        packets += burst.packets()
    return packets


def message(packet: bytes, told: int, source: str) -> bytes:
    """What scapy makes of an answer to the packet."""
    if packet[0] >> 4 == 4:
        icmp = ICMP(type=3, code=4, nexthopmtu=told) / Raw(packet[:28])
        return bytes(IP(src=source, dst=A, tos=0xC0, id=0, flags="DF", ttl=64) / icmp)
    return bytes(IPv6(src=source, dst=A6, hlim=64) / ICMPv6PacketTooBig(mtu=told) / Raw(packet[:1232]))


def told_by(answer: bytes) -> int:
    """RFC 1191 4, RFC 4443 3.2"""
    return int.from_bytes(answer[26:28] if answer[0] >> 4 == 4 else answer[44:48], "big")


def quoted_by(answer: bytes) -> bytes:
    return answer[28:] if answer[0] >> 4 == 4 else answer[48:]


def one(driver: Driver, packet: bytes) -> tuple[Status, bytes]:
    burst = Burst(1, 4096).load([packet])
    driver.outbound(burst)
    return Status(int(burst.status[0])), burst.packet(0)


def joined(pieces: list[bytes]) -> bytes:
    """By scapy."""
    if pieces[0][0] >> 4 == 4:
        (whole,) = defragment([IP(piece) for piece in pieces])
        return bytes(IP(bytes(whole)))
    return bytes(defragment6([IPv6(piece) for piece in pieces]))


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize(
    ("mode", "inner", "outer", "df"), [(*s, df) for s in SHAPES for df in ((False, True) if s[1] == 4 else (False,))]
)
@pytest.mark.parametrize("mtu", [1500, 1280])
def test_nothing_vanishes(suite: str, mode: str, inner: int, outer: int, df: bool, mtu: int) -> None:
    """Each size up to MTU + 64 goes whole, or in fragments, or is answered with the MTU that goes whole, exactly."""
    out, into, handle = pair(suite, mode, outer, mtu)
    source = ROUTER[inner]
    discovery = PathMtuDiscovery(out, source)
    sizes = range(HEADER[inner], mtu + 64 + 1)
    packets = [clear(inner, size, df) for size in sizes]
    answered, split, identification = [], 0, 0
    for start in range(0, len(packets), 256):
        these = packets[start : start + 256]
        burst = Burst(256, 2048).load(these)
        out.outbound(burst)
        assert set(burst.status.tolist()) <= {GOOD, EXCEEDS}
        refused = [packet for packet, status in zip(these, burst.status, strict=True) if status == EXCEEDS]
        answers = discovery.on_outbound(burst)
        assert [quoted_by(answer) for answer in answers] == [packet[: QUOTED[inner]] for packet in refused]
        (told,) = {told_by(answer) for answer in answers} or {0}
        assert answers[::16] == [message(packet, told, source) for packet in refused[::16]]
        answered += [(packet, told) for packet in refused]
        sent, identification = fragments(burst, mtu, identification)
        assert max(map(len, sent), default=0) <= mtu
        assert received(into, sent) == [packet for packet in these if packet not in refused]
        split += len(sent) > len(these) - len(refused)
    fits = out.clear_mtu(handle, HEADER[inner])
    if inner == 4 and not df:
        assert not answered
        assert split
    else:
        told = max(fits, LEAST[inner])
        assert {len(packet): mtu for packet, mtu in answered} == {size: told for size in sizes if size > told}
        assert bool(split) == (told > fits)
    assert discovery.unanswered == 0
    status, wire = one(out, clear(inner, fits, df))
    assert (status, len(wire) <= mtu) == (GOOD, True)
    assert fits + 1 + out.overhead(handle, fits + 1, HEADER[inner]) > mtu


@pytest.mark.parametrize("mtu", [600, 1300])
@pytest.mark.parametrize("mode", ["after", "before"])
def test_fragments_are_those_that_scapy_joins(mode: str, mtu: int) -> None:
    """RFC 2401 6.1, RFC 4301 7: fragmentation after and before IPsec."""
    out, into, handle = pair("gcm", "tunnel", 4, mtu)
    for size in [*range(mtu - 60, mtu + 20), 2000]:
        packet = clear(4, size)
        burst = Burst(1).load([packet])
        if mode == "after":
            out.outbound(burst)
            wire = burst.packet(0)
            pieces, _ = fragments(burst, mtu)
            assert joined(pieces) == wire
            assert received(into, pieces) == [packet]
        else:
            split = Burst(8)
            assert burst.fragment(split, out.clear_mtu(handle)) == (1, 0)
            assert out.outbound(split) == len(split)
            wires = split.packets()
            assert all(len(wire) <= mtu and wire[6] & 0x20 == 0 for wire in wires)
            assert joined(received(into, wires)) == packet


def test_ipv6_fragments_are_those_that_scapy_joins() -> None:
    out, into, _ = pair("gcm", "transport", 6, 1280)
    identification = 2**32 - 2
    for size in range(1240, 1281):
        burst = Burst(1).load([clear(6, size)])
        out.outbound(burst)
        wire, before = burst.packet(0), identification
        pieces, identification = fragments(burst, 1280, identification)
        assert received(into, pieces) == [clear(6, size)]
        assert identification == (before + (len(pieces) > 1)) % 2**32
        if len(pieces) > 1:
            assert joined(pieces) == wire


def test_a_packet_of_1280_bytes_of_ipv6_goes_through_any_path() -> None:
    """RFC 2473 7.1, RFC 4213 3.2.2: its source can do no less; the outer DF bit is then off."""
    out, _, _ = pair("gcm", "tunnel", 4, 576)
    status, wire = one(out, clear(6, 1280))
    assert (status, wire[6] & 0x40) == (GOOD, 0)
    assert one(out, clear(6, 500))[1][6] & 0x40 == 0x40
    assert one(out, clear(6, 1281))[0] == EXCEEDS
    forced, _, _ = pair("gcm", "tunnel", 4, 576, df="set")
    assert one(forced, clear(6, 1280))[0] == EXCEEDS


# --- the helper ---


def router_says(wire: bytes, mtu: int, quoted: int = 0) -> bytes:
    if wire[0] >> 4 == 6:
        source = str(IPv6(wire).src)
        return bytes(IPv6(src=ROUTER[6], dst=source) / ICMPv6PacketTooBig(mtu=mtu) / Raw(wire[: quoted or 1232]))
    icmp = ICMP(type=3, code=4, nexthopmtu=mtu) / Raw(wire[: quoted or (wire[0] & 15) * 4 + 8])
    return bytes(IP(src=ROUTER[4], dst=str(IP(wire).src)) / icmp)


@pytest.mark.parametrize("suite", ["gcm", "ah-sha1"])
@pytest.mark.parametrize(("mode", "inner", "outer"), SHAPES)
def test_a_whole_discovery(suite: str, mode: str, inner: int, outer: int) -> None:
    """A router refuses, the SA learns, the host is told, and what it sends then passes the router."""
    out, into, handle = pair(suite, mode, outer, 1500)
    discovery = PathMtuDiscovery(out, ROUTER[4], ROUTER[6])
    first = out.clear_mtu(handle, HEADER[inner])
    status, wire = one(out, clear(inner, first, df=True))
    assert status == GOOD
    assert discovery.on_icmp(router_says(wire, 1400)) == [handle]
    assert out.sa_info(handle).path_mtu == 1400
    burst = Burst(1).load([clear(inner, first, df=True)])
    assert out.outbound(burst) == 0
    (answer,) = discovery.on_outbound(burst)
    told = told_by(answer)
    assert told == out.clear_mtu(handle, HEADER[inner]) < first
    status, wire = one(out, clear(inner, told, df=True))
    assert status == GOOD
    assert 1400 - 16 < len(wire) <= 1400
    assert received(into, [wire]) == [clear(inner, told, df=True)]
    assert discovery.on_icmp(router_says(wire, 1400)) == []
    assert discovery.on_icmp(router_says(wire, 1450)) == []
    assert out.sa_info(handle).path_mtu == 1400


def encapsulated(**fields: Any) -> tuple[Driver, list[int]]:
    """Three SAs under UDP between the same hosts, on two pairs of ports."""
    driver = Driver(seed=1)
    driver.set_filters([negotiate()])
    ports = [(4500, 4500), (4500, 40000), (4500, 4500)]
    return driver, [add(driver, make("out", spi=SPI + n, encapsulation=p, **fields)) for n, p in enumerate(ports)]


def test_a_message_that_does_not_reach_the_spi_is_for_all_with_its_ends() -> None:
    """RFC 2401 6.1.2.1; RFC 792 quotes 8 bytes, the UDP header of RFC 3948."""
    driver, handles = encapsulated()
    _, wire = one(driver, ip(bytes(1000)))  # of the newest, handles[2]
    assert PathMtuDiscovery(driver, A).on_icmp(router_says(wire, 900, quoted=32)) == [handles[2]]
    assert PathMtuDiscovery(driver, A).on_icmp(router_says(wire, 800)) == [handles[0], handles[2]]
    assert [driver.sa_info(handle).path_mtu for handle in handles] == [800, 0, 800]


def test_messages_that_lower_nothing() -> None:
    out, _, handle = pair("gcm", "transport", 4, 0)
    _, wire = one(out, ip(bytes(1400)))
    discovery = PathMtuDiscovery(out, A)
    good = router_says(wire, 1400)
    harmless = [
        b"",
        b"x",
        good[:-1],
        good[:30] + bytes([good[30] ^ 1]) + good[31:],
        bytes(IP(src=ROUTER[4], dst=B) / ICMP(type=3, code=4, nexthopmtu=1400) / Raw(wire[:28])),
        bytes(IP(src=ROUTER[4], dst=A) / ICMP(type=3, code=1) / Raw(wire[:28])),
        router_says(wire[:20] + (SPI + 1).to_bytes(4, "big") + wire[24:], 1400),
        router_says(wire[:9] + b"\x33" + wire[10:20] + bytes(4) + wire[20:24], 1400),
        router_says(bytes(IP(src=A, dst="10.1.0.3", proto=50) / Raw(wire[20:])), 1400),
        router_says(bytes(IP(src="10.1.0.3", dst=B, proto=50) / Raw(wire[20:])), 1400),
        router_says(ip(bytes(1400)), 1400),
    ]
    assert [discovery.on_icmp(packet) for packet in harmless] == [[]] * len(harmless)
    assert out.sa_info(handle).path_mtu == 0
    assert discovery.on_icmp(good) == [handle]
    out.delete_sa(handle)
    assert discovery.on_icmp(router_says(wire, 1300)) == []


def test_a_forged_message_does_not_end_the_traffic() -> None:
    """RFC 5927 7: the least MTU that is believed."""
    out, _, handle = pair("gcm", "transport", 4, 1500)
    _, wire = one(out, ip(bytes(1400)))
    assert PathMtuDiscovery(out, A).on_icmp(router_says(wire, 68)) == [handle]
    assert out.sa_info(handle).path_mtu == 576
    assert PathMtuDiscovery(out, A, least=68).on_icmp(router_says(wire, 100)) == [handle]
    assert out.sa_info(handle).path_mtu == 100


AH, THREEDES, GCM = "ah-sha1", "3des-sha1", "gcm"
NESTS = [
    ((AH, "transport"), (GCM, "transport")),
    ((THREEDES, "tunnel"), (GCM, "transport")),
    ((THREEDES, "transport"), (GCM, "transport")),
    ((GCM, "tunnel"), (THREEDES, "tunnel")),
    ((THREEDES, "transport"), (GCM, "tunnel")),
]


@pytest.mark.parametrize(("family", "options"), [(4, 0), (4, 4), (4, 8), (4, 12), (6, 0)])
@pytest.mark.parametrize(("outside", "inside"), NESTS)
@pytest.mark.parametrize("mtu", [1340, 1336])  # padding leaves room with one header, with the other not
def test_sas_inside_of_sas_learn_what_is_left(family: int, outside: Any, inside: Any, options: int, mtu: int) -> None:
    """What passes the first SA passes the one around it; no packet is refused half protected."""
    driver = Driver(seed=1)
    driver.set_filters([Filter(1, "out", Action.NEGOTIATE, None, None)])
    # A transport SA around a tunnel is one of the gateways.
    source, destination = (GATEWAYS if "tunnel" in (outside[1], inside[1]) else HOSTS)[family]
    ends = {"source": source, "destination": destination, "spi": SPI + 1, "filter": 9}
    around = add(driver, make("out", *outside, family, **ends))
    inner = add(driver, make("out", *inside, family, outer=around))
    # Options of no meaning, End of List last (RFC 791 3.1).
    extra: dict[str, Any] = {"options": bytes([1] * (options - 1) + [0])} if options else {}
    make_packet = ip6 if family == 6 else ip
    fixed = {} if family == 6 else {"fragment": 0x4000, **extra}
    _, wire = one(driver, make_packet(bytes(1300), **fixed))
    discovery = PathMtuDiscovery(driver, ROUTER[family])
    # A tunnel sees its own messages with the addresses of its ends.
    assert discovery.on_icmp(router_says(wire, mtu)) == [around]
    assert 1200 < driver.sa_info(inner).path_mtu < mtu
    burst = Burst(256).load([make_packet(bytes(n), **fixed) for n in range(1100, 1340)])
    driver.outbound(burst)
    answers = discovery.on_outbound(burst)
    assert discovery.unanswered == 0
    assert len(answers) == burst.status.tolist().count(EXCEEDS) > 0
    told = {told_by(answer) for answer in answers}
    assert len(told) == 1
    header = HEADER[family] + options
    status, wire = one(driver, make_packet(bytes(min(told) - header), **fixed))
    assert status == GOOD
    assert len(wire) <= mtu or min(told) == 1280
    passed = [len(packet) for packet in burst.packets()]
    assert max(passed) <= mtu or min(told) == 1280


def test_only_the_sa_that_shows_on_the_wire_is_meant() -> None:
    driver = Driver(seed=1)
    driver.set_filters([negotiate()])
    around = add(driver, make("out", "3des-sha1", spi=SPI + 1, filter=9))
    inner = add(driver, make("out", outer=around))
    found = PathMtu(IPv4Address(A), IPv4Address(B), IPv4Address(ROUTER[4]), 50, 0, 0, 0, 1300)
    assert learn_path_mtu(driver, found) == [around]
    assert driver.sa_info(inner).path_mtu == 1300 - driver.overhead(around, 1262)


def test_an_sa_around_the_first_one_that_refuses() -> None:
    """Only when its path MTU was set by hand: the packet is the host's no more, and counted."""
    driver = Driver(seed=1)
    driver.set_filters([negotiate()])
    around = add(driver, make("out", "ah-sha1", spi=SPI + 1, filter=9, path_mtu=1000))
    add(driver, make("out", outer=around))
    burst = Burst(1).load([clear(4, 1000, df=True)])
    assert driver.outbound(burst) == 0
    discovery = PathMtuDiscovery(driver, A)
    assert discovery.on_outbound(burst) == []
    assert discovery.unanswered == 1


def test_refusals_without_an_answer() -> None:
    out, _, _ = pair("gcm", "tunnel", 4, 1000)
    icmp_error = bytes(IP(src=A, dst=B, flags="DF") / ICMP(type=3, code=1) / Raw(bytes(1000)))
    burst = Burst(4).load([clear(6, 1300), clear(4, 1000, df=True), icmp_error])
    discovery = PathMtuDiscovery(out, IPv4Address(GATEWAY_A))
    out.outbound(burst)
    assert burst.status.tolist() == [EXCEEDS] * 3
    assert [bytes(answer)[12:16] for answer in discovery.on_outbound(burst)] == [IPv4Address(GATEWAY_A).packed]
    assert discovery.unanswered == 2


def test_nothing_fits_the_path() -> None:
    """Said as 68 (RFC 791); shorter ones stay unanswered."""
    out, _, handle = pair("3des-sha1", "tunnel", 4, 68)
    assert out.clear_mtu(handle) == 0
    discovery = PathMtuDiscovery(out, GATEWAY_A)
    burst = Burst(2).load([clear(4, 69, df=True), clear(4, 68, df=True)])
    assert out.outbound(burst) == 0
    assert [told_by(answer) for answer in discovery.on_outbound(burst)] == [68]
    assert discovery.unanswered == 1


# --- the parts ---


def test_icmp_too_big_is_that_of_scapy() -> None:
    for packet, source in ((clear(4, 1500, df=True), ROUTER[4]), (clear(6, 1500), ROUTER[6])):
        for kind in (bytes, bytearray, memoryview):
            assert icmp_too_big(kind(packet), 1400, source) == message(packet, 1400, source)
    assert icmp_too_big(clear(4, 1500)[:6] + b"\0\x01" + clear(4, 1500)[8:], 1400, A) is None


@pytest.mark.parametrize(
    ("packet", "mtu", "source", "words"),
    [
        (b"", 1400, A, "icmp_too_big: 0 bytes, mtu 1400, source 10.1.0.1: malformed input"),
        (clear(4, 100), 100, A, "icmp_too_big: 100 bytes, mtu 100, source 10.1.0.1: value out of range"),
        (clear(4, 100), 80, A6, "icmp_too_big: 100 bytes, mtu 80, source 2001:db8::1: value out of range"),
        (clear(4, 100), -1, A, "mtu: -1 is out of range; accepted: 0 to 4294967295"),
        (clear(4, 100), 80, "x", "source: 'x' is not an IP address; accepted: an IPv4 or IPv6 address"),
    ],
)
def test_bad_arguments_of_icmp_too_big(packet: bytes, mtu: int, source: str, words: str) -> None:
    with pytest.raises(DriverError) as caught:
        icmp_too_big(packet, mtu, source)
    assert str(caught.value) == words


def quoted(packet: Packet, family: int = 4) -> bytes:
    return router_says(bytes(packet), 1300, quoted=len(bytes(packet)))


def test_icmp_path_mtu() -> None:
    hosts = {family: [IPv4Address(x) if family == 4 else IPv6(src=x).src for x in HOSTS[family]] for family in (4, 6)}
    esp = Raw(SPI.to_bytes(4, "big") + bytes(30))
    found = icmp_path_mtu(quoted(IP(src=A, dst=B, proto=50) / esp))
    assert found == PathMtu(hosts[4][0], hosts[4][1], IPv4Address(ROUTER[4]), 50, SPI, 0, 0, 1300)
    found = icmp_path_mtu(quoted(IP(src=A, dst=B) / UDP(sport=40000, dport=4500) / esp))
    assert found is not None
    assert (found.protocol, found.spi, found.source_port, found.destination_port) == (17, SPI, 40000, 4500)
    found = icmp_path_mtu(quoted(IPv6(src=A6, dst=B6, nh=60) / IPv6ExtHdrDestOpt(nh=50) / esp))
    assert found is not None
    assert (str(found.source), str(found.destination), found.spi, found.mtu) == (A6, B6, SPI, 1300)
    assert icmp_path_mtu(quoted(IP(src=A, dst=B) / UDP(sport=7, dport=9) / esp)) is None
    assert icmp_path_mtu(b"") is None
    with pytest.raises(AttributeError):
        found.mtu = 1  # type: ignore[misc]


def test_learn_path_mtu_takes_ranges() -> None:
    driver, _ = encapsulated()
    found = PathMtu(IPv4Address(A), IPv4Address(B), IPv4Address(ROUTER[4]), 17, 0, 4500, 4500, 1300)
    for least in (67, 65536):
        with pytest.raises(DriverError, match=rf"^least: {least} is out of range; accepted: 68 to 65535$"):
            learn_path_mtu(driver, found, least)
    assert len(learn_path_mtu(driver, found, 68)) == 2
    assert learn_path_mtu(driver, found, 68) == []


def test_many_sas_learn_at_once() -> None:
    """More than handles are returned for."""
    driver = Driver(seed=1)
    made = [add(driver, make("out", spi=SPI + n, encapsulation=(4500, 4500))) for n in range(100)]
    found = PathMtu(IPv4Address(A), IPv4Address(B), IPv4Address(ROUTER[4]), 17, 0, 4500, 4500, 1300)
    assert learn_path_mtu(driver, found) == made[:64]
    assert {info.path_mtu for info in driver.sas()} == {1300}


def test_clear_mtu_of_what_has_none() -> None:
    out, into, handle = pair("gcm", "transport", 4, 0)
    most = out.clear_mtu(handle)
    assert most + out.overhead(handle, most) <= 65535 < most + 1 + out.overhead(handle, most + 1)
    with pytest.raises(DriverError, match="inbound; accepted: an outbound SA"):
        into.clear_mtu(into.sas()[0].handle)
    out.delete_sa(handle)
    with pytest.raises(DriverError, match="no such object"):
        out.clear_mtu(handle)


@pytest.mark.parametrize(
    ("sources", "least", "words"),
    [
        ((), 576, "sources: none; accepted: an address of each family that is protected"),
        ((A, B), 576, "sources: 10.1.0.2 is the second one of its family; accepted: one IPv4, one IPv6"),
        (("x",), 576, "sources: 'x' is not an IP address; accepted: an IPv4 or IPv6 address"),
        ((A,), 67, "least: 67 is out of range; accepted: 68 to 65535 (bytes)"),
    ],
)
def test_bad_arguments_of_the_helper(sources: Any, least: int, words: str) -> None:
    with pytest.raises(DriverError) as caught:
        PathMtuDiscovery(Driver(), *sources, least=least)
    assert str(caught.value) == words


# --- Burst.fragment ---


def test_fragment_goes_on_where_the_other_burst_was_full() -> None:
    burst = Burst(8).load([clear(4, 1000), clear(4, 100), clear(4, 1000)])
    out = Burst(3)
    assert burst.fragment(out, 508) == (1, 0)
    assert out.length.tolist() == [508, 508, 24]
    assert burst.fragment(out, 508, start=1) == (2, 0)
    assert burst.fragment(out, 508, start=2, identification=9) == (3, 9)
    assert burst.fragment(out, 508, start=3) == (3, 0)
    assert len(out) == 0


def test_fragment_skips_what_was_dropped() -> None:
    driver = Driver()
    driver.set_filters([Filter(1, "out", Action.BLOCK, protocol=17), Filter(2, "out", Action.PERMIT)])
    burst = Burst(8).load([ip(bytes(8), protocol=17), ip(bytes(8)), clear(4, 1000, df=True), b""])
    driver.outbound(burst)
    out = Burst(8)
    assert burst.fragment(out, 500) == (4, 0)
    assert out.packets() == [ip(bytes(8))]
    assert out.status.tolist() == [Status.PERMITTED, EXCEEDS]
    assert out.filter.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mtu": 67}, "mtu: 67 is out of range; accepted: 68 to 65535"),
        ({"mtu": 65536}, "mtu: 65536 is out of range; accepted: 68 to 65535"),
        ({"start": 2}, "start: 2 is out of range; accepted: 0 to 1"),
        ({"start": -1}, "start: -1 is out of range; accepted: 0 to 1"),
        ({"identification": 2**32}, "identification: 4294967296 is out of range; accepted: 0 to 4294967295"),
    ],
)
def test_bad_arguments_of_fragment(options: dict[str, int], words: str) -> None:
    burst = Burst(1).load([b"x"])
    with pytest.raises(DriverError) as caught:
        burst.fragment(Burst(1), **{"mtu": 1500, **options})
    assert str(caught.value) == words


def test_fragment_into_itself_and_into_nothing() -> None:
    burst = Burst(1).load([b"x"])
    with pytest.raises(DriverError, match=r"^into: the burst itself; accepted: another one$"):
        burst.fragment(burst, 1500)
    with pytest.raises(TypeError):
        burst.fragment(None, 1500)  # type: ignore[arg-type]
    refused = []

    def packets() -> Any:
        yield b"1"
        for call in (lambda: burst.fragment(Burst(1), 1500), lambda: Burst(1).fragment(burst, 1500)):
            try:
                call()
            except DriverError as error:
                refused.append(str(error))

    burst.load(packets())
    assert refused == ["Burst: in use by a driver in another thread"] * 2
