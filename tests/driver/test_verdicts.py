"""Which verdict a packet gets: exemptions, filter actions, syntax, sizes. Any bytes at all get one."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from driver_kit import ENCRYPTIONS, MODES, ip, negotiate, receiver, run, sa, sender, statuses, tcp, twin, udp
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ipsec_core import Action, Burst, Driver, Filter, Status, overhead
from ipsec_core.driver import NO_SA, PASSES

BOTH = pytest.mark.parametrize("direction", ["out", "in"])


def filtering(action: Action, direction: Any) -> Driver:
    driver = Driver(seed=1)
    driver.set_filters([Filter(1, direction, action)])
    return driver


EXEMPT = {
    "IKE to a peer": udp(500, 500),
    "IKE from another port": udp(4321, 500),
    "Kerberos UDP to": udp(4000, 88),
    "Kerberos UDP from": udp(88, 4000),
    "Kerberos TCP to": tcp(4000, 88),
    "Kerberos TCP from": tcp(88, 4000),
    "RSVP": ip(b"path", protocol=46),
    "multicast": udp(4000, 4000, destination="224.0.0.1"),
    "last multicast": udp(4000, 4000, destination="239.255.255.255"),
    "broadcast": udp(67, 68, destination="255.255.255.255"),
}
NOT_EXEMPT = {
    "from the port of IKE": udp(500, 4321),
    "TCP 500": tcp(500, 500),
    "ICMP": ip(b"\x08\0\0\0\0\0\0\0", protocol=1),
    "port of Kerberos in another protocol": ip(struct.pack("!HH", 88, 88), protocol=132),
    "before multicast": udp(4000, 4000, destination="223.255.255.255"),
    "multicast as source": udp(4000, 4000, source="224.0.0.1"),
    "later fragment with the bytes of a port": udp(88, 88, fragment=0x2001),
}


@BOTH
@pytest.mark.parametrize("packet", EXEMPT.values(), ids=EXEMPT.keys())
def test_exempt(direction: Any, packet: bytes) -> None:
    """KB 253169. A block filter for everything does not meet them."""
    driver = filtering(Action.BLOCK, direction)
    assert run(driver, direction, [packet]) == [(Status.EXEMPT, packet)]
    assert driver.filter_packets() == [(1, 0)]


@BOTH
@pytest.mark.parametrize("packet", NOT_EXEMPT.values(), ids=NOT_EXEMPT.keys())
def test_not_exempt(direction: Any, packet: bytes) -> None:
    assert statuses(filtering(Action.BLOCK, direction), direction, [packet]) == [Status.BLOCKED]


@pytest.mark.parametrize(
    ("action", "out", "into"),
    [
        (Action.PERMIT, Status.PERMITTED, Status.PERMITTED),
        (Action.BLOCK, Status.BLOCKED, Status.BLOCKED),
        (Action.PASSTHROUGH, Status.PERMITTED, Status.PASSED_THROUGH),
        (Action.NEGOTIATE, Status.HELD, Status.SHOULD_BE_SECURED),
    ],
)
def test_actions(action: Action, out: Status, into: Status) -> None:
    packet = udp(4000, 4001)
    assert run(filtering(action, "out"), "out", [packet]) == [(out, packet)]
    assert run(filtering(action, "in"), "in", [packet]) == [(into, packet)]
    assert statuses(filtering(action, "out"), "in", [packet]) == [Status.NO_FILTER]
    assert statuses(filtering(action, "in"), "out", [packet]) == [Status.NO_FILTER]


def test_esp_is_not_asked_of_inbound_filters() -> None:
    driver = receiver()
    driver.set_filters([Filter(1, "in", Action.BLOCK)])
    assert statuses(driver, "in", [twin().seal(ip(b"x"), 1, bytes(8))]) == [Status.PROTECTED]


def test_what_came_through_an_sa_must_fit_it() -> None:
    fits = {"inner_protocol": 17, "source_port": 4000, "destination_port": 4001}
    for packet, wanted in [
        (udp(4000, 4001), Status.PROTECTED),
        (udp(4000, 4002), Status.WRONG_SELECTOR),
        (udp(4002, 4001), Status.WRONG_SELECTOR),
        (tcp(4000, 4001), Status.WRONG_SELECTOR),
        (udp(4000, 4001, source="10.1.0.9"), Status.WRONG_SELECTOR),
    ]:
        assert statuses(receiver(**fits), "in", [twin().seal(packet, 1, bytes(8))]) == [wanted]


WHOLE = ip(bytes(40), options=bytes([1] * 8))
MALFORMED = {
    "empty": b"",
    "one byte": WHOLE[:1],
    "19 bytes": WHOLE[:19],
    "one byte short": WHOLE[:-1],
    "header length 0": b"\x40" + WHOLE[1:],
    "header length 16": b"\x44" + WHOLE[1:],
    "total length under the header": WHOLE[:2] + b"\0\x1b" + WHOLE[4:],
    "total length 0": WHOLE[:2] + b"\0\0" + WHOLE[4:],
    "options past the end": b"\x4f" + ip(b"")[1:],
}


@BOTH
@pytest.mark.parametrize("packet", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed(direction: Any, packet: bytes) -> None:
    driver = sender() if direction == "out" else receiver()
    assert statuses(driver, direction, [packet]) == [Status.MALFORMED]


@BOTH
@pytest.mark.parametrize("packet", [b"\x50" + bytes(39), b"\x70" + bytes(39), b"\0" * 20, b"\xff"])
def test_not_ip(direction: Any, packet: bytes) -> None:
    driver = sender() if direction == "out" else receiver()
    assert run(driver, direction, [packet]) == [(Status.NOT_IP, packet)]


def test_esp_header_cut() -> None:
    assert statuses(receiver(), "in", [ip(bytes(size), protocol=50) for size in range(9)]) == [Status.MALFORMED] * 8 + [
        Status.BAD_SPI
    ]


def test_fragments() -> None:
    """Transport mode is for whole datagrams (RFC 2401 B.2); a tunnel carries fragments."""
    for fragment in (0x2000, 0x2001, 0x0001):
        packet = ip(bytes(64), fragment=fragment)
        assert statuses(sender(), "out", [packet]) == [Status.FRAGMENT]
        ((status, wire),) = run(sender(mode="tunnel"), "out", [packet])
        assert (status, wire[6:8]) == (Status.PROTECTED, b"\0\0")
        assert run(receiver(mode="tunnel"), "in", [wire]) == [(Status.PROTECTED, packet)]
        assert statuses(receiver(), "in", [ip(bytes(64), protocol=50, fragment=fragment)]) == [Status.REASSEMBLING]


@pytest.mark.parametrize("mode", MODES)
def test_outer_header(mode: Any) -> None:
    """TOS and DF go out; the rest of a tunnel's header is its own (RFC 2401 5.1.2.1)."""
    packet = ip(b"payload", tos=0xB8, fragment=0x4000, identification=77)
    _, wire = run(sender(mode=mode), "out", [packet])[0]
    assert (wire[1], wire[6:8], wire[9]) == (0xB8, b"\x40\0", 50)
    assert int.from_bytes(wire[4:6], "big") == (77 if mode == "transport" else 1)
    assert wire[8] == (64 if mode == "transport" else 128)


