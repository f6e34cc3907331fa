"""What a negotiation costs: Main Mode with a preshared key and Quick Mode, beside the library calls in it alone.

Method
    Two IKE engines hand each other their datagrams, in one process and one thread, without sockets and in virtual time.
    One negotiation is nine messages, read and written by both ends, from the acquire to the SA pairs of both; the
    engines are new ones, made before the clock starts, and it is checked afterwards that each has its SAs.

    The peer of `ike negotiation` is the cryptography of that negotiation: the calls of libcrypto and of `cryptography`
    that both ends made in one of them (powers or points of Diffie-Hellman, HMACs, hashes, ciphers), recorded with their
    arguments and made again in a loop. So the ratio is the share of the time that is not our own Python's: at 0.6 our
    messages, tables and timers add two thirds of the cost of the cryptography. The two shares are those of the parts.

    That share is small because our Diffie-Hellman is quick: exponents of 256 bits (MODP) and primes that are made ready
    once. Therefore `ike negotiation beside cryptography` compares the same negotiation with the same HMACs, hashes and
    ciphers and, instead of our Diffie-Hellman, that of `cryptography` as it is called by who has nothing else: at both
    ends `generate_private_key`, with exponents as long as the library likes, and `exchange`. Above 1 the whole
    negotiation costs less than that. The parameters are loaded once, outside of the time, and the other end's public
    value is handed over as an object: to load it from bytes the library tests the prime of group 2 anew, which takes
    many times as long as everything here.

    Ours and the peers take turns. The time is that of the processor, so that what else the machine does counts little;
    Python's garbage collector waits meanwhile. The loop of the peer finds the processor's caches warm, a negotiation
    does not: the share is rather told too small than too large. What a computer keeps of earlier negotiations (our SA
    payload, the transforms and addresses of recent peers as objects) is there from the second one on, as with any peer
    that has negotiated before.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Network
from random import Random
from statistics import median
from time import process_time
from typing import Any
from unittest.mock import patch
from warnings import catch_warnings, simplefilter

from cryptography.hazmat.primitives.asymmetric import dh, ec
from cryptography.utils import CryptographyDeprecationWarning

from ipsec_core.errors import NegotiationError
from ipsec_core.ike import (
    Acquire,
    AuthAlgorithm,
    Encapsulation,
    Encryption,
    EspTransform,
    Group,
    Hash,
    IkeEngine,
    MainModeOffer,
    MainModePolicy,
    QuickModeEstablished,
    QuickModeOffer,
    QuickModePolicy,
    TrafficSelector,
    keys,
)
from ipsec_core.ike.groups import CURVES, GENERATOR, PRIMES, DiffieHellman
from ipsec_core.tools.bench_rows import Pair, Row, figure_row, rate_row

Call = Callable[[], object]

INITIATOR, RESPONDER = "10.0.0.1", "10.0.0.2"
PEER = "its library calls alone"
CRYPTOGRAPHY = "the same with Diffie-Hellman by cryptography"
_SEED = 2409
_WINDOWS_2000 = (
    MainModeOffer(Encryption.TRIPLE_DES_CBC, Hash.SHA1, Group.MODP_1024),
    QuickModeOffer(EspTransform.TRIPLE_DES, AuthAlgorithm.HMAC_SHA1, Encapsulation.TRANSPORT),
)
_ESP_GCM = QuickModeOffer(EspTransform.AES_GCM_16, None, Encapsulation.TRANSPORT, key_bits=128)


def _modern(group: Group) -> tuple[MainModeOffer, QuickModeOffer]:
    return MainModeOffer(Encryption.AES_CBC, Hash.SHA256, group, key_bits=128), _ESP_GCM


# What Windows 2000 offers first, and what peers of today take.
SUITES = (
    ("3DES/SHA1, ESP 3DES/SHA1", *_WINDOWS_2000),
    ("AES-128/SHA-256, ESP AES-128-GCM", *_modern(Group.MODP_2048)),
    ("AES-128/SHA-256, ESP AES-128-GCM", *_modern(Group.ECP_256)),
)


class _Policy:
    """The same for every peer (`ike.IkePolicy`)."""

    def __init__(self, main: MainModeOffer, quick: QuickModeOffer) -> None:
        self._main = MainModePolicy((main,), b"a preshared key")
        self._quick = QuickModePolicy((quick,), 1)

    def main_mode(self, local: str, remote: str) -> MainModePolicy:
        return self._main

    def quick_mode(self, local: str, remote: str, selectors: TrafficSelector) -> QuickModePolicy:
        return self._quick


class Negotiation:
    """Two engines of which one will want an SA pair with the other."""

    def __init__(self, main: MainModeOffer, quick: QuickModeOffer, seed: int) -> None:
        random, policy = Random(seed), _Policy(main, quick)
        self._engines = {
            address: IkeEngine(
                address, policy, random=random.randbytes, allocate_spi=lambda: random.randrange(256, 1 << 32)
            )
            for address in (INITIATOR, RESPONDER)
        }
        selectors = TrafficSelector(IPv4Network(INITIATOR), IPv4Network(RESPONDER))
        self._wish = Acquire(RESPONDER, selectors, (quick,), 1)

    def run(self) -> None:
        """From the acquire to the last message."""
        one, other = self._engines.items()
        one[1].acquire(0.0, self._wish)
        waiting = one[1].datagrams()
        while waiting:
            for datagram in waiting:
                other[1].receive_datagram(0.0, datagram.data, (one[0], datagram.source_port), datagram.destination[1])
            one, other = other, one
            waiting = one[1].datagrams()

    def check(self) -> None:
        """NegotiationError if the two ends have not the same pair of SAs."""
        pairs = [e for engine in self._engines.values() for e in engine.events() if isinstance(e, QuickModeEstablished)]
        if len(pairs) != 2 or pairs[0].inbound != pairs[1].outbound or pairs[0].outbound != pairs[1].inbound:
            raise NegotiationError("benchmark: a negotiation ended without a pair of SAs")


@dataclass(frozen=True, slots=True)
class Calls:
    """The library calls of one negotiation, of both its ends; and what replaces the first of them."""

    diffie_hellman: tuple[Call, ...]
    hashes_and_ciphers: tuple[Call, ...]
    cryptography: tuple[Call, ...]


def record(main: MainModeOffer, quick: QuickModeOffer) -> Calls:
    """Run one negotiation and note what it asks of the libraries."""
    diffie_hellman: list[Call] = []
    others: list[Call] = []
    begin = DiffieHellman.__init__

    def beginning(self: DiffieHellman, group: Group, random: Callable[[int], bytes]) -> None:
        drawn: list[bytes] = []

        def tapped(count: int) -> bytes:
            drawn.append(random(count))
            return drawn[-1]

        begin(self, group, tapped)
        diffie_hellman.append(partial(begin, self, group, lambda count: drawn[0]))

    negotiation = Negotiation(main, quick, _SEED)
    with (
        patch.object(DiffieHellman, "__init__", beginning),
        _noted(DiffieHellman, "shared", diffie_hellman),
        _noted(keys, "prf", others),
        _noted(keys, "digest", others),
        _noted(keys.PhaseOneCipher, "seal", others),
        _noted(keys.PhaseOneCipher, "open", others),
    ):
        negotiation.run()
    negotiation.check()
    return Calls(tuple(diffie_hellman), tuple(others), by_cryptography(main.group))


def by_cryptography(group: Group) -> tuple[Call, ...]:
    """Diffie-Hellman of two ends with the keys of `cryptography`: a private key each, the shared secret each."""
    if group in CURVES:
        generate = partial(ec.generate_private_key, CURVES[group])
        one, other = generate(), generate()
        return (
            generate,
            generate,
            partial(one.exchange, ec.ECDH(), other.public_key()),
            partial(other.exchange, ec.ECDH(), one.public_key()),
        )
    with catch_warnings():
        # It will go: the comparison is with what there is as long as it is there.
        simplefilter("ignore", CryptographyDeprecationWarning)
        parameters = dh.DHParameterNumbers(PRIMES[group], GENERATOR).parameters()
    first, second = parameters.generate_private_key(), parameters.generate_private_key()
    return (
        parameters.generate_private_key,
        parameters.generate_private_key,
        partial(first.exchange, second.public_key()),
        partial(second.exchange, first.public_key()),
    )


@contextmanager
def _noted(owner: object, name: str, calls: list[Call]) -> Iterator[None]:
    """Every call of a function goes into the list, with its arguments, and is made."""
    function = getattr(owner, name)

    def noting(*arguments: Any) -> Any:
        calls.append(partial(function, *arguments))
        return function(*arguments)

    with patch.object(owner, name, noting):
        yield


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds of the processor for one negotiation, of the library calls in it, and of `by_cryptography`."""

    negotiation: float
    diffie_hellman: float
    hashes_and_ciphers: float
    cryptography: float

    def to_pair(self) -> Pair:
        return Pair(1 / self.negotiation, 1 / (self.diffie_hellman + self.hashes_and_ciphers))

    def to_cryptography_pair(self) -> Pair:
        return Pair(1 / self.negotiation, 1 / (self.cryptography + self.hashes_and_ciphers))


