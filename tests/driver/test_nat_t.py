"""ESP in UDP (RFC 3948): both modes and families, markers, keep-alives, and transport checksums behind a NAT."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from driver_kit import (
    B6,
    GATEWAY_A,
    GATEWAY_B,
    GATEWAY_B6,
    HOSTS,
    MODES,
    SPI,
    A,
    B,
    add,
    ip,
    ip6,
    make,
    of_family,
    opening,
    oracle,
    protecting,
    run,
    statuses,
    tcp,
    udp,
)
from scapy.all import IP, TCP, UDP, IPv6, Raw

from ipsec_core import Driver, Status
from ipsec_core.driver import UpcallKind

GOOD, BAD_SPI = Status.PROTECTED, Status.BAD_SPI
PORTS = (4500, 1029)
NAT = {"nat_traversal": True}
FAMILIES = pytest.mark.parametrize("family", [4, 6])
NAMES = pytest.mark.parametrize("name", ["gcm", "3des-sha1", "null-gmac"])
LENGTHS = [0, 1, 2, 7, 8, 40, 99]


def iv_of(wire: bytes, family: int) -> bytes:
    start = (20 if family == 4 else 40) + 8 + 8
    return wire[start : start + 8]


def receiving(name: str = "gcm", mode: Any = "transport", family: int = 4, **fields: Any) -> Driver:
    return opening(name, mode, family, driver=NAT, **{"encapsulation": (1029, 4500), **fields})


@NAMES
@FAMILIES
@pytest.mark.parametrize("mode", MODES)
def test_bytes_on_the_wire(name: str, family: int, mode: Any, backend: str) -> None:
    out = protecting(name, mode, family, driver={"backend": backend, **NAT}, encapsulation=PORTS)
    packets = [of_family(family, bytes(range(n))) for n in LENGTHS]
    wires = [wire for _, wire in run(out, "out", packets)]
    twin = oracle(name, mode, family, encapsulation=PORTS)
    header = 20 if family == 4 else 40
    for number, (packet, wire) in enumerate(zip(packets, wires, strict=True), 1):
        assert wire == twin.seal(packet, number, iv_of(wire, family), number)
        assert out.overhead(out.sas()[0].handle, len(packet), header) == len(wire) - len(packet)
    # Behind the NAT the ports are others: the SA does not mind, as long as it is under UDP to 4500.
    arrived = [oracle(name, mode, family, encapsulation=(61000, 4500)).seal(p, n) for n, p in enumerate(packets, 1)]
    into = receiving(name, mode, family)
    assert run(into, "in", arrived) == [(GOOD, packet) for packet in packets]
    assert into.sas()[0].bytes == out.sas()[0].bytes


@FAMILIES
@pytest.mark.parametrize("mode", MODES)
def test_checksum_of_udp(family: int, mode: Any) -> None:
    """RFC 3948 2.1: zero under IPv4; IPv6 has no other checksum, so it is a right one, by scapy's reckoning."""
    for size in (0, 1, 2, 3, 100):
        out = protecting(mode=mode, family=family, encapsulation=PORTS)
        ((_, wire),) = run(out, "out", [of_family(family, bytes(range(size)))])
        layer = (IP if family == 4 else IPv6)(wire)[UDP]
        assert (layer.sport, layer.dport, layer.len) == (*PORTS, len(wire) - (20 if family == 4 else 40))
        if family == 4:
            assert layer.chksum == 0
        else:
            found = layer.chksum
            again = IPv6(wire)
            del again[UDP].chksum
            assert found == IPv6(bytes(again))[UDP].chksum