@pytest.mark.parametrize("encryption", ENCRYPTIONS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("length", [4, 8, 40])
def test_ip_options(encryption: str, mode: Any, length: int) -> None:
    packet = ip(b"with options", options=b"\x94\x04\0\0" + b"\1" * (length - 4))
    _, wire = run(sender(encryption, mode), "out", [packet])[0]
    start = (20 if mode == "tunnel" else 20 + length) + 8
    assert wire == twin(encryption, mode).seal(packet, 1, wire[start : start + 8])
    assert run(receiver(encryption, mode), "in", [wire]) == [(Status.PROTECTED, packet)]


@BOTH
@pytest.mark.parametrize("junk", [1, 6, 46])
def test_bytes_after_the_packet_are_cut(direction: Any, junk: int) -> None:
    """Ethernet pads short frames."""
    packet = ip(b"tiny")
    if direction == "out":
        _, wire = run(sender(), "out", [packet + b"\xaa" * junk])[0]
        assert wire == twin().seal(packet, 1, wire[28:36])
    else:
        wire = twin().seal(packet, 1, bytes(8)) + b"\xaa" * junk
        assert run(receiver(), "in", [wire]) == [(Status.PROTECTED, packet)]


@pytest.mark.parametrize("encryption", ENCRYPTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_largest_packets(encryption: str, mode: Any, backend: str) -> None:
    """What fits into 65535 bytes is protected, one byte more is not, and uses up nothing of the SA."""
    most = max(n for n in range(65400, 65536) if n + overhead(sa("out", encryption, mode), n) <= 65535)
    driver = sender(encryption, mode, driver={"backend": backend})
    packets = [ip(bytes(size - 20)) for size in (65535, most + 1, most)]
    results = run(driver, "out", packets, max_packet=65535)
    assert [status for status, _ in results] == [Status.TOO_BIG, Status.TOO_BIG, Status.PROTECTED]
    assert results[0][1] == packets[0]
    assert driver.sas()[0].sequence == 1
    into = receiver(encryption, mode, driver={"backend": backend})
    assert run(into, "in", [results[2][1]], max_packet=65535) == [(Status.PROTECTED, packets[2])]


def test_a_full_burst_of_full_slots() -> None:
    """Slots hold the longest packet and its protection side by side without touching the next."""
    for size in (20, 21, 83, 1500):
        packets = [ip(bytes([i]) * (size - 20), identification=i) for i in range(256)]
        for encryption in ENCRYPTIONS:
            for mode in MODES:
                results = run(sender(encryption, mode), "out", packets, max_packet=size)
                wires = [wire for _, wire in results]
                assert run(receiver(encryption, mode, replay_window=512), "in", wires) == [
                    (Status.PROTECTED, packet) for packet in packets
                ]


def test_protected_twice() -> None:
    """Outbound runs over the same burst: ESP in ESP fits into the headroom as often as it fits, then it is TOO_BIG."""
    driver = sender(mode="tunnel")
    burst = Burst(1, 1500).load([ip(bytes(1400))])
    found = []
    for _ in range(6):
        driver.outbound(burst)
        found.append(Status(int(burst.status[0])))
    assert found[:1] == [Status.PROTECTED]
    assert found[-1] == Status.TOO_BIG
    depth = found.count(Status.PROTECTED)
    packet = burst.packet(0)
    for _ in range(depth):
        opened = twin(mode="tunnel").open(packet)
        assert opened is not None
        packet = opened
    assert packet == ip(bytes(1400))


def test_a_gateway_sends_on_what_it_opened() -> None:
    """In through one tunnel, out through another, in the same burst."""
    into, out = receiver("3DES-CBC", "tunnel"), sender("AES-128-GCM", "tunnel")
    packets = [ip(bytes([n]) * n) for n in range(1, 200)]
    burst = Burst(256).load([twin("3DES-CBC", "tunnel").seal(p, n, bytes(8)) for n, p in enumerate(packets, 1)])
    assert into.inbound(burst) == out.outbound(burst) == len(packets)
    assert run(receiver(mode="tunnel"), "in", burst.packets()) == [(Status.PROTECTED, p) for p in packets]


# --- anything ---

headers = st.builds(
    lambda first, total, fragment, protocol, destination, rest: (
        bytes([first, 0])
        + total.to_bytes(2, "big")
        + b"\0\1"
        + fragment.to_bytes(2, "big")
        + bytes([64, protocol, 0, 0, 10, 1, 0, 1, 10, 1, 0, destination])
        + rest
    ),
    st.sampled_from([0x45, 0x45, 0x45, 0x46, 0x4F, 0x44, 0x60]),
    st.integers(0, 120),
    st.sampled_from([0, 0, 0x4000, 0x2000, 3]),
    st.sampled_from([50, 50, 6, 17, 1, 46]),
    st.sampled_from([2, 3]),
    st.binary(max_size=100),
)
known_spi = st.builds(
    lambda rest, cut: ip(b"\0\0\x10\x01" + rest, protocol=50)[: 24 + cut], st.binary(max_size=90), st.integers(0, 100)
)
headers_6 = st.builds(
    lambda length, protocol, rest: b"\x60\0\0\0" + bytes([0, length, protocol, 64]) + bytes([0x20] * 32) + rest,
    st.integers(0, 60),
    st.sampled_from([0, 43, 44, 50, 51, 58, 60, 17]),
    st.builds(lambda first, rest: first + rest, st.sampled_from([b"", b"\x32\0", b"\x2c\1"]), st.binary(max_size=80)),
)
anything = st.lists(st.one_of(st.binary(max_size=120), headers, headers_6, known_spi), min_size=1, max_size=8)


@settings(max_examples=400, deadline=None)
@given(anything, st.sampled_from(ENCRYPTIONS), st.sampled_from(MODES), st.booleans())
def test_any_bytes_get_a_verdict(packets: list[bytes], encryption: str, mode: Any, out: bool) -> None:
    driver = sender(encryption, mode) if out else receiver(encryption, mode)
    burst = Burst(8, 120).load(packets)
    passed = (driver.outbound if out else driver.inbound)(burst)
    found = [Status(int(status)) for status in burst.status]
    assert Status.UNPROCESSED not in found
    assert passed == sum(status in PASSES for status in found) == len(burst.packets())
    counted = driver.status_counters("out" if out else "in")
    assert counted == {status.name: found.count(status) for status in Status}
    for i, status in enumerate(found):
        assert burst.length[i] <= len(packets[i]) + 100
        assert len(burst.packet(i)) == burst.length[i]
        if status is Status.PROTECTED:
            assert out, "nobody can guess a protected packet"
            opened = twin(encryption, mode).open(burst.packet(i))
            assert opened is not None
            assert opened[20:] == packets[i][20 : len(opened)]
        elif status is not Status.NOT_AUTHENTICATED and burst.packet(i) != packets[i]:
            # A combined mode decrypts and verifies in one pass: what was no packet of ours is left as it came out.
            first, at = (0, 2) if packets[i][0] >> 4 == 4 else (40, 4)
            length = first + int.from_bytes(packets[i][at : at + 2], "big")
            assert burst.packet(i) == packets[i][:length], "only link padding goes"
        assert (burst.sa[i] == NO_SA) or status in (
            Status.PROTECTED,
            Status.FRAGMENT,
            Status.MALFORMED,
            Status.NOT_AUTHENTICATED,
            Status.REPLAYED,
        )


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(MODES), st.integers(0, 255))
@example(b"payload", "transport", 59)
@example(ip(b"x"), "tunnel", 59)
@example(b"\0" * 20, "transport", 50)
@example(b"\0" * 20, "transport", 51)
def test_any_bytes_under_a_good_icv(payload: bytes, mode: Any, next_header: int) -> None:
    ends = {"source": "192.0.2.1", "destination": "192.0.2.2"} if mode == "tunnel" else {}
    packet = ip(twin(mode=mode).body(1, bytes(8), payload, next_header), protocol=50, **ends)
    driver = receiver(mode=mode)
    ((status, opened),) = run(driver, "in", [packet])
    if next_header == 59:
        assert status is Status.DUMMY, "RFC 4303 2.6"
    elif next_header in (50, 51) and mode == "transport":
        assert status in (Status.BAD_SPI, Status.WRONG_SELECTOR), "the bundle has another SA that nobody made"
    elif mode == "transport":
        assert (status, opened) == (Status.PROTECTED, ip(payload, protocol=next_header))
    else:
        assert status in (Status.PROTECTED, Status.NOT_DECRYPTED, Status.WRONG_SELECTOR)
        assert status is not Status.PROTECTED or payload.startswith(opened)


def test_negotiate_filters_for_held_and_found() -> None:
    driver = Driver(seed=1)
    driver.set_filters([negotiate(1, protocol=17), Filter(2, "out", Action.PERMIT)])
    driver.add_sa(sa("out", inner_protocol=17, destination_port=9))
    packets = [udp(4000, 9), udp(4000, 10), tcp(4000, 9)]
    assert statuses(driver, "out", packets) == [Status.PROTECTED, Status.HELD, Status.PERMITTED]
    assert driver.filter_packets() == [(1, 2), (2, 1)]
