"""The matrix against scapy's IPsec layer, both ways: every size for every algorithm, the edges in every cell.

Where scapy is wrong, the oracle alone stands in (test_oracle.py has every suite):

- GCM with an ICV of 8 or 12 bytes (RFC 4106 6): scapy writes 16 bytes whatever `crypt_icv_size` says, and cannot read
  fewer.
- AES-GMAC in AH (RFC 4543 3.3): scapy has GMAC for ESP only.
- UDP under IPv6: scapy writes checksum 0, which RFC 8200 8.1 forbids; RFC 3948 3.1.1 has the receiver of ESP ignore
  it, so that the driver opens these packets all the same.
- AH behind a routing header (RFC 4302 3.3.3.1.2): scapy puts the addresses in their last order even when no segment is
  left, when they are in it already.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from matrix_kit import (
    AUTHENTICATED,
    NAT_PORTS,
    PLAIN,
    SIZES,
    SPI,
    SUITES,
    Shape,
    Suite,
    clear,
    edges,
    ipv4,
    ipv6,
    passed,
    receiver,
    sender,
    shapes,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scapy.layers.inet import IP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.ipsec import AH, ESP, IPSecIntegrityError, SecurityAssociation

pytestmark = [
    pytest.mark.filterwarnings("ignore::ipsec_core.errors.SecurityWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
LAYER: dict[int, Any] = {4: IP, 6: IPv6}
CIPHERS = {"NULL": "NULL", "DES-CBC": "DES", "3DES-CBC": "3DES", "ChaCha20-Poly1305": "CHACHA20-POLY1305"}
STRIDE = 7  # prime to the number of cells of every algorithm: neighbours in size fall in cells far apart


def algorithm(suite: Suite) -> str:
    """What the suite is named after in scapy; the key sizes of AES are one algorithm."""
    if suite.protocol == "ah":
        return f"AH {suite.integrity}"
    if suite.integrity.endswith("GMAC"):
        return "AES-NULL-GMAC"
    return CIPHERS.get(suite.encryption) or f"AES-{suite.encryption.split('-')[2]}"


def scapy_has(suite: Suite) -> bool:
    gmac = suite.integrity.endswith("GMAC")
    return not (suite.protocol == "ah" and gmac) and not suite.encryption.endswith(("-12", "-8"))


SCAPY_SUITES = [suite for suite in SUITES if scapy_has(suite)]
ALGORITHMS = tuple(dict.fromkeys(algorithm(suite) for suite in SCAPY_SUITES))


def peer(suite: Suite, shape: Shape, **fields: Any) -> Any:
    hmac = suite.integrity.replace("HMAC-SHA2", "SHA2") if suite.integrity.startswith("HMAC") else None
    esp = {
        "crypt_algo": algorithm(suite),
        "crypt_key": suite.key("integrity") if algorithm(suite) == "AES-NULL-GMAC" else suite.key("encryption") or None,
        "nat_t_header": UDP(sport=NAT_PORTS[0], dport=NAT_PORTS[1]) if shape.udp else None,
    }
    source, destination = shape.ends
    return SecurityAssociation(
        ESP if suite.protocol == "esp" else AH,
        SPI,
        auth_algo=hmac,
        auth_key=suite.key("integrity") if hmac else None,
        tunnel_header=LAYER[shape.outer](src=source, dst=destination) if shape.mode == "tunnel" else None,
        **(esp if suite.protocol == "esp" else {}),
        **fields,
    )


def opens(scapy_sa: Any, shape: Shape, sealed: bytes) -> bytes:
    return bytes(scapy_sa.decrypt(LAYER[shape.outer](sealed)))


def seals(scapy_sa: Any, shape: Shape, packet: bytes) -> bytes:
    return bytes(scapy_sa.encrypt(LAYER[shape.inner](packet)))


def cells(name: str) -> Iterator[tuple[Suite, Shape, list[int]]]:
    """The cells of an algorithm, each with its share of all sizes and, in turns, one half of its edges."""
    found = [(suite, shape) for suite in SCAPY_SUITES if algorithm(suite) == name for shape in shapes(suite)]
    for number, (suite, shape) in enumerate(found):
        share = [size for size in SIZES if size * STRIDE % len(found) == number]
        yield suite, shape, share + edges(suite, shape)[number // 2 % 2 :: 2]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_both_ways(name: str) -> None:
    """In each cell the driver seals every second packet and scapy the others."""
    sizes = set()
    for suite, shape, share in cells(name):
        scapy_sa = peer(suite, shape)
        ours, theirs = ([clear(shape.inner, size) for size in share[half::2]] for half in (0, 1))
        for packet, sealed in zip(ours, passed(sender(suite, shape), "out", ours), strict=True):
            assert opens(scapy_sa, shape, sealed) == packet, (suite, shape)
        sealed_by_scapy = [seals(scapy_sa, shape, packet) for packet in theirs]
        assert passed(receiver(suite, shape), "in", sealed_by_scapy) == theirs, (suite, shape)
        sizes |= set(share)
    assert sizes == set(SIZES)


@pytest.mark.parametrize("suite", [suite for suite in AUTHENTICATED if scapy_has(suite)], ids=str)
def test_extended_sequence_numbers(suite: Suite) -> None:
    """RFC 4303 2.2.1, RFC 4106 5; scapy is told the high half."""
    for shape in shapes(suite)[:: 2 if suite.protocol == "ah" else 5]:
        scapy_sa = peer(suite, shape, seq_num=10, esn_en=True, esn=5)
        packet, at = clear(shape.inner, 77), (5 << 32) + 9
        (sealed,) = passed(sender(suite, shape, esn=True, sequence=at), "out", [packet])
        assert opens(scapy_sa, shape, sealed) == packet
        into = receiver(suite, shape, esn=True, sequence=at)
        assert passed(into, "in", [seals(scapy_sa, shape, packet)]) == [packet]
        with pytest.raises(IPSecIntegrityError):
            scapy_sa.decrypt(LAYER[shape.outer](sealed), esn=6)


AH_SUITE = Suite("ah", "NULL", "HMAC-SHA1-96")
OPTIONS = {
    "no operation, end": b"\1\1\1\0",
    "record route": b"\x07\x0b\x04" + bytes(8) + b"\0",
    "time stamp": b"\x44\x0c\x05\0" + bytes(8),
    "traceroute": b"\x52\x0c" + bytes(10),
    "security": b"\x82\x0b" + bytes(range(9)) + b"\0",
    "stream": b"\x88\4\1\2",
    "router alert": b"\x94\4\0\0",
    "unknown": b"\x9e\4\1\2",
    "loose source route that is done": b"\x83\x07\x08\x0a\1\0\2\0",
}
# The first header is of the type in front; the last one names protocol 253.
EXTENSIONS = {
    "router alert": (0, b"\xfd\0\5\2\0\0\1\0"),
    "hop by hop, may change": (0, b"\xfd\0\x3e\4abcd"),
    "destination, may not change": (60, b"\xfd\0\x1e\4abcd"),
    "destination, may change": (60, b"\xfd\0\x3e\4abcd"),
    "hop by hop and destination": (0, b"\x3c\0\x3e\4abcd" + b"\xfd\0\x3e\4abcd"),
    "padding alone": (0, b"\xfd\0\0\0\0\0\0\0"),
}
ROUTED = {
    "home address": (43, b"\xfd\2\2\0\0\0\0\0" + bytes(16)),
    "destination, routing": (60, b"\x2b\0\x3e\4abcd" + b"\xfd\2\0\0\0\0\0\0" + bytes(16)),
}
WITH_OPTIONS = [
    *((name, ipv4(b"payload.", options=options)) for name, options in OPTIONS.items()),
    *(
        (name, ipv6(b"payload.", protocol=protocol, extensions=extensions))
        for name, (protocol, extensions) in (EXTENSIONS | ROUTED).items()
    ),
]


@pytest.mark.parametrize(("name", "packet"), WITH_OPTIONS, ids=[name for name, _ in WITH_OPTIONS])
def test_ah_with_options_and_extension_headers(name: str, packet: bytes) -> None:
    """RFC 4302 appendix A: which options count. The driver puts AH in front of destination options, scapy behind."""
    for shape in PLAIN:
        if shape.inner != packet[0] >> 4:
            continue
        scapy_sa = peer(AH_SUITE, shape)
        (sealed,) = passed(sender(AH_SUITE, shape), "out", [packet])
        assert opens(scapy_sa, shape, sealed) == packet
        if name in ROUTED and shape.mode == "transport":
            continue  # scapy's error with routing headers
        assert passed(receiver(AH_SUITE, shape), "in", [seals(scapy_sa, shape, packet)]) == [packet]
