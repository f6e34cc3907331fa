"""Every back end against the Python `cryptography` package, byte for byte, and thereby against each other."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def packet_of(r: random.Random, suite: Any, make_packet: Any, blocks: int) -> Any:
    return make_packet(r.randbytes(8), r.randbytes(suite.iv), r.randbytes(blocks * suite.block), bytes(suite.icv))


def check(r: random.Random, suite: Any, backend: Any, make_packet: Any, blocks: list[int], keys: int) -> None:
    """Seal as the oracle does; open what the oracle sealed."""
    secrets = [(r.randbytes(suite.encryption_key), r.randbytes(suite.integrity_key)) for _ in range(keys)]
    chosen = [r.choice(secrets) for _ in blocks]
    plain = [packet_of(r, suite, make_packet, n) for n in blocks]
    sealed = [suite.seal(*secret, packet) for secret, packet in zip(chosen, plain, strict=True)]
    handles = [backend.key(suite, *secret) for secret in chosen]
    assert backend.run("encrypt", suite, handles, plain) == sealed
    opened = [replace(s, text=p.text) for s, p in zip(sealed, plain, strict=True)]
    assert backend.run("decrypt", suite, handles, sealed) == opened


def test_every_count_with_mixed_keys_and_lengths(backend: Any, suite: Any, make_packet: Any) -> None:
    r = random.Random(f"{suite.name} counts")
    for count in range(1, 71):
        check(r, suite, backend, make_packet, [r.randrange(1, 40) for _ in range(count)], keys=3)


@pytest.mark.parametrize("count", [127, 128, 129, 255, 256, 257, 1000])
def test_bursts_around_the_limits_of_the_library(backend: Any, suite: Any, make_packet: Any, count: int) -> None:
    r = random.Random(count)
    check(r, suite, backend, make_packet, [r.randrange(1, 12) for _ in range(count)], keys=5)


def test_every_text_length_up_to_the_mtu(backend: Any, suite: Any, make_packet: Any) -> None:
    r = random.Random(f"{suite.name} lengths")
    blocks = list(range(1, 1500 // suite.block + 1))
    r.shuffle(blocks)
    for start in range(0, len(blocks), 64):
        check(r, suite, backend, make_packet, blocks[start : start + 64], keys=2)


def test_the_longest_packets_beside_the_shortest(backend: Any, suite: Any, make_packet: Any) -> None:
    longest = 65480 // suite.block
    check(random.Random(3), suite, backend, make_packet, [longest, 1, 1, longest, 2, 1] * 4, keys=24)


def test_text_may_be_empty(backend: Any, suite: Any, make_packet: Any) -> None:
    check(random.Random(4), suite, backend, make_packet, [0], keys=1)
    check(random.Random(5), suite, backend, make_packet, [0, 3, 0, 0, 1] * 9, keys=3)


def test_an_empty_burst_is_nothing(backend: Any, suite: Any) -> None:
    assert backend.run("encrypt", suite, [], []) == []
    assert backend.run("decrypt", suite, [], []) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32), blocks=st.lists(st.integers(0, 60), min_size=1, max_size=256), keys=st.integers(1, 9)
)
def test_any_mix(backend: Any, suite: Any, make_packet: Any, seed: int, blocks: list[int], keys: int) -> None:
    check(random.Random(seed), suite, backend, make_packet, blocks, keys)


@pytest.mark.parametrize("key", [b"\1" * 24, b"\0" * 24, b"12345678" * 3, b"12345678" * 2 + b"abcdefgh"])
def test_degenerate_3des_keys_work(
    backend: Any, des3_sha1: Any, make_packet: Any, oracle_des3: Any, key: bytes
) -> None:
    r = random.Random(key)
    plain = [packet_of(r, des3_sha1, make_packet, n) for n in range(1, 20)]
    sealed = [des3_sha1.seal(key, b"k" * 20, p) for p in plain]
    handles = [backend.key(des3_sha1, key, b"k" * 20)] * len(plain)
    assert backend.run("encrypt", des3_sha1, handles, plain) == sealed
    assert [p.text for p in backend.run("decrypt", des3_sha1, handles, sealed)] == [p.text for p in plain]


def test_any_flipped_bit_is_seen_and_harms_no_other_packet(backend: Any, suite_with_icv: Any, make_packet: Any) -> None:
    suite = suite_with_icv
    r = random.Random(f"{suite.name} bits")
    secret = r.randbytes(suite.encryption_key), r.randbytes(suite.integrity_key)
    plain = packet_of(r, suite, make_packet, 5)
    sealed = suite.seal(*secret, plain)
    flipped = [sealed.flip(bit) for bit in range(sealed.bits)]
    burst = [packet for bad in flipped for packet in (bad, sealed)]
    results = backend.run("decrypt", suite, [backend.key(suite, *secret)] * len(burst), burst)
    assert results[1::2] == [replace(sealed, text=plain.text)] * len(flipped)
    assert [p.ok for p in results[::2]] == [0] * len(flipped)
    if suite.integrity:  # HMAC is checked before anything is decrypted
        assert results[::2] == [replace(p, ok=0) for p in flipped]


def test_a_wrong_key_opens_nothing(backend: Any, suite_with_icv: Any, make_packet: Any) -> None:
    suite = suite_with_icv
    r = random.Random(8)
    secrets = [(r.randbytes(suite.encryption_key), r.randbytes(suite.integrity_key)) for _ in range(2)]
    sealed = suite.seal(*secrets[0], packet_of(r, suite, make_packet, 9))
    keys = [backend.key(suite, *secret) for secret in secrets]
    assert [p.ok for p in backend.run("decrypt", suite, keys, [sealed, sealed])] == [1, 0]


def test_cbc_takes_no_iv_from_outside_onto_the_wire(backend: Any, des3_sha1: Any, make_packet: Any) -> None:
    """RFC 2451 3, SP 800-38A appendix C: the wire IV is the encrypted block, not the caller's value."""
    r = random.Random(9)
    key = backend.key(des3_sha1, r.randbytes(24), r.randbytes(20))
    plain = [make_packet(bytes(8), i.to_bytes(8), bytes(8), bytes(12)) for i in range(32)]
    sealed = backend.run("encrypt", des3_sha1, [key] * 32, plain)
    assert len({p.iv for p in sealed}) == 32
    assert not {p.iv for p in sealed} & {p.iv for p in plain}


