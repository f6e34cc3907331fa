"""Every flipped bit and every truncation of a protected packet: never a crash, never accepted, always counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from driver_kit import (
    ENCRYPTIONS,
    GATEWAY_A,
    GATEWAY_B,
    MODES,
    changed,
    ip,
    of_family,
    opening,
    oracle,
    receiver,
    run,
    twin,
)
from esp_oracle import ICV

from ipsec_core import Burst, Driver, Status

SEQUENCE, WINDOW = 100, 64
BOTH = pytest.mark.parametrize(("encryption", "mode"), [(e, m) for e in ENCRYPTIONS for m in MODES])


def fresh(encryption: str, mode: Any, backend: str, sequence: int = SEQUENCE - 40) -> Driver:
    """A receiver whose right edge is at `sequence`."""
    driver = receiver(encryption, mode, driver={"backend": backend}, replay_window=WINDOW)
    opener = twin(encryption, mode).seal(ip(b"opener"), sequence, bytes(8))
    assert run(driver, "in", [opener])[0][0] == Status.PROTECTED
    return driver


def flip(packet: bytes, bit: int) -> bytes:
    changed = bytearray(packet)
    changed[bit // 8] ^= 0x80 >> bit % 8
    return bytes(changed)


def expected(packet: bytes, bit: int, edge: int) -> set[Status]:
    """What may be said of a packet (20-byte outer header) with this bit flipped, by the field that the bit is in."""
    byte = bit // 8
    if byte == 0:
        if bit < 4:
            # As IPv6 its payload length and first extension header make no sense.
            return {Status.MALFORMED} if bit == 2 else {Status.NOT_IP}
        # A shorter header is none; a longer one takes the SPI from further on, or reaches past the end.
        return {Status.MALFORMED} if flip(packet, bit)[0] % 16 < 5 else {Status.BAD_SPI, Status.MALFORMED}
    if byte in (2, 3):
        # A longer one is past the buffer; a shorter one takes ciphertext for the ICV or is no whole number of blocks.
        return {Status.MALFORMED, Status.NOT_AUTHENTICATED}
    if byte in (6, 7):
        # Evil bit (RFC 3514) and DF do not make a fragment and are not authenticated by ESP.
        # The others make fragments, which contradict each other as soon as there are two "last" ones.
        return {Status.PROTECTED} if bit in (48, 49) else {Status.REASSEMBLING, Status.MALFORMED}
    if byte == 9:
        return {Status.BAD_SPI} if flip(packet, bit)[9] == 51 else {Status.NO_FILTER}
    if 16 <= byte < 20:
        return {Status.BAD_SPI}
    if byte < 20:  # TOS, identification, TTL, checksum, source: outside of what ESP protects
        return {Status.PROTECTED}
    if byte < 24:
        return {Status.BAD_SPI}
    if byte < 28:
        number = int.from_bytes(flip(packet, bit)[24:28], "big")
        left = number == 0 or number <= edge - WINDOW
        return {Status.REPLAYED} if left or number == edge else {Status.NOT_AUTHENTICATED}
    return {Status.NOT_AUTHENTICATED}


@BOTH
def test_every_bit(encryption: str, mode: Any, backend: str) -> None:
    edge = SEQUENCE + 40
    packet = twin(encryption, mode).seal(ip(b"every bit of it"), SEQUENCE, bytes(8))
    transport = mode == "transport"
    driver = fresh(encryption, mode, backend, edge)
    before = driver.counters()
    statuses: Counter[Status] = Counter()
    for bit in range(8 * len(packet)):
        wanted = expected(packet, bit, edge)
        if wanted == {Status.PROTECTED}:
            continue
        ((status, _),) = run(driver, "in", [flip(packet, bit)])
        assert status in wanted, f"bit {bit % 8} of byte {bit // 8}"
        statuses[status] += 1
    inside = statuses[Status.NOT_AUTHENTICATED]
    assert inside > 8 * (len(packet) - 28)
    assert statuses[Status.BAD_SPI] >= 32 + 31
    assert statuses[Status.REASSEMBLING] > 0
    assert changed(driver, before) == {
        "packets_inbound": statuses.total(),
        "bad_spi_packets": statuses[Status.BAD_SPI],
        "packets_not_authenticated": inside,
        "packets_not_decrypted": inside,
    } | {name: n for name, n in changed(driver, before).items() if name.startswith("cache_")}
    assert driver.status_counters("in") == {s.name: statuses[s] + (s is Status.PROTECTED) for s in Status}
    assert driver.sas()[0].sequence == edge
    # Bits that ESP does not cover: the packet is taken, except that in transport mode the source is a selector.
    for bit in range(8 * 20):
        if expected(packet, bit, edge) == {Status.PROTECTED}:
            driver = fresh(encryption, mode, backend)
            wrong_source = transport and bit // 8 in range(12, 16)
            ((status, _),) = run(driver, "in", [flip(packet, bit)])
            assert status == (Status.WRONG_SELECTOR if wrong_source else Status.PROTECTED), bit
    # After all of this the real one is still taken.
    assert run(driver, "in", [twin(encryption, mode).seal(ip(b"more"), edge + 1, bytes(8))])[0][0] == Status.PROTECTED


@BOTH
def test_every_bit_in_one_burst(encryption: str, mode: Any, backend: str) -> None:
    """Lanes of a back end do not mix up: good packets between damaged ones are opened, no damaged one is."""
    oracle = twin(encryption, mode)
    driver = receiver(encryption, mode, driver={"backend": backend}, replay_window=4096)
    clear = ip(b"every bit")
    count = 0
    for bit in range(8 * 28, 8 * len(oracle.seal(clear, 1, bytes(8)))):
        count += 2
        good, bad = (oracle.seal(clear, number, number.to_bytes(8, "big")) for number in (count, count + 1))
        results = run(driver, "in", [flip(bad, bit), good, flip(bad, bit)])
        assert [status for status, _ in results] == [
            Status.NOT_AUTHENTICATED,
            Status.PROTECTED,
            Status.NOT_AUTHENTICATED,
        ]
        assert results[1][1] == clear


@BOTH
def test_truncation_at_every_length(encryption: str, mode: Any, backend: str) -> None:
    packet = twin(encryption, mode).seal(ip(b"cut me where you like"), SEQUENCE, bytes(8))
    driver = fresh(encryption, mode, backend)
    cut = [packet[:length] for length in range(len(packet))]
    assert {status for status, _ in run(driver, "in", cut)} == {Status.MALFORMED}
    # With a total length that fits, the cut is inside of the ESP packet.
    found: Counter[Status] = Counter()
    for length in range(20, len(packet)):
        ((status, _),) = run(driver, "in", [packet[:2] + length.to_bytes(2, "big") + packet[4:length]])
        found[status] += 1
        least = 20 + 8 + 8 + 2 + ICV[encryption]
        assert status in ({Status.MALFORMED} if length < least else {Status.MALFORMED, Status.NOT_AUTHENTICATED})
    assert found[Status.NOT_AUTHENTICATED] > 0
    assert driver.sas()[0].packets == 1


def test_bytes_after_the_total_length_are_link_padding(backend: str) -> None:
    packet = twin().seal(ip(b"short"), SEQUENCE, bytes(8))
    driver = receiver(driver={"backend": backend})
    burst = Burst(1).load([packet + bytes(17)])
    driver.inbound(burst)
    assert burst.packets() == [ip(b"short")]


def outer(mode: str, body: bytes) -> bytes:
    ends = {"source": GATEWAY_A, "destination": GATEWAY_B} if mode == "tunnel" else {}
    return ip(body, protocol=50, **ends)


@BOTH
def test_wrong_trailers_under_a_good_icv(encryption: str, mode: Any, backend: str) -> None:
    """Somebody with the key who pads wrongly, or says wrongly what is inside."""
    oracle = twin(encryption, mode)
    inner = ip(bytes(16)) if mode == "tunnel" else bytes(36)
    next_header = 4 if mode == "tunnel" else 253
    ends = {
        "right": (b"\1\2", 2, next_header, Status.PROTECTED),
        "padding not 1, 2, ...": (b"\1\3", 2, next_header, Status.NOT_DECRYPTED),
        "zero padding": (b"\0\0", 2, next_header, Status.NOT_DECRYPTED),
        "pad length past the start": (b"\1\2", 200, next_header, Status.NOT_DECRYPTED),
        "pad length just past the start": (b"\1\2", 39, next_header, Status.NOT_DECRYPTED),
    }
    if mode == "tunnel":
        ends["not IPv4 inside"] = (b"\1\2", 2, 41, Status.NOT_DECRYPTED)
    for number, (what, (padding, length, protocol, wanted)) in enumerate(ends.items(), 1):
        driver = receiver(encryption, mode, driver={"backend": backend})
        packet = outer(mode, oracle.seal_text(number, bytes(8), inner + padding + bytes((length, protocol))))
        assert [status for status, _ in run(driver, "in", [packet])] == [wanted], what
        lost = int(wanted is Status.NOT_DECRYPTED)
        assert driver.counters()["packets_not_decrypted"] == lost
        assert driver.counters()["packets_not_authenticated"] == 0


@pytest.mark.parametrize(
    "inner", [b"", b"\x45", bytes(20), b"\x65" + bytes(39), ip(bytes(16))[:-1], b"\x4f" + ip(b"")[1:]]
)
def test_tunnel_with_something_else_than_a_packet_inside(inner: bytes) -> None:
    packet = outer("tunnel", twin(mode="tunnel").body(1, bytes(8), inner, 4))
    assert run(receiver(mode="tunnel"), "in", [packet])[0][0] == Status.NOT_DECRYPTED


@pytest.mark.parametrize("name", ["ah-sha1", "ah-sha256", "ah-gmac"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", [4, 6])
def test_every_bit_of_ah(name: str, mode: Any, family: int, backend: str) -> None:
    """What routers change may change (RFC 4302 3.3.3.1); nothing else passes."""
    clear = of_family(family, b"every bit")
    packet = oracle(name, mode, family).seal(clear, 1)
    if family == 4:
        mutable = {*range(8, 16), 48, 49, *range(64, 72), *range(80, 96)}  # TOS, flags without MF, TTL, checksum
    else:
        mutable = {*range(4, 32), *range(56, 64)}  # traffic class, flow label, hop limit
    driver = opening(name, mode, family, driver={"backend": backend})
    for bit in set(range(8 * len(packet))) - mutable:
        ((status, _),) = run(driver, "in", [flip(packet, bit)])
        assert status not in (Status.PROTECTED, Status.NOT_DECRYPTED), bit
    inside = driver.status_counters("in")["NOT_AUTHENTICATED"]
    header = 20 if family == 4 else 40
    assert inside > 8 * (len(packet) - header - 4 - 12), "all but next header, lengths, SPI and number 0"
    assert driver.counters()["packets_not_authenticated"] == inside
    assert driver.sas()[0].sequence == 0
    for bit in mutable:
        driver = opening(name, mode, family, driver={"backend": backend})
        ((status, opened),) = run(driver, "in", [flip(packet, bit)])
        assert status is Status.PROTECTED, bit
        assert opened == clear if mode == "tunnel" else opened[-len(b"every bit") :] == b"every bit"
