"""What ESP costs: the driver against the bare crypto library, side by side.

Method
    Two drivers hold the ends of one tunnel SA; 64 UDP packets of 64 flows lie in one burst. In each round the sender
    protects the burst (header cache, SA, sequence numbers, outer header, padding, crypt) and the receiver takes the
    protection off again (SPI table, replay window, crypt, trailer, selectors): the whole path of the driver, with fresh
    sequence numbers each time, and a run fails when one packet does not come through. The clock is read around the call
    for a burst, so each direction is timed alone and no time of Python is in it.

    The peer is the same library call in a bare loop over the same buffers: text, IV and ESP header as the driver lays
    them out, one key, no packets to look at. It does less: it is the floor, not a competitor. Ours and the peer take
    turns every two milliseconds. `value`, `peer_value` and `ratio` are of the pair with the median ratio, `min` and
    `max` the extremes of the ratio.

    Everything is in the caches of one core: the figures say what the code costs, not what memory costs.

Time per packet is a straight line over the size of the packet (least squares): slope in ns a byte, intercept in ns a
packet. The slope is the cipher's; the intercept is where the driver's own work shows.
"""

from __future__ import annotations

import random
import statistics
import struct
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Literal

from ipsec_core.driver import Action, Burst, Driver, Filter, SecurityAssociation, algorithms, overhead
from ipsec_core.driver._peer import PEERS, peer_seconds, phases, round_trips
from ipsec_core.errors import DriverError, SecurityWarning
from ipsec_core.tools.bench_rows import Pair, Row, figure_row, median, rate_row

Peer = Literal["gcm_encrypt", "gcm_decrypt", "cbc_sha1_jobs", "evp_3des_sha1"]

PACKETS = 64
MINIMUM_SIZE = 28
MAXIMUM_SIZE = 9000
SIZES = (1408, 64)
LINE_SIZES = (64, 256, 512, 1024, 1408)

_IP_UDP = 28
_ENDS = ("192.0.2.1", "192.0.2.2")
_NS = 1e9
# Seconds of ours before the peer's turn: what else the machine does then slows both alike.
_SLICE = 0.002


@dataclass(frozen=True, slots=True)
class Suite:
    """Algorithms as the driver names them, with the peer of each direction (None: there is none)."""

    encryption: str
    key_length: int
    integrity: str
    integrity_key_length: int
    outbound_peer: Peer | None = None
    inbound_peer: Peer | None = None
    peer: str = "none"
    install: str = ""
    protocol: Literal["esp", "ah"] = "esp"

    @property
    def name(self) -> str:
        if self.protocol == "ah":
            return f"AH {self.integrity}"
        return self.encryption if self.integrity == "none" else f"{self.encryption}+{self.integrity}"


def suite(encryption: str, integrity: str, protocol: Literal["esp", "ah"] = "esp") -> Suite:
    """Any suite, without a peer."""
    keys = {(one.kind, one.name): one.key_length for one in algorithms()}
    return Suite(encryption, keys["encryption", encryption], integrity, keys["integrity", integrity], protocol=protocol)


GCM = Suite("AES-128-GCM", 20, "none", 0, "gcm_encrypt", "gcm_decrypt", "ipsec-mb, bare calls", "libipsec-mb-dev")
CBC = Suite(
    "AES-128-CBC", 16, "HMAC-SHA1-96", 20, "cbc_sha1_jobs", None, "ipsec-mb, jobs in full lanes", "libipsec-mb-dev"
)
NULL = Suite("NULL", 0, "none", 0)
TRIPLE_DES = Suite("3DES-CBC", 24, "HMAC-SHA1-96", 20, "evp_3des_sha1", None, "OpenSSL EVP", "libssl-dev")


@dataclass(frozen=True, slots=True)
class Sample:
    """Nanoseconds a packet, of ours and of the peer."""

    ours: float
    peer: float | None

    @property
    def rates(self) -> Pair:
        return Pair(_NS / self.ours, _NS / self.peer if self.peer is not None else None)


