"""The benchmark peers do the work that they are timed for."""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import random
from typing import Any

import pytest
from crypto_oracle import Packet, cbc, suite_named

STRIDE = 256


def call(function: Any, key: bytes, arena: bytearray, lengths: list[int], rounds: int = 1) -> int:
    n = len(lengths)
    offsets = (ctypes.c_uint32 * n)(*(i * STRIDE + 32 for i in range(n)))
    view = (ctypes.c_uint8 * len(arena)).from_buffer(arena)
    result: int = function(key, view, offsets, (ctypes.c_uint32 * n)(*lengths), n, rounds)
    return result


@pytest.fixture
def arena() -> tuple[bytearray, list[int]]:
    r = random.Random(1)
    lengths = [8 * r.randrange(1, 22) for _ in range(20)]
    return bytearray(r.randbytes(STRIDE * len(lengths))), lengths


def unsupported(library: Any, name: str) -> bool:
    return name not in [t.name.decode() for t in library.tables()]


def test_gcm_peer(library: Any, arena: tuple[bytearray, list[int]]) -> None:
    data, lengths = arena
    key = bytes(range(20))
    before = bytearray(data)
    if unsupported(library, "ipsec-mb"):
        assert call(library.c.ipc_peer_gcm_encrypt, key, data, lengths) == call(
            library.c.ipc_peer_gcm_decrypt, key, data, lengths
        )
        assert data == before
        return
    assert call(library.c.ipc_peer_gcm_encrypt, key, data, lengths, rounds=0) == 0
    assert data == before
    expected = bytearray(data)
    for i, length in enumerate(lengths):
        at = i * STRIDE + 16
        packet = Packet(
            *(bytes(before[a:b]) for a, b in ((at, at + 8), (at + 8, at + 16), (at + 16, at + 16 + length))), b""
        )
        sealed = suite_named("AES-128-GCM").seal(key, b"", packet)
        expected[at + 16 : at + 32 + length] = sealed.text + sealed.icv
    assert call(library.c.ipc_peer_gcm_encrypt, key, data, lengths) == 0
    assert data == expected
    assert call(library.c.ipc_peer_gcm_decrypt, key, data, lengths) == 0
    for i, length in enumerate(lengths):
        at = i * STRIDE + 32
        assert data[at : at + length] == before[at : at + length]


def test_evp_peer(library: Any, arena: tuple[bytearray, list[int]]) -> None:
    data, lengths = arena
    key = random.Random(2).randbytes(44)
    expected = bytearray(data)
    if unsupported(library, "openssl"):
        assert call(library.c.ipc_peer_evp_3des_sha1, key, data, lengths) < 0
        assert data == expected
        return
    for i, length in enumerate(lengths):
        at = i * STRIDE + 32
        text = cbc(key[:24], bytes(data[at - 8 : at]), bytes(data[at : at + length]))
        icv = hmac.new(key[24:], bytes(data[at - 16 : at]) + text, hashlib.sha1).digest()[:12]
        expected[at : at + length + 12] = text + icv
    assert call(library.c.ipc_peer_evp_3des_sha1, key, data, lengths) == 0
    assert data == expected
