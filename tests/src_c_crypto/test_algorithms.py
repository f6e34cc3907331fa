"""The algorithm tables, the list of back ends and the choice between them."""

from __future__ import annotations

import ctypes
import re
from typing import Any

import pytest


def test_table_of_encryption_is_that_of_the_rfcs(library: Any) -> None:
    info = library.c.ipc_encryption_info(0).contents
    assert (info.text, info.key_length, info.salt_length, info.iv_length) == (b"3DES-CBC", 24, 0, 8)
    assert (info.block_length, info.icv_length, info.windows_2000) == (8, 0, 1)
    info = library.c.ipc_encryption_info(1).contents
    assert (info.text, info.key_length, info.salt_length, info.iv_length) == (b"AES-128-GCM", 20, 4, 8)
    assert (info.block_length, info.icv_length, info.windows_2000) == (4, 16, 0)


def test_table_of_integrity_is_that_of_the_rfcs(library: Any) -> None:
    info = library.c.ipc_integrity_info(0).contents
    assert (info.text, info.key_length, info.icv_length, info.windows_2000) == (b"none", 0, 0, 1)
    info = library.c.ipc_integrity_info(1).contents
    assert (info.text, info.key_length, info.icv_length, info.windows_2000) == (b"HMAC-SHA1-96", 20, 12, 1)


@pytest.mark.parametrize("number", [-1, 99, -(2**31), 2**31 - 1])
def test_a_number_that_is_none_has_no_info_and_no_back_end(library: Any, number: int) -> None:
    assert not library.c.ipc_encryption_info(number)
    assert not library.c.ipc_integrity_info(number)
    assert library.choose(number, 0) is None
    assert library.choose(0, number) is None


def test_suites_lengths_are_those_of_the_tables(library: Any, suite: Any) -> None:
    cipher = library.c.ipc_encryption_info(suite.encryption).contents
    mac = library.c.ipc_integrity_info(suite.integrity).contents
    assert (cipher.key_length, mac.key_length) == (suite.encryption_key, suite.integrity_key)
    assert (cipher.iv_length, cipher.block_length) == (suite.iv, suite.block)
    assert suite.icv == (cipher.icv_length or mac.icv_length)


def test_list_ends_with_null_and_stays_ended(library: Any) -> None:
    names = [t.name.decode() for t in library.tables()]
    assert names == [n for n in ("ipsec-mb", "openssl") if n in names]
    for index in (len(names), len(names) + 1, 2**32 - 1):
        assert not library.c.ipc_crypto_backend(ctypes.c_uint(index))


def test_version_tells_number_and_cpu(backend: Any) -> None:
    pattern = {"ipsec-mb": r"\d+\.\d+\.\d+( \((AVX512|AVX2|AVX|SSE|no AES-NI)\))?", "openssl": r"\d+\.\d+\.\d+"}
    assert re.fullmatch(pattern[backend.name], backend.table.version().decode())


def test_an_aead_takes_no_other_integrity(backend: Any, library: Any) -> None:
    assert backend.table.rank(1, 1) == 0
    assert not backend.table.key_create(backend.engine, 1, 1, bytes(20), bytes(20))
    assert library.choose(1, 1) is None


def test_choose_takes_the_highest_rank(library: Any, suite: Any) -> None:
    ranks = {t.name.decode(): t.rank(suite.encryption, suite.integrity) for t in library.tables()}
    chosen = library.choose(suite.encryption, suite.integrity)
    assert ranks[chosen] == max(ranks.values()) > 0


def test_choose_by_name(library: Any, backend: Any, suite: Any) -> None:
    assert library.choose(suite.encryption, suite.integrity, backend.name.encode()) == backend.name
    assert library.choose(suite.encryption, suite.integrity, b"rot13") is None
    assert library.choose(1, 1, backend.name.encode()) is None


def test_gcm_prefers_ipsec_mb_where_the_cpu_has_aes(library: Any) -> None:
    tables = {t.name.decode(): t for t in library.tables()}
    if len(tables) < 2 or tables["ipsec-mb"].version().endswith(b"(no AES-NI)"):
        pytest.skip("needs both libraries and AES instructions")
    assert library.choose(1, 0) == "ipsec-mb"


def test_3des_goes_to_ipsec_mb_only_with_avx512(library: Any) -> None:
    tables = {t.name.decode(): t for t in library.tables()}
    if len(tables) < 2:
        pytest.skip("needs both libraries")
    avx512 = tables["ipsec-mb"].version().endswith(b"(AVX512)")
    assert library.choose(0, 1) == ("ipsec-mb" if avx512 else "openssl")


@pytest.mark.parametrize("length", range(41))
def test_equal_sees_every_bit(library: Any, length: int) -> None:
    a = bytes((7 * i) & 255 for i in range(length))
    assert library.c.ipc_equal(a, bytes(bytearray(a)), length) == 1
    for bit in range(8 * length):
        b = bytearray(a)
        b[bit // 8] ^= 1 << bit % 8
        assert library.c.ipc_equal(a, bytes(b), length) == 0


def test_wipe_clears_exactly_what_it_is_given(library: Any) -> None:
    memory = ctypes.create_string_buffer(b"\xff" * 64, 64)
    library.c.ipc_wipe(ctypes.byref(memory, 3), 50)
    assert memory.raw == b"\xff" * 3 + bytes(50) + b"\xff" * 11
