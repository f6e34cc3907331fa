"""Every suite of every back end against Python's crypto, byte for byte."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from crypto_oracle import SUITES, Packet, Suite, suite_named
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def secrets_of(r: random.Random, suite: Suite, count: int) -> list[tuple[bytes, bytes]]:
    return [(r.randbytes(suite.key_lengths[0]), r.randbytes(suite.key_lengths[1])) for _ in range(count)]


def packet_of(r: random.Random, suite: Suite, length: int) -> Packet:
    head = r.randrange(32, 80) if suite.ah else 8
    high = r.randrange(2**32) if suite.esn else 0
    return Packet(r.randbytes(head), r.randbytes(suite.iv), r.randbytes(length), bytes(suite.icv), high)


def check(r: random.Random, suite: Suite, backend: Any, lengths: list[int], keys: int) -> None:
    """Seal as the oracle does; open what the oracle sealed."""
    secrets = secrets_of(r, suite, keys)
    chosen = [r.choice(secrets) for _ in lengths]
    plain = [packet_of(r, suite, length) for length in lengths]
    sealed = [suite.seal(*secret, packet) for secret, packet in zip(chosen, plain, strict=True)]
    handles = [backend.key(suite, *secret) for secret in chosen]
    assert backend.run("encrypt", suite, handles, plain) == sealed
    opened = [replace(s, text=p.text) for s, p in zip(sealed, plain, strict=True)]
    if suite.ah:
        opened = [replace(p, icv=bytes(suite.icv)) for p in opened]
    assert backend.run("decrypt", suite, handles, sealed) == opened


def test_every_text_length(backend: Any, suite: Suite) -> None:
    r = random.Random(f"{suite.name} lengths")
    lengths = [*range(0, 161, suite.block), *(n - n % suite.block for n in (511, 576, 1408, 1500, 4001, 9000))]
    r.shuffle(lengths)
    check(r, suite, backend, lengths, keys=3)


def test_bursts_from_1_to_256(backend: Any, suite: Suite) -> None:
    """Around the numbers of lanes (4, 8, 16) and of packets that a back end takes together."""
    r = random.Random(f"{suite.name} counts")
    for count in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 127, 129, 256):
        check(r, suite, backend, [suite.block * r.randrange(12) for _ in range(count)], keys=min(count, 5))


def test_an_empty_burst_is_nothing(backend: Any, suite: Suite) -> None:
    assert backend.run("encrypt", suite, [], []) == []
    assert backend.run("decrypt", suite, [], []) == []


@pytest.mark.parametrize("count", [257, 1000])
def test_more_than_the_library_queues(backend: Any, count: int) -> None:
    for suite in SUITES[::11]:
        if backend.serves(suite):
            check(random.Random(count), suite, backend, [suite.block * (i % 9) for i in range(count)], keys=9)


def test_the_longest_packets_beside_the_shortest(backend: Any) -> None:
    for suite in SUITES[::7]:
        if backend.serves(suite):
            longest = 65480 - 65480 % suite.block
            check(random.Random(3), suite, backend, [longest, 16, 16, longest, 32, 16] * 3, keys=5)


def test_one_wrong_packet_harms_no_other(backend: Any, suite: Suite) -> None:
    """Every bit of the ICV and some of the rest, one at a time, beside right packets."""
    if not suite.icv:
        return
    r = random.Random(f"{suite.name} bits")
    (secret,) = secrets_of(r, suite, 1)
    plain = packet_of(r, suite, 5 * suite.block)
    sealed = suite.seal(*secret, plain)
    wrong = [sealed.flip(b) for b in range(sealed.bits) if b % 13 == 0 or b >= sealed.bits - 8 * suite.icv]
    if suite.esn:
        wrong += [replace(sealed, high=sealed.high ^ 1), replace(sealed, high=sealed.high ^ 1 << 31)]
    burst = [packet for bad in wrong for packet in (bad, sealed)]
    results = backend.run("decrypt", suite, [backend.key(suite, *secret)] * len(burst), burst)
    kept = bytes(suite.icv) if suite.ah else sealed.icv
    assert results[1::2] == [replace(sealed, text=plain.text, icv=kept)] * len(wrong)
    assert [p.ok for p in results[::2]] == [0] * len(wrong)
    if suite.integrity and not suite.ah:  # verified before anything is decrypted
        assert results[::2] == [replace(p, ok=0) for p in wrong]


def test_a_wrong_key_opens_nothing(backend: Any, suite: Suite) -> None:
    if not suite.icv:
        return
    r = random.Random(8)
    secrets = secrets_of(r, suite, 2)
    sealed = suite.seal(*secrets[0], packet_of(r, suite, 9 * suite.block))
    keys = [backend.key(suite, *secret) for secret in secrets]
    assert [p.ok for p in backend.run("decrypt", suite, keys, [sealed, sealed])] == [1, 0]


@pytest.mark.parametrize("secret", [b"\1" * 24, b"\0" * 24, b"12345678" * 3, b"12345678" * 2 + b"abcdefgh"])
@pytest.mark.parametrize("name", ["DES-CBC", "3DES-CBC"])
def test_degenerate_des_keys_work(backend: Any, name: str, secret: bytes) -> None:
    """Weak keys and K1 = K2 (RFC 2451 2.3) are for whoever negotiates them to refuse."""
    suite = suite_named(name, "HMAC-SHA1-96")
    if not backend.serves(suite):
        return
    r = random.Random(secret)
    secret = secret[: suite.key_lengths[0]]
    plain = [packet_of(r, suite, 8 * n) for n in range(1, 20)]
    sealed = [suite.seal(secret, b"k" * 20, p) for p in plain]
    handles = [backend.key(suite, secret, b"k" * 20)] * len(plain)
    assert backend.run("encrypt", suite, handles, plain) == sealed
    assert [p.text for p in backend.run("decrypt", suite, handles, sealed)] == [p.text for p in plain]


def test_cbc_sends_no_iv_that_anybody_knows_before(backend: Any) -> None:
    """SP 800-38A appendix C: the IV on the wire is the encrypted block, not the counter handed in."""
    for suite in (s for s in SUITES if s.cipher.mode in ("cbc", "des") and backend.serves(s)):
        r = random.Random(9)
        (secret,) = secrets_of(r, suite, 1)
        plain = [Packet(bytes(8), i.to_bytes(suite.iv, "big"), bytes(16), bytes(suite.icv)) for i in range(32)]
        sealed = backend.run("encrypt", suite, [backend.key(suite, *secret)] * 32, plain)
        assert len({p.iv for p in sealed}) == 32
        assert not {p.iv for p in sealed} & {p.iv for p in plain}


def test_what_is_no_esn_does_not_count(backend: Any) -> None:
    """Without ESN the upper half is not looked at; with ESN every value of it counts in network order."""
    for esn in (0, 1):
        for suite in (s for s in SUITES[::5] if s.esn == esn and backend.serves(s)):
            r = random.Random(suite.name)
            (secret,) = secrets_of(r, suite, 1)
            plain = [replace(packet_of(r, suite, 48), high=high) for high in (0, 1, 0x01020304, 0xFFFFFFFF)]
            sealed = [suite.seal(*secret, p) for p in plain]
            assert backend.run("encrypt", suite, [backend.key(suite, *secret)] * 4, plain) == sealed


def test_directions_suites_and_failures_in_turn(backend: Any, library: Any) -> None:
    """One engine, keys used in both directions, many times; a failure leaves nothing behind."""
    r = random.Random(10)
    served = [s for s in SUITES if backend.serves(s)]
    secrets = {s.name: secrets_of(r, s, 1)[0] for s in served}
    for _ in range(300):
        suite = r.choice(served)
        secret = secrets[suite.name]
        plain = [packet_of(r, suite, suite.block * r.randrange(1, 9)) for _ in range(r.randrange(1, 40))]
        sealed = [suite.seal(*secret, p) for p in plain]
        keys = [backend.key(suite, *secret)] * len(plain)
        if r.random() < 0.5 or not suite.icv:
            assert backend.run("encrypt", suite, keys, plain) == sealed
            continue
        bad = [r.random() < 0.3 for _ in plain]
        arriving = [p.flip(r.randrange(p.bits)) if b else p for p, b in zip(sealed, bad, strict=True)]
        opened = backend.run("decrypt", suite, keys, arriving)
        assert [not p.ok for p in opened] == bad
        assert all(o.text == p.text for o, p, b in zip(opened, plain, bad, strict=True) if not b)
    if backend.name == "openssl":
        assert not library.c.ERR_peek_error(), "an error is left for whoever uses OpenSSL next in this thread"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suite=st.sampled_from(SUITES),
    seed=st.integers(0, 2**32),
    blocks=st.lists(st.integers(0, 60), min_size=1, max_size=200),
    damage=st.sets(st.integers(0, 199)),
)
def test_back_ends_agree(
    backends: dict[str, Any], suite: Suite, seed: int, blocks: list[int], damage: set[int]
) -> None:
    """The same operations, some of them on damaged packets, have the same results in every back end."""
    r = random.Random(seed)
    secrets = secrets_of(r, suite, 3)
    chosen = [r.choice(secrets) for _ in blocks]
    plain = [packet_of(r, suite, n * suite.block) for n in blocks]
    able = [b for b in backends.values() if b.serves(suite) and not b.version.startswith("no AVX512")]
    sealed = [b.run("encrypt", suite, [b.key(suite, *secret) for secret in chosen], plain) for b in able]
    assert all(s == sealed[0] for s in sealed)
    arriving = [p.flip(seed % p.bits) if i in damage else p for i, p in enumerate(sealed[0])]
    opened = [b.run("decrypt", suite, [b.key(suite, *secret) for secret in chosen], arriving) for b in able]
    for results in opened:
        assert [p.ok for p in results] == [p.ok for p in opened[0]]
        assert [p for p in results if p.ok] == [p for p in opened[0] if p.ok]
    if suite.icv:
        assert [p.ok for p in opened[0]] == [int(i not in damage) for i in range(len(blocks))]
