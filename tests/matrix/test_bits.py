"""Every bit of every suite's packet in every shape: what is covered drops, what is not passes, each for its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import fields
import pytest
from fields import Field, flipped, opened, verdicts
from matrix_kit import (
    AUTHENTICATED,
    BACKENDS,
    PLAIN,
    Shape,
    Suite,
    clear,
    passed,
    receiver,
    run,
    sender,
    shapes,
    twin,
)

from ipsec_core import Status

SEQUENCE = 10  # no bit away from 0, which is never good (RFC 4303 3.3.2)
AH_SUITES = [suite for suite in AUTHENTICATED if suite.protocol == "ah"]


def flip_every_bit(
    suite: Suite, shape: Shape, packet: bytes, sealed: bytes, layout: Sequence[Field], backend: str
) -> Counter[Status]:
    """One driver, all bits; then the packet as it was sent."""
    allowed = verdicts(layout)
    assert len(allowed) == 8 * len(sealed)
    driver = receiver(suite, shape, backend=backend, replay_window=0)
    damaged = [flipped(sealed, bit) for bit in range(len(allowed)) if allowed[bit] is not fields.FRAGMENT]
    wanted = [verdict for verdict in allowed if verdict is not fields.FRAGMENT]
    found: Counter[Status] = Counter()
    for received, verdict, (status, inside) in zip(damaged, wanted, run(driver, "in", damaged), strict=True):
        where = next(at for at, (a, b) in enumerate(zip(received, sealed, strict=True)) if a != b)
        assert status in verdict, f"{suite} {shape} {status.name}: byte {where}"
        found[status] += 1
        if status is Status.PROTECTED:
            assert inside == opened(packet, shape, received), f"{suite} {shape}: byte {where}"
    assert passed(driver, "in", [sealed]) == [packet]
    # What each flip costs is counted, and nothing of it moved the SA.
    assert driver.sas()[0].packets == found[Status.PROTECTED] + 1
    assert driver.counters()["packets_not_authenticated"] == found[Status.NOT_AUTHENTICATED]
    assert driver.status_counters("in") == {s.name: found[s] + (s is Status.PROTECTED) for s in Status}
    fragments(suite, shape, sealed, allowed, backend)
    return found


def fragments(suite: Suite, shape: Shape, sealed: bytes, allowed: Sequence[frozenset[Status]], backend: str) -> None:
    """One bit makes a fragment of it: no fault of IPsec, but nothing to deliver (RFC 2401 B.2)."""
    for bit, verdict in enumerate(allowed):
        if verdict is fields.FRAGMENT:
            driver = receiver(suite, shape, backend=backend)
            ((status, _),) = run(driver, "in", [flipped(sealed, bit)])
            assert status in verdict, f"{suite} {shape}: bit {bit}"
            assert driver.counters()["packets_not_authenticated"] == 0
            assert passed(driver, "in", [sealed])


@pytest.mark.parametrize("suite", AUTHENTICATED, ids=str)
def test_every_bit(suite: Suite) -> None:
    for number, shape in enumerate(shapes(suite)):
        packet = clear(shape.inner, 13 + number)
        (sealed,) = passed(sender(suite, shape, sequence=SEQUENCE - 1), "out", [packet])
        layout = fields.of_packet(suite, shape, sealed)
        flip_every_bit(suite, shape, packet, sealed, layout, BACKENDS[number % len(BACKENDS)])


@pytest.mark.parametrize("suite", AH_SUITES, ids=str)
@pytest.mark.parametrize("with_options", [fields.options_ipv4, fields.options_ipv6, fields.routed_ipv6])
def test_every_bit_of_ah_with_options(suite: Suite, with_options: fields.Maker, backend: str) -> None:
    """RFC 4302 3.3.3.1 and appendix A: options of both kinds, in front of AH and in a tunnel's inside."""
    packet, option_fields = with_options(b"payload of AH")
    for shape in PLAIN:
        if shape.inner != packet[0] >> 4:
            continue
        (sealed,) = passed(sender(suite, shape, sequence=SEQUENCE - 1), "out", [packet])
        assert sealed == twin(suite, shape).seal(packet, SEQUENCE, iv(suite, sealed, packet, shape), 1)
        layout = fields.ip_fields(shape, "ah") + (option_fields if shape.mode == "transport" else [])
        layout += fields.ah_fields(len(sealed) - sum(bits for bits, _ in layout) // 8)
        found = flip_every_bit(suite, shape, packet, sealed, layout, backend)
        assert found[Status.PROTECTED] >= (8 + 2 + 8 + 16 if shape.outer == 4 else 28 + 8)


def iv(suite: Suite, sealed: bytes, packet: bytes, shape: Shape) -> bytes:
    """AES-GMAC has one in front of the ICV (RFC 4543 3.3)."""
    at = fields.place(packet)[0] if shape.mode == "transport" else (20 if shape.outer == 4 else 40)
    return sealed[at + 12 : at + 12 + suite.iv]