def test_directions_suites_and_failures_in_turn(
    backend: Any, library: Any, make_packet: Any, gcm: Any, des3_sha1: Any
) -> None:
    """One engine and one key for both directions, many times; a failure leaves nothing behind."""
    r = random.Random(10)
    secrets = {s.name: (r.randbytes(s.encryption_key), r.randbytes(s.integrity_key)) for s in (gcm, des3_sha1)}
    for _ in range(150):
        suite = r.choice([gcm, des3_sha1])
        secret = secrets[suite.name]
        plain = [packet_of(r, suite, make_packet, r.randrange(1, 9)) for _ in range(r.randrange(1, 40))]
        sealed = [suite.seal(*secret, p) for p in plain]
        keys = [backend.key(suite, *secret)] * len(plain)
        if r.random() < 0.5:
            assert backend.run("encrypt", suite, keys, plain) == sealed
            continue
        bad = [r.random() < 0.3 for _ in plain]
        arriving = [p.flip(r.randrange(p.bits)) if b else p for p, b in zip(sealed, bad, strict=True)]
        opened = backend.run("decrypt", suite, keys, arriving)
        assert [not p.ok for p in opened] == bad
        assert all(o.text == p.text for o, p, b in zip(opened, plain, bad, strict=True) if not b)
    if backend.name == "openssl":
        assert not library.c.ERR_peek_error(), "an error is left for whoever uses OpenSSL next in this thread"