HOP_BY_HOP = bytes([43, 0, 1, 4, 0, 0, 0, 0])
ROUTING = bytes([17, 0, 4, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("first", "extensions"),
    [(0, bytes([253]) + HOP_BY_HOP[1:]), (0, HOP_BY_HOP + bytes([253]) + ROUTING[1:])],
    ids=["hop-by-hop", "hop-by-hop and routing"],
)
def test_behind_extension_headers(first: int, extensions: bytes) -> None:
    """They stay in front of UDP (RFC 4303 3.1.1), and the checksum is where UDP is."""
    packet = ip6(b"payload", first=first, extensions=extensions)
    out = protecting(family=6, encapsulation=PORTS)
    ((status, wire),) = run(out, "out", [packet])
    assert status is GOOD
    headers, body = wire[40 : 40 + len(extensions)], wire[40 + len(extensions) :]
    at = len(extensions) - 8
    assert headers == extensions[:at] + b"\x11" + extensions[at + 1 :], "nothing but what follows has changed"
    pseudo = wire[8:40] + struct.pack("!II", len(body), 17)
    from esp_oracle import checksum

    total = pseudo + body
    assert checksum(total + bytes(len(total) % 2)) == 0
    into = receiving(family=6)
    back = wire.replace(struct.pack("!HH", *PORTS), struct.pack("!HH", 1029, 4500), 1)
    assert run(into, "in", [back]) == [(GOOD, packet)]


@FAMILIES
def test_ike_and_keep_alive(family: int) -> None:
    driver = receiving(family=family)

    def to_4500(data: bytes, length: int | None = None, source: int = 61000) -> bytes:
        size = 8 + len(data) if length is None else length
        return of_family(family, struct.pack("!HHHH", source, 4500, size, 0) + data, protocol=17)

    table = {
        "IKE behind its marker (RFC 3948 2.2)": (to_4500(bytes(4) + b"IKE"), Status.EXEMPT),
        "the marker alone": (to_4500(bytes(4)), Status.EXEMPT),
        "keep-alive (RFC 3948 2.3)": (to_4500(b"\xff"), Status.KEEPALIVE),
        "one other byte": (to_4500(b"\xfe"), Status.MALFORMED),
        "two bytes": (to_4500(b"\xff\xff"), Status.MALFORMED),
        "three bytes": (to_4500(bytes(3)), Status.MALFORMED),
        "nothing": (to_4500(b""), Status.MALFORMED),
        "a length of UDP that lies": (to_4500(b"\xff", length=10), Status.MALFORMED),
        "a shorter length": (to_4500(bytes(8), length=15), Status.MALFORMED),
        "half of a UDP header": (of_family(family, bytes([1, 2, 17, 148]), protocol=17), Status.MALFORMED),
        "no more than an SPI": (to_4500(SPI.to_bytes(4, "big")), Status.MALFORMED),
        "an SPI that nobody has": (to_4500((SPI + 1).to_bytes(4, "big") + bytes(4)), BAD_SPI),
        "too short for the SA": (to_4500(SPI.to_bytes(4, "big") + bytes(20)), Status.MALFORMED),
        "forged": (to_4500(SPI.to_bytes(4, "big") + b"\0\0\0\1" + bytes(40)), Status.NOT_AUTHENTICATED),
        "UDP to another port": (
            of_family(family, struct.pack("!HHHH", 4500, 4501, 9, 0) + b"\xff", protocol=17),
            Status.EXEMPT,
        ),
    }
    found = statuses(driver, "in", [packet for packet, _ in table.values()])
    assert dict(zip(table, found, strict=True)) == {name: status for name, (_, status) in table.items()}
    assert driver.counters()["bad_spi_packets"] == 1


def test_without_nat_traversal_port_4500_is_nothing_special() -> None:
    driver = opening(encapsulation=(1029, 4500))
    wire = oracle(encapsulation=(1029, 4500)).seal(ip(b"x"), 1)
    assert run(driver, "in", [wire, udp(1029, 4500, b"\xff")])[0] == (Status.NO_FILTER, wire)
    assert driver.status_counters("in")["NO_FILTER"] == 2


@FAMILIES
@pytest.mark.parametrize("mode", MODES)
def test_an_sa_knows_whether_it_is_under_udp(family: int, mode: Any) -> None:
    """RFC 3947 4: who negotiated encapsulation gets it, and nobody else."""
    packet = of_family(family, b"x")
    bare = oracle(mode=mode, family=family).seal(packet, 1)
    under = oracle(mode=mode, family=family, encapsulation=(1029, 4500)).seal(packet, 1)
    plain = opening(mode=mode, family=family, driver=NAT)
    assert statuses(plain, "in", [under, bare]) == [BAD_SPI, GOOD]
    encapsulated = receiving(mode=mode, family=family)
    assert statuses(encapsulated, "in", [bare, under]) == [BAD_SPI, GOOD]
    assert plain.counters()["bad_spi_packets"] == encapsulated.counters()["bad_spi_packets"] == 1


def test_nothing_under_udp_inside_of_another_sa() -> None:
    """What the outer one has just opened is a packet for the host."""
    driver = receiving("gcm")
    add(driver, make("in", "null-sha1", spi=SPI + 1))
    inside = oracle(encapsulation=(1029, 4500)).seal(ip(b"x"), 1)
    assert run(driver, "in", [oracle("null-sha1", spi=SPI + 1).seal(inside, 1)]) == [(GOOD, inside)]
    assert driver.sas()[0].packets == 0


# --- NAT-OA ---

NATTED = {4: ("203.0.113.9", B), 6: ("2001:db8:9::9", B6)}


def layered(packet: bytes) -> Any:
    return (IP if packet[0] >> 4 == 4 else IPv6)(packet)


def with_checksum(packet: bytes) -> bytes:
    """Transport checksum computed by scapy over the packet's own addresses."""
    layer = layered(packet)
    for kind in (TCP, UDP):
        if layer.haslayer(kind):
            del layer[kind].chksum
    return bytes(layer)


def readdressed(packet: bytes, source: str | None, destination: str | None) -> bytes:
    """The packet after a NAT that knows nothing of what is encrypted."""
    layer = layered(packet)
    layer.src, layer.dst = source or layer.src, destination or layer.dst
    if layer.version == 4:
        del layer.chksum
    return bytes(layer)


def segment(family: int, kind: str, data: bytes) -> bytes:
    source, destination = HOSTS[family]
    base = (IP if family == 4 else IPv6)(src=source, dst=destination)
    upper = TCP(sport=1029, dport=80) if kind == "tcp" else UDP(sport=1029, dport=53)
    return bytes(base / upper / Raw(data))


@FAMILIES
@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize("who", ["source", "destination", "both"])
def test_checksums_are_put_right(family: int, kind: str, who: str) -> None:
    """RFC 3948 3.1.2: the peer computed over addresses that the NAT has changed since."""
    here = {4: "198.51.100.7", 6: "2001:db8:77::7"}[family]
    source = NATTED[family][0] if who != "destination" else HOSTS[family][0]
    destination = here if who != "source" else HOSTS[family][1]
    fields: dict[str, Any] = {"source": source, "destination": destination}
    fields["original_source"] = HOSTS[family][0] if who != "destination" else None
    fields["original_destination"] = HOSTS[family][1] if who != "source" else None
    sent = [segment(family, kind, bytes(range(n)) * 3) for n in range(40)]
    wires = [
        readdressed(oracle(family=family, encapsulation=(1029, 4500)).seal(packet, n), source, destination)
        for n, packet in enumerate(sent, 1)
    ]
    wanted = [with_checksum(readdressed(packet, source, destination)) for packet in sent]
    assert run(receiving(family=family, **fields), "in", wires) == [(GOOD, packet) for packet in wanted]
    without = receiving(family=family, source=source, destination=destination)
    assert all(found != packet for (_, found), packet in zip(run(without, "in", wires), wanted, strict=True))


def test_what_has_no_checksum_stays_without() -> None:
    """UDP without a checksum, another protocol, a header cut off, a fragment."""
    fields = {"source": "203.0.113.9", "original_source": A}
    sent = [udp(1029, 53, b"zero"), ip(bytes(30)), ip(bytes(5), protocol=17), ip(bytes(17), protocol=6)]
    wires = [
        readdressed(oracle(encapsulation=(1029, 4500)).seal(packet, n), "203.0.113.9", None)
        for n, packet in enumerate(sent, 1)
    ]
    wanted = [readdressed(packet, "203.0.113.9", None) for packet in sent]
    assert run(receiving(**fields), "in", wires) == [(GOOD, packet) for packet in wanted]


def test_a_udp_checksum_that_becomes_zero_is_sent_as_ones() -> None:
    """RFC 768: zero would mean none."""
    header = struct.pack("!HHHH", 1029, 53, 10, 0)
    # Its own checksum, as one more word, fills the sum up to all ones.
    word = with_checksum(ip(header + b"\0\0", source="203.0.113.9", protocol=17))[26:28]
    packet = with_checksum(ip(header + word, source="203.0.113.9", protocol=17))
    assert packet[26:28] == b"\xff\xff"
    original = with_checksum(readdressed(packet, A, None))
    wire = readdressed(oracle(encapsulation=(1029, 4500)).seal(original, 1), "203.0.113.9", None)
    into = receiving(source="203.0.113.9", original_source=A)
    ((status, found),) = run(into, "in", [wire])
    assert (status, found[26:28]) == (GOOD, b"\xff\xff")


def test_tunnel_mode_leaves_what_is_inside() -> None:
    packet = with_checksum(tcp(1, 2, b"inside"))
    wire = oracle(mode="tunnel", encapsulation=(1029, 4500)).seal(packet, 1)
    for known in (None, "10.9.9.9"):
        assert run(receiving(mode="tunnel", original_source=known), "in", [wire]) == [(GOOD, packet)]


def test_a_tunnel_over_the_other_family() -> None:
    packet = ip6(b"six in four")
    out = protecting(mode="tunnel", family=4, encapsulation=PORTS)
    ((_, wire),) = run(out, "out", [packet])
    assert wire == oracle(mode="tunnel", encapsulation=PORTS).seal(packet, 1, iv_of(wire, 4))
    assert (IP(wire).src, IP(wire).dst) == (GATEWAY_A, GATEWAY_B)
    other = protecting(mode="tunnel", family=6, encapsulation=PORTS)
    ((_, wire),) = run(other, "out", [ip(b"four in six")])
    assert IPv6(wire).dst == GATEWAY_B6


# A peer that a NAT moves


def from_port(port: int, number: int, source: str = "", mode: str = "transport") -> bytes:
    """A good packet, with the number `number`, from another port or address."""
    sealed = oracle("gcm", mode, 4, encapsulation=(port, 4500)).seal(of_family(4, b"some text"), number)
    if not source:
        return sealed
    moved = IP(sealed)
    moved.src = source
    del moved.chksum
    return bytes(moved)


def moves(driver: Driver) -> list[tuple[str, int, int]]:
    upcalls = driver.upcalls()
    assert all(one.kind is UpcallKind.MOVED and one.sa == driver.sas()[0].handle for one in upcalls)
    return [(str(one.peer), one.source_port, one.destination_port) for one in upcalls]


def test_the_last_good_packet_tells_where_the_peer_is() -> None:
    """RFC 3947 section 7. Each move is told once; a packet that comes late says nothing of the present."""
    into = receiving(mode="tunnel")
    here = str(IP(from_port(1029, 1, mode="tunnel")).src)
    run(into, "in", [from_port(1029, number, mode="tunnel") for number in (1, 2)])
    assert moves(into) == []
    run(into, "in", [from_port(61000, number, mode="tunnel") for number in (5, 6)])
    assert moves(into) == [(here, 61000, 4500)]
    run(into, "in", [from_port(1029, number, mode="tunnel") for number in (3, 4)])
    assert moves(into) == []
    run(into, "in", [from_port(61000, 7, "192.0.2.200", "tunnel"), from_port(1029, 8, mode="tunnel")])
    assert moves(into) == [("192.0.2.200", 61000, 4500), (here, 1029, 4500)]
    assert into.counters()["packets_not_authenticated"] == 0


def test_only_a_good_packet_does() -> None:
    into = receiving()
    damaged = bytearray(from_port(61000, 1))
    damaged[-1] ^= 1
    assert statuses(into, "in", [bytes(damaged)]) == [Status.NOT_AUTHENTICATED]
    assert statuses(into, "in", [from_port(1029, 1), from_port(61000, 1)]) == [GOOD, Status.REPLAYED]
    assert moves(into) == []


def test_nobody_is_at_port_0() -> None:
    into = receiving()
    nowhere = IP(from_port(1029, 1))
    nowhere[UDP].sport = 0
    del nowhere.chksum, nowhere[UDP].chksum
    assert statuses(into, "in", [bytes(nowhere)]) == [GOOD]
    assert moves(into) == []
    run(into, "in", [from_port(61000, 2)])
    assert len(moves(into)) == 1, "it is watched further on"


def test_an_address_of_transport_mode_is_told_though_the_packet_is_none_of_the_sas() -> None:
    into = receiving()
    assert statuses(into, "in", [from_port(61000, 1, "192.0.2.200")]) == [Status.WRONG_SELECTOR]
    assert moves(into) == [("192.0.2.200", 61000, 4500)]


def test_a_move_that_finds_the_ring_full_is_told_with_the_next_packet() -> None:
    into = receiving()
    run(into, "in", [from_port(2000 + number, number) for number in range(1, 1200)])
    told = [port for _, port, _ in moves(into)]
    assert told == list(range(2001, 2001 + len(told)))
    assert len(told) < 1199
    run(into, "in", [from_port(3199, 1200)])
    assert [port for _, port, _ in moves(into)] == [3199]
