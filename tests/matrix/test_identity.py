"""What went in comes out, byte for byte, for every size in every cell of the matrix; the overhead is exact."""

from __future__ import annotations

import pytest
from matrix_kit import BACKENDS, HEADER, SIZES, SUITES, Suite, association, clear, passed, receiver, sender, shapes

from ipsec_core import overhead

pytestmark = pytest.mark.filterwarnings("ignore::ipsec_core.errors.SecurityWarning")


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_every_size_in_every_shape(suite: Suite) -> None:
    """The back ends take turns: one seals what another one opens."""
    for number, shape in enumerate(shapes(suite)):
        seals, opens = BACKENDS[number % len(BACKENDS)], BACKENDS[(number + 1) % len(BACKENDS)]
        out, into = sender(suite, shape, backend=seals), receiver(suite, shape, backend=opens)
        (handle,) = (sa.handle for sa in out.sas())
        packets = [clear(shape.inner, size) for size in SIZES]
        sealed = passed(out, "out", packets)
        header = HEADER[shape.inner]
        added = [len(after) - len(before) for before, after in zip(packets, sealed, strict=True)]
        assert added == [out.overhead(handle, len(packet), header) for packet in packets], shape
        assert passed(into, "in", sealed) == packets, shape
        sa = association("out", suite, shape)
        assert [overhead(sa, header + size, header) for size in (0, 1, 99, SIZES[-1])] == [
            added[size] for size in (0, 1, 99, SIZES[-1])
        ]