@contextmanager
def _no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _seconds(calls: Sequence[Call]) -> float:
    start = process_time()
    for call in calls:
        call()
    return process_time() - start


def measure(main: MainModeOffer, quick: QuickModeOffer, seconds: float, pairs: int) -> list[Sample]:
    """So many turns of ours, each about `seconds` long, and of the library's."""
    calls = record(main, quick)
    count = 4
    samples: list[Sample] = []
    for turn in range(pairs + 1):
        ours = 0.0
        with _no_collection():
            for number in range(count):
                negotiation = Negotiation(main, quick, _SEED + turn * count + number)
                ours += _seconds((negotiation.run,)) / count
                negotiation.check()
            parts = calls.diffie_hellman, calls.hashes_and_ciphers, calls.cryptography
            rest = [_seconds(part * count) / count for part in parts]
        if turn:
            samples.append(Sample(ours, *rest))
        else:
            count = max(1, round(seconds / ours))
    return samples


def ike_rows(seconds: float = 0.1, pairs: int = 7, size: int | None = None) -> Iterator[Row]:
    """The rows of `ipsec-core bench ike`; `size` is of packets and means nothing here."""
    for suite, main, quick in SUITES:
        params: dict[str, int | str] = {"suite": suite, "group": main.group.name}
        samples = measure(main, quick, seconds, pairs)
        yield rate_row("ike negotiation", params, "negotiations/s", [one.to_pair() for one in samples], PEER)
        beside = [one.to_cryptography_pair() for one in samples]
        yield rate_row("ike negotiation beside cryptography", params, "negotiations/s", beside, CRYPTOGRAPHY)
        for name in ("diffie_hellman", "hashes_and_ciphers"):
            share = median(getattr(one, name) / one.negotiation for one in samples)
            yield figure_row(f"ike {name.replace('_', ' ')}", params, 100 * share, "% of the time")
