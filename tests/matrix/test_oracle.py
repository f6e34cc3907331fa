"""The driver against the oracle: every size with every suite, all shapes in turn; then what only an oracle can make."""

from __future__ import annotations

import hashlib
import struct

import pytest
from matrix_kit import (
    AUTHENTICATED,
    BACKENDS,
    HEADER,
    SIZES,
    SUITES,
    Shape,
    Suite,
    association,
    clear,
    passed,
    receiver,
    run,
    sender,
    shapes,
    spread,
    twin,
)

from ipsec_core import Driver, Status

pytestmark = pytest.mark.filterwarnings("ignore::ipsec_core.errors.SecurityWarning")


def iv_of(suite: Suite, shape: Shape, packet: bytes) -> bytes:
    at = HEADER[shape.outer] + 8 * shape.udp + (8 if suite.protocol == "esp" else 12)
    return packet[at : at + suite.iv]


def identification(packet: bytes) -> int:
    return struct.unpack_from("!H", packet, 4)[0] if packet[0] >> 4 == 4 else 0


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_the_driver_seals_as_the_oracle_does(suite: Suite) -> None:
    """Byte for byte; the oracle takes the IV and the identification of an outer header from the driver's packet."""
    cells = shapes(suite)
    for shape, sizes in zip(cells, spread(SIZES, len(cells)), strict=True):
        oracle = twin(suite, shape)
        packets = [clear(shape.inner, size) for size in sizes]
        sealed = passed(sender(suite, shape), "out", packets)
        for sequence, (before, after) in enumerate(zip(packets, sealed, strict=True), 1):
            assert after == oracle.seal(before, sequence, iv_of(suite, shape, after), identification(after)), shape
        ivs = {iv_of(suite, shape, packet) for packet in sealed}
        assert len(ivs) == (len(sealed) if suite.iv else 1), "an IV came twice"


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_the_driver_opens_what_the_oracle_seals(suite: Suite) -> None:
    """IVs are those of a peer that draws them at random, and every third packet has more padding than it needs."""
    cells = shapes(suite)
    for number, (shape, sizes) in enumerate(zip(cells, reversed(spread(SIZES, len(cells))), strict=True)):
        oracle, backend = twin(suite, shape), BACKENDS[number % len(BACKENDS)]
        packets = [clear(shape.inner, size) for size in sizes]
        sealed = [
            oracle.seal(packet, sequence, random(suite, sequence), sequence, more(suite, sequence))
            for sequence, packet in enumerate(packets, 1)
        ]
        assert passed(receiver(suite, shape, backend=backend), "in", sealed) == packets, shape


def random(suite: Suite, sequence: int) -> bytes:
    return hashlib.sha256(sequence.to_bytes(4, "big")).digest()[: suite.iv]


def more(suite: Suite, sequence: int) -> int:
    """RFC 4303 2.4: up to 255 bytes of padding."""
    return sequence // 3 % (240 // suite.block) * suite.block if suite.protocol == "esp" and sequence % 3 == 0 else 0


@pytest.mark.parametrize("suite", AUTHENTICATED, ids=str)
def test_extended_sequence_numbers(suite: Suite) -> None:
    """RFC 4303 2.2.1: the ICV covers the high half. Numbers pass 2^32 and 2^33 inside of a burst, both ways."""
    for shape in shapes(suite):
        oracle = twin(suite, shape, esn=True)
        packets = [clear(shape.inner, size) for size in range(0, 300, 15)]
        for edge in (1 << 32, 2 << 32):
            start = edge - len(packets) // 2
            sealed = passed(sender(suite, shape, esn=True, sequence=start - 1), "out", packets)
            for sequence, (before, after) in enumerate(zip(packets, sealed, strict=True), start):
                assert after == oracle.seal(before, sequence, iv_of(suite, shape, after), identification(after)), shape
            into = receiver(suite, shape, esn=True, sequence=start - 1)
            assert passed(into, "in", sealed) == packets, shape
            assert into.sas()[0].sequence == start + len(packets) - 1
            # A peer that forgot the high half, or is one epoch ahead.
            for wrong in (edge - (1 << 32), edge + (1 << 32)):
                stray = oracle.seal(packets[0], start + len(packets) - edge + wrong, random(suite, 1))
                assert run(into, "in", [stray])[0][0] == Status.NOT_AUTHENTICATED, shape


@pytest.mark.parametrize("suite", AUTHENTICATED, ids=str)
def test_wrong_keys_open_nothing(suite: Suite) -> None:
    """One bit of the key; of the cipher's where the ICV is not its own, the text is wrong and its trailer with it."""
    shape = shapes(suite)[0]
    sealed = passed(sender(suite, shape), "out", [clear(4, 64)])
    for field in ("encryption_key", "integrity_key"):
        key = bytearray(getattr(association("in", suite, shape), field))
        if key:
            key[1] ^= 0x10
            driver = Driver(seed=3)
            driver.add_sa(association("in", suite, shape, **{field: bytes(key)}))
            verified = field == "encryption_key" and suite.integrity != "none"
            assert run(driver, "in", sealed)[0][0] == (Status.NOT_DECRYPTED if verified else Status.NOT_AUTHENTICATED)