class EspLoop:
    """Two drivers, one tunnel between them, and a burst of IP packets of `size` bytes."""

    def __init__(self, suite: Suite, size: int, backend: str | None = None) -> None:
        """`backend` as for a Driver.

        DriverError when the size is not one of an IPv4 packet with UDP, or too big for the burst.
        """
        if not MINIMUM_SIZE <= size <= MAXIMUM_SIZE:
            raise DriverError(
                f"size: {size} is out of range; accepted: {MINIMUM_SIZE} to {MAXIMUM_SIZE} (bytes of an IP packet)"
            )
        self.suite = suite
        source = random.Random(size)
        self._key = source.randbytes(suite.key_length)
        self._integrity_key = source.randbytes(suite.integrity_key_length)
        self._packets = [packet(size, flow, source) for flow in range(PACKETS)]
        self._burst = Burst(PACKETS, max(size, 2048))
        self._sender = Driver(seed=1, backend=backend)
        self._sender.set_filters([Filter(1, "out", Action.NEGOTIATE, tunnel=IPv4Address(_ENDS[1]))])
        self._receiver = Driver(seed=2, backend=backend)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)
            self._text_length = size + overhead(self._association("out"), size) - _around(suite)
            self._sender.add_sa(self._association("out"))
            self._receiver.add_sa(self._association("in"))

    def ours(self, rounds: int) -> tuple[float, float]:
        """Nanoseconds a packet, outbound and inbound."""
        self._burst.load(self._packets)
        out, into = round_trips(self._sender, self._receiver, self._burst, rounds)
        return out * _NS / (rounds * PACKETS), into * _NS / (rounds * PACKETS)

    def phases(self, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
        """Nanoseconds a packet of each phase, outbound and inbound; three readings of the clock a burst are in them."""
        self._burst.load(self._packets)
        both = phases(self._sender, self._receiver, self._burst, rounds)
        out, into = ({name: one * _NS / (rounds * PACKETS) for name, one in way.items()} for way in both)
        return out, into

    def peer(self, name: Peer, rounds: int) -> float | None:
        """Nanoseconds a packet of a peer; None without its library."""
        self._burst.load(self._packets)
        taken = peer_seconds(name, self._key + self._integrity_key, self._burst, self._text_length, rounds)
        return None if taken is None else taken * _NS / (rounds * PACKETS)

    def pairs(self, seconds: float, pairs: int) -> tuple[list[Sample], list[Sample]]:
        """So many samples, each about `seconds` long for ours, of the outbound and of the inbound direction."""
        self.ours(4)
        a_round = PACKETS * sum(self.ours(16)) / _NS
        rounds = max(1, int(min(seconds, _SLICE) / a_round))
        slices = max(1, round(seconds / (rounds * a_round)))
        outbound: list[Sample] = []
        inbound: list[Sample] = []
        for _ in range(pairs):
            out, into = zip(*(self._slice(rounds) for _ in range(slices)), strict=True)
            outbound.append(_mean(out))
            inbound.append(_mean(into))
        return outbound, inbound

    def _slice(self, rounds: int) -> tuple[Sample, Sample]:
        out, into = self.ours(rounds)
        there, back = self.suite.outbound_peer, self.suite.inbound_peer
        return (
            Sample(out, self.peer(there, rounds) if there else None),
            Sample(into, self.peer(back, rounds) if back else None),
        )

    def _association(self, direction: str) -> SecurityAssociation:
        return SecurityAssociation(
            direction="out" if direction == "out" else "in",
            spi=0x1001,
            source=_ENDS[0],
            destination=_ENDS[1],
            encryption=self.suite.encryption,
            encryption_key=self._key,
            integrity=self.suite.integrity,
            integrity_key=self._integrity_key,
            protocol=self.suite.protocol,
            allow_unauthenticated=self.suite == NULL,
            mode="tunnel",
            inner_source=IPv4Network("10.1.0.0/16"),
            inner_destination=IPv4Network("10.2.0.0/16"),
            filter=1,
        )


def esp_rows(seconds: float = 0.1, pairs: int = 7, size: int | None = None) -> Iterator[Row]:
    """The rows of `ipsec-core bench esp`, one after the other as they are measured.

    `seconds` is about how long one measurement of ours takes; `size` measures this size of IP packet (bytes) alone,
    without the straight line.
    """
    lines: dict[str, dict[int, Sample]] = {"outbound": {}, "inbound": {}}
    for one in (size,) if size is not None else SIZES:
        directions = dict(zip(lines, EspLoop(GCM, one).pairs(seconds, pairs), strict=True))
        for direction, samples in directions.items():
            lines[direction][one] = _median(samples)
            yield _rate(GCM, direction, one, samples)
    for classic in (CBC, TRIPLE_DES):
        outbound, _ = EspLoop(classic, size or SIZES[0]).pairs(seconds, pairs)
        yield _rate(classic, "outbound", size or SIZES[0], outbound)
    yield from _framing(seconds, pairs, size or SIZES[1])
    yield from _shares(seconds, size or SIZES[0])
    if size is not None:
        return
    for one in LINE_SIZES:
        if one not in lines["outbound"]:
            for direction, samples in zip(lines, EspLoop(GCM, one).pairs(seconds, pairs), strict=True):
                lines[direction][one] = _median(samples)
    for direction, line in lines.items():
        yield from _line(direction, line)


def _framing(seconds: float, pairs: int, size: int) -> Iterator[Row]:
    """A run without cipher and ICV: what is left is the driver's own work."""
    for direction, samples in zip(("outbound", "inbound"), EspLoop(NULL, size).pairs(seconds, pairs), strict=True):
        yield figure_row(
            f"esp framing {direction}",
            {"suite": "NULL, no integrity", "mode": "tunnel", "size": size, "burst": PACKETS},
            _median(samples).ours,
            "ns/packet",
        )


def _shares(seconds: float, size: int) -> Iterator[Row]:
    loop = EspLoop(GCM, size)
    rounds = max(1, int(seconds * _NS / (PACKETS * sum(loop.ours(16)))))
    for direction, parts in zip(("outbound", "inbound"), loop.phases(rounds), strict=True):
        for phase, taken in parts.items():
            params: dict[str, int | str] = {"suite": GCM.name, "mode": "tunnel", "size": size, "burst": PACKETS}
            yield figure_row(f"esp {direction} {phase}", params, 100 * taken / sum(parts.values()), "% of the time")


def _around(suite: Suite) -> int:
    """Bytes of an ESP packet in a tunnel that are not text: outer IP header, ESP header, IV, ICV."""
    iv = next(one.iv_length for one in algorithms() if one.kind == "encryption" and one.name == suite.encryption)
    return 20 + 8 + iv + (PEERS[suite.outbound_peer][1] if suite.outbound_peer else 0)


def packet(size: int, flow: int, source: random.Random) -> bytes:
    """A UDP packet of `size` bytes with a port for each flow and random content."""
    addresses = IPv4Address("10.1.0.1").packed + IPv4Address("10.2.0.1").packed
    header = struct.pack("!BBHHHBBH", 0x45, 0, size, flow, 0, 64, 17, 0) + addresses
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + header[12:]
    return header + struct.pack("!HHHH", 1024 + flow, 4000, size - 20, 0) + source.randbytes(size - _IP_UDP)


def _mean(samples: Sequence[Sample]) -> Sample:
    peers = [one.peer for one in samples if one.peer is not None]
    return Sample(statistics.fmean(one.ours for one in samples), statistics.fmean(peers) if peers else None)


def _median(samples: list[Sample]) -> Sample:
    middle = median([one.rates for one in samples])
    return next(one for one in samples if one.rates == middle)


def _rate(suite: Suite, direction: str, size: int, samples: list[Sample]) -> Row:
    params: dict[str, int | str] = {"suite": suite.name, "mode": "tunnel", "size": size, "burst": PACKETS}
    rates = [one.rates for one in samples]
    return rate_row(f"esp {direction}", params, "packets/s", rates, suite.peer, suite.install)


def _line(direction: str, line: dict[int, Sample]) -> Iterator[Row]:
    ours = statistics.linear_regression(list(line), [one.ours for one in line.values()])
    theirs = [one.peer for one in line.values() if one.peer is not None]
    peer = statistics.linear_regression(list(line), theirs) if theirs else None
    for part, unit in (("slope", "ns/byte"), ("intercept", "ns/packet")):
        value = getattr(ours, part)
        peer_value = getattr(peer, part) if peer else None
        yield Row(
            name=f"esp {direction} {part}",
            params={"suite": GCM.name, "mode": "tunnel", "sizes": " ".join(map(str, sorted(line))), "burst": PACKETS},
            value=value,
            unit=unit,
            peer=GCM.peer,
            peer_value=peer_value,
            ratio=peer_value / value if peer_value is not None else None,
            min=None,
            max=None,
            install=None if peer else GCM.install,
        )
